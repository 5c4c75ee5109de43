#include <doctest/doctest.h>

#include <cstring>
#include <numeric>

#include "data/inflate.h"
#include "files.h"
#include "tensorgrad/data.h"
#include "tensorgrad/ops.h"

using namespace tensorgrad;

namespace {

const std::string kDigits = std::string(TENSORGRAD_TEST_DATA) + "/../../data/digits";

std::string big_endian(uint32_t v) { return {char(v >> 24), char(v >> 16), char(v >> 8), char(v)}; }

bool says(const std::string& text, const char* part) {
  INFO(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("IDX files") {
  const TemporaryFolder folder;
  const std::string path = folder / "x";
  write_file(path, std::string("\0\0\x08\x02", 4) + big_endian(2) + big_endian(3) + "abcdef");
  Tensor t = data::read_idx(path);
  CHECK(t.dtype() == uint8);
  CHECK(t.to_vector<int64_t>() == std::vector<int64_t>{97, 98, 99, 100, 101, 102});
  write_file(path, std::string("\0\0\x0c\x01", 4) + big_endian(2) + big_endian(0x01020304) + big_endian(0xfffffffe));
  CHECK(data::read_idx(path).to_vector<int64_t>() == std::vector<int64_t>{0x01020304, -2});
  auto fails = [&](const std::string& content, const char* part) {
    write_file(path, content);
    CHECK(says(error_of<IOError>([&] { data::read_idx(path); }), part));
  };
  fails("", "is no IDX file");
  fails(std::string("\0\0\x07\x01", 4), "element type 7");
  fails(std::string("\0\0\x08\x03", 4) + big_endian(1), "do not hold 3 sizes");
  fails(std::string("\0\0\x08\xff", 4), "claims 255 dims");
  fails(std::string("\0\0\x08\x01", 4) + big_endian(5) + "abcd", "truncated");
  fails(std::string("\0\0\x08\x01", 4) + big_endian(3) + "abcd", "too long");
  fails(std::string("\0\0\x08\x03", 4) + big_endian(0xffffffff) + big_endian(0xffffffff) + big_endian(0xffffffff),
        "overflows");
  CHECK(says(error_of<IOError>([&] { data::read_idx(folder / "none"); }), "No such file"));
}

TEST_CASE("gzip: our reader against damaged and cut files") {
  const std::string packed = read_file(kDigits + "/t10k-images-idx3-ubyte.gz");
  auto unpack = [](const std::string& s, uint64_t limit = 1 << 20) {
    return data::gunzip(reinterpret_cast<const uint8_t*>(s.data()), s.size(), limit, "test");
  };
  const std::vector<uint8_t> content = unpack(packed);
  CHECK(content.size() == 16 + 360 * 64);
  CHECK(unpack(packed + packed).size() == 2 * content.size());  // members one behind the other
  CHECK(says(error_of<IOError>([&] { unpack(packed, 1000); }), "larger than the allowed 1000"));
  CHECK(says(error_of<IOError>([&] { unpack(packed + "x"); }), "something follows"));
  for (size_t n = 0; n < packed.size(); n += 7) CHECK_THROWS_AS(unpack(packed.substr(0, n)), IOError);
  for (size_t i = 10; i < packed.size(); i += 3) {  // the checksum finds what the codes do not
    std::string bad = packed;
    bad[i] = static_cast<char>(bad[i] ^ (1 << (i % 8)));
    try {
      const std::vector<uint8_t> got = unpack(bad);
      CHECK(got == content);  // a bit that means nothing: of the header, or of the padding
    } catch (const IOError&) {
    }
  }
  // A stored block, and one of fixed codes: "aaaaaaaaaa".
  const std::string stored(
      "\x1f\x8b\x08\0\0\0\0\0\0\x03\x01\x03\0\xfc\xff"
      "abc\xc2\x41\x24\x35\x03\0\0\0",
      26);
  CHECK(unpack(stored) == std::vector<uint8_t>{'a', 'b', 'c'});
  const std::string fixed("\x1f\x8b\x08\0\0\0\0\0\x02\x03\x4b\x4c\x84\x01\0\xf0\xcd\x11\x4c\x0a\0\0\0", 23);
  CHECK(unpack(fixed) == std::vector<uint8_t>(10, 'a'));
}

TEST_CASE("the digits of the repository") {
  const data::MNIST train(kDigits), test(kDigits, false, {.mean = 0.5, .std = 0.25});
  CHECK(train.size() == 1437);
  CHECK(test.size() == 360);
  const auto [x, y] = train.get(0);
  CHECK(x.sizes() == IntArrayRef({1, 8, 8}));
  CHECK(x.dtype() == float32);
  CHECK(y.item<int64_t>() == 0);
  const float byte = train.images().to_vector<float>()[2];
  CHECK(x.to_vector<float>()[2] == byte / 255.0f);
  const int64_t some[2] = {3, 1};
  const data::Example batch = test.get_batch(some, 2);
  CHECK(batch.data.sizes() == IntArrayRef({2, 1, 8, 8}));
  CHECK(batch.data.to_vector<float>()[0] == (test.images().to_vector<float>()[3 * 64] / 255.0f - 0.5f) / 0.25f);
  CHECK_THROWS_AS(train.get(1437), IndexError);
  CHECK(says(error_of<IOError>([] { data::MNIST("/nowhere"); }), "there is no such folder"));
  CHECK(says(error_of<IOError>([] { data::FashionMNIST("/tmp"); }), "train-images-idx3-ubyte"));
}

TEST_CASE("normalize") {
  const Tensor x = tensor({{{1., 2.}}, {{3., 4.}}});  // (2, 1, 2)
  CHECK(data::normalize(x, 1, 2).to_vector<double>() == std::vector<double>{0, 0.5, 1, 1.5});
  CHECK(data::normalize(x, std::vector<double>{1, 3}, std::vector<double>{1, 2}).to_vector<double>() ==
        std::vector<double>{0, 1, 0, 0.5});
  CHECK_THROWS_AS(data::normalize(x, 1, 0), ValueError);
  CHECK_THROWS_AS(data::normalize(x, std::vector<double>{1}, std::vector<double>{1}), ShapeError);
}

namespace {
struct Squares : data::Dataset {
  int64_t size() const override { return 11; }
  data::Example get(int64_t i) const override {
    if (i == fail_at) throw ValueError("example " + std::to_string(i));
    return {tensor(std::vector<float>{static_cast<float>(i), static_cast<float>(i * i)}),
            scalar_tensor(i, {.dtype = int64})};
  }
  int64_t fail_at = -1;
};
std::vector<int64_t> visited(data::DataLoader& loader) {
  std::vector<int64_t> list;
  for (auto [x, y] : loader) {
    CHECK(x.size(0) == y.size(0));
    for (int64_t v : y.to_vector<int64_t>()) list.push_back(v);
  }
  return list;
}
}  // namespace

TEST_CASE("loaders: order, sizes, workers") {
  std::vector<int64_t> straight(11);
  std::iota(straight.begin(), straight.end(), 0);
  for (int workers : {0, 1, 3}) {
    data::DataLoader plain(Squares(), {.batch_size = 4, .num_workers = workers});
    CHECK(plain.size() == 3);
    CHECK(visited(plain) == straight);
    CHECK(visited(plain) == straight);
    data::DataLoader whole(Squares(), {.batch_size = 4, .drop_last = true, .num_workers = workers});
    CHECK(whole.size() == 2);
    CHECK(visited(whole).size() == 8);
    Generator a(7), b(7);
    data::DataLoader shuffled(Squares(), {.batch_size = 4, .shuffle = true, .num_workers = workers, .generator = &a});
    const std::vector<int64_t> first = visited(shuffled), second = visited(shuffled);
    CHECK(first != straight);
    CHECK(second != first);
    CHECK(first == randperm(11, {}, &b).to_vector<int64_t>());
    CHECK(second == randperm(11, {}, &b).to_vector<int64_t>());
    CHECK(a.offset() == b.offset());
    int seen = 0;
    for (auto& batch : shuffled) {  // left early: the threads end
      if (++seen == 1) break;
      (void)batch;
    }
  }
  CHECK_THROWS_AS(data::DataLoader(Squares(), {.batch_size = 0}), ValueError);
  data::DataLoader none(data::TensorDataset(zeros({0, 3})), {.batch_size = 4, .shuffle = true});
  CHECK(none.begin() == none.end());
}

TEST_CASE("an error in a worker comes out where its batch is due") {
  Squares bad;
  bad.fail_at = 6;
  for (int workers : {0, 2}) {
    data::DataLoader loader(bad, {.batch_size = 2, .num_workers = workers});
    int got = 0;
    CHECK_THROWS_AS(([&] {
                      for (auto& batch : loader) {
                        (void)batch;
                        ++got;
                      }
                    }()),
                    ValueError);
    CHECK(got == 3);
  }
}

TEST_CASE("a pass continues in another loader") {
  for (int workers : {0, 2}) {
    Generator a(3), b(99);
    data::DataLoader one(Squares(), {.batch_size = 2, .shuffle = true, .num_workers = workers, .generator = &a});
    std::vector<int64_t> whole, rest;
    Dict state;
    for (auto [x, y] : one) {
      for (int64_t v : y.to_vector<int64_t>()) (one.position() > 2 ? rest : whole).push_back(v);
      if (one.position() == 2) state = one.state_dict();
    }
    data::DataLoader two(Squares(), {.batch_size = 2, .shuffle = true, .num_workers = workers, .generator = &b});
    two.load_state_dict(state);
    b.set_state(a.get_state());
    CHECK(visited(two) == rest);
    CHECK(visited(two) == visited(one));  // the next pass, from equal generators
    data::DataLoader other(Squares(), {.batch_size = 3});
    CHECK_THROWS_AS(other.load_state_dict(state), ValueError);
  }
}

TEST_CASE("transforms have random numbers of their own") {
  std::vector<std::vector<float>> runs;
  for (int workers : {0, 1, 3}) {
    Generator g(5);
    data::DataLoader loader(
        Squares(),
        {.batch_size = 3, .num_workers = workers, .generator = &g, .transform = [](data::Example e, Generator& random) {
           e.data = e.data + rand(e.data.sizes(), {}, &random);
           return e;
         }});
    std::vector<float> all;
    for (int pass = 0; pass < 2; ++pass) {
      for (auto [x, y] : loader) {
        for (float v : x.to_vector<float>()) all.push_back(v);
      }
    }
    CHECK(all[0] != all[all.size() / 2]);
    runs.push_back(all);
  }
  CHECK(runs[0] == runs[1]);
  CHECK(runs[0] == runs[2]);
}

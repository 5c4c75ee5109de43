#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmath>
#include <csignal>
#include <cstring>

#include "core/tensor_make.h"
#include "files.h"
#include "io/json.h"
#include "tensorgrad/io.h"

using namespace tensorgrad;

namespace {

template <class T>
Tensor make(IntArrayRef sizes, const std::vector<T>& values) {
  Tensor t = detail::make_empty(sizes, dtype_of<T>, Device());
  REQUIRE(t.numel() == static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) t.data<T>()[i] = values[i];
  return t;
}

// A safetensors file with this header and these bytes behind it.
std::string file_of(const std::string& header, const std::string& data) {
  const uint64_t n = header.size();
  std::string s(8, '\0');
  std::memcpy(s.data(), &n, 8);
  return s + header + data;
}

bool same_bytes(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.sizes() == b.sizes() &&
         std::memcmp(a.data_ptr(), b.data_ptr(), static_cast<size_t>(a.numel()) * itemsize(a.dtype())) == 0;
}

}  // namespace

TEST_CASE("a flat dict comes back, every dtype, and is a plain safetensors file") {
  const TemporaryFolder folder;
  Dict d;
  for (DType t : {boolean, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64}) {
    Tensor x = detail::make_empty({3, 5}, t, Device());
    auto* p = static_cast<uint8_t*>(x.data_ptr());
    for (size_t i = 0; i < 15 * itemsize(t); ++i) p[i] = t == boolean ? i % 2 : static_cast<uint8_t>(i * 37 + 11);
    d["x." + std::string(name(t))] = x;
  }
  d["empty"] = detail::make_empty({0, 4}, float32, Device());
  d["scalar"] = make<double>({}, {std::nan("")});
  save(d, folder / "a.safetensors");
  const Value back = load(folder / "a.safetensors");
  REQUIRE(back.to_dict().size() == d.size());
  auto it = d.begin();
  for (const auto& [key, value] : back.to_dict()) {
    CHECK(key == it->first);
    CHECK(same_bytes(value.to_tensor(), it->second.to_tensor()));
    ++it;
  }
  const std::string raw = read_file(folder / "a.safetensors");
  CHECK(raw.find("__metadata__") == std::string::npos);
  uint64_t header = 0;
  std::memcpy(&header, raw.data(), 8);
  CHECK(header % 8 == 0);
  CHECK(raw[8] == '{');
}

TEST_CASE("nested structures come back") {
  const TemporaryFolder folder;
  const Tensor w = make<float>({2, 2}, {1, 2, 3, 4});
  const Value v = Dict{{"model", Dict{{"a.b", w}, {"a", Dict{{"b", w}}}}},
                       {"list", Value::List{1, 2.5, "three", true, Value(), w, Value::List{}, Dict{}}},
                       {"nan", std::nan("")},
                       {"inf", -HUGE_VAL},
                       {"whole", 3.0},
                       {"tiny", 4.9e-324},
                       {"big", int64_t{-9223372036854775807} - 1},
                       {"text", "quote \" back \\ line \n \x01 umlaut \xc3\xa4"},
                       {"$tensor", "not a tensor"}};
  save(v, folder / "b");
  const Value back = load(folder / "b");
  CHECK(same_bytes(back["model"]["a.b"].to_tensor(), w));
  CHECK(same_bytes(back["model"]["a"]["b"].to_tensor(), w));
  const Value& list = back["list"];
  CHECK(list.to_list().size() == 8);
  CHECK(list[0].to_int() == 1);
  CHECK(list[1].to_double() == 2.5);
  CHECK(list[2].to_text() == "three");
  CHECK(list[3].to_bool());
  CHECK(list[4].is_none());
  CHECK(same_bytes(list[5].to_tensor(), w));
  CHECK(list[6].to_list().empty());
  CHECK(list[7].to_dict().empty());
  CHECK(std::isnan(back["nan"].to_double()));
  CHECK(back["inf"].to_double() == -HUGE_VAL);
  CHECK(back["whole"].kind() == Value::Kind::floating);
  CHECK(back["tiny"].to_double() == 4.9e-324);
  CHECK(back["big"].to_int() == INT64_MIN);
  CHECK(back["text"].to_text() == v["text"].to_text());
  CHECK(back["$tensor"].to_text() == "not a tensor");

  save(w, folder / "one");
  CHECK(same_bytes(load(folder / "one").to_tensor(), w));
  save(Value::List{w, w}, folder / "two");
  CHECK(load(folder / "two").to_list().size() == 2);
}

TEST_CASE("values name what they are not") {
  const Dict d{{"a", 1}};
  CHECK(error_of<IndexError>([&] { d.at("b"); }).find("'b'; there are 'a'") != std::string::npos);
  CHECK(error_of<TypeError>([&] { d.at("a").to_text(); }) == "value: expected a text but found a int");
  CHECK(d.at("a").to_double() == 1.0);
}

TEST_CASE("what is wrong with a file is said") {
  const TemporaryFolder folder;
  const std::string path = folder / "bad";
  auto fails = [&](const std::string& content, const std::string& part) {
    write_file(path, content);
    const std::string text = error_of<IOError>([&] { load(path); });
    INFO("wanted: " << part << ", got: " << text);
    CHECK(text.find(part) != std::string::npos);
    CHECK(text.find(path) != std::string::npos);
  };
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  write_file(path, file_of(good, std::string(8, '\0')));
  CHECK(load(path)["a"].to_tensor().numel() == 2);

  CHECK(error_of<IOError>([&] { load(folder / "missing"); }).find("No such file") != std::string::npos);
  CHECK(error_of<IOError>([&] { load(folder.path); }).find("is a folder") != std::string::npos);
  fails("", "too few");
  fails(std::string(8, '\xff') + "{}", "claims a header of 18446744073709551615");
  fails(file_of(good, std::string(8, '\0')).substr(0, 30), "truncated");
  fails(file_of(good, std::string(7, '\0')), "bytes 0 to 8 of 7");
  fails(file_of(good, std::string(9, '\0')), "something follows");
  fails(file_of("[]", ""), "not a JSON object");
  fails(file_of("{\"a\":1", ""), "bad JSON at byte 6");
  fails(file_of(R"({"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", std::string(8, '\0')),
        "unknown dtype F99");
  fails(file_of(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})", std::string(8, '\0')), "has no shape");
  fails(file_of(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", std::string(8, '\0')),
        "not a whole number");
  fails(file_of(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", std::string(8, '\0')),
        "not a whole number");
  fails(file_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", std::string(8, '\0')),
        "needs 12 bytes but has 8");
  fails(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", std::string(8, '\0')), "bytes 8 to 0");
  fails(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999999]}})", std::string(8, '\0')), "of 8");
  fails(file_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", std::string(8, '\0')),
        "overflows");
  fails(file_of(R"({"a":{"dtype":"F32","shape":[9223372036854775807,0],"data_offsets":[0,8]}})", std::string(8, '\0')),
        "needs 0 bytes");
  fails(
      file_of(
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
          std::string(12, '\0')),
      "overlap");
  fails(
      file_of(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
          std::string(12, '\0')),
      "hole");
  fails(
      file_of(
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
          std::string(4, '\0')),
      "given twice");
  fails(file_of(R"({"__metadata__":{"tensorgrad.structure":"{\"x\":{\"$tensor\":\"gone\"}}"}})", ""), "'gone'");
  fails(file_of(std::string(1000, '['), ""), "nested too deeply");
  fails(file_of(R"({"__metadata__":{"tensorgrad.structure":"{"}})", ""), "structure");
}

TEST_CASE("every truncation and every flipped byte is an error or a valid value, never a crash") {
  const TemporaryFolder folder;
  save(Dict{{"a", make<float>({3}, {1, 2, 3})}, {"b", Value::List{make<int64_t>({2}, {4, 5}), 7, "x"}}},
       folder / "good");
  const std::string good = read_file(folder / "good");
  const std::string path = folder / "bad";
  for (size_t n = 0; n < good.size(); ++n) {
    write_file(path, good.substr(0, n));
    CHECK_THROWS_AS(load(path), IOError);
  }
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit : {0, 3, 7}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ (1 << bit));
      write_file(path, bad);
      try {
        load(path);
      } catch (const IOError&) {
      }
    }
  }
}

TEST_CASE("a save that fails leaves the old file") {
  const TemporaryFolder folder;
  const std::string path = folder / "model";
  save(make<float>({2}, {1, 2}), path);
  const std::string before = read_file(path);
  CHECK_THROWS_AS(save(make<float>({1}, {1}), folder / "no/such/folder"), IOError);
  CHECK_THROWS_AS(save(make<float>({1}, {1}), folder.path), IOError);
  const std::string pipe = folder / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_AS(save(make<float>({1}, {1}), pipe), IOError);
  CHECK(std::filesystem::is_fifo(pipe));
  std::filesystem::remove(pipe);

  std::signal(SIGXFSZ, SIG_IGN);  // a full disk, as this process sees it
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  rlimit small = old;
  small.rlim_cur = 4096;
  setrlimit(RLIMIT_FSIZE, &small);
  const Tensor big = detail::make_empty({100000}, float32, Device());
  std::memset(big.data_ptr(), 0, 400000);
  const std::string text = error_of<IOError>([&] { save(big, path); });
  setrlimit(RLIMIT_FSIZE, &old);
  CHECK(text.find("cannot write '" + path + "'") != std::string::npos);
  CHECK(read_file(path) == before);
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder.path)) ++files;
  CHECK(files == 1);  // no temporary file is left
}

TEST_CASE("JSON") {
  auto parse = [](const char* text) { return io::parse_json(text, "test"); };
  CHECK(parse(" [1, -2.5e3 , \"\\u00e4\\ud83d\\ude00\\n\", null, true, {}] ")[1].to_double() == -2500);
  CHECK(parse("\"\xc3\xa4\xf0\x9f\x98\x80\xed\x9f\xbf\"").to_text() == "\xc3\xa4\xf0\x9f\x98\x80\xed\x9f\xbf");
  CHECK(parse("\"\\u00e4\\ud83d\\ude00\"").to_text() == "\xc3\xa4\xf0\x9f\x98\x80");
  for (const char* bad : {"",
                          "01",
                          "1.",
                          "-",
                          "+1",
                          "tru",
                          "[1,]",
                          "{\"a\":1,}",
                          "\"\\x\"",
                          "\"\\ud800\"",
                          "\"\n\"",
                          "\"\xff\"",
                          "\"\x80\"",
                          "\"\xc0\xaf\"",
                          "\"\xed\xa0\x80\"",
                          "\"\xe2\x82\"",
                          "\"\xf5\x80\x80\x80\"",
                          "1 2",
                          "99999999999999999999",
                          "1e999",
                          "{1:2}",
                          "\"abc",
                          "[",
                          "NaN"}) {
    INFO(bad);
    CHECK_THROWS_AS(parse(bad), IOError);
  }
}

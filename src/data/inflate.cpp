// Decompression of gzip files. Every read of the input is checked, every code table is checked for completeness, every
// distance for what has been written: a damaged or hostile file ends in an IOError.

#include "data/inflate.h"

#include <array>
#include <cstring>

#include "core/check.h"

namespace tensorgrad::data {
namespace {

constexpr int kMaxBits = 15, kFastBits = 10;

// Canonical Huffman codes: those of up to kFastBits bits by one look-up, longer ones by walking the lengths.
struct Huffman {
  std::array<uint16_t, 1 << kFastBits> fast{};  // symbol << 4 | length; 0: longer
  std::array<uint16_t, kMaxBits + 1> count{};
  std::array<uint16_t, 288> symbols{};

  // False for lengths that no code can have (over-subscribed, or incomplete unless of a single code).
  bool build(const uint8_t* lengths, int n) {
    count.fill(0);
    fast.fill(0);
    for (int i = 0; i < n; ++i) ++count[lengths[i]];
    count[0] = 0;
    int left = 1, used = 0;
    for (int l = 1; l <= kMaxBits; ++l) {
      left = 2 * left - count[l];
      used += count[l];
      if (left < 0) return false;
    }
    if (left > 0 && !(used == 0 || (used == 1 && count[1] == 1))) return false;
    std::array<uint16_t, kMaxBits + 2> offset{}, code{};
    for (int l = 1; l <= kMaxBits; ++l) {
      offset[l + 1] = static_cast<uint16_t>(offset[l] + count[l]);
      code[l + 1] = static_cast<uint16_t>((code[l] + count[l]) << 1);
    }
    for (int i = 0; i < n; ++i) {
      const int l = lengths[i];
      if (l == 0) continue;
      symbols[offset[l]++] = static_cast<uint16_t>(i);
      const unsigned c = code[l]++;
      if (l > kFastBits) continue;
      unsigned reversed = 0;
      for (int b = 0; b < l; ++b) reversed |= ((c >> b) & 1u) << (l - 1 - b);
      for (unsigned at = reversed; at < (1u << kFastBits); at += 1u << l) fast[at] = static_cast<uint16_t>(i << 4 | l);
    }
    return true;
  }
};

class Inflater {
 public:
  Inflater(const uint8_t* data, size_t size, uint64_t limit, const std::string& where)
      : in_(data), size_(size), limit_(limit), where_(where) {}

  std::vector<uint8_t> run() {
    do {
      member();
    } while (size_ - at_ >= 2 && in_[at_] == 0x1f && in_[at_ + 1] == 0x8b);
    for (; at_ < size_; ++at_) {
      if (in_[at_] != 0) fail("something follows the end");
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    TENSORGRAD_RAISE(IOError, where_, ": bad gzip data at byte ", at_, ": ", what);
  }

  uint8_t byte() {
    if (at_ >= size_) fail("it is truncated");
    return in_[at_++];
  }
  uint32_t word() {
    uint32_t v = 0;
    for (int i = 0; i < 4; ++i) v |= static_cast<uint32_t>(byte()) << (8 * i);
    return v;
  }

  void member() {
    if (byte() != 0x1f || byte() != 0x8b) fail("no gzip signature");
    if (byte() != 8) fail("an unknown method of compression");
    const uint8_t flags = byte();
    if (flags & 0xe0) fail("unknown flags");
    for (int i = 0; i < 6; ++i) byte();  // time, extra flags, system
    if (flags & 4) {
      int extra = byte();
      extra |= byte() << 8;
      while (extra-- > 0) byte();
    }
    for (int text : {8, 16}) {  // name, comment
      if (flags & text) {
        while (byte() != 0) {
        }
      }
    }
    if (flags & 2) byte(), byte();
    start_ = out_.size();
    bits_ = 0;
    held_ = 0;
    while (!block()) {
    }
    at_ -= static_cast<size_t>(held_ / 8);  // whole bytes that were read ahead
    const uint64_t made = out_.size() - start_;
    if (word() != crc()) fail("the checksum is wrong: the content is damaged");
    if (word() != static_cast<uint32_t>(made)) fail("the length is wrong");
  }

  uint32_t crc() const {
    static const auto tables = [] {
      std::array<std::array<uint32_t, 256>, 8> t{};
      for (uint32_t i = 0; i < 256; ++i) {
        uint32_t c = i;
        for (int k = 0; k < 8; ++k) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
        t[0][i] = c;
      }
      for (size_t i = 0; i < 256; ++i) {
        for (size_t k = 1; k < 8; ++k) t[k][i] = (t[k - 1][i] >> 8) ^ t[0][t[k - 1][i] & 255];
      }
      return t;
    }();
    uint32_t c = ~0u;
    const uint8_t* p = out_.data() + start_;
    size_t n = out_.size() - start_;
    for (; n >= 8; n -= 8, p += 8) {
      uint64_t v;
      std::memcpy(&v, p, 8);
      v ^= c;
      c = 0;
      for (size_t k = 0; k < 8; ++k) c ^= tables[7 - k][(v >> (8 * k)) & 255];
    }
    for (; n > 0; --n, ++p) c = tables[0][(c ^ *p) & 255] ^ (c >> 8);
    return ~c;
  }

  // Makes at least n bits available where the input has them; past its end zeros come, and are counted.
  void refill(int n) {
    while (held_ < n) {
      if (at_ >= size_) fail("it is truncated");
      bits_ |= static_cast<uint64_t>(in_[at_++]) << held_;
      held_ += 8;
    }
  }
  uint32_t take(int n) {
    if (n == 0) return 0;
    refill(n);
    const uint32_t v = static_cast<uint32_t>(bits_ & ((uint64_t{1} << n) - 1));
    bits_ >>= n;
    held_ -= n;
    return v;
  }

  int symbol(const Huffman& h) {
    while (held_ < kMaxBits && at_ < size_) {
      bits_ |= static_cast<uint64_t>(in_[at_++]) << held_;
      held_ += 8;
    }
    if (const uint16_t f = h.fast[bits_ & ((1u << kFastBits) - 1)]; f) {
      const int length = f & 15;
      if (length > held_) fail("it is truncated");
      bits_ >>= length;
      held_ -= length;
      return f >> 4;
    }
    int code = 0, first = 0, index = 0;
    for (int l = 1; l <= kMaxBits; ++l) {
      if (l > held_) fail("it is truncated");
      code |= static_cast<int>((bits_ >> (l - 1)) & 1);
      const int count = h.count[static_cast<size_t>(l)];
      if (code - count < first) {
        bits_ >>= l;
        held_ -= l;
        return h.symbols[static_cast<size_t>(index + code - first)];
      }
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    fail("an invalid code");
  }

  void grow(uint64_t by) {
    if (out_.size() + by > limit_)
      TENSORGRAD_RAISE(IOError, where_, ": the content is larger than the allowed ", limit_, " bytes");
  }

  // One block; true for the last.
  bool block() {
    const bool last = take(1) != 0;
    switch (take(2)) {
      case 0:
        stored();
        break;
      case 1:
        fixed();
        break;
      case 2:
        dynamic();
        break;
      default:
        fail("an unknown type of block");
    }
    return last;
  }

  void stored() {
    take(held_ % 8);
    const uint32_t n = take(16), inverse = take(16);
    if (n != (~inverse & 0xffffu)) fail("a stored block contradicts itself");
    at_ -= static_cast<size_t>(held_ / 8);
    bits_ = 0;
    held_ = 0;
    if (size_ - at_ < n) fail("it is truncated");
    grow(n);
    out_.insert(out_.end(), in_ + at_, in_ + at_ + n);
    at_ += n;
  }

  void fixed() {
    std::array<uint8_t, 288> lengths;
    for (size_t i = 0; i < 288; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    literals_.build(lengths.data(), 288);
    lengths.fill(5);
    distances_.build(lengths.data(), 32);
    codes();
  }

  void dynamic() {
    static constexpr uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const int literals = static_cast<int>(take(5)) + 257, distances = static_cast<int>(take(5)) + 1;
    const int meta = static_cast<int>(take(4)) + 4;
    if (literals > 286 || distances > 30) fail("too many codes");
    std::array<uint8_t, 320> lengths{};
    for (int i = 0; i < meta; ++i) lengths[order[i]] = static_cast<uint8_t>(take(3));
    if (!literals_.build(lengths.data(), 19)) fail("an impossible set of code lengths");
    const Huffman lengths_code = literals_;
    lengths.fill(0);
    for (int i = 0; i < literals + distances;) {
      const int s = symbol(lengths_code);
      if (s < 16) {
        lengths[static_cast<size_t>(i++)] = static_cast<uint8_t>(s);
        continue;
      }
      if (s == 16 && i == 0) fail("a repeat of nothing");
      const uint8_t value = s == 16 ? lengths[static_cast<size_t>(i - 1)] : uint8_t{0};
      int times = s == 16   ? 3 + static_cast<int>(take(2))
                  : s == 17 ? 3 + static_cast<int>(take(3))
                            : 11 + static_cast<int>(take(7));
      if (i + times > literals + distances) fail("too many code lengths");
      while (times-- > 0) lengths[static_cast<size_t>(i++)] = value;
    }
    if (lengths[256] == 0) fail("no code for the end of a block");
    if (!literals_.build(lengths.data(), literals) || !distances_.build(lengths.data() + literals, distances)) {
      fail("an impossible set of code lengths");
    }
    codes();
  }

  void codes() {
    static constexpr uint16_t length_base[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                                 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static constexpr uint8_t length_extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static constexpr uint16_t distance_base[30] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                                   33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                                   1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    static constexpr uint8_t distance_extra[30] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                                   6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
    while (true) {
      int s = symbol(literals_);
      if (s < 256) {
        if (out_.size() >= limit_) grow(1);
        out_.push_back(static_cast<uint8_t>(s));
        continue;
      }
      if (s == 256) return;
      s -= 257;
      if (s >= 29) fail("an invalid length");
      const size_t length = length_base[s] + take(length_extra[s]);
      const int d = symbol(distances_);
      if (d >= 30) fail("an invalid distance");
      const size_t distance = distance_base[d] + take(distance_extra[d]);
      if (distance > out_.size() - start_) fail("a distance reaches before the start");
      grow(length);
      const size_t from = out_.size() - distance, to = out_.size();
      out_.resize(to + length);
      for (size_t i = 0; i < length; ++i) out_[to + i] = out_[from + i];  // may overlap on purpose
    }
  }

  const uint8_t* in_;
  size_t size_, at_ = 0, start_ = 0;
  uint64_t limit_;
  const std::string& where_;
  uint64_t bits_ = 0;
  int held_ = 0;
  std::vector<uint8_t> out_;
  Huffman literals_, distances_;
};

}  // namespace

std::vector<uint8_t> gunzip(const uint8_t* data, size_t size, uint64_t limit, const std::string& where) {
  return Inflater(data, size, limit, where).run();
}

}  // namespace tensorgrad::data

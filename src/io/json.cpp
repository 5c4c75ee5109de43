#include "io/json.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "core/check.h"

namespace tensorgrad::io {
namespace {

constexpr int kMaxDepth = 64;

class Parser {
 public:
  Parser(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  Value document() {
    Value v = value(0);
    space();
    if (at_ != text_.size()) fail("something follows the end");
    return v;
  }

 private:
  [[noreturn]] void fail(const char* what) const {
    TENSORGRAD_RAISE(IOError, where_, ": bad JSON at byte ", at_, ": ", what);
  }
  void space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t'))
      ++at_;
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  void expect(char c, const char* what) {
    if (peek() != c) fail(what);
    ++at_;
  }
  bool word(std::string_view w) {
    if (text_.substr(at_, w.size()) != w) return false;
    at_ += w.size();
    return true;
  }

  Value value(int depth) {
    if (depth > kMaxDepth) fail("nested too deeply");
    space();
    switch (peek()) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"':
        return text();
      case 't':
        if (word("true")) return true;
        break;
      case 'f':
        if (word("false")) return false;
        break;
      case 'n':
        if (word("null")) return {};
        break;
      default:
        return number();
    }
    fail("unknown word");
  }

  Value object(int depth) {
    Dict d;
    ++at_;
    space();
    if (peek() == '}') return ++at_, d;
    while (true) {
      space();
      if (peek() != '"') fail("expected a name");
      const std::string key = text();
      if (d.contains(key)) fail("a name is given twice");
      space();
      expect(':', "expected ':'");
      d[key] = value(depth + 1);
      space();
      if (peek() == '}') return ++at_, d;
      expect(',', "expected ',' or '}'");
    }
  }

  Value array(int depth) {
    Value::List list;
    ++at_;
    space();
    if (peek() == ']') return ++at_, list;
    while (true) {
      list.push_back(value(depth + 1));
      space();
      if (peek() == ']') return ++at_, list;
      expect(',', "expected ',' or ']'");
    }
  }

  Value number() {
    const size_t start = at_;
    auto digits = [&] {
      const size_t from = at_;
      while (peek() >= '0' && peek() <= '9') ++at_;
      if (at_ == from) fail("expected a value");
    };
    if (peek() == '-') ++at_;
    if (peek() == '0' && at_ + 1 < text_.size() && text_[at_ + 1] >= '0' && text_[at_ + 1] <= '9')
      fail("a number starts with 0");
    digits();
    bool whole = true;
    if (peek() == '.') {
      whole = false;
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    const char *from = text_.data() + start, *to = text_.data() + at_;
    if (whole) {
      int64_t i = 0;
      if (std::from_chars(from, to, i).ec != std::errc()) fail("an integer does not fit into 64 bits");
      return i;
    }
    double d = 0;
    if (std::from_chars(from, to, d).ec != std::errc()) fail("a number is out of range");
    return d;
  }

  uint32_t hex4() {
    uint32_t v = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("bad \\u escape");
      v = v * 16 + static_cast<uint32_t>(digit);
    }
    return v;
  }
  void append_utf8(std::string& s, uint32_t c) {
    auto tail = [&](int shift) { s += static_cast<char>(0x80 | ((c >> shift) & 0x3f)); };
    if (c < 0x80) {
      s += static_cast<char>(c);
    } else if (c < 0x800) {
      s += static_cast<char>(0xc0 | (c >> 6));
      tail(0);
    } else if (c < 0x10000) {
      s += static_cast<char>(0xe0 | (c >> 12));
      tail(6);
      tail(0);
    } else {
      s += static_cast<char>(0xf0 | (c >> 18));
      tail(12);
      tail(6);
      tail(0);
    }
  }
  void escape(std::string& s) {
    const char c = peek();
    ++at_;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        s += c;
        return;
      case 'b':
        s += '\b';
        return;
      case 'f':
        s += '\f';
        return;
      case 'n':
        s += '\n';
        return;
      case 'r':
        s += '\r';
        return;
      case 't':
        s += '\t';
        return;
      case 'u':
        break;
      default:
        fail("bad escape");
    }
    uint32_t code = hex4();
    if (code >= 0xdc00 && code < 0xe000) fail("half a surrogate pair");
    if (code >= 0xd800 && code < 0xdc00) {
      if (!word("\\u")) fail("half a surrogate pair");
      const uint32_t low = hex4();
      if (low < 0xdc00 || low >= 0xe000) fail("half a surrogate pair");
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    append_utf8(s, code);
  }
  std::string text() {
    std::string s;
    ++at_;
    while (true) {
      if (at_ >= text_.size()) fail("a text does not end");
      const char c = text_[at_];
      if (c == '"') return ++at_, s;
      if (static_cast<unsigned char>(c) < 32) fail("a control character in a text");
      ++at_;
      if (c == '\\') {
        escape(s);
      } else {
        s += c;
        if (static_cast<unsigned char>(c) >= 0x80) utf8_rest(s, static_cast<unsigned char>(c));
      }
    }
  }
  // What follows the first byte of a character outside ASCII: nothing that UTF-8 does not allow.
  void utf8_rest(std::string& s, unsigned char first) {
    const int more = first >= 0xc2 && first < 0xe0 ? 1 : first >= 0xe0 && first < 0xf0 ? 2 : first < 0xf5 ? 3 : 0;
    uint32_t code = first & (0x3fu >> more);
    if (more == 0 || (first < 0xc2)) fail("a text that is not UTF-8");
    for (int i = 0; i < more; ++i) {
      const unsigned char c = at_ < text_.size() ? static_cast<unsigned char>(text_[at_]) : 0;
      if ((c & 0xc0) != 0x80) fail("a text that is not UTF-8");
      code = code << 6 | (c & 0x3f);
      s += static_cast<char>(c);
      ++at_;
    }
    const bool longer_than_needed = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
    if (longer_than_needed || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) fail("a text that is not UTF-8");
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
};

void write_text(std::string& out, const std::string& s) {
  out += '"';
  for (char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 32) {
      char code[8];
      std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
      out += code;
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace

Value parse_json(std::string_view text, const std::string& where) { return Parser(text, where).document(); }

void write_json(std::string& out, const Value& value) {
  switch (value.kind()) {
    case Value::Kind::none:
      out += "null";
      return;
    case Value::Kind::truth:
      out += value.to_bool() ? "true" : "false";
      return;
    case Value::Kind::integer:
      out += std::to_string(value.to_int());
      return;
    case Value::Kind::floating: {
      char text[32];
      std::snprintf(text, sizeof text, "%.17g", value.to_double());
      std::string_view seen = text;
      out += seen;
      if (seen.find_first_of(".e") == std::string_view::npos) out += ".0";
      return;
    }
    case Value::Kind::text:
      return write_text(out, value.to_text());
    case Value::Kind::list: {
      out += '[';
      bool first = true;
      for (const Value& v : value.to_list()) {
        if (!std::exchange(first, false)) out += ',';
        write_json(out, v);
      }
      out += ']';
      return;
    }
    case Value::Kind::dict: {
      out += '{';
      bool first = true;
      for (const auto& [key, v] : value.to_dict()) {
        if (!std::exchange(first, false)) out += ',';
        write_text(out, key);
        out += ':';
        write_json(out, v);
      }
      out += '}';
      return;
    }
    case Value::Kind::tensor:
      TENSORGRAD_RAISE(TypeError, "write_json: a tensor is no JSON value");
  }
}

}  // namespace tensorgrad::io

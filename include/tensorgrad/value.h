#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tensorgrad/tensor.h"

namespace tensorgrad {

class Value;

// Names to values in the order of insertion, as a Python dict. state_dict() returns one, save() writes one.
//   Dict d = {{"weight", ones({2})}, {"epoch", 3}};
//   d["lr"] = 0.1;
//   d.at("epoch").to_int();   // 3
class TENSORGRAD_API Dict {
 public:
  using Item = std::pair<std::string, Value>;
  Dict() = default;
  Dict(std::initializer_list<Item> items);

  // The value of a name; operator[] makes it when it is new, at() raises IndexError that lists the names there are.
  Value& operator[](std::string_view key);
  const Value& at(std::string_view key) const;
  Value& at(std::string_view key);
  const Value* find(std::string_view key) const;
  bool contains(std::string_view key) const { return find(key) != nullptr; }
  size_t size() const;
  bool empty() const { return size() == 0; }
  const Item* begin() const;
  const Item* end() const;

 private:
  std::vector<Item> items_;
  std::map<std::string, size_t, std::less<>> index_;
};

// What a file or a state holds: nothing, a truth value, an integer, a number, a text, a tensor, a list or a dict of
// them.
class TENSORGRAD_API Value {
 public:
  using List = std::vector<Value>;
  enum class Kind : uint8_t { none, truth, integer, floating, text, tensor, list, dict };

  Value();
  Value(bool v) : Value(Kind::truth, v) {}  // NOLINT
  template <class T>
  requires(std::is_integral_v<T> && !std::is_same_v<T, bool>) Value(T v)
      : Value(Kind::integer, static_cast<int64_t>(v)) {}  // NOLINT
  template <class T>
  requires(std::is_floating_point_v<T>) Value(T v) : Value(static_cast<double>(v), 0) {}  // NOLINT
  Value(std::string v);                                                                   // NOLINT
  Value(const char* v);                                                                   // NOLINT
  Value(Tensor v);                                                                        // NOLINT
  Value(List v);                                                                          // NOLINT
  Value(Dict v);                                                                          // NOLINT
  Value(const Value& o);
  Value(Value&& o) noexcept;
  Value& operator=(Value o) noexcept;
  ~Value();

  Kind kind() const { return kind_; }
  bool is_none() const { return kind() == Kind::none; }
  bool is_tensor() const { return kind() == Kind::tensor; }
  bool is_list() const { return kind() == Kind::list; }
  bool is_dict() const { return kind() == Kind::dict; }

  // The content; TypeError that names both kinds when it is another. An integer is also a number.
  bool to_bool() const;
  int64_t to_int() const;
  double to_double() const;
  const std::string& to_text() const;
  const Tensor& to_tensor() const;
  const List& to_list() const;
  List& to_list();
  const Dict& to_dict() const;
  Dict& to_dict();

  // v["name"] of a dict, v[3] of a list.
  const Value& operator[](std::string_view key) const { return to_dict().at(key); }
  const Value& operator[](const char* key) const { return to_dict().at(key); }
  Value& operator[](std::string_view key) { return to_dict()[key]; }
  Value& operator[](const char* key) { return to_dict()[key]; }
  const Value& operator[](int i) const;

 private:
  Value(Kind kind, int64_t v);
  Value(double v, int);
  void expect(Kind kind) const;
  Kind kind_ = Kind::none;
  union {
    int64_t integer_ = 0;
    double floating_;
  };
  Tensor tensor_;
  std::string text_;
  std::unique_ptr<List> list_;
  std::unique_ptr<Dict> dict_;
};

inline size_t Dict::size() const { return items_.size(); }
inline const Dict::Item* Dict::begin() const { return items_.data(); }
inline const Dict::Item* Dict::end() const { return items_.data() + items_.size(); }

}  // namespace tensorgrad

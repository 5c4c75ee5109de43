#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensorgrad/export.h"

namespace tensorgrad {

class Shape;

// A borrowed list of int64 (sizes, strides, dims): a parameter type, never stored. Takes {2, 3}, a vector, a Shape, or
// one number.
class IntArrayRef {
 public:
  constexpr IntArrayRef() = default;
  constexpr IntArrayRef(const int64_t* data, size_t size) : data_(data), size_(size) {}
  constexpr IntArrayRef(const std::initializer_list<int64_t>& list) : size_(list.size()) {
    data_ = list.begin();  // valid while the braces' full expression is: this is a parameter type
  }
  constexpr IntArrayRef(const int64_t& one) : data_(&one), size_(1) {}              // NOLINT
  IntArrayRef(const std::vector<int64_t>& v) : data_(v.data()), size_(v.size()) {}  // NOLINT
  IntArrayRef(const Shape& s);                                                      // NOLINT
  constexpr const int64_t* data() const { return data_; }
  constexpr size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }
  constexpr int64_t operator[](size_t i) const { return data_[i]; }
  constexpr const int64_t* begin() const { return data_; }
  constexpr const int64_t* end() const { return data_ + size_; }
  constexpr int64_t back() const { return data_[size_ - 1]; }
  std::vector<int64_t> vec() const { return {begin(), end()}; }
  friend bool operator==(IntArrayRef a, IntArrayRef b) {
    return a.size_ == b.size_ && (a.size_ == 0 || std::memcmp(a.data_, b.data_, a.size_ * sizeof(int64_t)) == 0);
  }

 private:
  const int64_t* data_ = nullptr;
  size_t size_ = 0;
};

// An owned short list of int64: sizes or strides. Up to six stay inline, more go to the heap.
class Shape {
 public:
  static constexpr size_t kInline = 6;
  Shape() = default;
  explicit Shape(size_t n, int64_t value) {
    resize(n);
    for (size_t i = 0; i < n; ++i) data_[i] = value;
  }
  Shape(std::initializer_list<int64_t> list) : Shape(IntArrayRef(list)) {}
  Shape(IntArrayRef r) {  // NOLINT
    resize(r.size());
    if (!r.empty()) std::memcpy(data_, r.data(), r.size() * sizeof(int64_t));
  }
  Shape(const Shape& o) : Shape(IntArrayRef(o)) {}
  Shape(Shape&& o) noexcept { take(o); }
  Shape& operator=(const Shape& o) {
    if (this != &o) {
      resize(o.size_);
      if (size_) std::memcpy(data_, o.data_, size_ * sizeof(int64_t));
    }
    return *this;
  }
  Shape& operator=(Shape&& o) noexcept {
    if (this != &o) {
      release();
      take(o);
    }
    return *this;
  }
  ~Shape() { release(); }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t* data() { return data_; }
  const int64_t* data() const { return data_; }
  int64_t& operator[](size_t i) { return data_[i]; }
  int64_t operator[](size_t i) const { return data_[i]; }
  int64_t& back() { return data_[size_ - 1]; }
  int64_t back() const { return data_[size_ - 1]; }
  int64_t* begin() { return data_; }
  int64_t* end() { return data_ + size_; }
  const int64_t* begin() const { return data_; }
  const int64_t* end() const { return data_ + size_; }
  void resize(size_t n) {  // new entries are not initialised
    if (n > capacity_) grow(n);
    size_ = static_cast<uint32_t>(n);
  }
  void push_back(int64_t v) {
    if (size_ == capacity_) grow(size_ * 2);
    data_[size_++] = v;
  }
  void insert(size_t at, int64_t v) {
    push_back(v);
    for (size_t i = size_ - 1; i > at; --i) data_[i] = data_[i - 1];
    data_[at] = v;
  }
  void erase(size_t at) {
    for (size_t i = at; i + 1 < size_; ++i) data_[i] = data_[i + 1];
    --size_;
  }
  std::vector<int64_t> vec() const { return {begin(), end()}; }
  friend bool operator==(const Shape& a, const Shape& b) { return IntArrayRef(a) == IntArrayRef(b); }

 private:
  void grow(size_t n) {
    auto* bigger = new int64_t[n];
    std::memcpy(bigger, data_, size_ * sizeof(int64_t));
    if (data_ != inline_) delete[] data_;
    data_ = bigger;
    capacity_ = static_cast<uint32_t>(n);
  }
  void release() {
    if (data_ != inline_) delete[] data_;
    data_ = inline_;
    capacity_ = kInline;
    size_ = 0;
  }
  void take(Shape& o) noexcept {
    size_ = o.size_;
    if (o.data_ == o.inline_) {
      std::memcpy(inline_, o.inline_, sizeof(inline_));
    } else {
      data_ = o.data_;
      capacity_ = o.capacity_;
      o.data_ = o.inline_;
      o.capacity_ = kInline;
    }
    o.size_ = 0;
  }
  uint32_t size_ = 0, capacity_ = kInline;
  int64_t* data_ = inline_;
  int64_t inline_[kInline];
};
inline IntArrayRef::IntArrayRef(const Shape& s) : data_(s.data()), size_(s.size()) {}

// "(2, 3)", "(4,)" and "()", as Python prints a tuple.
TENSORGRAD_API std::string to_string(IntArrayRef sizes);
// Product of the sizes; throws ShapeError for a negative size or a product over int64.
TENSORGRAD_API int64_t numel_of(IntArrayRef sizes);
// Row-major strides, in elements.
TENSORGRAD_API Shape contiguous_strides(IntArrayRef sizes);
// The broadcast of two shapes; throws ShapeError naming `op` and both shapes.
TENSORGRAD_API Shape broadcast_shapes(IntArrayRef a, IntArrayRef b, const char* op = "broadcast");

}  // namespace tensorgrad

#include "tensorgrad/value.h"

#include "core/check.h"

namespace tensorgrad {
namespace {

const char* kind_name(Value::Kind k) {
  static constexpr const char* names[] = {"none", "bool", "int", "float", "text", "tensor", "list", "dict"};
  return names[static_cast<int>(k)];
}

std::string names_of(const Dict& d) {
  std::string s;
  size_t shown = 0;
  for (const auto& [name, value] : d) {
    if (++shown > 8) return s + ", ... (" + std::to_string(d.size()) + " in all)";
    s += (s.empty() ? "'" : ", '") + name + "'";
  }
  return s.empty() ? "none" : s;
}

}  // namespace

Dict::Dict(std::initializer_list<Item> items) {
  for (const Item& item : items) (*this)[item.first] = item.second;
}

Value& Dict::operator[](std::string_view key) {
  const auto it = index_.find(key);
  if (it != index_.end()) return items_[it->second].second;
  index_.emplace(std::string(key), items_.size());
  items_.emplace_back(std::string(key), Value());
  return items_.back().second;
}

const Value* Dict::find(std::string_view key) const {
  const auto it = index_.find(key);
  return it == index_.end() ? nullptr : &items_[it->second].second;
}

const Value& Dict::at(std::string_view key) const {
  const Value* v = find(key);
  TENSORGRAD_CHECK(v, IndexError, "dict: no entry '", key, "'; there are ", names_of(*this));
  return *v;
}

Value& Dict::at(std::string_view key) { return const_cast<Value&>(std::as_const(*this).at(key)); }

Value::Value() = default;
Value::Value(Kind kind, int64_t v) : kind_(kind), integer_(v) {}
Value::Value(double v, int) : kind_(Kind::floating), floating_(v) {}
Value::Value(std::string v) : kind_(Kind::text), text_(std::move(v)) {}
Value::Value(const char* v) : kind_(Kind::text), text_(v) {}
Value::Value(Tensor v) : kind_(Kind::tensor), tensor_(std::move(v)) {}
Value::Value(List v) : kind_(Kind::list), list_(std::make_unique<List>(std::move(v))) {}
Value::Value(Dict v) : kind_(Kind::dict), dict_(std::make_unique<Dict>(std::move(v))) {}
Value::Value(const Value& o)
    : kind_(o.kind_),
      integer_(o.integer_),
      tensor_(o.tensor_),
      text_(o.text_),
      list_(o.list_ ? std::make_unique<List>(*o.list_) : nullptr),
      dict_(o.dict_ ? std::make_unique<Dict>(*o.dict_) : nullptr) {}
Value::Value(Value&& o) noexcept = default;
Value& Value::operator=(Value o) noexcept {
  kind_ = o.kind_;
  integer_ = o.integer_;
  tensor_ = std::move(o.tensor_);
  text_ = std::move(o.text_);
  list_ = std::move(o.list_);
  dict_ = std::move(o.dict_);
  return *this;
}
Value::~Value() = default;

void Value::expect(Kind kind) const {
  TENSORGRAD_CHECK(kind_ == kind, TypeError, "value: expected a ", kind_name(kind), " but found a ", kind_name(kind_));
}
bool Value::to_bool() const { return expect(Kind::truth), integer_ != 0; }
int64_t Value::to_int() const { return expect(Kind::integer), integer_; }
double Value::to_double() const {
  if (kind_ == Kind::integer) return static_cast<double>(integer_);
  return expect(Kind::floating), floating_;
}
const std::string& Value::to_text() const { return expect(Kind::text), text_; }
const Tensor& Value::to_tensor() const { return expect(Kind::tensor), tensor_; }
const Value::List& Value::to_list() const { return expect(Kind::list), *list_; }
Value::List& Value::to_list() { return expect(Kind::list), *list_; }
const Dict& Value::to_dict() const { return expect(Kind::dict), *dict_; }
Dict& Value::to_dict() { return expect(Kind::dict), *dict_; }

const Value& Value::operator[](int i) const {
  const List& list = to_list();
  TENSORGRAD_CHECK(i >= 0 && static_cast<size_t>(i) < list.size(), IndexError, "value: index ", i,
                   " is out of range for a list of ", list.size());
  return list[static_cast<size_t>(i)];
}

}  // namespace tensorgrad

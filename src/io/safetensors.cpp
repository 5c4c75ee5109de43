// safetensors: eight bytes of header length, a JSON header that gives each tensor's dtype, shape and place, then the
// bytes. Anything but a flat dict of tensors has its structure in the header's metadata, under kStructure: the value as
// JSON, a tensor standing there as {"$tensor": its name}, a number that JSON lacks as {"$float": "nan"}, a dict with a
// name that starts with '$' as {"$dict": [[name, value], ...]}.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "core/check.h"
#include "core/tensor_make.h"
#include "io/file.h"
#include "io/json.h"
#include "tensorgrad/autograd.h"
#include "tensorgrad/io.h"

namespace tensorgrad {
namespace {

constexpr const char* kStructure = "tensorgrad.structure";
constexpr uint64_t kMaxHeader = 100'000'000;
constexpr int kMaxDepth = 60;

constexpr std::pair<DType, const char*> kNames[] = {
    {DType::boolean, "BOOL"}, {DType::uint8, "U8"},   {DType::int8, "I8"},     {DType::int16, "I16"},
    {DType::int32, "I32"},    {DType::int64, "I64"},  {DType::float16, "F16"}, {DType::bfloat16, "BF16"},
    {DType::float32, "F32"},  {DType::float64, "F64"}};

// --- writing

struct Collected {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::set<std::string> taken;
};

std::string unique_name(Collected& all, std::string name) {
  if (name.empty()) name = "tensor";
  std::string candidate = name;
  for (int i = 2; candidate == "__metadata__" || !all.taken.insert(candidate).second; ++i)
    candidate = name + "#" + std::to_string(i);
  return candidate;
}

// The structure of `value` as JSON; its tensors are collected.
Value flatten(const Value& value, const std::string& name, Collected& all, int depth) {
  TENSORGRAD_CHECK(depth < kMaxDepth, ValueError, "save: the value is nested more than ", kMaxDepth, " deep");
  auto below = [&](const std::string& part) { return name.empty() ? part : name + "." + part; };
  switch (value.kind()) {
    case Value::Kind::tensor: {
      TENSORGRAD_CHECK(value.to_tensor().defined(), ValueError, "save: tensor '", name, "' is undefined");
      const std::string own = unique_name(all, name);
      all.tensors.emplace_back(own, value.to_tensor());
      return Dict{{"$tensor", own}};
    }
    case Value::Kind::floating: {
      const double d = value.to_double();
      if (std::isfinite(d)) return value;
      return Dict{{"$float", std::isnan(d) ? "nan" : d > 0 ? "inf" : "-inf"}};
    }
    case Value::Kind::list: {
      Value::List list;
      for (const Value& v : value.to_list())
        list.push_back(flatten(v, below(std::to_string(list.size())), all, depth + 1));
      return list;
    }
    case Value::Kind::dict: {
      Dict dict;
      Value::List pairs;
      bool escape = false;
      for (const auto& [key, v] : value.to_dict()) {
        Value inner = flatten(v, below(key), all, depth + 1);
        escape |= key.starts_with('$');
        pairs.push_back(Value::List{key, inner});
        dict[key] = std::move(inner);
      }
      if (escape) return Dict{{"$dict", std::move(pairs)}};
      return dict;
    }
    default:
      return value;
  }
}

bool is_flat(const Value& value) {
  if (!value.is_dict()) return false;
  for (const auto& [key, v] : value.to_dict()) {
    if (!v.is_tensor() || key == "__metadata__" || key.empty()) return false;
  }
  return true;
}

// --- reading

struct Entry {
  std::string name;
  DType dtype{};
  Shape sizes;
  uint64_t begin = 0, end = 0;
};

Entry read_entry(const std::string& name, const Value& v, uint64_t data_bytes, const std::string& where) {
  const std::string at = where + ": tensor '" + name + "'";
  auto field = [&](const char* key) -> const Value& {
    const Value* found = v.is_dict() ? v.to_dict().find(key) : nullptr;
    TENSORGRAD_CHECK(found, IOError, at, " has no ", key);
    return *found;
  };
  auto whole = [&](const Value& n, const char* what) {
    TENSORGRAD_CHECK(n.kind() == Value::Kind::integer && n.to_int() >= 0, IOError, at, ": ", what,
                     " is not a whole number");
    return n.to_int();
  };
  Entry e;
  e.name = name;
  const Value& dtype = field("dtype");
  bool known = false;
  for (const auto& [t, text] : kNames) {
    if (dtype.kind() != Value::Kind::text || dtype.to_text() != text) continue;
    e.dtype = t;
    known = true;
  }
  TENSORGRAD_CHECK(known, IOError, at, " has the unknown dtype ",
                   dtype.kind() == Value::Kind::text ? dtype.to_text() : "(no text)");
  const Value &shape = field("shape"), &offsets = field("data_offsets");
  TENSORGRAD_CHECK(shape.is_list() && shape.to_list().size() <= 64, IOError, at,
                   ": shape is not a list of at most 64 sizes");
  for (const Value& n : shape.to_list()) e.sizes.push_back(whole(n, "a size"));
  TENSORGRAD_CHECK(offsets.is_list() && offsets.to_list().size() == 2, IOError, at, ": data_offsets is not a pair");
  e.begin = static_cast<uint64_t>(whole(offsets[0], "an offset"));
  e.end = static_cast<uint64_t>(whole(offsets[1], "an offset"));
  TENSORGRAD_CHECK(e.begin <= e.end && e.end <= data_bytes, IOError, at, " lies at bytes ", e.begin, " to ", e.end,
                   " of ", data_bytes);
  uint64_t bytes = itemsize(e.dtype);
  bool empty = false;
  for (int64_t n : e.sizes) empty |= n == 0;
  for (int64_t n : e.sizes) {
    TENSORGRAD_CHECK(empty || !__builtin_mul_overflow(bytes, static_cast<uint64_t>(n), &bytes), IOError, at,
                     ": the product of the sizes ", e.sizes, " overflows");
  }
  if (empty) bytes = 0;
  TENSORGRAD_CHECK(bytes == e.end - e.begin, IOError, at, " of shape ", e.sizes, " needs ", bytes, " bytes but has ",
                   e.end - e.begin);
  return e;
}

// The tensors lie one behind the other, without overlap or hole, to the end of the file.
void check_cover(std::vector<Entry>& entries, uint64_t data_bytes, const std::string& where) {
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t at = 0;
  for (const Entry& e : entries) {
    TENSORGRAD_CHECK(e.begin == at, IOError, where, ": tensor '", e.name, "' starts at byte ", e.begin, " where ", at,
                     e.begin < at ? " is the end of the one before (they overlap)" : " is free (a hole)");
    at = e.end;
  }
  TENSORGRAD_CHECK(at == data_bytes, IOError, where, ": the tensors end at byte ", at, " but the file has ", data_bytes,
                   at < data_bytes ? " (something follows)" : " (it is truncated)");
}

Value rebuild(const Value& v, Dict& tensors, const std::string& where) {
  if (v.is_list()) {
    Value::List list;
    for (const Value& inner : v.to_list()) list.push_back(rebuild(inner, tensors, where));
    return list;
  }
  if (!v.is_dict()) return v;
  const Dict& dict = v.to_dict();
  if (dict.size() == 1 && dict.begin()->first.starts_with('$')) {
    const auto& [mark, inner] = *dict.begin();
    if (mark == "$tensor" && inner.kind() == Value::Kind::text) {
      const Value* t = tensors.find(inner.to_text());
      TENSORGRAD_CHECK(t, IOError, where, ": the structure names a tensor '", inner.to_text(),
                       "' that the file does not have");
      return *t;
    }
    if (mark == "$float" && inner.kind() == Value::Kind::text) {
      return inner.to_text() == "nan" ? std::nan("") : inner.to_text() == "inf" ? HUGE_VAL : -HUGE_VAL;
    }
    if (mark == "$dict" && inner.is_list()) {
      Dict out;
      for (const Value& pair : inner.to_list()) {
        TENSORGRAD_CHECK(pair.is_list() && pair.to_list().size() == 2 && pair[0].kind() == Value::Kind::text, IOError,
                         where, ": the structure's $dict holds something other than pairs");
        out[pair[0].to_text()] = rebuild(pair[1], tensors, where);
      }
      return out;
    }
    TENSORGRAD_RAISE(IOError, where, ": the structure has an unknown mark '", mark, "'");
  }
  Dict out;
  for (const auto& [key, inner] : dict) out[key] = rebuild(inner, tensors, where);
  return out;
}

}  // namespace

void save(const Value& value, const std::string& path) {
  const NoGradGuard guard;
  Collected all;
  Value structure = flatten(value, "", all, 0);
  Dict header;
  if (!is_flat(value)) {
    std::string text;
    io::write_json(text, structure);
    header["__metadata__"] = Dict{{kStructure, std::move(text)}};
  }
  uint64_t at = 0;
  for (const auto& [name, t] : all.tensors) {
    const char* dtype = nullptr;
    for (const auto& [known, text] : kNames) {
      if (known == t.dtype()) dtype = text;
    }
    Value::List shape;
    for (int64_t n : t.sizes()) shape.push_back(n);
    const uint64_t bytes = static_cast<uint64_t>(t.numel()) * itemsize(t.dtype());
    header[name] = Dict{{"dtype", dtype}, {"shape", shape}, {"data_offsets", Value::List{at, at + bytes}}};
    at += bytes;
  }
  std::string text;
  io::write_json(text, header);
  text.append((8 - text.size() % 8) % 8, ' ');
  TENSORGRAD_CHECK(text.size() <= kMaxHeader, ValueError, "save: '", path, "': a header of ", text.size(),
                   " bytes is over the format's limit");

  io::AtomicWriter file(path, "save");
  const uint64_t length = text.size();
  file.write(&length, sizeof length);
  file.write(text.data(), text.size());
  for (const auto& [name, t] : all.tensors) {
    const Tensor flat = t.detach().cpu().contiguous();
    if (flat.numel()) file.write(flat.data_ptr(), static_cast<size_t>(flat.numel()) * itemsize(flat.dtype()));
  }
  file.commit();
}

Value load(const std::string& path, Device device) {
  const NoGradGuard guard;
  io::Reader file(path, "load");
  const std::string where = "load: '" + path + "'";
  uint64_t length = 0;
  TENSORGRAD_CHECK(file.size() >= sizeof length + 2, IOError, where, " is no safetensors file: ", file.size(),
                   " bytes are too few");
  file.read(&length, sizeof length);
  TENSORGRAD_CHECK(length <= kMaxHeader && length <= file.size() - sizeof length, IOError, where,
                   " is no safetensors file or is truncated: it claims a header of ", length, " bytes and has ",
                   file.size(), " in all");
  std::string text(length, '\0');
  file.read(text.data(), length);
  const Value parsed = io::parse_json(text, where);
  TENSORGRAD_CHECK(parsed.is_dict(), IOError, where, ": the header is not a JSON object");
  const uint64_t data_bytes = file.size() - sizeof length - length;

  std::vector<Entry> entries;
  Value structure;
  Dict tensors;  // filled in the header's order
  for (const auto& [name, v] : parsed.to_dict()) {
    if (name == "__metadata__") {
      const Value* s = v.is_dict() ? v.to_dict().find(kStructure) : nullptr;
      TENSORGRAD_CHECK(v.is_dict() && (!s || s->kind() == Value::Kind::text), IOError, where, ": bad __metadata__");
      if (s) structure = io::parse_json(s->to_text(), where + ": the structure");
      continue;
    }
    entries.push_back(read_entry(name, v, data_bytes, where));
    tensors[name] = Value();
  }
  check_cover(entries, data_bytes, where);
  for (const Entry& e : entries) {
    Tensor t = detail::make_empty(e.sizes, e.dtype, Device());
    if (e.end > e.begin) file.read(t.data_ptr(), e.end - e.begin);
    if (e.dtype == DType::boolean) {  // a bool of any other bits is undefined behaviour for those who read it
      auto* p = static_cast<uint8_t*>(t.data_ptr());
      for (int64_t i = 0; i < t.numel(); ++i) p[i] = p[i] != 0;
    }
    tensors[e.name] = device.is_cpu() ? t : t.to(device);
  }
  return structure.is_none() ? Value(std::move(tensors)) : rebuild(structure, tensors, where);
}

}  // namespace tensorgrad

// Sorting and the k first. An element becomes an unsigned key that orders as PyTorch does (NaN last, -0 equal to 0);
// with its place behind it no two are equal, so any sorting algorithm is stable and gives one answer. Short rows are
// sorted by comparison, long ones by digits.

#include <algorithm>
#include <cstring>

#include "core/allocator.h"
#include "kernels/index.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu {

void fill_sort(IndexKernels& k);

namespace {

// A key of 32 bits shares a word with its place; one of 64 stands beside it.
struct Narrow {
  using Key = uint32_t;
  uint64_t word;
  static Narrow make(Key key, uint32_t place) { return {uint64_t{key} << 32 | place}; }
  Key key() const { return static_cast<Key>(word >> 32); }
  uint32_t place() const { return static_cast<uint32_t>(word); }
  friend bool operator<(Narrow a, Narrow b) { return a.word < b.word; }
};
struct Wide {
  using Key = uint64_t;
  uint64_t bits;
  uint64_t at;
  static Wide make(Key key, uint64_t place) { return {key, place}; }
  Key key() const { return bits; }
  uint64_t place() const { return at; }
  friend bool operator<(Wide a, Wide b) { return a.bits != b.bits ? a.bits < b.bits : a.at < b.at; }
};

template <class T>
auto key_of(T x) {
  if constexpr (std::is_floating_point_v<T>) {
    using U = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    constexpr U sign = U{1} << (sizeof(T) * 8 - 1);
    if (x != x) return static_cast<U>(~U{0});
    if (x == 0) return sign;
    U u;
    std::memcpy(&u, &x, sizeof(u));
    return static_cast<U>(u & sign ? ~u : u | sign);
  } else if constexpr (sizeof(T) == 8) {
    return static_cast<uint64_t>(x) ^ (uint64_t{1} << 63);
  } else {
    return static_cast<uint32_t>(static_cast<int32_t>(x)) ^ 0x80000000u;
  }
}
template <class T>
using ItemOf = std::conditional_t<sizeof(decltype(key_of(T{}))) == 4, Narrow, Wide>;

constexpr int64_t kByDigits = 768;  // rows from here on

// Least significant digit first; passes in which all digits are equal are left out. Ends in `items`.
template <class Item>
void sort_by_digits(Item* items, Item* spare, int64_t n) {
  constexpr int kBits = 11, kPasses = (sizeof(typename Item::Key) * 8 + kBits - 1) / kBits;
  constexpr uint32_t kDigits = 1u << kBits;
  const detail::Workspace space(sizeof(uint32_t) * kDigits * kPasses);
  auto* counts = space.as<uint32_t>();
  std::memset(counts, 0, sizeof(uint32_t) * kDigits * kPasses);
  for (int64_t i = 0; i < n; ++i) {
    const auto key = items[i].key();
    for (int p = 0; p < kPasses; ++p)
      ++counts[static_cast<uint32_t>(p) * kDigits + (key >> (p * kBits) & (kDigits - 1))];
  }
  Item *from = items, *to = spare;
  for (int p = 0; p < kPasses; ++p) {
    uint32_t* count = counts + static_cast<uint32_t>(p) * kDigits;
    if (count[from[0].key() >> (p * kBits) & (kDigits - 1)] == n) continue;
    uint32_t start = 0;
    for (uint32_t d = 0; d < kDigits; ++d) {
      const uint32_t c = count[d];
      count[d] = start;
      start += c;
    }
    for (int64_t i = 0; i < n; ++i) to[count[from[i].key() >> (p * kBits) & (kDigits - 1)]++] = from[i];
    std::swap(from, to);
  }
  if (from != items) std::memcpy(items, from, static_cast<size_t>(n) * sizeof(Item));
}

template <class Item>
void sort_items(Item* items, Item* spare, int64_t n) {
  if (n < kByDigits || n >= INT32_MAX) {
    std::sort(items, items + n);
  } else {
    sort_by_digits(items, spare, n);
  }
}

template <class Item, class T>
Item item_of(const T* x, int64_t i, int64_t stride, bool descending) {
  const auto key = key_of(x[i * stride]);
  using Key = decltype(key_of(x[0]));
  if constexpr (std::is_same_v<Item, Narrow>) {
    return Item::make(descending ? static_cast<Key>(~key) : key, static_cast<uint32_t>(i));
  } else {
    return Item::make(descending ? static_cast<Key>(~static_cast<uint64_t>(key)) : key, static_cast<uint64_t>(i));
  }
}

// f(x of the row, offset of the row's first result, scratch) for every row along n.
template <class Item, class T, class F>
void each_row(const DimShape& s, const void* in, int64_t results, int64_t scratch_items, F f) {
  const T* x = static_cast<const T*>(in);
  parallel_for(0, s.outer * s.inner, std::max<int64_t>(1, 2048 / s.n), [&](int64_t b, int64_t e) {
    const detail::Workspace space(static_cast<size_t>(scratch_items) * sizeof(Item));
    for (int64_t r = b; r < e; ++r) {
      const int64_t o = r / s.inner, i = r % s.inner;
      f(x + o * s.n * s.inner + i, o * results * s.inner + i, space.as<Item>());
    }
  });
}

template <class T, class Item>
void store_row(const T* x, int64_t stride, const Item* items, int64_t count, T* values, int64_t* places) {
  for (int64_t j = 0; j < count; ++j) {
    const auto at = static_cast<int64_t>(items[j].place());
    if (values) values[j * stride] = x[at * stride];
    places[j * stride] = at;
  }
}

template <class T>
void sort_typed(const DimShape& s, const void* in, void* values, int64_t* places, bool descending) {
  using Item = ItemOf<T>;
  each_row<Item, T>(s, in, s.n, 2 * s.n, [&](const T* x, int64_t at, Item* items) {
    for (int64_t i = 0; i < s.n; ++i) items[i] = item_of<Item>(x, i, s.inner, descending);
    sort_items(items, items + s.n, s.n);
    store_row(x, s.inner, items, s.n, values ? static_cast<T*>(values) + at : nullptr, places + at);
  });
}

// Whether x comes before `bound` in the order; equal ones do not, for they are further back.
template <class T>
bool before(T x, T bound, bool descending) {
  if constexpr (std::is_floating_point_v<T>) {
    return descending ? !(x <= bound) && bound == bound : x < bound || (bound != bound && x == x);
  } else {
    return descending ? x > bound : x < bound;
  }
}

// f(i) for the elements of [from, n) that come before *bound, which f may change. Most do not: dense rows are looked at
// by the dozen first.
template <class T, class F>
void each_before(const T* x, int64_t from, int64_t n, int64_t stride, bool descending, const T* bound, F f) {
  constexpr int64_t kLook = 16;
  int64_t i = from;
  if (stride == 1) {
    for (; i + kLook <= n; i += kLook) {
      const T b = *bound;
      int any = 0;
      if (descending) {
        for (int64_t k = 0; k < kLook; ++k) any |= !(x[i + k] <= b);
      } else {
        for (int64_t k = 0; k < kLook; ++k) any |= x[i + k] < b;
        any |= b != b;
      }
      if (!any) continue;
      for (int64_t k = 0; k < kLook; ++k) {
        if (before(x[i + k], *bound, descending)) f(i + k);
      }
    }
  }
  for (; i < n; ++i) {
    if (before(x[i * stride], *bound, descending)) f(i);
  }
}

// Few: kept in order, each newcomer put in its place.
template <class Item, class T>
void insert_first(const T* x, int64_t n, int64_t stride, int64_t k, bool descending, Item* items) {
  int64_t count = 0;
  T bound{};
  const auto insert = [&](int64_t i) {
    const Item item = item_of<Item>(x, i, stride, descending);
    int64_t at = count < k ? count++ : k - 1;
    for (; at > 0 && item < items[at - 1]; --at) items[at] = items[at - 1];
    items[at] = item;
    if (count == k) bound = x[static_cast<int64_t>(items[k - 1].place()) * stride];
  };
  for (int64_t i = 0; i < k; ++i) insert(i);
  each_before(x, k, n, stride, descending, &bound, insert);
}

// More: candidates before the k-th so far gather in a buffer, which is cut back to the k first whenever it is full.
template <class Item, class T>
void keep_first(const T* x, int64_t n, int64_t stride, int64_t k, int64_t room, bool descending, Item* items) {
  int64_t count = 0;
  T bound{};
  const auto keep = [&](int64_t i) {
    items[count++] = item_of<Item>(x, i, stride, descending);
    if (count < room) return;
    std::nth_element(items, items + k - 1, items + count);
    bound = x[static_cast<int64_t>(items[k - 1].place()) * stride];
    count = k;
  };
  for (int64_t i = 0; i < room; ++i) keep(i);
  each_before(x, room, n, stride, descending, &bound, keep);
  if (count > k) std::nth_element(items, items + k - 1, items + count);
  std::sort(items, items + k);
}

constexpr int64_t kInserted = 16;

template <class T>
void topk_typed(const DimShape& s, const void* in, int64_t k, void* values, int64_t* places, bool largest) {
  using Item = ItemOf<T>;
  const bool few = k <= kInserted, all = !few && k > s.n / 4;
  const int64_t room = all ? s.n : std::min(s.n, std::max<int64_t>(2 * k, k + 64));
  each_row<Item, T>(s, in, k, all ? 2 * s.n : room, [&](const T* x, int64_t at, Item* items) {
    if (few) {
      insert_first(x, s.n, s.inner, k, largest, items);
    } else if (all) {
      for (int64_t i = 0; i < s.n; ++i) items[i] = item_of<Item>(x, i, s.inner, largest);
      if (k < kByDigits && k < s.n) {
        std::nth_element(items, items + k - 1, items + s.n);
        std::sort(items, items + k);
      } else {
        sort_items(items, items + s.n, s.n);  // by digits it keeps the order of the places, which selecting destroys
      }
    } else {
      keep_first(x, s.n, s.inner, k, room, largest, items);
    }
    store_row(x, s.inner, items, k, static_cast<T*>(values) + at, places + at);
  });
}

template <class T>
void kth_typed(const DimShape& s, const void* in, int64_t k, void* values, int64_t* places) {
  using Item = ItemOf<T>;
  each_row<Item, T>(s, in, 1, s.n, [&](const T* x, int64_t at, Item* items) {
    for (int64_t i = 0; i < s.n; ++i) items[i] = item_of<Item>(x, i, s.inner, false);
    std::nth_element(items, items + k, items + s.n);
    store_row(x, s.inner, items + k, 1, static_cast<T*>(values) + at, places + at);
  });
}

template <class F>
void by_dtype(DType dtype, F f) {
  switch (dtype) {
    case DType::float32:
      return f(float{});
    case DType::float64:
      return f(double{});
    case DType::boolean:
    case DType::uint8:
      return f(uint8_t{});
    case DType::int8:
      return f(int8_t{});
    case DType::int16:
      return f(int16_t{});
    case DType::int32:
      return f(int32_t{});
    default:
      return f(int64_t{});
  }
}

void sort(DType dtype, const DimShape& s, const void* in, void* values, int64_t* places, bool descending) {
  by_dtype(dtype, [&](auto zero) { sort_typed<decltype(zero)>(s, in, values, places, descending); });
}
void topk(DType dtype, const DimShape& s, const void* in, int64_t k, void* values, int64_t* places, bool largest) {
  by_dtype(dtype, [&](auto zero) { topk_typed<decltype(zero)>(s, in, k, values, places, largest); });
}

void kth(DType dtype, const DimShape& s, const void* in, int64_t k, void* values, int64_t* places) {
  by_dtype(dtype, [&](auto zero) { kth_typed<decltype(zero)>(s, in, k, values, places); });
}

}  // namespace

void fill_sort(IndexKernels& k) {
  k.kth = kth;
  k.sort = sort;
  k.topk = topk;
}

}  // namespace tensorgrad::cpu

// Sorting and the k first. An element becomes an unsigned key that orders as PyTorch does (NaN last, -0 equal to 0);
// with its place behind it no two are equal, so any sorting algorithm is stable and gives one answer. Short rows are
// sorted by comparison, long ones by digits, whole numbers of few values by counting them.

#include <algorithm>
#include <bit>
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
  static Narrow make(Key key, uint64_t place) { return {uint64_t{key} << 32 | place}; }
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

constexpr int64_t kByDigits = 128;     // rows from here on
constexpr int64_t kLongDigits = 2048;  // and from here on by digits of 11 bits instead of 8
constexpr int64_t kCounted = 2048;     // whole numbers of at most so many different values are counted
constexpr int64_t kRanked = 24;        // rows up to here: the k-th is found by counting who comes before whom

constexpr int64_t kRankSorted = 16;  // and the whole row is ordered
constexpr int64_t kSelected = 256;   // rows up to here: by comparing

// What a row's keys have in common: every key is `low` plus a number of at most `width` bits.
struct Span {
  uint64_t low = 0, range = 0;
  int width = 64;
};
// That of any row of items.
template <class Item>
constexpr Span whole_span() {
  constexpr uint64_t range = static_cast<typename Item::Key>(~typename Item::Key{0});
  return {0, range, static_cast<int>(sizeof(typename Item::Key) * 8)};
}

// Whole numbers often span few values; of floats the keys are taken as they are.
template <class T>
Span span_of(const T* x, int64_t n, int64_t stride) {
  Span s;
  if constexpr (std::is_floating_point_v<T>) {
    s.range = sizeof(T) == 4 ? UINT32_MAX : UINT64_MAX;
  } else {
    T low = x[0], high = x[0];
    for (int64_t i = 1; i < n; ++i) {
      low = std::min(low, x[i * stride]);
      high = std::max(high, x[i * stride]);
    }
    s.low = key_of(low);
    s.range = static_cast<uint64_t>(key_of(high)) - s.low;
  }
  s.width = static_cast<int>(std::bit_width(s.range));
  return s;
}

// Least significant digit first over the lowest `width` bits; passes in which all digits are equal are left out. Ends
// in `items`.
template <class Item>
void sort_by_digits(Item* items, Item* spare, int64_t n, int width) {
  constexpr int kMostPasses = static_cast<int>(sizeof(typename Item::Key));
  const int most_bits = n < kLongDigits ? 8 : 11, passes = std::max(1, (width + most_bits - 1) / most_bits);
  const int bits = std::max(1, (width + passes - 1) / passes);
  const uint32_t digits = 1u << bits;
  uint32_t small[256 * kMostPasses];
  const detail::Workspace space(bits > 8 ? sizeof(uint32_t) * digits * static_cast<uint32_t>(passes) : 1);
  auto* counts = bits > 8 ? space.as<uint32_t>() : small;
  std::memset(counts, 0, sizeof(uint32_t) * digits * static_cast<uint32_t>(passes));
  for (int64_t i = 0; i < n; ++i) {
    const auto key = items[i].key();
    for (int p = 0; p < passes; ++p) ++counts[static_cast<uint32_t>(p) * digits + (key >> (p * bits) & (digits - 1))];
  }
  Item *from = items, *to = spare;
  for (int p = 0; p < passes; ++p) {
    uint32_t* count = counts + static_cast<uint32_t>(p) * digits;
    if (count[from[0].key() >> (p * bits) & (digits - 1)] == n) continue;
    uint32_t start = 0;
    for (uint32_t d = 0; d < digits; ++d) {
      const uint32_t c = count[d];
      count[d] = start;
      start += c;
    }
    for (int64_t i = 0; i < n; ++i) to[count[from[i].key() >> (p * bits) & (digits - 1)]++] = from[i];
    std::swap(from, to);
  }
  if (from != items) std::memcpy(items, from, static_cast<size_t>(n) * sizeof(Item));
}

// The first k of n distinct items in order: each goes to the place that as many are before it. `out` has room for k
// + 1.
template <class Item>
void first_by_rank(const Item* items, int64_t n, int64_t k, Item* out) {
  for (int64_t i = 0; i < n; ++i) {
    const Item item = items[i];
    int64_t before = 0;
    for (int64_t j = 0; j < n; ++j) before += items[j] < item;
    out[std::min(before, k)] = item;
  }
}

template <class Item>
void sort_items(Item* items, Item* spare, int64_t n, int width) {
  if (n <= kRankSorted) {
    first_by_rank(items, n, n, spare);
    std::copy(spare, spare + n, items);
  } else if (n < kByDigits || n >= INT32_MAX) {
    std::sort(items, items + n);
  } else {
    sort_by_digits(items, spare, n, width);
  }
}

template <class Item, class T>
Item item_of(const T* x, int64_t i, int64_t stride, bool descending, const Span& span) {
  const uint64_t above = static_cast<uint64_t>(key_of(x[i * stride])) - span.low;
  return Item::make(static_cast<typename Item::Key>(descending ? span.range - above : above), static_cast<uint64_t>(i));
}
template <class Item, class T>
void fill_items(const T* x, int64_t n, int64_t stride, bool descending, const Span& span, Item* items) {
  for (int64_t i = 0; i < n; ++i) items[i] = item_of<Item>(x, i, stride, descending, span);
}

// f(items as narrow as the row's span allows, span).
template <class T, class F>
void with_items(const T* x, int64_t n, int64_t stride, ItemOf<T>* space, F f) {
  const Span span = span_of(x, n, stride);
  if constexpr (!std::is_same_v<ItemOf<T>, Narrow>) {
    if (span.range > UINT32_MAX || n > UINT32_MAX) return f(space, span);
  }
  f(reinterpret_cast<Narrow*>(space), span);
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

// Whole numbers of few different values: counted, then every element goes straight to its place.
template <class T>
void sort_by_counts(const T* x, int64_t n, int64_t stride, bool descending, const Span& span, T* values,
                    int64_t* places) {
  uint32_t starts[kCounted + 1];
  const auto digits = static_cast<uint32_t>(span.range) + 1;
  const auto digit = [&](T v) {
    const uint64_t above = static_cast<uint64_t>(key_of(v)) - span.low;
    return static_cast<uint32_t>(descending ? span.range - above : above);
  };
  std::memset(starts, 0, sizeof(uint32_t) * digits);
  for (int64_t i = 0; i < n; ++i) ++starts[digit(x[i * stride])];
  uint32_t start = 0;
  for (uint32_t d = 0; d < digits; ++d) {
    const uint32_t count = starts[d];
    starts[d] = start;
    start += count;
  }
  for (int64_t i = 0; i < n; ++i) {
    const T v = x[i * stride];
    const int64_t to = starts[digit(v)]++ * stride;
    values[to] = v;
    places[to] = i;
  }
}

template <class T>
void sort_typed(const DimShape& s, const void* in, void* out, int64_t* all_places, bool descending) {
  each_row<ItemOf<T>, T>(s, in, s.n, 2 * s.n, [&](const T* x, int64_t at, ItemOf<T>* space) {
    T* values = static_cast<T*>(out) + at;
    int64_t* places = all_places + at;
    with_items(x, s.n, s.inner, space, [&](auto* items, const Span& span) {
      if (std::is_integral_v<T> && span.range < kCounted && span.range <= 4 * static_cast<uint64_t>(s.n) &&
          s.n < INT32_MAX) {
        return sort_by_counts(x, s.n, s.inner, descending, span, values, places);
      }
      fill_items(x, s.n, s.inner, descending, span, items);
      sort_items(items, items + s.n, s.n, span.width);
      store_row(x, s.inner, items, s.n, values, places);
    });
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
      uint32_t hits = 0;
      if (descending) {
        for (int64_t k = 0; k < kLook; ++k) hits |= static_cast<uint32_t>(!(x[i + k] <= b)) << k;
      } else {
        for (int64_t k = 0; k < kLook; ++k) hits |= static_cast<uint32_t>(!(x[i + k] >= b)) << k;
      }
      for (; hits != 0; hits &= hits - 1) {
        const int64_t k = std::countr_zero(hits);
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
void insert_first(const T* x, int64_t n, int64_t stride, int64_t k, bool descending, const Span& span, Item* items) {
  int64_t count = 0;
  T bound{};
  const auto insert = [&](int64_t i) {
    const Item item = item_of<Item>(x, i, stride, descending, span);
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
void keep_first(const T* x, int64_t n, int64_t stride, int64_t k, int64_t room, bool descending, const Span& span,
                Item* items) {
  int64_t count = 0;
  T bound{};
  const auto keep = [&](int64_t i) {
    items[count++] = item_of<Item>(x, i, stride, descending, span);
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
  const bool few = k <= kInserted, all = !few && k > s.n / 4;
  const int64_t room = all ? s.n : std::min(s.n, std::max<int64_t>(2 * k, k + 64));
  each_row<ItemOf<T>, T>(s, in, k, all ? 2 * s.n : room + kRanked, [&](const T* x, int64_t at, ItemOf<T>* space) {
    if (few && s.n > kRanked) {  // most elements are only looked at once
      insert_first(x, s.n, s.inner, k, largest, whole_span<ItemOf<T>>(), space);
      return store_row(x, s.inner, space, k, static_cast<T*>(values) + at, places + at);
    }
    with_items(x, s.n, s.inner, space, [&](auto* items, const Span& span) {
      if (few) {
        auto* rest = items + k + 1;
        fill_items(x, s.n, s.inner, largest, span, rest);
        first_by_rank(rest, s.n, k, items);
      } else if (all) {
        fill_items(x, s.n, s.inner, largest, span, items);
        if (k < kLongDigits && k < s.n) {
          std::nth_element(items, items + k - 1, items + s.n);
          std::sort(items, items + k);
        } else {
          // By digits it keeps the order of the places, which selecting destroys.
          sort_items(items, items + s.n, s.n, span.width);
        }
      } else {
        keep_first(x, s.n, s.inner, k, room, largest, span, items);
      }
      store_row(x, s.inner, items, k, static_cast<T*>(values) + at, places + at);
    });
  });
}

// The k-th of few distinct items: as many come before it as k.
template <class Item>
int64_t kth_by_rank(const Item* items, int64_t n, int64_t k) {
  for (int64_t i = 0;; ++i) {
    int64_t before = 0;
    for (int64_t j = 0; j < n; ++j) before += items[j] < items[i];
    if (before == k || i + 1 == n) return static_cast<int64_t>(items[i].place());
  }
}

// The k-th of items in the order of their places, by digits from the highest: of each digit's values only those that
// hold the k-th are kept, so the second look is at few.
template <class Item>
int64_t kth_by_digits(Item* items, int64_t n, int64_t k, int width) {
  uint32_t counts[2048];
  while (n > 1 && width > 0) {
    const int bits = std::min(width, n < kLongDigits ? 8 : 11), shift = width - bits;
    const uint32_t mask = (1u << bits) - 1;
    std::memset(counts, 0, sizeof(uint32_t) * (mask + 1));
    for (int64_t i = 0; i < n; ++i) ++counts[items[i].key() >> shift & mask];
    uint32_t digit = 0;
    for (; k >= static_cast<int64_t>(counts[digit]); ++digit) k -= counts[digit];
    if (counts[digit] != n) {
      int64_t kept = 0;
      for (int64_t i = 0; i < n; ++i) {
        const Item item = items[i];
        items[kept] = item;
        kept += (item.key() >> shift & mask) == digit;
      }
      n = kept;
    }
    width = shift;
  }
  return static_cast<int64_t>(items[k].place());
}

template <class T>
int64_t first_nan(const T* x, int64_t n, int64_t stride) {
  if constexpr (std::is_floating_point_v<T>) {
    for (int64_t i = 0; i < n; ++i) {
      if (x[i * stride] != x[i * stride]) return i;
    }
  }
  return -1;
}

template <class T>
void kth_typed(const DimShape& s, const void* in, int64_t k, bool nan_wins, void* values, int64_t* places) {
  each_row<ItemOf<T>, T>(s, in, 1, s.n, [&](const T* x, int64_t at, ItemOf<T>* space) {
    int64_t place = nan_wins ? first_nan(x, s.n, s.inner) : -1;
    if (place < 0) {
      with_items(x, s.n, s.inner, space, [&](auto* items, const Span& span) {
        fill_items(x, s.n, s.inner, false, span, items);
        if (s.n <= kRanked) {
          place = kth_by_rank(items, s.n, k);
        } else if (s.n > kSelected && s.n < INT32_MAX) {
          place = kth_by_digits(items, s.n, k, span.width);
        } else {
          std::nth_element(items, items + k, items + s.n);
          place = static_cast<int64_t>(items[k].place());
        }
      });
    }
    static_cast<T*>(values)[at] = x[place * s.inner];
    places[at] = place;
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

void kth(DType dtype, const DimShape& s, const void* in, int64_t k, bool nan_wins, void* values, int64_t* places) {
  by_dtype(dtype, [&](auto zero) { kth_typed<decltype(zero)>(s, in, k, nan_wins, values, places); });
}

}  // namespace

void fill_sort(IndexKernels& k) {
  k.kth = kth;
  k.sort = sort;
  k.topk = topk;
}

}  // namespace tensorgrad::cpu

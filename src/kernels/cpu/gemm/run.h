#pragma once

// One call of the product: the problems of a batch, and for each the choice of the way that suits its shape.

#include "kernels/cpu/gemm/private_v.h"
#include "kernels/cpu/gemm/small.h"
#include "kernels/cpu/gemm/tiny.h"
#include "kernels/cpu/gemm/vector.h"
#include "kernels/gemm.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm {
namespace {

// beta * C + bias: what is left of a product with k == 0.
template <class T, class Format>
void no_terms(const Product<T, Format>& P) {
  constexpr int64_t L = kLanes<T>;
  T zeros[L * L] = {};
  for (int64_t i = 0; i < P.ms; i += L) {
    for (int64_t j = 0; j < P.nv; j += L) {
      finish_block(P, zeros, L, i, min_of(L, P.ms - i), j, min_of(L, P.nv - j), true, true);
    }
  }
}

template <class T, class Format>
Product<T, Format> transposed(const Product<T, Format>& P) {
  Product<T, Format> turned = P;
  turned.ms = P.nv, turned.nv = P.ms;
  turned.s = P.v, turned.s_row = P.v_col, turned.s_k = P.v_k;
  turned.v = P.s, turned.v_k = P.s_k, turned.v_col = P.s_row;
  turned.c_s = P.c_v, turned.c_v = P.c_s;
  turned.bias_s = P.bias_v, turned.bias_v = P.bias_s;
  return turned;
}

#if defined(__AVX512BF16__)
template <class To, class T, class Format>
Product<T, To> with_format(const Product<T, Format>& P) {
  return {P.ms,         P.nv,     P.k,          P.s,      P.s_row, P.s_k,          P.v,
          P.v_k,        P.v_col,  P.c,          P.c_s,    P.c_v,   P.alpha,        P.beta,
          P.bias_s,     P.bias_v, P.activation, P.before, P.pack,  P.pack_context, P.pack_problem,
          P.one_of_many};
}
#endif

template <class T, class Format>
void blocked(const Product<T, Format>& P) {
  if constexpr (Product<T, Format>::kPlain) {
    if (P.gelu_later() && P.c_s == 1 && P.c_v != 1) {  // blocks would be short pieces of C's rows: these at the end
      Product<T, Format> product = P;
      product.c = P.stored(), product.before = nullptr, product.activation = GemmActivation::none;
      blocked(product);
      return parallel_for(0, P.nv, max_of(1, 4096 / P.ms), [&](int64_t begin, int64_t end) {
        const int64_t at = begin * P.c_v;
        gelu_rows<T, Format>(P.activation, product.c + at, P.c + at, end - begin, P.ms, P.c_v);
      });
    }
  }
#if defined(__AVX512BF16__)
  if constexpr (std::is_same_v<Format, Bf16Format>) {
    if (P.pack == nullptr) return blocked(with_format<Bf16PairFormat>(P));
  }
#endif
  if constexpr (!Product<T, Format>::kPlain) {
    if (P.pack == nullptr && small_packed(P)) return;
  }
  if (P.ms <= 256 && P.nv >= 512 && P.nv >= 2 * P.ms) return private_v(P);
  shared_v(P);
}

// About how many instructions a product of 16-bit floats takes whose operands are packed where they have to be:
// multiply-adds of whole vectors, and for each element what packing it takes in hundredths.
template <class T, class Format>
int64_t packed_cost(const Product<T, Format>& P, int64_t group, bool in_place) {
  const auto packing = [](int64_t along, int64_t across) { return along == 1 || across == 1 ? 20 : 400; };
  const int64_t s = in_place && P.nv <= 256 ? 0 : packing(P.s_k, P.s_row) * P.ms * P.k;
  const int64_t v = packing(P.v_col, P.v_k) * round_up(P.nv, kLanes<T>) * P.k;
  const int64_t result = (P.c_v == 1 ? 5 : 30) * P.ms * P.nv;
  return P.ms * ceil_div(P.nv, kLanes<T>) * ceil_div(P.k, group) + (s + v + result) / 100;
}

// Chooses the way through memory and which operand's elements are broadcast.
template <class T, class Format>
void run(const Product<T, Format>& P) {
  if (P.k == 0) return no_terms(P);
  if (P.pack != nullptr) return blocked(P);
  const Product<T, Format> turned = transposed(P);
  if (short_way(P, turned) || vector_product(P, turned) || small_way(P, turned)) return;
  // A large operand whose rows lie along k is best read in place, with the small one packed.
  const bool few_rows = P.ms <= 256 && P.nv >= P.ms && turned.in_place();
  const bool few_cols = P.nv <= 256 && P.ms >= P.nv && P.in_place();
  if constexpr (!Product<T, Format>::kPlain) {
    // Less than a vector of columns: as rows of s they leave no lane idle.
    constexpr int64_t kGroup = kPairs<Format> ? 2 : 1;
    const auto cost = [](const Product<T, Format>& q) { return packed_cost(q, kGroup, kGroup == 2 && q.s_k == 1); };
    const int64_t as_is = cost(P), other = cost(turned);
    if (P.nv < kLanes<T> && 4 * other < 3 * as_is) return blocked(turned);
    if (P.ms < kLanes<T> && 4 * as_is < 3 * other) return blocked(P);
  }
  if (few_rows && !(few_cols && P.direct())) return blocked(turned);
  if (few_cols) return blocked(P);
  blocked(P.c_v != 1 && turned.c_v == 1 ? turned : P);
}

template <class T, class Format>
struct Pointers {
  using In = typename Product<T, Format>::In;
  const In *a, *b;
  In *c, *before;
  Pointers(const GemmArgs& g, int64_t t) {
    const int64_t outer = g.outer == 1 ? 0 : t / g.batch, inner = t - outer * g.batch;
    a = static_cast<const In*>(g.a) + outer * g.a_outer + inner * g.a_batch;
    b = static_cast<const In*>(g.b) + (g.b == nullptr ? 0 : outer * g.b_outer + inner * g.b_batch);
    const int64_t to = outer * g.c_outer + inner * g.c_batch;
    c = static_cast<In*>(g.c) + to;
    before = g.before_activation == nullptr ? nullptr : static_cast<In*>(g.before_activation) + to;
  }
};

// Problem t of the batch.
template <class T, class Format>
Product<T, Format> problem(const GemmArgs& g, int64_t t) {
  using In = typename Product<T, Format>::In;
  const Pointers<T, Format> at(g, t);
  Product<T, Format> P{};
  P.ms = g.m, P.nv = g.n, P.k = g.k;
  P.s = at.a, P.s_row = g.a_row, P.s_k = g.a_col;
  P.c = at.c, P.c_s = g.c_row, P.c_v = g.c_col;
  P.alpha = static_cast<T>(g.alpha), P.beta = static_cast<T>(g.beta);
  P.bias_s = static_cast<const In*>(g.bias_m), P.bias_v = static_cast<const In*>(g.bias_n);
  P.activation = g.activation, P.before = at.before;
  if (g.pack_b != nullptr) {
    P.pack = g.pack_b, P.pack_context = g.pack_context, P.pack_problem = t;
  } else {
    P.v = at.b, P.v_k = g.b_row, P.v_col = g.b_col;
  }
  return P;
}

template <class T, class Format>
void one_product(const GemmArgs& g, int64_t t, bool one_of_many) {
  Product<T, Format> P = problem<T, Format>(g, t);
  P.one_of_many = one_of_many;
  if (split_k(P, [](const Product<T, Format>& part) { run(part); })) return;
  run(P);
}

// A batch of dot products of vectors that lie along k, as one problem of a row for each.
template <class T>
bool dots(const GemmArgs& g, Product<T, PlainFormat> P) {
  if (P.ms != 1 || P.nv != 1 || P.s_k != 1 || P.v_k != 1 || g.outer != 1) return false;
  if (P.bias_s != nullptr && P.bias_v != nullptr) return false;
  if (P.bias_v == nullptr) P.bias_v = P.bias_s;  // one value for all, either way
  P.ms = g.batch, P.s_row = g.a_batch, P.c_s = g.c_batch, P.c_v = 1, P.bias_s = nullptr;
  batch_of_dots(P, transposed(P), g.b_batch);
  return true;
}

// A batch of products of a few elements.
template <class T, class Format>
void tiny_batch(const GemmArgs& g, int64_t problems) {
  const T alpha = static_cast<T>(g.alpha), beta = static_cast<T>(g.beta);
  parallel_for(0, problems, kWorthThreads / 16 / (g.m * g.n * g.k), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Pointers<T, Format> at(g, t);
      tiny_product<T, Format>(g, at.a, at.b, at.c, alpha, beta);
    }
  });
}

// A batch of small products, `grain` of them or more for a thread: decided once for all of them.
template <class T, class Format>
bool small_batch(const GemmArgs& g, int64_t problems, int64_t grain) {
  if constexpr (Product<T, Format>::kPlain) {
    if (g.pack_b != nullptr) return false;
    const Product<T, Format> P = problem<T, Format>(g, 0), turned = transposed(P);
    if (dots<T>(g, P)) return true;
    const bool as_is = fits_small(P), other = fits_small(turned);
    // Long dot products have a better way.
    const bool long_dots =
        P.k >= 2 * kLanes<T> && (P.ms == 1 || P.nv == 1 || dots_of_columns(P) || dots_of_columns(turned));
    if ((!as_is && !other) || long_dots) return false;
    const bool turn = !as_is || (other && small_cost(turned) < small_cost(P));
    parallel_for(0, problems, grain, [&](int64_t begin, int64_t end) {
      Product<T, Format> Q = turn ? turned : P;
      for (int64_t t = begin; t < end; ++t) {
        const Pointers<T, Format> at(g, t);
        Q.s = turn ? at.b : at.a, Q.v = turn ? at.a : at.b, Q.c = at.c, Q.before = at.before;
        small_product<T>(Q, false);
      }
    });
    return true;
  }
  return false;
}

// Puts together what is one problem with a longer batch, or one taller problem.
inline GemmArgs simplified(GemmArgs g) {
  if (g.batch == 1) {
    g.batch = g.outer, g.outer = 1;
    g.a_batch = g.a_outer, g.b_batch = g.b_outer, g.c_batch = g.c_outer;
  }
  if (g.outer > 1 && g.a_outer == g.batch * g.a_batch && g.b_outer == g.batch * g.b_batch &&
      g.c_outer == g.batch * g.c_batch) {
    g.batch *= g.outer;
    g.outer = 1;
  }
  // Problems that share B and follow each other in A and C.
  if (g.outer == 1 && g.batch > 1 && g.b_batch == 0 && g.pack_b == nullptr && g.bias_m == nullptr &&
      g.a_batch == g.m * g.a_row && g.c_batch == g.m * g.c_row) {
    g.m *= g.batch;
    g.batch = 1;
  }
  return g;
}

template <class T, class Format>
void product(const GemmArgs& args) {
  if (args.m <= 0 || args.n <= 0 || args.batch <= 0 || args.outer <= 0) return;
  const GemmArgs g = simplified(args);
  const int64_t problems = g.batch * g.outer, work = g.m * g.n * g.k;
  if (problems > 1 && (problems >= 4 * get_num_threads() || work < 4 * kWorthThreads)) {  // threads over the batch
    const int64_t grain = max_of(1, kWorthThreads / 4 / max_of(work, 512));
    if (fits_tiny<Format>(g)) return tiny_batch<T, Format>(g, problems);
    if (small_batch<T, Format>(g, problems, grain)) return;
    parallel_for(0, problems, grain, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) one_product<T, Format>(g, t, true);
    });
    return;
  }
  for (int64_t t = 0; t < problems; ++t) one_product<T, Format>(g, t, false);
}

}  // namespace
}  // namespace tensorgrad::cpu::TENSORGRAD_ISA::gemm

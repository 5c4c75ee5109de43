// The weight gradient with the input channels in the lanes: for each kernel position a product
//   sums (outputs, channels) += grad_output (pixels, outputs)^T . input (pixels, channels)
// of two arrays that lie with the channels last: one row of input channels and one broadcast gradient an output. A work
// item owns some outputs and channels of one group and walks over its images; it copies its parts of both arrays with
// the padding written out (conv_pixels.h). There is nothing to sum across lanes, and every stride and dilation is an
// offset. Pixels whose source lies in the padding at a kernel position are left out of its sum.

#include "kernels/cpu/conv_pairs.h"
#include "kernels/cpu/conv_pixel_tiles.h"
#include "kernels/cpu/conv_pixels.h"
#include "kernels/cpu/scratch.h"
#include "tensorgrad/parallel.h"

namespace tensorgrad::cpu::TENSORGRAD_ISA {
namespace {

constexpr bool kManyRegisters = kVectorBytes == 64;
constexpr int kMostVectors = kManyRegisters ? 4 : 3;  // of channels in a tile

constexpr int64_t kPixels = 96;  // whose channels stay in the first-level cache

// Outputs of a tile beside V registers of channels.
constexpr int tile_outputs(int vectors) {
  if (kManyRegisters) return vectors == 4 ? 6 : vectors == 3 ? 8 : vectors == 2 ? 12 : 16;
  return vectors == 3 ? 4 : vectors == 2 ? 6 : 12;
}

// Where a pixel lies in the copies of both arrays.
struct Place {
  int32_t grad, source;
};

// sums[m][v] += sum over p < pixels of g[places[p].grad + m] * x[places[p].source + v]
template <class T, int M, int V>
void weight_tile(const T* g, const T* x, const Place* places, int64_t pixels, T* sums, int64_t sums_row) {
  Vec<T> acc[M][V];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[m][v] = Vec<T>(T(0));
  }
  for (int64_t p = 0; p < pixels; ++p) {
    const T* const at = x + places[p].source;
    const T* const upstream = g + places[p].grad;
    Vec<T> values[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) values[v] = load(at + v * kLanes<T>);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const Vec<T> grad = upstream[m];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[m][v] = fma(grad, values[v], acc[m][v]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      T* const to = sums + m * sums_row + v * kLanes<T>;
      store(to, load(to) + acc[m][v]);
    }
  }
}

// The same for M outputs beside one register, by pairs of outputs; of an odd number the last pair's second sum is
// dropped.
template <class T, int M>
void weight_pairs(const T* g, const T* x, const Place* places, int64_t pixels, T* sums, int64_t sums_row) {
  constexpr int P = (M + 1) / 2;
  Vec<T> low[P], high[P];
#pragma GCC unroll 8
  for (int m = 0; m < P; ++m) low[m] = high[m] = Vec<T>(T(0));
  for (int64_t p = 0; p < pixels; ++p) {
    const Vec<T> own = load(x + places[p].source);
    const T* const upstream = g + places[p].grad;
    const Pair<T> values = by_turns(own, own);
#pragma GCC unroll 8
    for (int m = 0; m < P; ++m) {
      const Vec<T> grads = spread_pair(upstream + 2 * m);
      low[m] = fma(grads, values.low, low[m]);
      high[m] = fma(grads, values.high, high[m]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < P; ++m) {
    const Pair<T> two = take_apart(low[m], high[m]);
    T* const to = sums + 2 * m * sums_row;
    store(to, load(to) + two.low);
    if (2 * m + 1 < M) store(to + sums_row, load(to + sums_row) + two.high);
  }
}

template <class T>
using WeightTile = void (*)(const T*, const T*, const Place*, int64_t, T*, int64_t);

template <class T, int M = tile_outputs(1)>
WeightTile<T> pick_pairs(int64_t outputs) {
  if constexpr (M > 1) {
    if (outputs < M) return pick_pairs<T, M - 1>(outputs);
  }
  return weight_pairs<T, M>;
}

template <class T, int V>
WeightTile<T> pick_tile(int64_t outputs) {
  constexpr int most = tile_outputs(V);
  if (outputs == 1) return weight_tile<T, 1, V>;
  if (outputs == 2) return weight_tile<T, 2, V>;
  if (outputs == 3) return weight_tile<T, 3, V>;
  if (outputs == 4) return weight_tile<T, 4, V>;
  if constexpr (most >= 6) {
    if (outputs == 5) return weight_tile<T, 5, V>;
    if (outputs == 6) return weight_tile<T, 6, V>;
  }
  if constexpr (most >= 8) {
    if (outputs == 7) return weight_tile<T, 7, V>;
    if (outputs == 8) return weight_tile<T, 8, V>;
  }
  if constexpr (most >= 12) {
    if (outputs == 9) return weight_tile<T, 9, V>;
    if (outputs == 10) return weight_tile<T, 10, V>;
    if (outputs == 11) return weight_tile<T, 11, V>;
  }
  return weight_tile<T, most, V>;
}
template <class T>
WeightTile<T> pick_tile(int64_t vectors, int64_t outputs) {
  if (vectors == 1) return pick_pairs<T>(outputs);
  if (vectors == 2) return pick_tile<T, 2>(outputs);
  if constexpr (kMostVectors >= 4) {
    if (vectors == 4) return pick_tile<T, 4>(outputs);
  }
  return pick_tile<T, 3>(outputs);
}

struct Plan {
  PixelOrder in_order, out_order;
  int64_t outs, out_blocks;      // outputs of an item
  int64_t ins, in_blocks;        // channels of an item
  int64_t splits, split_images;  // images of an item
  int64_t rows, row_blocks;      // of result pixels copied at a time
  int64_t cols, col_blocks, images;
  PixelStrip input, grad;
};

// Depends on the shape alone, so that the sums are the same whatever the number of threads.
template <class T>
Plan make_plan(const ConvShape& s) {
  constexpr int64_t N = kLanes<T>, bytes = sizeof(T);
  Plan p{};
  p.in_order = pixel_order(s.in_channels, in_plane(s), s.channels_last);
  p.out_order = pixel_order(s.out_channels, out_plane(s), s.channels_last);
  const int64_t kernel = kernel_volume(s), weights = s.out_channels * in_group(s) * kernel;
  // Sums of an item stay in the second-level cache; each copied value is used as often as that allows.
  const int64_t vectors = ceil_div(in_group(s), N);
  const int64_t side = greatest(1, 192 * 1024 / (bytes * kernel));
  int64_t in_vectors = least(vectors, kernel >= 4 ? kMostVectors : 2 * kMostVectors);
  in_vectors = ceil_div(vectors, ceil_div(vectors, in_vectors));
  p.ins = in_vectors * N;
  const auto share = [](int64_t total, int64_t most) { return ceil_div(total, ceil_div(total, most)); };
  p.outs = share(out_group(s), greatest(8, least(256, side / p.ins)));
  p.in_blocks = ceil_div(in_group(s), p.ins);
  const auto blocks = [&] { return s.groups * p.in_blocks * ceil_div(out_group(s), p.outs); };
  const double products = static_cast<double>(s.batch * out_plane(s)) * static_cast<double>(weights);
  const int64_t wanted = least(16, static_cast<int64_t>(products / 1e6) + 1);
  const int64_t room = greatest(1, s.batch * s.in_channels * in_plane(s) / greatest(1, weights));
  p.splits = least(least(s.batch, ceil_div(wanted, blocks())), least(room, greatest(1, s.batch * out_plane(s) / 512)));
  p.split_images = ceil_div(s.batch, p.splits);
  p.splits = ceil_div(s.batch, p.split_images);
  while (p.splits * blocks() < least(8, wanted) && p.outs > 24) p.outs = round_up(ceil_div(p.outs, 2), 8);
  p.out_blocks = ceil_div(out_group(s), p.outs);

  p.input = {p.in_order, s.in_height, s.in_width, least(p.ins, in_group(s)), -s.pad_width};
  p.input.set_pixel<T>();
  p.input.pixel = greatest(p.input.pixel, p.ins);  // whole registers are read
  while (p.input.pixel * s.stride_width * bytes % 512 == 0) p.input.pixel += 64 / bytes;
  p.grad = {p.out_order, s.out_height, s.out_width, least(p.outs, out_group(s)), 0};
  p.grad.set_pixel<T>();
  const Rectangle stride{s.stride_height, s.stride_width};
  const Rectangle reach{(s.kernel_height - 1) * s.dilation_height, (s.kernel_width - 1) * s.dilation_width};
  const auto input_rows = [&](int64_t rows) { return (rows - 1) * stride.rows + reach.rows + 1; };
  const auto input_cols = [&](int64_t cols) { return (cols - 1) * stride.cols + reach.cols + 1; };
  const auto strips = [&](const Rectangle& r) {
    return bytes * (input_rows(r.rows) * input_cols(r.cols) * p.input.pixel + r.rows * r.cols * p.grad.pixel);
  };
  const Rectangle fit = fitting_rectangle({s.out_height, s.out_width}, stride, reach, strips);
  p.rows = fit.rows, p.cols = fit.cols;
  share_evenly(s.out_height, p.rows, p.row_blocks);
  share_evenly(s.out_width, p.cols, p.col_blocks);
  p.input.rows = input_rows(p.rows), p.input.cols = input_cols(p.cols);
  p.images = 1;
  if (p.row_blocks * p.col_blocks == 1) {
    p.images = greatest(1, least(384 * 1024 / strips({p.rows, p.cols}), ceil_div(256, out_plane(s))));
    p.images = least(p.images, p.split_images);
  }
  return p;
}

struct Item {
  int64_t split, group, in, ins, out, outs;
};

// Some images' rectangle of pixels at (y, x), copied.
struct Chunk {
  int64_t images, y, rows, x, cols;
  bool same_places(const Chunk& o) const { return images == o.images && rows == o.rows && cols == o.cols && x == o.x; }
};

// For each kernel column the pixels that meet the source there, row by row through all images, so that those of some
// rows lie together. places: room for kernel_width times all pixels.
void list_places(const ConvShape& s, const Plan& p, const Chunk& chunk, Place* places, TapRange* cols) {
  const int64_t image = p.input.size(), pixels = chunk.images * chunk.rows * chunk.cols;
  for (int64_t q = 0; q < s.kernel_width; ++q) {
    const int64_t at = chunk.x * s.stride_width + q * s.dilation_width - s.pad_width;
    cols[q] = pixels_inside(chunk.cols, s.stride_width, at, s.in_width);
    Place* to = places + q * pixels;
    for (int64_t row = 0; row < chunk.rows; ++row) {
      for (int64_t i = 0; i < chunk.images; ++i) {
        const int64_t grad = (i * chunk.rows + row) * chunk.cols * p.grad.pixel;
        const int64_t source = i * image + row * s.stride_height * p.input.cols * p.input.pixel;
        for (int64_t x = cols[q].first; x < cols[q].last; ++x) {
          *to++ = {static_cast<int32_t>(grad + x * p.grad.pixel),
                   static_cast<int32_t>(source + x * s.stride_width * p.input.pixel)};
        }
      }
    }
  }
}

// An item's sums over the pixels of one kernel position.
template <class T>
void add_pixels(const Plan& p, const Item& own, const T* x, const T* grad, const Place* places, int64_t pixels,
                T* sums) {
  constexpr int64_t N = kLanes<T>;
  const int64_t vectors = ceil_div(own.ins, N), row = p.ins;
  const int64_t panel = ceil_div(vectors, ceil_div(vectors, kMostVectors));
  for (int64_t v = 0; v < vectors; v += panel) {
    const int64_t some = least(panel, vectors - v), most = tile_outputs(static_cast<int>(some));
    for (int64_t first = 0; first < pixels; first += kPixels) {
      const int64_t count = least(kPixels, pixels - first);
      for (int64_t k = 0; k < own.outs;) {
        int64_t outs = least(most, own.outs - k);
        if (own.outs - k > most && own.outs - k < 2 * most) outs = ceil_div(own.outs - k, 2);
        pick_tile<T>(some, outs)(grad + k, x + v * N, places + first, count, sums + k * row + v * N, row);
        k += outs;
      }
    }
  }
}

template <class T>
void add_chunk(const ConvShape& s, const Plan& p, const Item& own, const Chunk& chunk, const T* strip, const T* grad,
               const Place* places, const TapRange* cols, T* sums) {
  const int64_t pixels = chunk.images * chunk.rows * chunk.cols;
  for (int64_t r = 0; r < s.kernel_height; ++r) {
    const int64_t at = chunk.y * s.stride_height + r * s.dilation_height - s.pad_height;
    const TapRange rows = pixels_inside(chunk.rows, s.stride_height, at, s.in_height);
    for (int64_t q = 0; q < s.kernel_width; ++q, sums += p.outs * p.ins) {
      const T* x = strip + (r * s.dilation_height * p.input.cols + q * s.dilation_width) * p.input.pixel;
      const int64_t row = chunk.images * (cols[q].last - cols[q].first);
      add_pixels(p, own, x, grad, places + q * pixels + rows.first * row, (rows.last - rows.first) * row, sums);
    }
  }
}

// sums (taps, outputs, channels) to (outputs, channels, taps).
template <class T>
void store_sums(const ConvShape& s, const Plan& p, const Item& own, const T* sums, T* to) {
  constexpr int N = kLanes<T>;
  const int64_t kernel = kernel_volume(s), step = p.outs * p.ins;
  for (int64_t k = 0; k < own.outs; ++k) {
    T* const row = to + ((own.group * out_group(s) + own.out + k) * in_group(s) + own.in) * kernel;
    const T* const from = sums + k * p.ins;
    if (kernel == 1) {
      copy_values(row, from, own.ins);
      continue;
    }
    for (int64_t c = 0; c < own.ins; c += N) {
      for (int64_t t = 0; t < kernel; t += N) {
        const int64_t count = least(N, kernel - t);
        Vec<T> square[N];
        for (int i = 0; i < N; ++i) square[i] = i < count ? load(from + (t + i) * step + c) : Vec<T>(T(0));
        tile_detail::stages<1>(square);
        for (int64_t i = 0; i < least(N, own.ins - c); ++i) store_n(row + (c + i) * kernel + t, count, square[i]);
      }
    }
  }
}

template <class T>
void run_item(const ConvShape& s, const Plan& p, const T* grad_output, const T* input, T* to, int64_t item) {
  Item own;
  own.split = item % p.splits;
  item /= p.splits;
  own.in = item % p.in_blocks * p.ins;
  item /= p.in_blocks;
  own.out = item % p.out_blocks * p.outs;
  own.group = item / p.out_blocks;
  own.ins = least(p.ins, in_group(s) - own.in), own.outs = least(p.outs, out_group(s) - own.out);
  const int64_t kernel = kernel_volume(s);
  const int64_t pixels = p.images * p.rows * p.cols;
  const int64_t sums_size = kernel * p.outs * p.ins, strip_size = p.images * p.input.size();
  const int64_t grad_size = pixels * p.grad.pixel;
  T* const sums = scratch_of<T>(ScratchSlot::item, sums_size + strip_size + grad_size + 2 * kStripSlack<T>);
  T* const strip = sums + sums_size;
  T* const grad = strip + strip_size + kStripSlack<T>;
  TapRange* const cols = scratch_of<TapRange>(
      ScratchSlot::item2, s.kernel_width + ceil_div(s.kernel_width * pixels * static_cast<int64_t>(sizeof(Place)),
                                                    static_cast<int64_t>(sizeof(TapRange))));
  Place* const places = reinterpret_cast<Place*>(cols + s.kernel_width);
  // Lanes beyond the last channel are read and their sums dropped.
  std::memset(sums, 0, static_cast<size_t>(sums_size + strip_size + kStripSlack<T>) * sizeof(T));
  const int64_t last_image = least((own.split + 1) * p.split_images, s.batch);
  Chunk listed{};
  for (int64_t n = own.split * p.split_images; n < last_image; n += p.images) {
    for (int64_t block = 0; block < p.row_blocks * p.col_blocks; ++block) {
      Chunk chunk{least(p.images, last_image - n), block / p.col_blocks * p.rows, p.rows, block % p.col_blocks * p.cols,
                  p.cols};
      chunk.rows = least(p.rows, s.out_height - chunk.y), chunk.cols = least(p.cols, s.out_width - chunk.x);
      if (!chunk.same_places(listed)) list_places(s, p, chunk, places, cols);
      listed = chunk;
      PixelStrip source = p.input, upstream = p.grad;
      source.channels = own.ins, upstream.channels = own.outs;
      source.base_width += chunk.x * s.stride_width;
      upstream.base_width = chunk.x, upstream.rows = chunk.rows, upstream.cols = chunk.cols;
      for (int64_t i = 0; i < chunk.images; ++i) {
        const T* const image = input + (n + i) * p.in_order.image;
        const T* const g = grad_output + (n + i) * p.out_order.image;
        source.copy(image + (own.group * in_group(s) + own.in) * p.in_order.channel,
                    chunk.y * s.stride_height - s.pad_height, strip + i * source.size());
        upstream.copy(g + (own.group * out_group(s) + own.out) * p.out_order.channel, chunk.y,
                      grad + i * upstream.size());
      }
      add_chunk(s, p, own, chunk, strip, grad, places, cols, sums);
    }
  }
  const int64_t weights = s.out_channels * in_group(s) * kernel;
  store_sums(s, p, own, sums, to + own.split * weights);
}

}  // namespace

template <class T>
void pixels_grad_weight(const ConvShape& s, const T* grad_output, const T* input, T* grad_weight) {
  const int64_t weights = s.out_channels * in_group(s) * kernel_volume(s);
  const Plan p = make_plan<T>(s);
  T* const to = p.splits > 1 ? scratch_of<T>(ScratchSlot::shared, p.splits * weights) : grad_weight;
  const int64_t items = s.groups * p.out_blocks * p.in_blocks * p.splits;
  const double each =
      static_cast<double>(s.batch * out_plane(s)) * static_cast<double>(weights) / static_cast<double>(items);
  parallel_for(0, items, item_grain(each), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run_item(s, p, grad_output, input, to, i);
  });
  sum_splits(to, p.splits, weights, grad_weight);
}

template void pixels_grad_weight<float>(const ConvShape&, const float*, const float*, float*);
template void pixels_grad_weight<double>(const ConvShape&, const double*, const double*, double*);

}  // namespace tensorgrad::cpu::TENSORGRAD_ISA

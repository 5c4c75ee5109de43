// Views and rearranged copies.

#include "families.h"
#include "tensorgrad/ops/shape_ops.h"

namespace tensorgrad::python {

namespace {

void add_views(Ops& ops) {
  ops.function("reshape(Tensor input, int[] shape)", [](Args& a) -> Result { return reshape(a.t(0), a.ints(1)); });
  ops.method("reshape(Tensor self, int[]... shape)", [](Args& a) -> Result { return reshape(a.t(0), a.ints(1)); });
  ops.method("reshape_as(Tensor self, Tensor other)",
             [](Args& a) -> Result { return reshape(a.t(0), a.t(1).sizes()); });
  ops.method("view(Tensor self, dtype dtype)", [](Args& a) -> Result { return view(a.t(0), *a.opt_dtype(1)); });
  ops.method("view(Tensor self, int[]... size)", [](Args& a) -> Result { return view(a.t(0), a.ints(1)); });
  ops.method("view_as(Tensor self, Tensor other)", [](Args& a) -> Result { return view_as(a.t(0), a.t(1)); });
  ops.def("ravel(Tensor input)", [](Args& a) -> Result { return ravel(a.t(0)); });
  ops.def("flatten(Tensor input, int start_dim=0, int end_dim=-1)",
          [](Args& a) -> Result { return flatten(a.t(0), a.i(1), a.i(2)); });
  ops.def("unflatten(Tensor input, int dim, int[1] sizes)",
          [](Args& a) -> Result { return unflatten(a.t(0), a.i(1), a.ints(2)); });
  ops.function("permute(Tensor input, int[] dims)", [](Args& a) -> Result { return permute(a.t(0), a.ints(1)); });
  ops.method("permute(Tensor self, int[]... dims)", [](Args& a) -> Result { return permute(a.t(0), a.ints(1)); });
  ops.def("transpose(Tensor input, int dim0, int dim1)",
          [](Args& a) -> Result { return transpose(a.t(0), a.i(1), a.i(2)); });
  ops.def("swapaxes(Tensor input, int axis0, int axis1)",
          [](Args& a) -> Result { return swapaxes(a.t(0), a.i(1), a.i(2)); });
  ops.def("swapdims(Tensor input, int dim0, int dim1)",
          [](Args& a) -> Result { return swapaxes(a.t(0), a.i(1), a.i(2)); });
  ops.def("t(Tensor input)", [](Args& a) -> Result { return t(a.t(0)); });
  ops.def("adjoint(Tensor input)", [](Args& a) -> Result { return transpose(a.t(0), -2, -1); });
  ops.def("movedim(Tensor input, int source, int destination)",
          [](Args& a) -> Result { return movedim(a.t(0), a.i(1), a.i(2)); });
  ops.def("movedim(Tensor input, int[] source, int[] destination)",
          [](Args& a) -> Result { return movedim(a.t(0), a.ints(1), a.ints(2)); });
  ops.alias("moveaxis", "movedim");
  ops.def("squeeze(Tensor input)", [](Args& a) -> Result { return squeeze(a.t(0)); });
  ops.def("squeeze(Tensor input, int[1] dim)", [](Args& a) -> Result { return squeeze(a.t(0), a.ints(1)); });
  ops.def("unsqueeze(Tensor input, int dim)", [](Args& a) -> Result { return unsqueeze(a.t(0), a.i(1)); });
  ops.method("expand(Tensor self, int[]... size, *, bool implicit=False)",
             [](Args& a) -> Result { return expand(a.t(0), a.ints(1)); });
  ops.method("expand_as(Tensor self, Tensor other)", [](Args& a) -> Result { return expand_as(a.t(0), a.t(1)); });
  ops.def("broadcast_to(Tensor input, int[] size)", [](Args& a) -> Result { return broadcast_to(a.t(0), a.ints(1)); });
  ops.def("narrow(Tensor input, int dim, int start, int length)",
          [](Args& a) -> Result { return narrow(a.t(0), a.i(1), a.i(2), a.i(3)); });
  ops.def("narrow(Tensor input, int dim, Tensor start, int length)", [](Args& a) -> Result {
    if (a.t(2).dim() != 0 || !is_integral(a.t(2).dtype()))
      throw ShapeError("narrow(): start must be an 0-dim integral Tensor.");
    return narrow(a.t(0), a.i(1), a.t(2).item<int64_t>(), a.i(3));
  });
  ops.def("select(Tensor input, int dim, int index)", [](Args& a) -> Result { return select(a.t(0), a.i(1), a.i(2)); });
  ops.def("as_strided(Tensor input, int[] size, int[] stride, int? storage_offset=None)",
          [](Args& a) -> Result { return as_strided(a.t(0), a.ints(1), a.ints(2), a.opt_i(3)); });
  ops.def("diagonal(Tensor input, int offset=0, int dim1=0, int dim2=1)",
          [](Args& a) -> Result { return diagonal(a.t(0), a.i(1), a.i(2), a.i(3)); });
  ops.method("unfold(Tensor self, int dimension, int size, int step)",
             [](Args& a) -> Result { return unfold(a.t(0), a.i(1), a.i(2), a.i(3)); });
  ops.def("atleast_1d(Tensor input)", [](Args& a) -> Result { return atleast_1d(a.t(0)); });
  ops.def("atleast_2d(Tensor input)", [](Args& a) -> Result { return atleast_2d(a.t(0)); });
  ops.def("atleast_3d(Tensor input)", [](Args& a) -> Result { return atleast_3d(a.t(0)); });
}

// x.squeeze_() and the like change what x looks at.
void add_views_in_place(Ops& ops) {
  ops.method("squeeze_(Tensor self)", [](Args& a) { return Result::rebind(squeeze(a.t(0))); });
  ops.method("squeeze_(Tensor self, int[1] dim)", [](Args& a) { return Result::rebind(squeeze(a.t(0), a.ints(1))); });
  ops.method("unsqueeze_(Tensor self, int dim)", [](Args& a) { return Result::rebind(unsqueeze(a.t(0), a.i(1))); });
  ops.method("transpose_(Tensor self, int dim0, int dim1)",
             [](Args& a) { return Result::rebind(transpose(a.t(0), a.i(1), a.i(2))); });
  ops.alias("swapaxes_", "transpose_");
  ops.alias("swapdims_", "transpose_");
  ops.method("t_(Tensor self)", [](Args& a) { return Result::rebind(t(a.t(0))); });
  ops.method("tril_(Tensor self, int diagonal=0)", [](Args& a) {
    a.t(0).copy_(tril(a.t(0), a.i(1)));
    return Result::self();
  });
  ops.method("triu_(Tensor self, int diagonal=0)", [](Args& a) {
    a.t(0).copy_(triu(a.t(0), a.i(1)));
    return Result::self();
  });
}

void add_pieces(Ops& ops) {
  ops.def("split(Tensor tensor, int split_size_or_sections, int dim=0)",
          [](Args& a) -> Result { return split(a.t(0), a.i(1), a.i(2)); });
  ops.def("split(Tensor tensor, int[] split_size_or_sections, int dim=0)",
          [](Args& a) -> Result { return split(a.t(0), a.ints(1), a.i(2)); });
  ops.method("split(Tensor self, int split_size, int dim=0)",
             [](Args& a) -> Result { return split(a.t(0), a.i(1), a.i(2)); });
  ops.method("split(Tensor self, int[] split_size, int dim=0)",
             [](Args& a) -> Result { return split(a.t(0), a.ints(1), a.i(2)); });
  ops.def("split_with_sizes(Tensor input, int[] split_sizes, int dim=0)",
          [](Args& a) -> Result { return split(a.t(0), a.ints(1), a.i(2)); });
  ops.def("chunk(Tensor input, int chunks, int dim=0)",
          [](Args& a) -> Result { return chunk(a.t(0), a.i(1), a.i(2)); });
  ops.def("tensor_split(Tensor input, int sections, int dim=0)",
          [](Args& a) -> Result { return tensor_split(a.t(0), a.i(1), a.i(2)); });
  ops.def("tensor_split(Tensor input, int[] indices, int dim=0)",
          [](Args& a) -> Result { return tensor_split(a.t(0), a.ints(1), a.i(2)); });
  ops.def("unbind(Tensor input, int dim=0)", [](Args& a) -> Result { return unbind(a.t(0), a.i(1)); });
}

void add_rearranged(Ops& ops) {
  ops.function("cat(Tensor[] tensors, int dim=0)", [](Args& a) -> Result { return cat(a.list(0), a.i(1)); });
  ops.function("concat(Tensor[] tensors, int dim=0)", [](Args& a) -> Result { return cat(a.list(0), a.i(1)); });
  ops.function("concatenate(Tensor[] tensors, int axis=0)", [](Args& a) -> Result { return cat(a.list(0), a.i(1)); });
  ops.function("concatenate(Tensor[] tensors, int dim=0)", [](Args& a) -> Result { return cat(a.list(0), a.i(1)); });
  ops.function("stack(Tensor[] tensors, int dim=0)", [](Args& a) -> Result { return stack(a.list(0), a.i(1)); });
  ops.function("hstack(Tensor[] tensors)", [](Args& a) -> Result { return hstack(a.list(0)); });
  ops.function("vstack(Tensor[] tensors)", [](Args& a) -> Result { return vstack(a.list(0)); });
  ops.function("dstack(Tensor[] tensors)", [](Args& a) -> Result { return dstack(a.list(0)); });
  ops.alias("row_stack", "vstack");
  ops.function("_broadcast_tensors(Tensor[] tensors)", [](Args& a) -> Result { return broadcast_tensors(a.list(0)); });
  ops.function("_meshgrid(Tensor[] tensors, str indexing='ij')",
               [](Args& a) -> Result { return meshgrid(a.list(0), std::string(a.text(1))); });
  ops.method("repeat(Tensor self, int[]... repeats)", [](Args& a) -> Result { return repeat(a.t(0), a.ints(1)); });
  ops.function("tile(Tensor input, int[] dims)", [](Args& a) -> Result { return tile(a.t(0), a.ints(1)); });
  ops.method("tile(Tensor self, int[]... dims)", [](Args& a) -> Result { return tile(a.t(0), a.ints(1)); });
  ops.def("repeat_interleave(Tensor input, int repeats, int? dim=None, *, int? output_size=None)",
          [](Args& a) -> Result { return repeat_interleave(a.t(0), a.i(1), a.opt_i(2)); });
  ops.def("repeat_interleave(Tensor input, Tensor repeats, int? dim=None, *, int? output_size=None)",
          [](Args& a) -> Result { return repeat_interleave(a.t(0), a.t(1), a.opt_i(2)); });
  ops.function("constant_pad_nd(Tensor input, int[] pad, Number value=0)",
               [](Args& a) -> Result { return constant_pad(a.t(0), a.ints(1), a.s(2)); });
  ops.function("_edge_pad(Tensor input, int[] pad, str mode)", [](Args& a) -> Result {
    const std::string_view mode = a.text(2);
    if (mode == "reflect") return edge_pad(a.t(0), a.ints(1), PadMode::reflect);
    if (mode == "replicate") return edge_pad(a.t(0), a.ints(1), PadMode::replicate);
    if (mode == "circular") return edge_pad(a.t(0), a.ints(1), PadMode::circular);
    throw NotImplementedError("Unrecognised padding mode " + std::string(mode));
  });
  ops.function("flip(Tensor input, int[1] dims)", [](Args& a) -> Result { return flip(a.t(0), a.ints(1)); });
  ops.method("flip(Tensor self, int[]... dims)", [](Args& a) -> Result { return flip(a.t(0), a.ints(1)); });
  ops.def("fliplr(Tensor input)", [](Args& a) -> Result { return fliplr(a.t(0)); });
  ops.def("flipud(Tensor input)", [](Args& a) -> Result { return flipud(a.t(0)); });
  ops.def("roll(Tensor input, int[1] shifts, int[1] dims=[])",
          [](Args& a) -> Result { return roll(a.t(0), a.ints(1), a.ints(2)); });
  ops.def("rot90(Tensor input, int k=1, int[] dims=[0,1])",
          [](Args& a) -> Result { return rot90(a.t(0), a.i(1), a.ints(2)); });
  ops.def("tril(Tensor input, int diagonal=0)", [](Args& a) -> Result { return tril(a.t(0), a.i(1)); });
  ops.def("triu(Tensor input, int diagonal=0)", [](Args& a) -> Result { return triu(a.t(0), a.i(1)); });
  ops.def("diag(Tensor input, int diagonal=0)", [](Args& a) -> Result { return diag(a.t(0), a.i(1)); });
  ops.def("diag_embed(Tensor input, int offset=0, int dim1=-2, int dim2=-1)",
          [](Args& a) -> Result { return diag_embed(a.t(0), a.i(1), a.i(2), a.i(3)); });
}

}  // namespace

void add_shape_ops(Ops& ops) {
  add_views(ops);
  add_views_in_place(ops);
  add_pieces(ops);
  add_rearranged(ops);
}

}  // namespace tensorgrad::python

"""Methods of Tensor that are written in Python, and functions that need more than one call into the core."""

import builtins
import math

from . import _C
from ._tensor_str import tensor_format, tensor_repr
from .amp.autocast_mode import rule

Tensor = _C.Tensor


def method(function):
    setattr(Tensor, function.__name__, function)
    return function


def _property(name, get, doc=None):
    setattr(Tensor, name, property(get, doc=doc))


# ---- printing, iteration, copies -------------------------------------------------------------------------------------

Tensor.__repr__ = lambda self, *, tensor_contents=None: tensor_repr(self)
Tensor.__str__ = lambda self: tensor_repr(self)
Tensor.__format__ = tensor_format
Tensor.__module__ = "tensorgrad"
Tensor.__array_priority__ = 1000
Tensor._make_subclass = staticmethod(_C._make_subclass)


@method
def __iter__(self):
    if self.dim() == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter(self.unbind(0))


@method
def __reversed__(self):
    return self if self.dim() == 0 else self.flip(0)


@method
def __contains__(self, element):
    if isinstance(element, (Tensor, int, float, bool)):
        return bool((element == self).any().item())
    raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")


@method
def __dir__(self):
    return sorted(set(dir(type(self))) | set(self.__dict__))


@method
def __deepcopy__(self, memo):
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment. "
            " If you were "
            "attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, see "
            "https://github.com/pytorch/pytorch/pull/103001"
        )
    from copy import deepcopy

    result = self.detach().clone()
    if type(self) is not Tensor:
        result = Tensor._make_subclass(type(self), result, False)
    result.requires_grad_(self.requires_grad)
    memo[id(self)] = result
    if self.grad is not None:
        result.grad = self.grad.detach().clone()
    if self.__dict__:
        result.__dict__.update(deepcopy(self.__dict__, memo))
    return result


def _rebuild(cls, data, dtype, shape, requires_grad, attributes):
    result = _C._from_bytes(data, dtype, tuple(shape))
    if cls is not Tensor:
        result = Tensor._make_subclass(cls, result, False)
    if requires_grad:
        result.requires_grad_(True)
    if attributes:
        result.__dict__.update(attributes)
    return result


@method
def __reduce_ex__(self, proto):
    if not self.is_leaf:
        raise RuntimeError(
            "Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd does not support "
            "crossing process "
            "boundaries.  If you just want to transfer the data, call detach() on the tensor before serializing "
            "(e.g., putting it "
            "on the queue)."
        )
    return _rebuild, (
        type(self),
        _C._to_bytes(self),
        self.dtype,
        tuple(self.shape),
        self.requires_grad,
        dict(self.__dict__),
    )


# ---- NumPy, DLPack, lists --------------------------------------------------------------------------------------------


@method
def tolist(self):
    """Nested lists of Python numbers; a number for a 0-d tensor."""
    return _C._tolist(self)


@method
def numpy(self, *, force=False):
    """A NumPy array that shares the memory; `force` detaches and copies to the CPU first."""
    import numpy

    if force:
        self = self.detach().cpu()
    elif self.requires_grad:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    return numpy.asarray(_C._memory(self))


@method
def __array__(self, dtype=None, copy=None):
    array = self.numpy()
    if dtype is not None:
        array = array.astype(dtype, copy=False)
    return array.copy() if copy and dtype is None else array


@method
def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if self.is_cuda and stream != -1:  # the taker's stream waits for ours; None and 1 are the default one
        ours = _C._CudaStream._current(self.device.index)
        taker = _C._CudaStream._external(0 if stream in (None, 1) else stream, self.device.index)
        if ours != taker:
            taker.wait_stream(ours)
    return _C._to_dlpack(self.clone() if copy else self)


@method
def record_stream(self, stream):
    """`stream` works on this tensor too: when it is freed, its memory is not used again before that work is done."""
    _C._cuda_record_stream(self, stream)


@method
def __dlpack_device__(self):
    return _C._dlpack_device(self)


def from_numpy(array):
    """A tensor that shares a NumPy array's memory."""
    if type(array).__module__ != "numpy" or not hasattr(array, "__array_interface__"):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__})")
    return _C._from_buffer(array)


def from_dlpack(ext_tensor, *, device=None, copy=None):
    """A tensor that shares the memory of any object with ``__dlpack__`` (or of a capsule)."""
    if hasattr(ext_tensor, "__dlpack__"):
        kind, index = ext_tensor.__dlpack_device__()
        if kind == 2:  # CUDA: our stream waits for the giver's
            ext_tensor = ext_tensor.__dlpack__(stream=_C._CudaStream._current(index).cuda_stream or 1)
        else:
            ext_tensor = ext_tensor.__dlpack__()
    result = _C._from_dlpack(ext_tensor)
    return result.clone() if copy else result


def frombuffer(buffer, *, dtype, count=-1, offset=0, requires_grad=False):
    """A 1-d tensor over the bytes of an object with the buffer protocol."""
    import numpy

    flat = numpy.frombuffer(buffer, dtype=str(dtype).split(".")[-1], count=count, offset=offset)
    return from_numpy(flat).requires_grad_(requires_grad)


def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False):
    """A new tensor that copies numbers, nested lists, a NumPy array or another tensor.

    >>> tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    """
    result = _C._tensor_from_data(data, dtype)
    if device is not None:
        result = result.to(device)
    if pin_memory:
        result = result.pin_memory()
    return result.requires_grad_() if requires_grad else result


def as_tensor(data, dtype=None, device=None):
    """The data as a tensor, without a copy where it is one (or a NumPy array) of the right dtype already."""
    if isinstance(data, Tensor):
        return data if dtype is None and device is None else data.to(device=device, dtype=dtype)
    if (
        type(data).__module__ == "numpy"
        and hasattr(data, "__array_interface__")
        and hasattr(data, "strides")
        and data.shape != ()
    ):
        result = _C._from_buffer(data)
    else:
        result = _C._tensor_from_data(data, dtype)
    return result if dtype is None and device is None else result.to(device=device, dtype=dtype)


def asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=False):
    """as_tensor with the choice to copy always (True) or never (False)."""
    result = as_tensor(obj, dtype, device)
    if copy is False and not isinstance(obj, Tensor) and not hasattr(obj, "__array_interface__"):
        raise ValueError("can't alias arbitrary sequence into a tensor.")
    if copy and (result is obj or hasattr(obj, "__array_interface__")):
        result = result.clone()
    return result.detach().requires_grad_(requires_grad) if result.requires_grad != requires_grad else result


@method
def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False):
    """A new tensor of this one's dtype and device."""
    return tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)


# ---- sizes and strides -----------------------------------------------------------------------------------------------


@method
def size(self, dim=None):
    """The sizes, or one of them."""
    shape = self.shape
    if dim is None:
        return shape
    n = len(shape)
    if not -n <= dim < n:
        if n == 0:
            raise IndexError(f"Dimension specified as {dim} but tensor has no dimensions")
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return shape[dim]


@method
def stride(self, dim=None):
    """Elements between neighbours along each dimension, or one."""
    strides = _C._strides(self)
    if dim is None:
        return strides
    n = len(strides)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return strides[dim]


_property("T", lambda self: self.permute(*range(self.dim() - 1, -1, -1)), "All dimensions in reverse order.")
_property("mT", lambda self: self.transpose(-2, -1), "The last two dimensions swapped.")
_property("H", lambda self: self.t() if self.dim() == 2 else self.transpose(0, 1), "The transposed matrix.")
_property("mH", lambda self: self.transpose(-2, -1), "The last two dimensions swapped.")
_property("real", lambda self: self, "The tensor itself.")
_property("retains_grad", lambda self: _C._retains_grad(self), "retain_grad() was called.")
# A name for pictures of graphs; None until one is set.
Tensor.name = property(_C._get_name, _C._set_name)
_property("names", lambda self: (None,) * self.dim())


class layout:
    """How a tensor is stored; only ``strided`` exists."""

    def __repr__(self):
        return "torch.strided"


strided = layout()
_property("layout", lambda self: strided)


def _type(self, dtype=None, non_blocking=False, **kwargs):
    """The name of the tensor's type, or the tensor converted to another."""
    if dtype is None:
        return _TYPE_NAMES[self.dtype]
    if isinstance(dtype, str):
        for kind, name in _TYPE_NAMES.items():
            if name == dtype:
                return self.to(kind)
        raise ValueError(f"invalid type: {dtype!r}")
    if isinstance(dtype, builtins.type) and hasattr(dtype, "_dtype"):
        dtype = dtype._dtype
    return self.to(dtype)


Tensor.type = _type
_TYPE_NAMES = {
    _C.float32: "torch.FloatTensor",
    _C.float64: "torch.DoubleTensor",
    _C.float16: "torch.HalfTensor",
    _C.bfloat16: "torch.BFloat16Tensor",
    _C.int64: "torch.LongTensor",
    _C.int32: "torch.IntTensor",
    _C.int16: "torch.ShortTensor",
    _C.int8: "torch.CharTensor",
    _C.uint8: "torch.ByteTensor",
    _C.bool: "torch.BoolTensor",
}


# ---- gradients -------------------------------------------------------------------------------------------------------


@method
def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
    """Accumulates the gradients of this tensor into the leaves' ``.grad``."""
    from .autograd import backward

    backward(self, gradient, retain_graph, create_graph, inputs=inputs)


class HookHandle:
    """What registering a tensor hook returns; ``remove()`` takes the hook away."""

    def __init__(self, capsule):
        self._capsule = capsule

    def remove(self):
        _C._remove_hook(self._capsule)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.remove()


@method
def register_hook(self, hook):
    """``hook(grad)`` runs when this tensor's gradient is known; what it returns replaces it."""
    return HookHandle(_C._register_hook(self, hook))


@method
def register_post_accumulate_grad_hook(self, hook):
    """``hook(tensor)`` runs after this leaf's ``.grad`` was accumulated into."""
    return HookHandle(_C._register_post_hook(self, hook))


@method
def __rdiv__(self, other):
    return other / self


# ---- functions -------------------------------------------------------------------------------------------------------


def is_tensor(obj):
    """Whether obj is a tensor."""
    return isinstance(obj, Tensor)


def numel(input):
    """Number of elements."""
    return input.numel()


def _flat(tensors):
    return list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)


def broadcast_tensors(*tensors):
    """All tensors expanded to their common shape."""
    return _C._broadcast_tensors(_flat(tensors))


def broadcast_shapes(*shapes):
    """The common shape of broadcasting."""
    shapes = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    out = [1] * max((len(s) for s in shapes), default=0)
    for shape in shapes:
        for i, n in enumerate(reversed(shape), 1):
            if n != 1:
                if out[-i] not in (1, n):
                    raise RuntimeError("Shape mismatch: objects cannot be broadcast to a single shape")
                out[-i] = n
    return _C.Size(out)


def meshgrid(*tensors, indexing="ij"):
    """Coordinates of a grid: tensor i varies along dimension i."""
    return _C._meshgrid([t if t.dim() else t.reshape(1) for t in _flat(tensors)], indexing)


def block_diag(*tensors):
    """Matrices along the diagonal of a larger one."""
    tensors = [t if t.dim() == 2 else t.reshape(1, -1) for t in _flat(tensors)]
    rows, cols = sum(t.size(0) for t in tensors), sum(t.size(1) for t in tensors)
    parts, left = [], 0
    for t in tensors:
        h, w = t.shape
        parts.append(_C.cat([t.new_zeros(h, left), t, t.new_zeros(h, cols - left - w)], 1))
        left += w
    return _C.cat(parts, 0) if rows else _C.empty(0, cols)


def einsum(equation, *operands):
    """Sums of products named by letters: einsum("bij,bjk->bik", a, b)."""
    from ._einsum import einsum

    operands = _flat(operands)
    cast = _C._autocast_cast("lower" if len(operands) > 1 else "lower_cuda", operands) if _C._autocasting() else None
    if cast is None:
        return einsum(equation, operands)
    before = _C._autocast_flags(0)
    try:
        return einsum(equation, cast)
    finally:
        _C._autocast_flags(before)


@rule("widest", "a", "b")
def tensordot(a, b, dims=2):
    """Products summed over pairs of dimensions."""
    if isinstance(dims, int):
        left, right = list(range(a.dim() - dims, a.dim())), list(range(dims))
    else:
        left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    left, right = [d % a.dim() for d in left], [d % b.dim() for d in right]
    keep_a = [d for d in range(a.dim()) if d not in left]
    keep_b = [d for d in range(b.dim()) if d not in right]
    inner = math.prod(a.size(d) for d in left)
    x = a.permute(*keep_a, *left).reshape(-1, inner) if a.dim() else a.reshape(1, 1)
    y = b.permute(*right, *keep_b).reshape(inner, -1) if b.dim() else b.reshape(1, 1)
    return x.matmul(y).reshape([a.size(d) for d in keep_a] + [b.size(d) for d in keep_b])


def result_type(a, b):
    """The dtype of an arithmetic operation on a and b."""
    return (_probe(a) + _probe(b)).dtype


def _probe(x):
    if isinstance(x, Tensor):
        return _C.empty([0] * x.dim(), dtype=x.dtype) if x.dim() else _C.zeros((), dtype=x.dtype)
    return x


def can_cast(from_, to):
    """Whether a dtype may be converted to another under PyTorch's casting rules."""

    def category(d):
        return 3 if d.is_floating_point else 1 if d is _C.bool else 2

    return category(from_) <= category(to)


def is_nonzero(input):
    """The truth value of a one-element tensor."""
    return bool(input)


def is_storage(obj):
    """False: storages are not objects of their own."""
    return False


def _legacy(name, dtype):
    class Meta(builtins.type):
        def __instancecheck__(cls, instance):
            return isinstance(instance, Tensor) and instance.dtype is dtype

        def __call__(cls, *args):
            if len(args) == 1 and not isinstance(args[0], int):
                return _C._tensor_from_data(args[0], dtype)
            return _C.empty(args if args else (0,), dtype=dtype)

    return Meta(name, (), {"_dtype": dtype, "__doc__": f"A tensor of {dtype} of these sizes, or of this data."})


FloatTensor = _legacy("FloatTensor", _C.float32)
DoubleTensor = _legacy("DoubleTensor", _C.float64)
HalfTensor = _legacy("HalfTensor", _C.float16)
LongTensor = _legacy("LongTensor", _C.int64)
IntTensor = _legacy("IntTensor", _C.int32)
ShortTensor = _legacy("ShortTensor", _C.int16)
CharTensor = _legacy("CharTensor", _C.int8)
ByteTensor = _legacy("ByteTensor", _C.uint8)
BoolTensor = _legacy("BoolTensor", _C.bool)

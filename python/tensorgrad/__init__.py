"""tensorgrad: tensors, automatic differentiation and neural networks under the names of torch.

>>> import tensorgrad as torch
>>> x = torch.ones(2, 3, requires_grad=True)
>>> (x * 2).sum().backward()
>>> x.grad
tensor([[2., 2., 2.],
        [2., 2., 2.]])
"""

from math import e, inf, nan, pi  # noqa: F401

from . import _C
from ._C import *  # noqa: F403
from ._C import bool, dtype, float16, float32, float64, int16, int32, int64  # noqa: A004
from ._info import finfo, iinfo  # noqa: F401
from ._tensor import (  # noqa: F401
    BoolTensor,
    ByteTensor,
    CharTensor,
    DoubleTensor,
    FloatTensor,
    HalfTensor,
    IntTensor,
    LongTensor,
    ShortTensor,
    as_tensor,
    asarray,
    block_diag,
    broadcast_shapes,
    broadcast_tensors,
    can_cast,
    einsum,
    from_dlpack,
    from_numpy,
    frombuffer,
    is_nonzero,
    is_storage,
    is_tensor,
    layout,
    meshgrid,
    numel,
    result_type,
    strided,
    tensor,
    tensordot,
)
from ._tensor_str import get_printoptions, set_printoptions  # noqa: F401

float = float32  # noqa: A001
double = float64
half = float16
short = int16
int = int32  # noqa: A001
long = int64
newaxis = None


class memory_format:
    """The order of a tensor's memory, for `contiguous`, `clone`, `to` and `is_contiguous`."""

    def __init__(self, name):
        self._name = name

    def __repr__(self):
        return "torch." + self._name


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")

import sys as _sys  # noqa: E402

from . import amp, autograd, backends, cuda, nn, optim, random, utils  # noqa: E402
from .amp import _cuda as _cuda_amp  # noqa: E402
from .amp import autocast  # noqa: E402, F401
from .autograd import enable_grad, inference_mode, no_grad, set_grad_enabled  # noqa: E402, F401
from .interop import init_from_torch  # noqa: E402, F401
from .serialization import load, save  # noqa: E402, F401

__version__ = "0.1.0"
cuda.amp = _sys.modules[__name__ + ".cuda.amp"] = _cuda_amp


def get_default_device():
    """Where new tensors are made."""
    return device("cpu")  # noqa: F405


def is_inference_mode_enabled():
    """False: inference_mode is no_grad here."""
    return False


def compile(model=None, **kwargs):  # noqa: A001
    """The model as it is: every operation already runs in compiled kernels."""
    return (lambda m: m) if model is None else model


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Does nothing: results never depend on the number of threads."""


def get_float32_matmul_precision():
    """How float32 products are computed: "highest" in float32, "high" on CUDA in TF32."""
    return "high" if backends.cuda.matmul.allow_tf32 else "highest"


def set_float32_matmul_precision(precision):
    """ "high" and "medium" let float32 products on CUDA use TF32; on the CPU they are always computed in float32."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"Invalid precision: {precision}")
    backends.cuda.matmul.allow_tf32 = precision != "highest"


def render(output, path):
    """Draws the graph behind a tensor to a .dot or .svg file."""
    text = _C.graph_to_svg([output]) if str(path).endswith(".svg") else _C.graph_to_dot([output])
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def typename(obj):
    """The name of obj's type as torch prints it."""
    if isinstance(obj, _C.Tensor):
        return obj.type()
    return (
        f"{type(obj).__module__}.{type(obj).__qualname__}"
        if type(obj).__module__ != "builtins"
        else type(obj).__qualname__
    )

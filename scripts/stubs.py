"""Writes python/tensorgrad/_C.pyi: the types of everything in the extension. Run after changing a signature.

The operations come from their own signatures; what is not an operation is listed here.

    PYTHONPATH=build/python python scripts/stubs.py [--check]
"""

import keyword
import re
import sys
from pathlib import Path

from tensorgrad import _C

TYPES = {
    "Tensor": "Tensor",
    "Tensor|Number": "Tensor | Number",
    "Tensor[]": "Sequence[Tensor]",
    "Number": "Number",
    "int": "int_",
    "float": "float_",
    "bool": "bool_",
    "str": "str",
    "dtype": "DType",
    "device": "Device",
    "Generator": "Generator",
    "object": "Any",
}

HEAD = '''"""Types of the extension module; written by scripts/stubs.py."""

from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any, TypeAlias, final, overload

int_: TypeAlias = int
float_: TypeAlias = float
bool_: TypeAlias = bool
Number: TypeAlias = int_ | float_ | bool_
Index: TypeAlias = Any

@final
class dtype:
    is_floating_point: bool_
    is_complex: bool_
    is_signed: bool_
    itemsize: int_

bool: dtype
uint8: dtype
int8: dtype
int16: dtype
int32: dtype
int64: dtype
float16: dtype
bfloat16: dtype
float32: dtype
float64: dtype

class device:
    type: str
    index: int_ | None
    def __init__(self, type: str | int_ | device, index: int_ | None = None) -> None: ...

DType: TypeAlias = dtype
_Device: TypeAlias = device
Device: TypeAlias = device | str | int_

class Size(tuple[int_, ...]):
    def numel(self) -> int_: ...

class Node:
    next_functions: tuple[tuple[Node | None, int_], ...]
    def name(self) -> str: ...

class Generator:
    def __init__(self, device: Device | None = None) -> None: ...
    def manual_seed(self, seed: int_) -> Generator: ...
    def seed(self) -> int_: ...
    def initial_seed(self) -> int_: ...
    def get_state(self) -> Tensor: ...
    def set_state(self, new_state: Tensor) -> None: ...

class ShapeError(RuntimeError): ...
class DTypeError(RuntimeError): ...
class DeviceError(RuntimeError): ...
class AutogradError(RuntimeError): ...
class OutOfMemoryError(RuntimeError): ...

default_generator: Generator

def manual_seed(seed: int_) -> Generator: ...
def seed() -> int_: ...
def initial_seed() -> int_: ...
def get_rng_state() -> Tensor: ...
def set_rng_state(new_state: Tensor) -> None: ...
def get_num_threads() -> int_: ...
def set_num_threads(n: int_, /) -> None: ...
def get_default_dtype() -> dtype: ...
def set_default_dtype(d: dtype, /) -> None: ...
def promote_types(a: dtype, b: dtype, /) -> dtype: ...
def memory_stats(device: Device | None = None) -> dict[str, int_]: ...
def is_grad_enabled() -> bool_: ...
def is_autocast_enabled(device_type: str = "cuda") -> bool_: ...
def set_autocast_enabled(device_type: str, enabled: bool_) -> None: ...
def get_autocast_dtype(device_type: str) -> DType: ...
def set_autocast_dtype(device_type: str, dtype: DType) -> None: ...
def is_autocast_cache_enabled() -> bool_: ...
def set_autocast_cache_enabled(enabled: bool_) -> None: ...
def clear_autocast_cache() -> None: ...
def autocast_increment_nesting() -> int_: ...
def autocast_decrement_nesting() -> int_: ...
def graph_to_dot(outputs: Sequence[Tensor], /) -> str: ...
def graph_to_svg(outputs: Sequence[Tensor], /) -> str: ...
def read_idx(path: str, /) -> Tensor: ...
def __getattr__(name: str) -> Any: ...

class Tensor:
    shape: Size
    dtype: DType
    @property
    def device(self) -> _Device: ...
    requires_grad: bool_
    grad: Tensor | None
    data: Tensor
    @property
    def is_leaf(self) -> bool_: ...
    @property
    def grad_fn(self) -> Node | None: ...
    @property
    def ndim(self) -> int_: ...
    @property
    def itemsize(self) -> int_: ...
    @property
    def nbytes(self) -> int_: ...
    @property
    def is_cuda(self) -> bool_: ...
    @property
    def is_cpu(self) -> bool_: ...
    @property
    def retains_grad(self) -> bool_: ...
    @property
    def T(self) -> Tensor: ...
    @property
    def mT(self) -> Tensor: ...
    @property
    def _version(self) -> int_: ...
    def __init__(self, *data: Any) -> None: ...
    def __getitem__(self, key: Index) -> Tensor: ...
    def __setitem__(self, key: Index, value: Tensor | Number) -> None: ...
    def __len__(self) -> int_: ...
    def __iter__(self) -> Iterator[Tensor]: ...
    def __contains__(self, element: Tensor | Number) -> bool_: ...
    def __bool__(self) -> bool_: ...
    def __int__(self) -> int_: ...
    def __float__(self) -> float_: ...
    def __index__(self) -> int_: ...
    def __hash__(self) -> int_: ...
    def __eq__(self, other: Tensor | Number) -> Tensor: ...  # type: ignore[override]
    def __ne__(self, other: Tensor | Number) -> Tensor: ...  # type: ignore[override]
    def tolist(self) -> Any: ...
    def numpy(self, *, force: bool_ = False) -> Any: ...
    @overload
    def size(self, dim: None = None) -> Size: ...
    @overload
    def size(self, dim: int_) -> int_: ...
    @overload
    def stride(self, dim: None = None) -> tuple[int_, ...]: ...
    @overload
    def stride(self, dim: int_) -> int_: ...
    def type(self, dtype: Any = None) -> Any: ...
    def new_tensor(
        self, data: Any, *, dtype: DType | None = None, device: Device | None = None, requires_grad: bool_ = False
    ) -> Tensor: ...
    def backward(
        self,
        gradient: Tensor | None = None,
        retain_graph: bool_ | None = None,
        create_graph: bool_ = False,
        inputs: Sequence[Tensor] | None = None,
    ) -> None: ...
    def register_hook(self, hook: Any) -> Any: ...
    def register_post_accumulate_grad_hook(self, hook: Any) -> Any: ...
'''

BINARY = ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"]
ONE_SIDED = ["lt", "le", "gt", "ge"]
UNARY = ["neg", "pos", "abs", "invert"]
# Operations whose result is not one tensor.
NUMBERS = "dim ndimension numel nelement element_size storage_offset data_ptr"
TRUTHS = "is_contiguous is_floating_point is_complex is_signed is_pinned is_same_size is_set_to _is_view allclose equal"
TUPLES = (
    "split split_with_sizes chunk tensor_split unbind _broadcast_tensors _meshgrid aminmax var_mean std_mean cummax "
    "cummin sort topk kthvalue mode multi_head_attention max_pool1d_with_indices max_pool2d_with_indices "
    "adaptive_max_pool1d adaptive_max_pool2d"
)
RESULTS = {
    "item": "Number",
    "retain_grad": "None",
    **dict.fromkeys(NUMBERS.split(), "int_"),
    **dict.fromkeys(TRUTHS.split(), "bool_"),
    **dict.fromkeys(TUPLES.split(), "tuple[Tensor, ...]"),
    **dict.fromkeys(["max", "min", "median", "nanmedian", "unique", "nonzero", "where"], "Any"),
}


def split_parameters(text):
    parts, depth, current = [], 0, ""
    for c in text:
        depth += c in "[(" and 1 or (-1 if c in "])" else 0)
        if c == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += c
    return parts + ([current.strip()] if current.strip() else [])


def parameter(text):
    """'int[2] stride=1' -> (name, annotation, default or None, takes sizes one by one)."""
    kind, _, rest = text.partition(" ")
    name, equals, default = rest.partition("=")
    varargs = kind.endswith("...")
    kind = kind.removesuffix("...")
    optional = kind.endswith("?")
    kind = kind.removesuffix("?")
    if kind.startswith("int["):
        annotation = "Sequence[int_]" if kind == "int[]" else "int_ | Sequence[int_]"
    else:
        annotation = TYPES[kind]
    if optional:
        annotation += " | None"
    if keyword.iskeyword(name):
        name += "_"
    return name, annotation, (default if equals else None), varargs


def render(signature, method):
    name, _, rest = signature.partition("(")
    items, seen_default = [], False
    for i, text in enumerate(split_parameters(rest[: rest.rindex(")")])):
        if text == "*":
            if items and items[-1].startswith("*"):
                continue
            items.append("*")
            seen_default = False
            continue
        argument, annotation, default, varargs = parameter(text)
        if method and i == 0:
            items.append("self")
            continue
        if varargs:
            items.append(f"*{argument}: int_ | Sequence[int_]")
            continue
        if default is not None:
            plain = default in ("None", "True", "False") or default[0] in "'-0123456789"
            value = default.replace("'", '"') if plain else "..."
            items.append(f"{argument}: {annotation} = {value}")
            seen_default = True
        else:
            items.append(f"{argument}: {annotation}" + (" = ..." if seen_default else ""))
    if items and items[-1] == "*":
        items.pop()
    return f"def {name}({', '.join(items)}) -> {RESULTS.get(name, 'Tensor')}: ..."


def block(signatures, method, indent):
    lines = list(dict.fromkeys(render(s, method) for s in signatures))
    if method:  # a method's first parameter is the tensor
        lines = [line for line in lines if "(self" in line]
    if len(lines) > 1:
        return [indent + part for line in lines for part in ("@overload", line)]
    return [indent + line for line in lines]


def main():
    methods, functions = {}, {}
    for name, is_function, is_method, signatures in sorted(_C._operations()):
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or keyword.iskeyword(name):
            continue
        if is_function:
            functions[name] = signatures
        if is_method:
            methods[name] = [s for s in signatures if re.match(r"\w+\(Tensor(\|Number)? ", s)]
    out = [HEAD.rstrip()]
    for name in BINARY:
        for form in (f"__{name}__", f"__r{name}__", f"__i{name}__"):
            out.append(f"    def {form}(self, other: Tensor | Number) -> Tensor: ...")
    out.append("    def __matmul__(self, other: Tensor) -> Tensor: ...")
    out += [f"    def __{name}__(self, other: Tensor | Number) -> Tensor: ..." for name in ONE_SIDED]
    out += [f"    def __{name}__(self) -> Tensor: ..." for name in UNARY]
    for signatures in methods.values():
        out += block(signatures, True, "    ")
    out.append("")
    for signatures in functions.values():
        out += block(signatures, False, "")
    text = "\n".join(out) + "\n"
    path = Path(__file__).resolve().parent.parent / "python" / "tensorgrad" / "_C.pyi"
    if "--check" in sys.argv:
        if not path.exists() or path.read_text() != text:
            sys.exit("python/tensorgrad/_C.pyi is not what scripts/stubs.py writes: run it")
    else:
        path.write_text(text)


if __name__ == "__main__":
    main()

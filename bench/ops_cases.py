"""The cases of the operation sweep (bench/ops.py): every operation outside products, convolution and attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.ops_kit import Kit, OpCase

CASES: list[OpCase] = []

TINY, SMALL, MEDIUM, CACHE, LARGE = (4,), (32, 64), (512, 512), (1024, 1024), (4096, 4096)
NARROW, WIDE = (1_000_000, 3), (8, 1_000_000)


def text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def add(family: str, name: str, build: Callable[[Kit], Callable[[], Any]], **options: Any) -> None:
    CASES.append(OpCase(family, name, build, **options))


# --- pointwise: the call is written as a function of the library and the inputs

UNARY: dict[str, tuple[float, float]] = {
    "exp": (-5, 5),
    "log": (0.1, 9),
    "sin": (-9, 9),
    "cos": (-9, 9),
    "tanh": (-4, 4),
    "sigmoid": (-5, 5),
    "relu": (-2, 2),
    "sqrt": (0.1, 9),
    "rsqrt": (0.1, 9),
    "abs": (-2, 2),
    "neg": (-2, 2),
    "erf": (-3, 3),
    "erfc": (-3, 3),
    "erfinv": (-0.9, 0.9),
    "lgamma": (0.1, 9),
    "digamma": (0.1, 9),
    "log1p": (0.1, 9),
    "expm1": (-2, 2),
    "tan": (-1, 1),
    "asin": (-0.9, 0.9),
    "acos": (-0.9, 0.9),
    "atan": (-3, 3),
    "sinh": (-3, 3),
    "cosh": (-3, 3),
    "asinh": (-3, 3),
    "acosh": (1.1, 5),
    "atanh": (-0.9, 0.9),
    "floor": (-9, 9),
    "round": (-9, 9),
    "trunc": (-9, 9),
    "frac": (-9, 9),
    "sign": (-2, 2),
    "reciprocal": (0.5, 5),
    "square": (-2, 2),
    "exp2": (-5, 5),
    "log2": (0.1, 9),
    "log10": (0.1, 9),
    "sinc": (-3, 3),
    "isnan": (-1, 1),
    "isfinite": (-1, 1),
    "signbit": (-1, 1),
    "logical_not": (-1, 1),
    "nan_to_num": (-1, 1),
    "deg2rad": (-9, 9),
    "clone": (-1, 1),
    "zeros_like": (-1, 1),
}
NO_GRADIENT = {"isnan", "isfinite", "signbit", "logical_not", "zeros_like", "floor", "round", "trunc", "sign"}
ACTIVATIONS = [
    "gelu",
    "silu",
    "softplus",
    "elu",
    "selu",
    "celu",
    "hardtanh",
    "hardswish",
    "hardsigmoid",
    "leaky_relu",
    "mish",
    "logsigmoid",
    "softsign",
    "tanhshrink",
    "hardshrink",
    "softshrink",
    "relu6",
]
BINARY = [
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "maximum",
    "minimum",
    "atan2",
    "remainder",
    "fmod",
    "floor_divide",
    "hypot",
    "copysign",
    "logaddexp",
    "fmax",
    "xlogy",
]
COMPARE = ["eq", "lt", "ge", "logical_and", "isclose"]
INTEGER = ["add", "mul", "div", "floor_divide", "remainder", "maximum", "bitwise_and", "bitwise_left_shift", "eq"]


def unary_case(name: str, low: float, high: float, shape: tuple[int, ...], dtype: str, gradient: bool) -> None:
    def build(kit: Kit) -> Callable[[], Any]:
        x = kit.uniform(low, high, *shape, dtype=dtype, grad=gradient)
        call = getattr(kit.lib, name, None) or getattr(kit.f, name)
        return lambda: call(x)

    tag = "" if dtype == "float32" else f" {dtype}"
    add("unary", f"{name} {text(shape)}{tag}", build, backward=gradient)


def unary() -> None:
    for name, (low, high) in UNARY.items():
        gradient = name not in NO_GRADIENT
        for shape in (TINY, MEDIUM):
            unary_case(name, low, high, shape, "float32", gradient)
        unary_case(name, low, high, MEDIUM, "float64", False)
    for name in ACTIVATIONS:
        for shape in (SMALL, MEDIUM):
            unary_case(name, -4, 4, shape, "float32", True)
    for name in ("exp", "relu", "tanh", "sqrt", "gelu", "abs", "clone"):
        low, high = UNARY.get(name, (-4, 4))
        unary_case(name, low, high, SMALL, "float32", True)
        unary_case(name, low, high, LARGE, "float32", True)

    def gelu_tanh(kit: Kit) -> Callable[[], Any]:
        x = kit.normal(*MEDIUM)
        return lambda: kit.f.gelu(x, approximate="tanh")

    add("unary", f"gelu tanh {text(MEDIUM)}", gelu_tanh, backward=True)


def binary_case(name: str, shape: tuple[int, ...], dtype: str, gradient: bool) -> None:
    def build(kit: Kit) -> Callable[[], Any]:
        if dtype.startswith("float"):
            a = kit.uniform(0.2, 3, *shape, dtype=dtype, grad=gradient)
            b = kit.uniform(0.2, 3, *shape, dtype=dtype, grad=gradient)
        else:
            a, b = kit.index(60, *shape) + 1, kit.index(30, *shape) + 1
            a, b = a.to(getattr(kit.lib, dtype)), b.to(getattr(kit.lib, dtype))
        call = getattr(kit.lib, name)
        return lambda: call(a, b)

    tag = "" if dtype == "float32" else f" {dtype}"
    add("binary", f"{name} {text(shape)}{tag}", build, backward=gradient)


def binary() -> None:
    for name in BINARY:
        gradient = name not in ("floor_divide", "remainder", "fmod")
        for shape in (SMALL, MEDIUM):
            binary_case(name, shape, "float32", gradient)
        binary_case(name, MEDIUM, "float64", False)
    for name in COMPARE:
        for dtype in ("float32", "float64", "int64", "bool") if name != "isclose" else ("float32",):
            binary_case(name, MEDIUM, dtype, False)
    for name in INTEGER:
        for dtype in ("int64", "int32", "uint8"):
            binary_case(name, MEDIUM, dtype, False)
    for name in ("add", "mul", "div", "lt"):
        binary_case(name, TINY, "float32", name != "lt")
        binary_case(name, LARGE, "float32", name != "lt")


Shapes = tuple[tuple[int, ...], ...]


def layout_case(name: str, shapes: Shapes, call: Callable[..., Any], gradient: bool = True) -> None:
    """`call(lib, *inputs)` over normal inputs of these shapes."""

    def build(kit: Kit) -> Callable[[], Any]:
        inputs = [kit.normal(*shape, grad=gradient) for shape in shapes]
        return lambda: call(kit.lib, *inputs)

    add("layout", f"{name} {', '.join(map(text, shapes))}", build, backward=gradient)


def layouts() -> None:
    plus = lambda lib, a, b: a + b  # noqa: E731
    for rows, columns in ((32, 64), (512, 512), (4096, 4096), (1_000_000, 3), (3, 1_000_000)):
        a, turned = (rows, columns), (columns, rows)
        layout_case("add row", (a, (columns,)), plus)
        layout_case("add column", (a, (rows, 1)), plus)
        layout_case("outer", ((columns,), (rows, 1)), lambda lib, a, b: a * b)
        layout_case("add transposed", (a, turned), lambda lib, a, b: a + b.t())
        layout_case("exp of transposed", (turned,), lambda lib, a: a.t().exp())
        layout_case("contiguous of transposed", (turned,), lambda lib, a: a.t().contiguous())
        layout_case("every second column + 1", (a,), lambda lib, a: a[:, ::2] + 1)
        layout_case("every second row + 1", (a,), lambda lib, a: a[::2] + 1)
    layout_case("scalar mul", (MEDIUM,), lambda lib, a: a * 2.5)
    layout_case("scalar mul", (TINY,), lambda lib, a: a * 2.5)
    layout_case("rsub", (MEDIUM,), lambda lib, a: 1 - a)
    layout_case("square by pow", (MEDIUM,), lambda lib, a: a**2)
    layout_case("cube by pow", (MEDIUM,), lambda lib, a: a**3)
    layout_case("channel scale", ((8, 64, 56, 56), (64, 1, 1)), lambda lib, a, b: a * b)
    layout_case("bias over channels", ((8, 64, 56, 56), (1, 64, 1, 1)), plus)
    layout_case("channels last copy", ((8, 64, 56, 56),), lambda lib, a: a.permute(0, 2, 3, 1).contiguous())
    layout_case("channels first copy", ((8, 56, 56, 64),), lambda lib, a: a.permute(0, 3, 1, 2).contiguous())
    layout_case("heads copy", ((32, 128, 8, 32),), lambda lib, a: a.permute(0, 2, 1, 3).contiguous())
    layout_case("reversed dims copy", ((4, 5, 6, 7, 8, 9),), lambda lib, a: a.permute(5, 4, 3, 2, 1, 0).contiguous())
    layout_case("add of expanded", ((512, 1, 64), (1, 64, 64)), plus)
    layout_case("add_ in place", (MEDIUM, MEDIUM), lambda lib, a, b: a.detach().add_(b, alpha=0.0), False)
    layout_case("mul_ scalar in place", (LARGE,), lambda lib, a: a.mul_(1.0), False)
    layout_case("copy_", (LARGE, LARGE), lambda lib, a, b: a.copy_(b), False)
    layout_case("fill_", (LARGE,), lambda lib, a: a.fill_(1.0), False)
    layout_case("zero_", (LARGE,), lambda lib, a: a.zero_(), False)
    for to in ("float64", "float16", "int64", "bool", "int32", "uint8"):
        layout_case(f"to {to}", (CACHE,), lambda lib, a, to=to: a.abs().to(getattr(lib, to)), False)
    for source in ("int64", "bool", "uint8", "int32"):

        def build(kit: Kit, source: str = source) -> Callable[[], Any]:
            x = kit.normal(*CACHE, dtype=source)
            return lambda: x.to(kit.lib.float32)

        add("layout", f"from {source} to float32 {text(CACHE)}", build)


def ternary() -> None:
    def case(name: str, count: int, call: Callable[..., Any], gradient: bool = True) -> None:
        for shape in (SMALL, MEDIUM, CACHE):

            def build(kit: Kit, shape: tuple[int, ...] = shape) -> Callable[[], Any]:
                mask = kit.mask(*shape)
                inputs = [kit.uniform(0.5, 2, *shape, grad=gradient) for _ in range(count)]
                return lambda: call(kit.lib, mask, *inputs)

            add("ternary", f"{name} {text(shape)}", build, backward=gradient)

    case("where", 2, lambda lib, m, a, b: lib.where(m, a, b))
    case("where scalar", 1, lambda lib, m, a: lib.where(m, a, 0.0))
    case("masked_fill", 1, lambda lib, m, a: a.masked_fill(m, -1.0))
    case("clamp", 1, lambda lib, m, a: lib.clamp(a, 0.7, 1.5))
    case("clamp_min", 1, lambda lib, m, a: lib.clamp(a, min=0.7))
    case("lerp", 2, lambda lib, m, a, b: lib.lerp(a, b, 0.3))
    case("addcmul", 3, lambda lib, m, a, b, c: lib.addcmul(a, b, c, value=0.5))
    case("addcdiv", 3, lambda lib, m, a, b, c: lib.addcdiv(a, b, c, value=0.5))
    case("masked_select", 1, lambda lib, m, a: lib.masked_select(a, m))
    case("masked_scatter", 2, lambda lib, m, a, b: a.masked_scatter(m, b))
    case("nonzero", 0, lambda lib, m: m.nonzero(), False)
    case("mask index", 1, lambda lib, m, a: a[m])
    case("mask assign", 1, lambda lib, m, a: a.clone().masked_fill_(m, 2.0))
    case("index by row mask", 1, lambda lib, m, a: a[m[:, 0]])
    case("prelu", 1, lambda lib, m, a: lib.nn.functional.prelu(a, a.detach()[0, :1]))
    case("glu", 1, lambda lib, m, a: lib.nn.functional.glu(a))


# --- reductions and scans


def reduce_case(family: str, name: str, shape: tuple[int, ...], call: Callable[..., Any], **options: Any) -> None:
    dtype = options.pop("dtype", "float32")
    gradient = options.pop("backward", False)

    def build(kit: Kit) -> Callable[[], Any]:
        x = kit.normal(*shape, dtype=dtype, grad=gradient)
        return lambda: call(kit.lib, x)

    tag = "" if dtype == "float32" else f" {dtype}"
    add(family, f"{name} {text(shape)}{tag}", build, backward=gradient, **options)


def reductions() -> None:
    every: list[tuple[tuple[int, ...], tuple[Any, ...]]] = [
        (TINY, (None,)),
        (SMALL, (None, 0, 1)),
        (MEDIUM, (None, 0, 1)),
        (LARGE, (None, 0, 1)),
        (NARROW, (None, 0, 1)),
        ((1_000_000, 12), (1,)),
        ((100_000, 30), (0, 1)),
        ((3, 1_000_000), (0,)),
        (WIDE, (None, 0, 1)),
        ((64, 128, 64), (1,)),
        ((32, 64, 28, 28), ((0, 2, 3), (2, 3))),
        ((8, 1000, 3), (1, 2)),
        ((100_000, 2, 5), (1,)),
    ]
    for shape, dims in every:
        for dim in dims:
            of = {} if dim is None else {"dim": dim}
            tag = "" if dim is None else f" dim {dim}".replace(",", "")
            reduce_case("reduce", f"sum{tag}", shape, lambda lib, x, of=of: x.sum(**of), backward=True)
            reduce_case("reduce", f"mean{tag}", shape, lambda lib, x, of=of: x.mean(**of))
            reduce_case("reduce", f"amax{tag}", shape, lambda lib, x, of=of: x.amax(**of) if of else x.max())
            if isinstance(dim, int):
                reduce_case("reduce", f"max{tag}", shape, lambda lib, x, of=of: x.max(**of), backward=True)
                reduce_case("reduce", f"argmin{tag}", shape, lambda lib, x, of=of: x.argmin(**of))
            reduce_case("reduce", f"var{tag}", shape, lambda lib, x, of=of: x.var(**of))
    for dim in (None, 0, 1):
        of = {} if dim is None else {"dim": dim}
        tag = "" if dim is None else f" dim {dim}"
        for shape in (SMALL, MEDIUM):
            for name in ("prod", "std", "logsumexp", "norm", "any", "all", "count_nonzero", "nansum", "amin"):
                if name == "logsumexp" and dim is None:
                    continue
                backward = name in ("std", "logsumexp", "norm", "prod", "nansum")
                reduce_case(
                    "reduce",
                    f"{name}{tag}",
                    shape,
                    lambda lib, x, of=of, name=name: getattr(lib, name)(x, **of),
                    backward=backward,
                )
        for dtype in ("int64", "float64", "bool", "int32", "uint8"):
            reduce_case("reduce", f"sum{tag}", CACHE, lambda lib, x, of=of: x.sum(**of), dtype=dtype)
            if dtype != "bool":
                reduce_case(
                    "reduce", f"amax{tag}", CACHE, lambda lib, x, of=of: x.amax(**of) if of else x.max(), dtype=dtype
                )
            if dim is not None and dtype != "bool":
                reduce_case("reduce", f"argmax{tag}", CACHE, lambda lib, x, of=of: x.argmax(**of), dtype=dtype)
        reduce_case("reduce", f"any{tag}", CACHE, lambda lib, x, of=of: x.any(**of), dtype="bool")
        for name in ("sum", "amax"):
            reduce_case(
                "reduce",
                f"{name}{tag} of transposed",
                CACHE,
                lambda lib, x, of=of, name=name: getattr(x.t(), name)(**of) if of else x.t().sum(),
            )
            reduce_case(
                "reduce",
                f"{name}{tag} of every second",
                CACHE,
                lambda lib, x, of=of, name=name: getattr(x[:, ::2], name)(**of) if of else x[:, ::2].sum(),
            )
    reduce_case("reduce", "var_mean dim 1", MEDIUM, lambda lib, x: lib.var_mean(x, dim=1))
    reduce_case("reduce", "aminmax", MEDIUM, lambda lib, x: tuple(lib.aminmax(x)))
    for name in ("cumsum", "cumprod", "cummax"):
        for shape in (TINY, SMALL, MEDIUM, WIDE, NARROW):
            for dim in range(len(shape)):
                call = lambda lib, x, name=name, dim=dim: getattr(lib, name)(x * 0.1, dim)  # noqa: E731
                reduce_case("scan", f"{name} dim {dim}", shape, call, backward=name == "cumsum")
    reduce_case("scan", "cumsum dim 1", MEDIUM, lambda lib, x: lib.cumsum(x, 1), dtype="int64")
    reduce_case("scan", "cumsum dim 1", MEDIUM, lambda lib, x: lib.cumsum(x, 1), dtype="bool")


# --- sorting, indexing, joining


def sorting() -> None:
    for shape, dims in (
        ((1000,), (0,)),
        (SMALL, (0, 1)),
        (MEDIUM, (0, 1)),
        ((1_000_000,), (0,)),
        ((10_000, 10), (1,)),
        ((8, 100_000), (1,)),
    ):
        for dim in dims:
            for dtype in ("float32", "int64"):
                reduce_case(
                    "sort",
                    f"sort dim {dim}",
                    shape,
                    lambda lib, x, dim=dim: lib.sort(x, stable=True, dim=dim)[0],
                    dtype=dtype,
                    backward=dtype == "float32",
                )
                reduce_case("sort", f"topk 5 dim {dim}", shape, lambda lib, x, dim=dim: x.topk(5, dim)[0], dtype=dtype)
            reduce_case("sort", f"argsort dim {dim}", shape, lambda lib, x, dim=dim: x.argsort(dim), exact=False)
            reduce_case("sort", f"kthvalue dim {dim}", shape, lambda lib, x, dim=dim: x.kthvalue(3, dim)[0])
            reduce_case("sort", f"median dim {dim}", shape, lambda lib, x, dim=dim: x.median(dim)[0])
    reduce_case("sort", "topk 50 dim 1", (64, 50257), lambda lib, x: x.topk(50, 1)[0], backward=True)
    reduce_case("sort", "topk 1 dim 1", (64, 1000), lambda lib, x: x.topk(1, 1)[0])
    reduce_case("sort", "unique", (100_000,), lambda lib, x: lib.unique(x), dtype="int64")

    def search(kit: Kit) -> Callable[[], Any]:
        edges, values = kit.normal(1000, grad=False).sort()[0], kit.normal(100_000, grad=False)
        return lambda: kit.lib.searchsorted(edges, values)

    add("sort", "searchsorted 100000 in 1000", search)

    def counts(kit: Kit) -> Callable[[], Any]:
        x = kit.index(1000, 100_000)
        return lambda: kit.lib.bincount(x)

    add("sort", "bincount 100000 of 1000", counts)


def index_case(
    name: str,
    shape: tuple[int, ...],
    index: tuple[int, tuple[int, ...]],
    call: Callable[..., Any],
    dtype: str = "float32",
    source: tuple[int, ...] | None = None,
) -> None:
    """`call(lib, x, index, source)`; index is (its bound, its shape)."""
    gradient = dtype == "float32"

    def build(kit: Kit) -> Callable[[], Any]:
        x = kit.normal(*shape, dtype=dtype, grad=gradient)
        where = kit.index(index[0], *index[1])
        values = kit.normal(*source, dtype=dtype, grad=gradient) if source is not None else None
        return lambda: call(kit.lib, x, where, values)

    tag = "" if dtype == "float32" else f" {dtype}"
    add("index", f"{name} {text(shape)} by {text(index[1])}{tag}", build, backward=gradient)


def indexing() -> None:
    for shape in (SMALL, MEDIUM, CACHE):
        for dim in (0, 1):
            n = shape[dim]
            index_case(f"gather dim {dim}", shape, (n, shape), lambda lib, x, i, s, d=dim: x.gather(d, i))
            index_case(
                f"scatter_add dim {dim}",
                shape,
                (n, shape),
                lambda lib, x, i, s, d=dim: x.scatter_add(d, i, s),
                source=shape,
            )
            few = (8, shape[1]) if dim == 0 else (shape[0], 8)
            index_case(f"gather dim {dim}", shape, (n, few), lambda lib, x, i, s, d=dim: x.gather(d, i))
            for count in (8, n):
                index_case(
                    f"index_select dim {dim}", shape, (n, (count,)), lambda lib, x, i, s, d=dim: x.index_select(d, i)
                )
                rows = (count, shape[1]) if dim == 0 else (shape[0], count)
                index_case(
                    f"index_add dim {dim}",
                    shape,
                    (n, (count,)),
                    lambda lib, x, i, s, d=dim: x.index_add(d, i, s),
                    source=rows,
                )
        index_case("index", shape, (shape[0], (shape[0],)), lambda lib, x, i, s: x[i])
        index_case("index of columns", shape, (shape[1], (shape[1],)), lambda lib, x, i, s: x[:, i])
        index_case("index of pairs", shape, (shape[0], (1000,)), lambda lib, x, i, s: x[i, i])
        index_case(
            "index_put",
            shape,
            (shape[0], (16,)),
            lambda lib, x, i, s: x.detach().index_put((i,), s),
            source=(16, shape[1]),
            dtype="float64",
        )
        index_case(
            "index_put accumulate",
            shape,
            (shape[0], (shape[0],)),
            lambda lib, x, i, s: x.index_put((i,), s, accumulate=True),
            source=shape,
        )
        index_case("gather dim 1", shape, (shape[1], shape), lambda lib, x, i, s: x.gather(1, i), dtype="int64")
        index_case(
            "index_select dim 0", shape, (shape[0], (64,)), lambda lib, x, i, s: x.index_select(0, i), dtype="float64"
        )
        index_case(
            "index_select dim 1", shape, (shape[1], (64,)), lambda lib, x, i, s: x.index_select(1, i), dtype="bool"
        )
    index_case("gather dim 1", (1024, 50257), (50257, (1024, 1)), lambda lib, x, i, s: x.gather(1, i))
    index_case(
        "scatter_add dim 0", (1000,), (1000, (100_000,)), lambda lib, x, i, s: x.scatter_add(0, i, s), source=(100_000,)
    )
    index_case(
        "scatter_add dim 0",
        (1_000_000,),
        (1_000_000, (1_000_000,)),
        lambda lib, x, i, s: x.scatter_add(0, i, s),
        source=(1_000_000,),
    )
    index_case("take", (1_000_000,), (1_000_000, (1_000_000,)), lambda lib, x, i, s: x.take(i))
    index_case("index", (1_000_000,), (1_000_000, (1_000_000,)), lambda lib, x, i, s: x[i])
    index_case("index", (1_000_000, 3), (1_000_000, (100_000,)), lambda lib, x, i, s: x[i])
    index_case("scatter value", MEDIUM, (512, (512, 1)), lambda lib, x, i, s: x.scatter(1, i, 1.0))
    for (rows, d), count in (
        ((1000, 64), (4,)),
        ((1000, 64), (64, 32)),
        ((50257, 256), (16, 128)),
        ((50257, 768), (8, 1024)),
        ((100, 4), (10_000,)),
    ):
        index_case("embedding", (rows, d), (rows, count), lambda lib, x, i, s: lib.nn.functional.embedding(i, x))
    for count, classes in ((64, 10), (10_000, 100)):

        def hot(kit: Kit, count: int = count, classes: int = classes) -> Callable[[], Any]:
            x = kit.index(classes, count)
            return lambda: kit.f.one_hot(x, classes)

        add("index", f"one_hot {count} of {classes}", hot)


def joining() -> None:
    def case(name: str, shapes: Shapes, call: Callable[..., Any], gradient: bool = True) -> None:
        def build(kit: Kit) -> Callable[[], Any]:
            inputs = [kit.normal(*shape, grad=gradient) for shape in shapes]
            return lambda: call(kit.lib, inputs)

        add(
            "shape",
            f"{name} {text(shapes[0])}" + (f" x {len(shapes)}" if len(shapes) > 1 else ""),
            build,
            backward=gradient,
        )

    for shape in (SMALL, MEDIUM, (2048, 2048)):
        for dim in (0, 1):
            case(f"cat dim {dim}", (shape,) * 4, lambda lib, xs, d=dim: lib.cat(xs, d))
            case(f"stack dim {dim}", (shape,) * 4, lambda lib, xs, d=dim: lib.stack(xs, d))
            case(f"flip {dim}", (shape,), lambda lib, xs, d=dim: lib.flip(xs[0], (d,)))
            case(f"roll {dim}", (shape,), lambda lib, xs, d=dim: lib.roll(xs[0], 7, d))
        case("stack last", (shape,) * 3, lambda lib, xs: lib.stack(xs, -1))
        case("flip both", (shape,), lambda lib, xs: lib.flip(xs[0], (0, 1)))
        case("tril", (shape,), lambda lib, xs: lib.tril(xs[0]))
        case("triu", (shape,), lambda lib, xs: lib.triu(xs[0], 1))
        case("diagonal copy", (shape,), lambda lib, xs: lib.diagonal(xs[0]).clone())
        case("split and cat", (shape,), lambda lib, xs: lib.cat(lib.chunk(xs[0], 4, 1), 0))
        case("repeat", (shape,), lambda lib, xs: xs[0].repeat(2, 3))
        case("repeat_interleave", (shape,), lambda lib, xs: xs[0].repeat_interleave(2, 1))
        case("pad", (shape,), lambda lib, xs: lib.nn.functional.pad(xs[0], (1, 2, 3, 4)))
        case("rot90", (shape,), lambda lib, xs: lib.rot90(xs[0]))
        case("assign to slice", (shape,), lambda lib, xs: xs[0].clone()[:, 1:].zero_())
    case("pad reflect", ((8, 16, 32, 32),), lambda lib, xs: lib.nn.functional.pad(xs[0], (1, 1, 1, 1), mode="reflect"))
    case("cat many small", ((4, 8),) * 100, lambda lib, xs: lib.cat(xs, 0))
    case("cat narrow", ((100_000, 1),) * 3, lambda lib, xs: lib.cat(xs, 1))
    case("unfold windows", ((4, 8, 32, 32),), lambda lib, xs: lib.nn.functional.unfold(xs[0], 3))
    case("pixel_shuffle", ((8, 16, 32, 32),), lambda lib, xs: lib.nn.functional.pixel_shuffle(xs[0], 2))
    case(
        "interpolate nearest", ((8, 16, 32, 32),), lambda lib, xs: lib.nn.functional.interpolate(xs[0], scale_factor=2)
    )
    case("diag_embed", ((64, 64),), lambda lib, xs: lib.diag_embed(xs[0]))


# --- random numbers


def random() -> None:
    for shape in (TINY, SMALL, MEDIUM, LARGE):
        fills: dict[str, Callable[[Any], Any]] = {
            "rand": lambda kit, s=shape: kit.lib.rand(*s, device=kit.device),
            "randn": lambda kit, s=shape: kit.lib.randn(*s, device=kit.device),
            "randint": lambda kit, s=shape: kit.lib.randint(0, 100, s, device=kit.device),
            "zeros": lambda kit, s=shape: kit.lib.zeros(*s, device=kit.device),
            "full": lambda kit, s=shape: kit.lib.full(s, 2.5, device=kit.device),
        }
        for name, call in fills.items():
            add("random", f"{name} {text(shape)}", lambda kit, c=call: lambda: c(kit), exact=False)

        def in_place(name: str, *args: Any, shape: tuple[int, ...] = shape) -> None:
            def build(kit: Kit) -> Callable[[], Any]:
                x = kit.normal(*shape, grad=False)
                return lambda: getattr(x, name)(*args)

            add("random", f"{name} {text(shape)}", build, exact=False)

        in_place("uniform_", -1, 1)
        in_place("normal_", 0, 2)
        in_place("bernoulli_", 0.3)

        def dropout(kit: Kit, shape: tuple[int, ...] = shape) -> Callable[[], Any]:
            x = kit.normal(*shape)
            return lambda: kit.f.dropout(x, 0.2, True)

        add("random", f"dropout {text(shape)}", dropout, backward=True, exact=False)
    for n in (100, 10_000, 1_000_000):
        add("random", f"randperm {n}", lambda kit, n=n: lambda: kit.lib.randperm(n, device=kit.device), exact=False)
        add("random", f"arange {n}", lambda kit, n=n: lambda: kit.lib.arange(n, device=kit.device))
        add("random", f"linspace {n}", lambda kit, n=n: lambda: kit.lib.linspace(0, 1, n, device=kit.device))
    add("random", "eye 512", lambda kit: lambda: kit.lib.eye(512, device=kit.device))

    def multinomial(kit: Kit) -> Callable[[], Any]:
        x = kit.uniform(0, 1, 64, 1000, grad=False)
        return lambda: kit.lib.multinomial(x, 10, True)

    add("random", "multinomial 10 of 64x1000", multinomial, exact=False)

    def dropout2d(kit: Kit) -> Callable[[], Any]:
        x = kit.normal(16, 64, 28, 28)
        return lambda: kit.f.dropout2d(x, 0.2, True)

    add("random", "dropout2d 16x64x28x28", dropout2d, backward=True, exact=False)


unary()
binary()
layouts()
ternary()
reductions()
sorting()
indexing()
joining()
random()

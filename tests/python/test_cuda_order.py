"""Order and positions on a CUDA device, equal to the CPU's to the last bit: ties, NaN, both zeros and infinities, lines
of every length that has a method of its own, along any dim. Skipped without a device."""

import numpy as np
import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

DEVICE = "cuda"
FLOATS = ("float32", "float64", "float16", "bfloat16")
WHOLE = ("int64", "int32", "int16", "int8", "uint8", "bool")
LENGTHS = (1, 2, 3, 10, 31, 64, 127, 128, 129, 500, 513, 1000, 1025, 2000, 2049, 4096, 4097, 9000)


def numbers(dtype, *shape, distinct=50):
    """Many equal ones; floats with NaN, infinities and both zeros; whole numbers to both ends of their range."""
    x = tg.randint(-distinct, distinct, shape).float() / 7
    if dtype in FLOATS:
        special = tg.tensor([float("nan"), float("inf"), -float("inf"), 0.0, -0.0])
        where = tg.rand(*shape) < 0.1
        return tg.where(where, special[tg.randint(0, 5, shape)], x).to(getattr(tg, dtype))
    if dtype == "bool":
        return x > 0
    kind = getattr(tg, dtype)
    ends = np.iinfo(dtype)
    x = tg.randint(0 if dtype == "uint8" else -distinct, distinct, shape).to(kind)
    limits = tg.tensor([ends.min, ends.max], dtype=kind)
    return tg.where(tg.rand(*shape) < 0.1, limits[tg.randint(0, 2, shape)], x)


def same(ours, expected):
    for a, b in zip(ours, expected, strict=True):
        assert a.device.type == DEVICE and a.dtype == b.dtype and a.shape == b.shape
        if b.dtype in (tg.float16, tg.bfloat16):
            a, b = a.float(), b.float()
        a, b = a.detach().cpu().numpy(), b.detach().numpy()
        np.testing.assert_array_equal(a, b)
        if a.dtype.kind == "f":
            np.testing.assert_array_equal(np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)]))


def check(f, *inputs):
    same(f(*(t.to(DEVICE) for t in inputs)), f(*inputs))


def order_everything(x, dim):
    n = x.shape[dim]
    for descending in (False, True):
        check(lambda t: tg.sort(t, stable=True, dim=dim, descending=descending), x)  # noqa: B023
        for k in sorted({1, min(5, n), min(n, 50), n // 2, n}):
            check(lambda t: t.topk(k, dim, largest=descending), x)  # noqa: B023
    for k in sorted({1, (n + 1) // 2, min(n, 3), n}):
        check(lambda t: t.kthvalue(k, dim), x)  # noqa: B023
    check(lambda t: t.median(dim), x)
    check(lambda t: t.median(dim, keepdim=True), x)
    check(lambda t: t.nanmedian(dim), x)
    if x.dtype in (tg.float32, tg.float64) and n < 5000:
        check(lambda t: (t.nanquantile(0.5, dim, interpolation="lower"), t.quantile(1.0, dim)), x)


@pytest.mark.parametrize("dtype", FLOATS + WHOLE)
@pytest.mark.parametrize("n", LENGTHS)
def test_rows(dtype, n):
    tg.manual_seed(n)
    order_everything(numbers(dtype, 7, n), 1)


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8"])
@pytest.mark.parametrize("shape", [(3, 65, 5), (2, 130, 7), (300, 11, 3), (5000, 6), (5, 4097, 3), (600, 2, 31)])
def test_other_dims(dtype, shape):
    tg.manual_seed(shape[0])
    for dim in range(len(shape)):
        order_everything(numbers(dtype, *shape), dim)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int8", "bool"])
def test_long_rows(dtype):
    tg.manual_seed(1)
    order_everything(numbers(dtype, 3, 70_001, distinct=100_000), 1)
    order_everything(numbers(dtype, 200_000), 0)


def test_many_short_rows_and_few_distinct():
    tg.manual_seed(2)
    order_everything(numbers("float32", 10_000, 10), 1)
    order_everything(numbers("int64", 10_000, 10), 1)
    order_everything(tg.ones(2, 9000), 1)
    order_everything(tg.full((3, 5000), float("nan")), 1)
    order_everything(tg.zeros(1500, 4100), 1)


def test_order_of_views_and_of_nothing():
    tg.manual_seed(3)
    x = numbers("float32", 40, 60)
    for view in (lambda t: t.t(), lambda t: t[::3, 1::2], lambda t: t[3:4].expand(5, 60)):
        check(lambda t: view(t).sort(-1), x)  # noqa: B023
        check(lambda t: view(t).topk(4, 0), x)  # noqa: B023
        check(lambda t: view(t).median(0), x)  # noqa: B023
    for shape, dim in (((0,), 0), ((0, 5), 1), ((5, 0), 1), ((3, 0, 4), 2)):
        check(lambda t: t.sort(dim), tg.zeros(*shape))  # noqa: B023
    check(lambda t: t.median(1), tg.zeros(0, 5))
    check(lambda t: (t.median(),), tg.zeros(0))
    check(lambda t: t.sort(), tg.tensor(3.0))
    check(lambda t: t.median(0), tg.tensor(3.0))


@pytest.mark.parametrize("n", [7, 300, 5000])
def test_gradients_go_to_the_places(n):
    tg.manual_seed(n)
    x = tg.randn(4, n)
    for f in (
        lambda t: t.sort(1)[0],
        lambda t: t.topk(3, 1)[0],
        lambda t: t.kthvalue(2, 1)[0],
        lambda t: t.median(1)[0],
        lambda t: t.median(),
    ):
        a, b = x.clone().requires_grad_(), x.clone().to(DEVICE).requires_grad_()
        f(a).mul(2).sum().backward()
        f(b).mul(2).sum().backward()
        same([b.grad], [a.grad])


def test_topk_and_median_in_a_graph():
    tg.manual_seed(4)
    x = tg.randn(3, 9000).to(DEVICE)
    step = tg.cuda.graphed(lambda: (x.topk(7, 1)[0], x.median(1)[0], x.sort(1)[1], x[:, :900].sort(1)[1]))
    for _ in range(3):
        x.copy_(tg.randn(3, 9000))
        ours = [t.clone() for t in step()]
        y = x.cpu()
        same(ours, [y.topk(7, 1)[0], y.median(1)[0], y.sort(1)[1], y[:, :900].sort(1)[1]])

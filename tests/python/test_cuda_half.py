"""Softmax, norms, losses, pools and running sums of 16-bit floats on a CUDA device: computed in float32 and rounded
once, so beside float32 on the CPU of the same values. Skipped without a device."""

import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

F = tg.nn.functional
HALVES = ["bfloat16", "float16"]
DEVICE = "cuda"
ULP = {"bfloat16": 2.0**-7, "float16": 2.0**-10}  # of the value, at most


# 1 to 32 elements share a warp, up to 16384 in packs of eight, odd ones one by one, few long rows in parts.
ROWS = [
    *((37, n) for n in (1, 2, 3, 5, 16, 17, 32, 33, 40, 100, 129, 256, 264, 500, 512, 520, 777, 1000, 1024)),
    *((5, n) for n in (1032, 2048, 2056, 4096, 4104, 8192, 8200, 16384, 16392, 20001)),
    *((1, 1), (2, 50257), (3, 40000), (700, 1536)),
]
SOFTMAX = {
    **{f"softmax of {m} x {n}": (lambda x: F.softmax(x, -1), [(m, n)]) for m, n in ROWS},
    **{f"log_softmax of {m} x {n}": (lambda x: F.log_softmax(x * 2, -1), [(m, n)]) for m, n in ROWS[::2]},
    "softmax along dim 0": (lambda x: F.softmax(x, 0), [(33, 70)]),
    "log_softmax along dim 1": (lambda x: F.log_softmax(x, 1), [(3, 40, 9, 5)]),
    "softmax of a transposed view": (lambda x: F.softmax(x.transpose(0, 1), -1), [(64, 40)]),
    "softmax off the boundary of a pack": (lambda x: F.softmax(x[1:].reshape(5, 64), -1), [(321,)]),
    "softmax of parts of rows": (lambda x: F.softmax(x[:, 3:], -1), [(9, 67)]),
    "softmax of one number": (lambda x: F.softmax(x, 0), [()]),
    "softmin": (lambda x: F.softmin(x, -1), [(9, 72)]),
}
CASES = {**SOFTMAX}


def leaves(shapes, dtype, seed):
    tg.manual_seed(seed)
    values = [tg.randn(*shape).to(getattr(tg, dtype)) for shape in shapes]
    wide = [v.float().requires_grad_() for v in values]
    return wide, [v.to(DEVICE).requires_grad_() for v in values]


def rounded_once(ours, expected, dtype):
    """The same up to a rounding in the last place, where the float32 values lie beside the border of two."""
    assert ours.dtype is getattr(tg, dtype) and ours.shape == expected.shape and ours.device.type == DEVICE
    if ours.numel() == 0:
        return
    ours, expected = ours.detach().cpu().float(), expected.detach()
    rest = 2.0**-24 if dtype == "float16" else 1e-30  # float16's smallest step
    size = float(expected.abs().max())
    worst = float(((ours - expected).abs() - ULP[dtype] * expected.abs()).max())
    assert worst <= rest + 3e-6 * size, worst


def near(ours, expected, dtype, share):
    assert ours.dtype is getattr(tg, dtype) and ours.shape == expected.shape
    if ours.numel() == 0:
        return
    difference = float((ours.detach().cpu().float() - expected).norm())
    root = expected.numel() ** 0.5
    scale = max(float(expected.norm()), 1e-3 * root)
    step = 2.0**-24 * root if dtype == "float16" else 0.0
    assert difference <= share * ULP[dtype] * scale + step, difference / scale / ULP[dtype]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", CASES)
def test_computed_in_float32_and_rounded_once(name, dtype):
    f, shapes = CASES[name]
    wide, ours = leaves(shapes, dtype, len(name))
    expected, y = f(*wide), f(*ours)
    rounded_once(y, expected, dtype)
    g = tg.randn(*expected.shape).to(getattr(tg, dtype))
    wanted = tg.autograd.grad(expected, wide, g.float())
    # The gradient of a softmax is made of the rounded result, as PyTorch's: log probabilities of size 10 have 10 units.
    share = 4.0 if "log_softmax" in name else 1.0
    for a, e in zip(tg.autograd.grad(y, ours, g.to(DEVICE)), wanted, strict=True):
        near(a, e, dtype, share)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("n", [3, 40, 100, 1000, 1536, 20000])
def test_softmax_gradient_of_the_rounded_result(n, dtype):
    """dx = y * (g - sum(g * y)) of the stored y, and of an upstream gradient that lies anywhere, rounded once."""
    kind = getattr(tg, dtype)
    tg.manual_seed(n)
    x = tg.randn(6, n).to(kind).to(DEVICE).requires_grad_()
    for g in (tg.randn(6, n), tg.randn(n).expand(6, n), tg.randn(6, 1).expand(6, n), tg.randn(n, 6).t()):
        g = g.to(kind)
        up = g.float()
        y = F.softmax(x, -1)
        (dx,) = tg.autograd.grad(y, x, g.to(DEVICE))
        v = y.detach().cpu().float()
        expected = v * (up - (up * v).sum(-1, True))
        near(dx, expected, dtype, 1.0)
        y = F.log_softmax(x, -1)
        (dx,) = tg.autograd.grad(y, x, g.to(DEVICE))
        expected = up - y.detach().cpu().float().exp() * up.sum(-1, True)
        near(dx, expected, dtype, 1.0)


@pytest.mark.parametrize("dtype", HALVES)
def test_rows_that_hold_no_number(dtype):
    kind = getattr(tg, dtype)
    inf = float("inf")
    for n in (7, 64, 1000, 1536, 20000):
        x = tg.zeros(4, n)
        x[0] = -inf
        x[1, 3] = float("nan")
        x[2, n - 1] = inf
        x[3, :2] = -inf
        for f in (F.softmax, F.log_softmax):
            expected, y = f(x, -1), f(x.to(kind).to(DEVICE), -1).cpu().float()
            assert bool((expected.isnan() == y.isnan()).all()), (n, f)
            assert bool(((expected == -inf) == (y == -inf)).all())
            rounded = expected[3, 2:].to(kind).float()
            assert bool(((y[3, 2:] - rounded).abs() <= ULP[dtype] * rounded.abs()).all())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", [(0, 5), (4, 0), (0,), (3, 0, 2)])
def test_softmax_of_nothing(shape, dtype):
    x = tg.randn(*shape, device=DEVICE).to(getattr(tg, dtype)).requires_grad_()
    y = F.softmax(x, -1)
    assert y.shape == shape and y.dtype is getattr(tg, dtype)
    y.sum().backward()
    assert x.grad.shape == shape


@pytest.mark.parametrize("dtype", HALVES)
def test_softmax_is_differentiable_twice(dtype):
    (wide,), (x,) = leaves([(5, 40)], dtype, 3)
    results = []
    for t in (wide, x):
        (d,) = tg.autograd.grad((F.softmax(t, -1).float() ** 2).sum(), t, create_graph=True)
        (d.float() ** 2).sum().backward()
        results.append(t.grad)
    assert x.grad.dtype is getattr(tg, dtype)
    near(results[1], results[0], dtype, 8.0)

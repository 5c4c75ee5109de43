"""Softmax, norms, losses, pools and running sums of 16-bit floats on a CUDA device: computed in float32 and rounded
once, so beside float32 on the CPU of the same values. Skipped without a device."""

import math

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
# As for softmax; backward a cluster of blocks takes a row of more than 4096, or few long rows forward.
LENGTHS = [(37, n) for n in (5, 8, 33, 64, 100, 256, 264, 500, 512, 520, 1000, 1024, 1032)]
LENGTHS += [(300, 2048), (9, 2056), (130, 4096), (5, 4104), (9, 8192), (7, 8200), (20, 16384), (3, 20001), (2, 40000)]
LENGTHS += [(1, 8), (700, 1536), (5, 32768)]

NORMS = {
    **{
        f"layer_norm of {m} x {n}": (lambda x, *w, n=n: F.layer_norm(x, (n,), *w), [(m, n), (n,), (n,)])
        for m, n in LENGTHS
    },
    **{f"rms_norm of {m} x {n}": (lambda x, w, n=n: F.rms_norm(x, (n,), w), [(m, n), (n,)]) for m, n in LENGTHS[::2]},
    "layer_norm without weights": (lambda x: F.layer_norm(x, (768,)), [(33, 768)]),
    "layer_norm without a bias": (lambda x, w: F.layer_norm(x, (5, 16), w), [(4, 3, 5, 16), (5, 16)]),
    "layer_norm of a transposed view": (lambda x, w: F.layer_norm(x.transpose(0, 1), (40,), w), [(40, 64), (40,)]),
    "layer_norm off the boundary of a pack": (
        lambda x, w: F.layer_norm(x[1:].reshape(5, 64), (64,), w),
        [(321,), (64,)],
    ),
    "layer_norm of parts of rows": (lambda x: F.layer_norm(x[:, 3:], (64,)), [(9, 67)]),
    "rms_norm without weights": (lambda x: F.rms_norm(x, (96,)), [(7, 96)]),
    **{
        f"group_norm of {groups} in {shape}": (
            lambda x, *w, groups=groups: F.group_norm(x, groups, *w),
            [shape, (shape[1],), (shape[1],)],
        )
        for groups, shape in [
            (3, (4, 6, 5, 7)),
            (2, (2, 8, 8, 8)),
            (4, (1, 8, 64, 64)),
            (8, (32, 64, 14, 14)),
            (2, (5, 6, 11)),
        ]
    },
    "group_norm without weights": (lambda x: F.group_norm(x, 2), [(3, 4, 9, 8)]),
    "instance_norm": (F.instance_norm, [(3, 4, 9, 8)]),
    **{
        f"batch_norm of {shape}": (
            lambda x, *w: F.batch_norm(x, None, None, *w, training=True),
            [shape, (shape[1],), (shape[1],)],
        )
        for shape in [
            (5, 7, 6, 9),
            (60, 5, 28, 28),
            (1, 3, 130, 131),
            (500, 33),
            (6, 300, 4, 4),
            (2, 3, 8, 8),
            (20, 9, 14, 14),
            (4, 16, 56, 56),
        ]
    },
    "batch_norm without weights": (lambda x: F.batch_norm(x, None, None, training=True), [(8, 3, 10, 12)]),
    "batch_norm of a permuted view": (
        lambda x, w: F.batch_norm(x.permute(0, 3, 1, 2), None, None, w, training=True),
        [(4, 6, 8, 5), (5,)],
    ),
    "batch_norm with given statistics": (
        lambda x, m, w, b: F.batch_norm(x, m.detach(), m.detach() * 0 + 0.75, w, b) + m * 0,
        [(5, 7, 6, 7), (7,), (7,), (7,)],
    ),
}


def over_classes(loss, shape, weighted=False, offset=0, **options):
    """A loss of scores of `shape` (classes in dim 1) that begin `offset` elements into an array."""
    classes = shape[1]
    targets = (tg.arange(shape[0] * math.prod(shape[2:])) * 7 % classes).reshape(shape[0], *shape[2:])
    targets[-1] = options.get("ignore_index", -100) if shape[0] > 1 else 0

    def run(x):
        w = ((tg.arange(classes) % 5 + 1) / 4).to(x.device, x.dtype) if weighted else None  # exact in 16 bits
        return loss(x[offset:].reshape(shape), targets.to(x.device), w, **options)

    return run, [(math.prod(shape) + offset,)]


CLASSES = [
    (9, 3),
    (70, 10),
    (1, 17),
    (33, 100),
    (40, 255),
    (7, 256),
    (5, 257),
    (6, 1000),
    (3, 4096),
    (4, 5001),
    (3, 50257),
]
PLANES = [(2, 5, 7, 9), (3, 40, 64), (2, 300, 3), (2, 20, 5, 5), (2, 70, 40)]
LOSSES = {
    **{f"cross_entropy of {shape}": over_classes(F.cross_entropy, shape) for shape in CLASSES + PLANES},
    **{
        f"cross_entropy of {shape}, {reduction}": over_classes(F.cross_entropy, shape, reduction=reduction)
        for shape in [(70, 10), (33, 100), (5, 257), (2, 300, 3)]
        for reduction in ("none", "sum")
    },
    **{
        f"cross_entropy of {shape}, weighted and smoothed": over_classes(
            F.cross_entropy, shape, True, label_smoothing=0.1, ignore_index=1
        )
        for shape in [(70, 10), (33, 100), (5, 257), (4, 5001), (3, 40, 64)]
    },
    **{
        f"cross_entropy {offset} from the boundary of a pack of {shape}": over_classes(
            F.cross_entropy, shape, offset=offset
        )
        for offset in (1, 4)
        for shape in [(33, 100), (5, 512), (6, 1001), (70, 10)]
    },
    **{f"nll_loss of {shape}": over_classes(F.nll_loss, shape) for shape in [(9, 3), (5, 257), (2, 5, 7, 9)]},
    **{
        f"nll_loss of {shape}, weighted, {reduction}": over_classes(F.nll_loss, shape, True, reduction=reduction)
        for shape in [(70, 10), (3, 5001)]
        for reduction in ("none", "sum", "mean")
    },
    "cross_entropy of probabilities": (
        lambda x, t: F.cross_entropy(x, F.softmax(t.detach() * 0, -1)) + 0 * t.sum(),
        [(8, 16), (8, 16)],
    ),
}
POOLS = {
    **{
        f"max_pool2d of {options}": (lambda x, options=options: F.max_pool2d(x, **options), [(2, 3, 17, 19)])
        for options in [
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": 3, "stride": 1, "padding": 1, "dilation": 2},
            {"kernel_size": (2, 5), "stride": (3, 1), "ceil_mode": True},
            {"kernel_size": 1, "stride": 2},
            {"kernel_size": 1, "stride": 1},
        ]
    },
    **{
        f"avg_pool2d of {options}": (lambda x, options=options: F.avg_pool2d(x, **options), [(2, 3, 16, 18)])
        for options in [
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 1, "padding": 1},
            {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False, "ceil_mode": True},
            {"kernel_size": (4, 3), "divisor_override": 5},
        ]
    },
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2), [(4, 5, 31)]),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 4), [(4, 5, 32)]),
    **{
        f"{f.__name__} {size} of {shape}": (lambda x, f=f, size=size: f(x, size), [shape])
        for f in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)
        for size, shape in [
            ((3, 5), (2, 3, 16, 18)),
            ((7, 1), (2, 3, 7, 9)),
            ((1, 1), (4, 6, 7, 7)),
            ((1, 1), (2, 3, 64, 65)),
            ((2, 2), (1, 3, 50, 40)),
            ((20, 9), (1, 2, 6, 7)),
        ]
    },
    "max_pool2d of a transposed view": (lambda x: F.max_pool2d(x.transpose(2, 3), 2), [(2, 3, 16, 10)]),
    "max_pool2d off the boundary of a pack": (lambda x: F.max_pool2d(x[1:].reshape(1, 2, 8, 8), 2), [(129,)]),
}
# A thread, a warp, a block, several blocks take a line.
SUMS = {
    **{
        f"cumsum along {dim} of {shape}": (lambda x, dim=dim: x.cumsum(dim), [shape])
        for shape, dim in [
            ((9, 7), 1),
            ((300, 16), 1),
            ((9, 100), 1),
            ((5, 512), -1),
            ((3, 1001), 1),
            ((2, 4096), 1),
            ((3, 10000), 1),
            ((1, 70001), 1),
            ((40, 33), 0),
            ((3, 2000, 5), 1),
            ((1,), 0),
        ]
    },
    "cumsum of a transposed view": (lambda x: x.t().cumsum(1), [(40, 12)]),
    "cumsum off the boundary of a pack": (lambda x: x[1:].reshape(4, 64).cumsum(1), [(257,)]),
}


def rows_of_a_table(count, rows, **options):
    index = tg.arange(count) ** 2 % (rows + 3) % rows
    return lambda w: F.embedding(index.to(w.device), w, **options)


# Sums of runs within chunks of 64 entries, over their borders, and of one row alone.
TABLES = {
    **{
        f"embedding of {count} in {rows} x {size}": (rows_of_a_table(count, rows), [(rows, size)])
        for count, rows, size in [(1, 1, 1), (7, 5, 3), (64, 9, 40), (1000, 3, 33), (300, 500, 256), (130, 40, 7)]
    },
    "embedding with padding": (rows_of_a_table(50, 9, padding_idx=2), [(9, 16)]),
    "embedding by frequency": (rows_of_a_table(500, 9, scale_grad_by_freq=True), [(9, 16)]),
}
CASES = {**SOFTMAX, **NORMS, **LOSSES, **POOLS, **SUMS, **TABLES}


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
    assert worst <= rest + 1e-5 * size, worst


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
    share = 4.0 if "log_softmax" in name or "probabilities" in name else 1.0
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


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(16, 5, 7, 9), (8, 64, 8, 8), (300, 33), (4, 16, 56, 56)])
def test_batch_norm_of_16_bits_with_float32_weights(shape, training, dtype):
    """As under autocast: 16-bit activations, float32 weights and running statistics, which stay float32."""
    (wide, *wide_weights), (x, *_) = leaves([shape, (shape[1],), (shape[1],)], dtype, 5)
    tg.manual_seed(6)
    g = tg.randn(*shape).to(getattr(tg, dtype))
    results = []
    for t, weights in ((wide, wide_weights), (x, [w.detach().to(DEVICE).requires_grad_() for w in wide_weights])):
        mean, var = tg.linspace(-1, 1, shape[1], device=t.device), tg.linspace(0.5, 2, shape[1], device=t.device)
        y = F.batch_norm(t, mean, var, *weights, training=training)
        grads = tg.autograd.grad(y, [t, *weights], g.to(t.device, t.dtype))
        results.append((y, grads, mean, var))
    (e_y, e_grads, e_mean, e_var), (y, grads, mean, var) = results
    rounded_once(y, e_y, dtype)
    near(grads[0], e_grads[0], dtype, 1.0)
    for a, e in [*zip(grads[1:], e_grads[1:]), (mean, e_mean), (var, e_var)]:
        assert a.dtype is tg.float32
        assert tg.allclose(a.cpu(), e.detach(), rtol=1e-4, atol=1e-4 * max(1.0, float(e.detach().abs().max())))


@pytest.mark.parametrize("dtype", HALVES)
def test_norms_of_nothing(dtype):
    kind = getattr(tg, dtype)
    w = tg.ones(6, device=DEVICE, dtype=kind, requires_grad=True)
    for f, shape in [
        (lambda x: F.layer_norm(x, (6,), w), (0, 6)),
        (lambda x: F.rms_norm(x, (6,), w), (3, 0, 6)),
        (lambda x: F.group_norm(x, 3, w), (0, 6, 4)),
        (lambda x: F.batch_norm(x, None, None, w, training=True), (0, 6, 4)),
    ]:
        x = tg.randn(*shape, device=DEVICE).to(kind).requires_grad_()
        y = f(x)
        assert y.shape == shape and y.dtype is kind
        dx, dw = tg.autograd.grad(y.sum(), [x, w])
        assert dx.shape == shape and dx.dtype is kind and dw.dtype is kind and float(dw.abs().sum()) == 0


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "group_norm", "batch_norm"])
def test_norms_are_differentiable_twice(name, dtype):
    functions = {
        "layer_norm": lambda x, w: F.layer_norm(x, (8,), w),
        "rms_norm": lambda x, w: F.rms_norm(x, (8,), w),
        "group_norm": lambda x, w: F.group_norm(x, 2, w),
        "batch_norm": lambda x, w: F.batch_norm(x, None, None, w, training=True),
    }
    wide, ours = leaves([(6, 8, 8), (8,)], dtype, 3)
    results = []
    for x, w in (wide, ours):
        y = functions[name](x, w)
        dx, dw = tg.autograd.grad((y.float() ** 3).sum() * 0.05, [x, w], create_graph=True)
        results.append(tg.autograd.grad((dx.float() ** 2).sum() + (dw.float() ** 2).sum(), [x, w]))
    for a, e in zip(results[1], results[0]):
        near(a, e, dtype, 16.0)


@pytest.mark.parametrize("dtype", HALVES)
def test_weights_of_another_dtype(dtype):
    (wide, w), (x, _) = leaves([(5, 40), (40,)], dtype, 3)
    rounded_once(F.layer_norm(x, (40,), w.to(DEVICE)), F.layer_norm(wide, (40,), w), dtype)


@pytest.mark.parametrize("dtype", HALVES)
def test_equal_and_missing_numbers_in_a_pool(dtype):
    """The first among equals is chosen, and NaN before all; the places are those of float32."""
    x = (tg.arange(2 * 12 * 12).reshape(1, 2, 12, 12) % 3).to(getattr(tg, dtype))
    x[0, 1, 4, 5] = float("nan")
    for f in (lambda t: F.max_pool2d(t, 3, 2, 1, return_indices=True), lambda t: F.adaptive_max_pool2d(t, 5, True)):
        (expected, places), (y, at) = f(x.float()), f(x.to(DEVICE))
        assert bool((at.cpu() == places).all()) and bool((y.cpu().isnan() == expected.isnan()).all())


@pytest.mark.parametrize("dtype", HALVES)
def test_pools_and_running_sums_of_nothing(dtype):
    kind = getattr(tg, dtype)
    for f, shape in [
        (lambda x: F.max_pool2d(x, 2), (0, 3, 8, 8)),
        (lambda x: F.avg_pool2d(x, 2), (0, 3, 8, 8)),
        (lambda x: F.adaptive_avg_pool2d(x, 2), (0, 3, 8, 8)),
        (lambda x: x.cumsum(1), (3, 0)),
    ]:
        x = tg.randn(*shape, device=DEVICE).to(kind).requires_grad_()
        y = f(x)
        assert y.dtype is kind and y.numel() == 0
        y.sum().backward()
        assert x.grad.shape == shape


@pytest.mark.parametrize("dtype", HALVES)
def test_losses_of_nothing(dtype):
    for f in (F.cross_entropy, F.nll_loss):
        x = tg.randn(0, 5, device=DEVICE).to(getattr(tg, dtype)).requires_grad_()
        y = f(x, tg.zeros(0, dtype=tg.int64, device=DEVICE), reduction="sum")
        assert y.dtype is x.dtype and y.item() == 0
        y.backward()
        assert x.grad.shape == (0, 5)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("f", [F.cross_entropy, F.nll_loss], ids=["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("classes", [10, 100, 1000])
def test_a_class_out_of_range_is_an_error(f, classes, dtype):
    x = tg.randn(4, classes, device=DEVICE).to(getattr(tg, dtype))
    with pytest.raises(IndexError):
        f(x, tg.tensor([0, 1, classes, 2], device=DEVICE)).item()


@pytest.mark.parametrize("dtype", HALVES)
def test_cross_entropy_is_differentiable_twice(dtype):
    (wide,), (x,) = leaves([(5, 40)], dtype, 3)
    results = []
    for t in (wide, x):
        y = F.cross_entropy(t, tg.arange(5, device=t.device), reduction="sum")
        (d,) = tg.autograd.grad(y, t, create_graph=True)
        results.append(tg.autograd.grad((d.float() ** 2).sum(), t)[0])
    near(results[1], results[0], dtype, 16.0)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_captured_graph_gives_the_same_bits(dtype):
    kind = getattr(tg, dtype)
    tg.manual_seed(8)
    start = tg.randn(16, 8, 12, 12, device=DEVICE).to(kind)
    target = tg.arange(16, device=DEVICE)

    def step():
        x = start.detach().requires_grad_()
        y = F.batch_norm(x, None, None, training=True)
        y = F.group_norm(F.softmax(y, -1), 4).reshape(16, 1152)
        loss = F.cross_entropy(F.rms_norm(F.layer_norm(y, (1152,)), (1152,)), target)
        loss.backward()
        return x.grad

    expected = step().cpu()
    assert float(expected.float().abs().max()) > 0
    replay = tg.cuda.graphed(step)
    for _ in range(2):
        assert bool((replay().cpu() == expected).all())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("m, k, n", [(256, 64, 256), (130, 72, 96), (13, 20, 35), (1, 8, 8)])
def test_gelu_between_linears(m, k, n, dtype):
    """Its gradient is part of a product where cuBLASLt has one: the same as in operations of their own."""
    wide, ours = leaves([(m, k), (n, k), (n,), (k, n), (k,)], dtype, 7)
    with tg.no_grad():
        for tensors in (wide, ours):  # of size 1 throughout, scaled by powers of two
            tensors[1].mul_(0.125)
            tensors[3].mul_(0.125)

    def apart(x, w, b, w2, b2):
        return F.linear(F.gelu(F.linear(x, w, b), approximate="tanh"), w2, b2)

    g = tg.randn(m, k).to(getattr(tg, dtype))
    expected = apart(*wide)
    wanted = tg.autograd.grad(expected, wide, g.float())
    for f in (apart, tg._C._linear_gelu_linear):
        y = f(*ours)
        near(y, expected, dtype, 2.0)
        for a, e in zip(tg.autograd.grad(y, ours, g.to(DEVICE)), wanted, strict=True):
            near(a, e, dtype, 2.0)

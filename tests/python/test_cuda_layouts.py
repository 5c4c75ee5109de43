"""Layouts, draws, rows and windows on a CUDA device, beside the CPU's results. Skipped without a device."""

import numpy as np
import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

F = tg.nn.functional
DTYPES = ["float32", "float64", "int64", "int32", "uint8", "bool", "bfloat16", "float16"]
SHAPES = [(1,), (5,), (4,), (1030,), (7, 9), (8, 12), (33, 64), (70, 130), (65, 3), (3, 100), (2, 3, 4), (5, 40, 72)]
SHAPES += [(3, 33, 17, 5), (2, 17, 1, 20)]


def drawn(rng, shape, dtype):
    numbers = rng.standard_normal(shape)
    if dtype == "bool":
        return tg.from_numpy(np.asarray(numbers > 0))
    if not dtype.startswith(("float", "bfloat")):
        return tg.from_numpy(np.asarray(np.abs(numbers) * 20)).to(getattr(tg, dtype))
    return tg.from_numpy(np.asarray(numbers)).to(getattr(tg, dtype))


def layouts(a):
    """The same numbers as a dense tensor, a transposed one, every second column, and parts of larger ones."""
    yield a
    if a.dim() > 1:
        yield a.transpose(0, 1).contiguous().transpose(0, 1)
    yield tg.stack([a, a], -1)[..., 0]
    for margin in (1, 4):
        larger = tg.zeros(*(n + margin for n in a.shape), dtype=a.dtype)
        inside = tuple(slice(margin, n + margin) for n in a.shape)
        larger[inside] = a
        yield larger[inside]


def numbers_of(t):
    return (t.to(tg.float64) if t.is_floating_point() else t).detach().cpu().numpy()


def same(ours, expected, tolerance=1e-5):
    assert ours.shape == expected.shape and ours.dtype == expected.dtype
    np.testing.assert_allclose(
        numbers_of(ours).astype("float64"),
        numbers_of(expected).astype("float64"),
        rtol=tolerance,
        atol=tolerance,
        equal_nan=True,
    )


def moved(t):
    """On the device with the same strides."""
    flat = tg.as_strided(t, (t.storage_offset() + reach(t),), (1,), 0).to("cuda")
    return tg.as_strided(flat, tuple(t.shape), tuple(t.stride()), t.storage_offset())


def reach(t):
    return 1 + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))


def into_parts(x, y):
    """Copies and fills of parts of a larger tensor."""
    out = tg.zeros(*(n + 2 for n in x.shape), dtype=x.dtype, device=x.device)
    part = out[tuple(slice(1, n + 1) for n in x.shape)]
    part.copy_(y.expand(*x.shape))
    if x.shape[0] > 3:
        part[:2] = x[1:3]
    part[..., ::2] = x[..., ::2]
    part[-1:].fill_(1)
    return out


OPERATIONS = {
    "eq": lambda x, y: x == y,
    "where": lambda x, y: tg.where(y != 0, x, y),
    "contiguous": lambda x, y: x.contiguous(),
    "clone": lambda x, y: x.clone(),
    "to float32": lambda x, y: x.to(tg.float32),
    "to int32": lambda x, y: x.to(tg.int32),
    "flip": lambda x, y: tg.flip(x, (x.dim() - 1,)),
    "flip rows": lambda x, y: tg.flip(x, (0,)),
    "roll": lambda x, y: tg.roll(x, 3, x.dim() - 1),
    "into parts": into_parts,
    "full": lambda x, y: tg.full(tuple(x.shape), 1, dtype=x.dtype, device=x.device),
}
NUMBERS = {
    "add": lambda x, y: x + y,
    "mul": lambda x, y: x * y,
    "maximum": lambda x, y: tg.maximum(x, y),
    "pad": lambda x, y: F.pad(x, (1, 2), value=3),
}
FLOATS = {
    "exp": lambda x, y: x.exp(),
    "div": lambda x, y: x / (y.abs() + 1),
    "atan2": tg.atan2,
    "in place": lambda x, y: x.clone().mul_(y),
    "addcmul": lambda x, y: tg.addcmul(x, y, y),
    "lerp": lambda x, y: tg.lerp(x, y, x),
    "gelu": lambda x, y: F.gelu(x),
    "tril": lambda x, y: x.tril() if x.dim() > 1 else x + 0,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_layout_agrees_with_the_cpu(shape, dtype):
    rng = np.random.default_rng(sum(shape))
    a, b = drawn(rng, shape, dtype), drawn(rng, shape, dtype)
    floating = a.is_floating_point()
    operations = OPERATIONS | (NUMBERS if dtype != "bool" else {}) | (FLOATS if floating else {})
    for x in layouts(a):
        for row in (b, b[..., :1], b[:1], b[0] if len(shape) > 1 else b):
            for y in layouts(row):
                if rng.random() > 0.3:
                    continue
                on_device = moved(x), moved(y)
                for name, f in operations.items():
                    expected, ours = f(x, y), f(*on_device)
                    assert tuple(ours.stride()) == tuple(expected.stride()), name
                    same(ours, expected, 2e-2 if "float16" in dtype else 1e-5)


def test_large_transposed_operands():
    x, y = tg.randn(700, 900), tg.randn(900, 700)
    u, v = x.to("cuda"), y.to("cuda")
    same(u.t() + v, x.t() + y)
    same(tg.addcmul(u.t(), v, v.t().contiguous().t()), tg.addcmul(x.t(), y, y))
    same(u.t().contiguous(), x.t().contiguous())
    same(u.to(tg.bfloat16).t().contiguous(), x.to(tg.bfloat16).t().contiguous())
    same(tg.rot90(u), tg.rot90(x))
    same(u.reshape(7, 100, 900).permute(2, 0, 1).contiguous(), x.reshape(7, 100, 900).permute(2, 0, 1).contiguous())


COUNTS = [1, 3, 15, 16, 17, 63, 64, 65, 127, 1000, 4099, 70000]


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_draws_are_those_of_the_cpu(n, dtype):
    kind = getattr(tg, dtype)
    draws = [
        lambda d: tg.rand(n, dtype=kind, device=d),
        lambda d: tg.randn(n, dtype=kind, device=d),
        lambda d: tg.randint(0, 100, (n,), device=d),
        lambda d: tg.zeros(n, dtype=kind, device=d).bernoulli_(0.3),
        lambda d: tg.zeros(n, dtype=tg.bool, device=d).bernoulli_(0.3),
        lambda d: tg.zeros(n + 1, dtype=kind, device=d)[1:].bernoulli_(0.3),
        lambda d: tg.zeros(n + 1, dtype=kind, device=d)[1:].uniform_(),
        lambda d: F.dropout(tg.full((n,), 2.5, dtype=kind, device=d), 0.4),
        lambda d: F.dropout(tg.ones(n + 1, dtype=kind, device=d)[1:], 0.4),
    ]
    for draw in draws:
        results = []
        for device in ("cpu", "cuda"):
            tg.manual_seed(3)
            results.append(draw(device))
        same(results[1], results[0], 2e-2 if dtype == "bfloat16" else 1e-5)


def test_dropout_keeps_its_mask_for_the_gradient():
    x = tg.randn(33, 70, device="cuda", requires_grad=True)
    y = F.dropout(x, 0.3)
    y.backward(tg.ones_like(y) * 3)
    kept = (y != 0).to(tg.float32)
    same(x.grad, kept * (3 / 0.7))
    assert 0.6 < kept.mean().item() < 0.8


def agree_with_gradients(f, inputs, tolerance):
    on_cpu = [t.detach().clone().requires_grad_() for t in inputs]
    on_device = [t.detach().to("cuda").requires_grad_() for t in inputs]
    expected, ours = f(*on_cpu), f(*on_device)
    same(ours, expected, tolerance)
    kind = expected.dtype
    for g in (tg.randn(*expected.shape, dtype=kind), tg.ones((), dtype=kind).expand(expected.shape)):
        wanted = tg.autograd.grad(expected, on_cpu, g, retain_graph=True)
        found = tg.autograd.grad(ours, on_device, g.to("cuda"), retain_graph=True)
        for a, b in zip(found, wanted, strict=True):
            same(a, b, tolerance * max(1.0, float(b.abs().max())))


TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
ROWS = [(1, 1), (1000, 3), (301, 2), (77, 4), (50, 5), (9, 10), (33, 16), (7, 17), (70, 32), (5, 33), (5, 64), (3, 100)]
ROWS += [(2, 1027), (3, 4096), (2, 5001), (2, 20001), (1, 70000), (600, 20001), (7, 3, 5), (4, 6, 9)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_softmax_of_rows(shape, dtype):
    x = tg.randn(*shape, dtype=getattr(tg, dtype)) * 2
    for dim in [-1, 1]:
        agree_with_gradients(lambda a, d=dim: a.softmax(d), [x], TOLERANCE[dtype])
        agree_with_gradients(lambda a, d=dim: a.log_softmax(d), [x], TOLERANCE[dtype])


@pytest.mark.parametrize("n", [3, 20, 3000, 20001])
def test_softmax_of_infinities(n):
    x = tg.randn(3, n)
    x[0] = -float("inf")
    x[1, 1] = float("nan")
    x[2, : n - 1] = -float("inf")
    same(x.to("cuda").softmax(1), x.softmax(1))
    same(x.to("cuda").log_softmax(1), x.log_softmax(1))


SCORES = [(1, 1), (300, 3), (70, 10), (65, 16), (33, 17), (20, 100), (5, 300), (3, 5000), (4, 3, 40), (2, 20, 5, 7)]
SCORES += [(2, 5, 3), (2, 70, 33), (70000, 3), (3, 300, 2), (2, 3, 200, 200)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SCORES, ids=str)
def test_losses_over_classes(shape, dtype):
    kind = getattr(tg, dtype)
    target = tg.randint(0, shape[1], (shape[0], *shape[2:]))
    if shape[0] > 2:
        target[1] = -100
    weight = tg.rand(shape[1], dtype=kind) + 0.1
    x = tg.randn(*shape, dtype=kind)
    for reduction in ("mean", "sum", "none"):
        for extra in ({}, {"label_smoothing": 0.1}, {"weight": weight}, {"weight": weight, "label_smoothing": 0.2}):

            def loss(a, reduction=reduction, extra=extra):
                on = {k: v.to(a.device) if hasattr(v, "to") else v for k, v in extra.items()}
                return F.cross_entropy(a, target.to(a.device), reduction=reduction, **on)

            agree_with_gradients(loss, [x], TOLERANCE[dtype])
    agree_with_gradients(lambda a: F.nll_loss(a, target.to(a.device)), [x], TOLERANCE[dtype])


GROUPS = [(2, 6, 3, (5, 7)), (1, 4, 2, (3,)), (3, 8, 4, ()), (2, 4, 1, (30, 30)), (2, 4, 2, (24, 24)), (2, 3, 3, ())]
GROUPS += [(1, 2, 1, (100, 101)), (2, 40, 4, (8, 8)), (8, 256, 4, (28, 28)), (300, 6, 2, (4,))]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("batch", "channels", "groups", "space"), GROUPS)
def test_group_norm(batch, channels, groups, space, dtype):
    kind = getattr(tg, dtype)
    x, w, b = (tg.randn(*s, dtype=kind) for s in [(batch, channels, *space), (channels,), (channels,)])
    agree_with_gradients(lambda a, w, b: F.group_norm(a + 3, groups, w, b), [x, w, b], 3 * TOLERANCE[dtype])
    agree_with_gradients(lambda a: F.group_norm(a, groups), [x], 3 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 9001), (3, 20004), (1, 16388), (8, 100000), (300, 33), (2, 8193)], ids=str)
def test_norms_of_rows(shape, dtype):
    kind = getattr(tg, dtype)
    x, w, b = (tg.randn(*s, dtype=kind) for s in [shape, shape[1:], shape[1:]])
    agree_with_gradients(lambda a, w, b: F.layer_norm(a + 3, a.shape[1:], w, b), [x, w, b], 3 * TOLERANCE[dtype])
    agree_with_gradients(lambda a, w: F.rms_norm(a, a.shape[1:], w), [x, w], 3 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 3, 32, 32), 1),
        ((2, 3, 7, 5), 1),
        ((1, 2, 40, 30), 7),
        ((1, 2, 40, 30), (3, 5)),
        ((1, 1, 64, 65), 2),
        ((2, 2, 9, 9), 4),
        ((1, 2, 3, 3), 5),
        ((8, 64, 56, 56), 1),
        ((9000, 1, 33, 32), 1),
        ((2, 3, 112, 112), 7),
        ((2, 1, 90, 61), (4, 13)),
        ((1, 2, 3, 700), (1, 5)),
    ],
)
def test_adaptive_averages(shape, size, dtype):
    x = tg.randn(*shape, dtype=getattr(tg, dtype))
    agree_with_gradients(lambda a: F.adaptive_avg_pool2d(a, size), [x], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(2, 3, 31, 17), (1, 2, 3, 33000), (1, 1, 32770, 3)], ids=str)
def test_largest_of_windows(shape, dtype):
    x = tg.randn(*shape, dtype=getattr(tg, dtype))
    x[..., 1, 1] = float("nan")
    for options in ({"kernel_size": 3}, {"kernel_size": (2, 3), "stride": (1, 2), "padding": 1, "dilation": (1, 2)}):
        for ours, expected in zip(*(F.max_pool2d(t, **options, return_indices=True) for t in (x.cuda(), x))):
            np.testing.assert_array_equal(ours.cpu().numpy(), expected.numpy())


@pytest.mark.parametrize("factor", [2, 3, (2, 4), 1.5])
def test_nearest_entries(factor):
    x = tg.randn(2, 3, 5, 7)
    agree_with_gradients(lambda a: F.interpolate(a, scale_factor=factor), [x], 1e-4)


@pytest.mark.parametrize("shape", [(1,), (7,), (33, 65), (700, 900)], ids=str)
def test_losses_of_probabilities(shape):
    p, q = tg.rand(*shape) * 0.8 + 0.1, tg.rand(*shape)
    agree_with_gradients(lambda a: F.binary_cross_entropy(a, q.to(a.device)), [p], 1e-4)
    agree_with_gradients(lambda a, b: F.kl_div(a, b, reduction="sum"), [p.log(), q + 0.1], 1e-3)
    agree_with_gradients(lambda a: F.kl_div(a, q.to(a.device), reduction="mean"), [p.log()], 1e-4)


def test_what_is_no_probability_is_raised_by_the_next_wait():
    for bad in (1.5, -0.1):
        p = tg.full((40,), 0.5, device="cuda")
        p[33] = bad
        F.binary_cross_entropy(p, tg.full((40,), 0.5, device="cuda"))
        with pytest.raises(RuntimeError, match="between 0 and 1"):
            tg.cuda.synchronize()
    tg.cuda.synchronize()
    p = tg.full((40,), 0.5, device="cuda", requires_grad=True)
    assert F.binary_cross_entropy(p, p.detach()).item() == pytest.approx(0.6931472, rel=1e-5)

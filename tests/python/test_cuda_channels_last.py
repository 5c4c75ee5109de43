"""Batch norm and pools of images whose channels lie last, on a CUDA device: computed as they lie, beside the CPU's
results for the same numbers in planes. Skipped without a device."""

import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

F = tg.nn.functional
DTYPES = [tg.float32, tg.float64, tg.bfloat16, tg.float16]
TOLERANCE = {tg.float32: 2e-5, tg.float64: 1e-11, tg.bfloat16: 2.0**-7, tg.float16: 2.0**-10}  # of the largest value
# Packs of 16 bytes or not, one channel's pack and many, one block of a strip and many, shorter than a block's threads.
IMAGES = [
    *((2, c, 5, 7) for c in (2, 3, 4, 8, 16, 24, 33, 64, 72, 300)),
    *((1, 8, 2, 2), (3, 4, 1, 9), (16, 64, 28, 28), (4, 512, 7, 7), (2, 2048, 3, 3), (8, 3, 64, 64), (1, 40, 130, 129)),
]


def draw(shape, dtype, seed, scale=1.0, shift=0.0):
    tg.manual_seed(seed)
    return (tg.randn(*shape, dtype=tg.float64) * scale + shift).to(dtype)


def wide(t):
    """A copy on the CPU, in a dtype that it computes in."""
    return (t if t.dtype == tg.float64 else t.float()).clone()


def last(t):
    """The same numbers on the device with the channels last."""
    moved = t.to("cuda").permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    lies_last(moved)
    return moved


def lies_last(*tensors):
    for t in tensors:
        _, c, h, w = t.shape
        wanted = (c * h * w, 1, c * w, c)
        assert all(n == 1 or s == e for n, s, e in zip(t.shape, t.stride(), wanted, strict=True))


def near(ours, expected, tolerance):
    a, e = ours.detach().cpu().to(tg.float64), expected.detach().to(tg.float64)
    assert a.shape == e.shape
    if e.numel():
        assert (a - e).abs().max().item() <= tolerance * max(e.abs().max().item(), 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", IMAGES, ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(shape, dtype, training):
    c = shape[1]
    kept = tg.float64 if dtype == tg.float64 else tg.float32
    x = draw(shape, dtype, c, 2.0, 0.5)
    weight, bias, mean = (draw((c,), kept, c + i) for i in (1, 2, 3))
    var = draw((c,), kept, c + 4) ** 2 + 0.3
    up = draw(shape, dtype, c + 5)
    found = []
    for device in ("cpu", "cuda"):
        on = [t.clone().to(device) for t in (weight, bias, mean, var)]
        image = last(x) if device == "cuda" else wide(x)
        for t in (image, on[0], on[1]):
            t.requires_grad_()
        y = F.batch_norm(image, on[2], on[3], on[0], on[1], training=training)
        y.backward(last(up) if device == "cuda" else wide(up))
        found.append([y, image.grad, on[0].grad, on[1].grad, on[2], on[3]])
    expected, ours = found
    assert ours[0].dtype == dtype and ours[1].dtype == dtype
    lies_last(*ours[:2])
    loose = max(TOLERANCE[dtype], 1e-4 if dtype != tg.float64 else 0)  # sums of many, in another order
    for a, e, t in zip(ours, expected, [TOLERANCE[dtype], loose, loose, loose, 1e-5, 1e-5], strict=True):
        near(a, e, t)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 1), (2, 5), (33, 8), (100, 3), (5000, 64), (64, 1000), (4099, 129)], ids=str)
def test_batch_norm_of_a_matrix(shape, dtype):
    kept = tg.float64 if dtype == tg.float64 else tg.float32
    x, up, weight = draw(shape, dtype, 1, 3.0), draw(shape, dtype, 2), draw((shape[1],), kept, 3)
    found = []
    for device in ("cpu", "cuda"):
        a, w = x.to("cuda") if device == "cuda" else wide(x), weight.clone().to(device)
        a.requires_grad_(), w.requires_grad_()
        y = F.batch_norm(a, None, None, w, None, training=True)
        y.backward(up.to(device) if device == "cuda" else wide(up))
        found.append([y, a.grad, w.grad])
    loose = max(TOLERANCE[dtype], 1e-4 if dtype != tg.float64 else 0)
    # Of two rows the gradient is what is left of numbers that cancel: as large as eps makes it.
    bound = [TOLERANCE[dtype], loose if shape[0] > 2 else 20, loose if shape[0] > 2 else 1e-3]
    for a, e, t in zip(found[1], found[0], bound, strict=True):
        near(a, e, t)


@pytest.mark.parametrize("shape", [(8, 16, 40, 40), (20000, 8), (3, 5, 33, 9)], ids=str)
def test_batch_norm_far_from_zero(shape):
    """A mean a thousand times the deviation, and one sample far from all others."""
    x = draw(shape, tg.float32, 1, 0.1, 100.0)
    x[0, 0] = 1000.0
    on_device = last(x) if x.dim() == 4 else x.to("cuda")
    near(F.batch_norm(on_device, None, None, training=True), F.batch_norm(x.double(), None, None, training=True), 2e-4)


def test_batch_norm_of_huge_and_infinite_columns():
    x = tg.ones(2, 8, 3, 3)
    x[:, 1] = 3e25  # its square is beyond float32
    x[0, 2, 0, 0] = float("inf")
    y = F.batch_norm(last(x), None, None, training=True).cpu()
    assert y[:, :2].abs().max().item() == 0 and y[:, 2].isnan().any().item() and y[:, 3:].abs().max().item() == 0


def test_batch_norm_of_a_gradient_that_lies_otherwise_and_twice():
    x, up = draw((3, 8, 6, 5), tg.float64, 1), draw((3, 8, 6, 5), tg.float64, 2)
    found = []
    for a, g in ((x.clone(), up), (last(x), up.to("cuda"))):
        a.requires_grad_()
        (dx,) = tg.autograd.grad(F.batch_norm(a, None, None, training=True), a, g, create_graph=True)
        (twice,) = tg.autograd.grad((dx * dx).sum(), a)
        (once,) = tg.autograd.grad(F.batch_norm(a, None, None, training=True), a, g)
        found.append([dx, once, twice])
    for a, e in zip(*found[::-1], strict=True):
        near(a, e, 1e-9)


def test_batch_norm_gives_the_same_bits_twice():
    x, g = last(draw((16, 96, 33, 31), tg.float32, 1)), last(draw((16, 96, 33, 31), tg.float32, 2))
    found = []
    for _ in range(2):
        a = x.detach().clone().requires_grad_()
        y = F.batch_norm(a, None, None, training=True)
        y.backward(g)
        found.append((y.detach(), a.grad))
    assert all((a == b).all().item() for a, b in zip(*found, strict=True))


def test_batch_norm_of_three_space_dimensions():
    x = draw((2, 8, 3, 4, 5), tg.float32, 1)
    moved = x.to("cuda").permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    y = F.batch_norm(moved, None, None, training=True)
    assert y.stride() == moved.stride()
    near(y, F.batch_norm(x, None, None, training=True), 2e-5)


def test_batch_norm_in_a_graph():
    x = last(draw((4, 32, 30, 30), tg.float32, 3))
    eager = F.batch_norm(x, None, None, training=True)
    step = tg.cuda.graphed(lambda: F.batch_norm(x, None, None, training=True))
    for _ in range(2):
        assert (step() == eager).all().item()


POOLS = {
    "max 2": lambda x: F.max_pool2d(x, 2),
    "max 3 stride 2 padding 1": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max 3 stride 1 dilation 2": lambda x: F.max_pool2d(x, 3, 1, 1, 2),
    "max 2 by 3 ceil": lambda x: F.max_pool2d(x, (2, 3), (3, 2), ceil_mode=True),
    "max 1 stride 2": lambda x: F.max_pool2d(x, 1, 2),
    "average 2": lambda x: F.avg_pool2d(x, 2),
    "average 3 stride 2 padding 1": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "average without padding": lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "average 2 by 3 ceil": lambda x: F.avg_pool2d(x, (2, 3), (3, 2), ceil_mode=True),
    "average divided by 7": lambda x: F.avg_pool2d(x, 3, 2, divisor_override=7),
    "adaptive average 1": lambda x: F.adaptive_avg_pool2d(x, 1),
    "adaptive average 3 by 2": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
    "adaptive average upwards": lambda x: F.adaptive_avg_pool2d(x, (7, 13)),
    "adaptive max 1": lambda x: F.adaptive_max_pool2d(x, 1),
    "adaptive max 3 by 2": lambda x: F.adaptive_max_pool2d(x, (3, 2)),
    "adaptive max upwards": lambda x: F.adaptive_max_pool2d(x, (7, 13)),
}
POOLED = [(2, 3, 8, 9), (1, 8, 5, 6), (3, 16, 12, 11), (2, 72, 9, 7), (1, 35, 6, 6), (5, 4, 33, 40), (2, 512, 7, 7)]
POOLED += [(0, 4, 8, 8), (1, 64, 70, 60)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", POOLED, ids=str)
@pytest.mark.parametrize("name", POOLS)
def test_pool(name, shape, dtype):
    x = draw(shape, dtype, len(name))
    found = []
    for device in ("cpu", "cuda"):
        image = last(x) if device == "cuda" and x.numel() else wide(x).to(device)
        image.requires_grad_()
        y = POOLS[name](image)
        up = draw(tuple(y.shape), dtype, 5)
        y.backward(up.to("cuda").to(y.dtype) if device == "cuda" else wide(up))
        found.append([y, image.grad])
    (y, dx), (ours, ours_dx) = found
    if x.numel():
        assert ours.dtype == dtype
        lies_last(ours, ours_dx)
    near(ours, y, TOLERANCE[dtype])
    near(ours_dx, dx, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [3, 8, 20])
def test_places_of_max_pools(channels, dtype):
    x = draw((2, channels, 9, 10), dtype, 1)
    x[0, 1, 2, 3] = float("nan")
    x[1, :, 4:6] = 1.0  # equals: the first counts
    for pool in (
        lambda t: F.max_pool2d(t, 3, 2, 1, return_indices=True),
        lambda t: F.adaptive_max_pool2d(t, (4, 3), return_indices=True),
    ):
        (y, at), (ours, ours_at) = pool(wide(x)), pool(last(x))
        assert (ours_at.cpu() == at).all().item()
        lies_last(ours, ours_at)
        a, e = ours.cpu().to(tg.float64), y.to(tg.float64)
        assert ((a == e) | (a.isnan() & e.isnan())).all().item()


@pytest.mark.parametrize("name", [n for n in POOLS if "3 by 2" in n or "padding" in n])
def test_pools_are_differentiable_twice(name):
    x = draw((2, 4, 9, 8), tg.float64, 1)
    found = []
    for a in (x.clone(), last(x)):
        a.requires_grad_()
        y = POOLS[name](a)
        (dx,) = tg.autograd.grad((y**3).sum(), a, create_graph=True)
        (twice,) = tg.autograd.grad((dx**2).sum(), a)
        found.append([dx, twice])
    for a, e in zip(*found[::-1], strict=True):
        near(a, e, 1e-11)


@pytest.mark.parametrize("name", POOLS)
def test_pool_off_the_boundary_of_a_pack(name):
    x = draw((2, 8, 8, 9), tg.float32, 1)
    flat = tg.cat([tg.zeros(1), x.permute(0, 2, 3, 1).reshape(-1)]).to("cuda")
    off = tg.as_strided(flat, (2, 8, 8, 9), (576, 1, 72, 8), 1)
    lies_last(off)
    near(POOLS[name](off), POOLS[name](x), 2e-5)
    near(F.batch_norm(off, None, None, training=True), F.batch_norm(x, None, None, training=True), 2e-5)

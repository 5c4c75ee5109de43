"""Reductions, extremes with their places, variances and running sums on a CUDA device against the CPU in float64: row
and column kernels, packs and what is left of them, splits, odd bases, every dtype. Skipped without a device."""

import numpy as np
import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

FLOATS = ["float32", "float64", "float16", "bfloat16"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8", "bool"]

# (shape, dims that are reduced): short, middle and long rows and columns, split ones, several dims, nothing.
SHAPES = [
    ((1,), (0,)),
    ((0, 5), (0,)),
    ((5, 0), (0,)),
    ((1000, 3), (1,)),
    ((1000, 16), (1,)),
    ((777, 30), (1,)),
    ((513, 100), (1,)),
    ((70, 1030), (1,)),
    ((3, 70001), (1,)),
    ((300000,), (0,)),
    ((1000, 3), (0,)),
    ((70000, 3), (0,)),
    ((5000, 30), (0,)),
    ((1000, 64), (0,)),
    ((3, 5000), (0,)),
    ((129, 1024), (0,)),
    ((40, 2, 5), (1,)),
    ((9, 33, 17), (1,)),
    ((9, 33, 64), (1,)),
    ((8, 16, 7, 12), (0, 2, 3)),
    ((8, 16, 8, 8), (2, 3)),
    ((4, 6, 5, 7), (1, 3)),
    ((12, 5, 16, 16), (0, 2, 3)),
    ((40, 3, 64, 64), (0, 2, 3)),
    ((300, 4096), (1,)),
    ((8, 40000), (0,)),
    ((3, 40004), (0,)),
    ((23, 1028), (0,)),
    ((8, 40001), (0,)),
    ((300, 1027), (0,)),
    ((2, 8, 512), (1,)),
    ((9001, 30), (0,)),
    ((20001, 7), (0,)),
    ((2050, 100), (0,)),
    ((1501, 130), (0,)),
    ((70001, 2), (0,)),
    ((20011, 3), (1,)),
    ((20011, 12), (1,)),
    ((4001, 30), (1,)),
    ((3001, 64), (1,)),
    ((5003, 2, 5), (1,)),
    ((1009, 17, 7), (1,)),
    ((2, 3, 4, 5), (0, 1, 2, 3)),
]


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return tg.from_numpy(rng.integers(0, 2, shape).astype(bool))
    if dtype not in FLOATS:
        return tg.from_numpy(rng.integers(0 if dtype == "uint8" else -5, 6, shape)).to(getattr(tg, dtype))
    return tg.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(getattr(tg, dtype))


def views(x):
    """x as it lies; the same numbers off the boundary of a pack, transposed in memory, stepped, repeated."""
    yield "dense", x
    flat = tg.cat([x.new_zeros(1), x.reshape(-1)])
    yield "odd base", flat[1:].reshape(x.shape)
    dims = list(range(x.dim()))[::-1]
    yield "transposed", x.permute(*dims).contiguous().permute(*dims)
    if x.dim() > 1 and x.numel():
        yield "every second", tg.stack([x, x], -1)[..., 1]
        yield "repeated", x[:1].expand(x.shape)


def close(ours, expected, dtype, scale=1.0):
    assert ours.device.type == "cuda"
    assert ours.dtype == expected.dtype, (ours.dtype, expected.dtype)
    assert ours.shape == expected.shape
    a, b = ours.cpu().double().numpy(), expected.double().numpy()
    tolerance = {"float64": 1e-12, "float16": 2e-3, "bfloat16": 1.6e-2}.get(dtype, 1e-5)
    assert np.array_equal(np.isnan(a), np.isnan(b))
    np.testing.assert_allclose(np.nan_to_num(a), np.nan_to_num(b), rtol=tolerance, atol=tolerance * scale)


def exact(ours, expected):
    assert ours.device.type == "cuda"
    assert ours.dtype == expected.dtype
    assert ours.shape == expected.shape
    np.testing.assert_array_equal(ours.cpu().double().numpy(), expected.double().numpy())


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("shape, dims", SHAPES)
def test_sums_and_truths(shape, dims, dtype):
    wide = tg.float64 if dtype in FLOATS else tg.int64
    for name, x in views(numbers(shape, dtype)):
        y = x.cuda()
        if name == "repeated":
            y = x[:1].contiguous().cuda().expand(x.shape)
        scale = max(1.0, float(x.double().abs().sum(dims).max())) if x.numel() else 1.0
        if dtype in FLOATS:
            close(y.sum(dims), x.to(wide).sum(dims).to(x.dtype), dtype, scale)
            close(y.mean(dims), x.to(wide).mean(dims).to(x.dtype), dtype)
            close(y.nansum(dims), x.to(wide).nansum(dims).to(x.dtype), dtype, scale)
            close(y.norm(2, dims), x.to(wide).norm(2, dims).to(x.dtype), dtype)
        else:
            exact(y.sum(dims), x.sum(dims))
        exact(tg.count_nonzero(y, dims), tg.count_nonzero(x, dims))
        exact(y.any(dims), x.any(dims))
        exact((y == y).all(dims), (x == x).all(dims))


def test_fractions_are_not_zero():
    x = tg.tensor([[0.25, -0.5, 0.0], [1e-20, 0.0, 0.0]])
    assert tg.count_nonzero(x.cuda()).item() == 3
    assert x.cuda().any(1).tolist() == [True, True]
    assert x.cuda().all(1).tolist() == [False, False]


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("shape, dims", [(s, d) for s, d in SHAPES if 0 not in [s[k] for k in d]])
def test_extremes(shape, dims, dtype):
    for name, x in views(numbers(shape, dtype)):
        y = x.cuda()
        if name == "repeated":
            y = x[:1].contiguous().cuda().expand(x.shape)
        if dtype != "bool":
            exact(y.amax(dims), x.amax(dims))
            exact(y.amin(dims), x.amin(dims))
        if len(dims) == 1:
            for call in (tg.max, tg.min):
                for ours, expected in zip(call(y, dims[0]), call(x, dims[0])):
                    exact(ours, expected)
            if dtype != "bool":
                exact(tg.argmax(y, dims[0]), tg.argmax(x, dims[0]))
                exact(tg.argmin(y, dims[0]), tg.argmin(x, dims[0]))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("shape", [(300, 70), (300, 72), (205, 4096), (5001, 61)])
def test_extremes_of_nan_and_ties(shape, dim):
    x = numbers(shape, "float32").round()
    x[17, 5] = x[200, 5] = float("nan")
    x[3, 60] = float("inf")
    x[4] = float("-inf")
    y = x.cuda()
    for call in (tg.max, tg.min):
        for ours, expected in zip(call(y, dim), call(x, dim)):
            exact(ours, expected)
    exact(y.amax(dim), x.amax(dim))
    exact(tg.argmax(y), tg.argmax(x))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int64"])
@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("rows", [1, 3, 9])
def test_columns_into_results_that_lie_anywhere(rows, start, dtype):
    x = numbers((rows, 4096), dtype)
    y = x.cuda()
    values = y.new_zeros(4096 + start)[start:]
    places = tg.zeros(4096 + start, dtype=tg.int64, device="cuda")[start:]
    tg.amax(y, 0, out=values)
    exact(values, x.amax(0))
    tg.min(y, 0, out=(values, places))
    for ours, expected in zip((values, places), tg.min(x, 0)):
        exact(ours, expected)
    tg.argmax(y, 0, out=places)
    exact(places, tg.argmax(x, 0))
    if dtype in FLOATS:
        wide = x.double() if dtype != "float64" else x
        tg.var(y, 0, correction=0, out=values)
        close(values, wide.var(0, correction=0).to(x.dtype), dtype)


def test_a_large_sum_of_an_odd_beginning():
    x = tg.ones(5_000_001)
    assert x.cuda()[1:].sum().item() == 5_000_000
    assert (x.cuda().bool()[1:].sum().item(), x.cuda().bfloat16()[3:].amax().item()) == (5_000_000, 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape, dims", SHAPES)
def test_variances(shape, dims, dtype):
    for name, x in views(numbers(shape, dtype) + 3):
        y = x.cuda()
        if name == "repeated":
            y = x[:1].contiguous().cuda().expand(x.shape)
        for correction in (0, 1):
            for ours, expected in zip(
                tg.var_mean(y, dims, correction=correction), tg.var_mean(x.double(), dims, correction=correction)
            ):
                close(ours, expected.to(x.dtype), dtype)
        close(y.std(dims), x.double().std(dims).to(x.dtype), dtype)


def test_variance_far_from_zero():
    x = numbers((40, 30000), "float64") + 1000
    close(x.float().cuda().var(1), x.float().double().var(1).float(), "float16")
    y = x.float()
    y[:, 0] = 1e6  # a first element unlike all others
    close(y.cuda().var(1), y.double().var(1).float(), "float32")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bfloat16"])
@pytest.mark.parametrize(
    "shape, dim",
    [
        ((1,), 0),
        ((0, 4), 0),
        ((1000, 3), 1),
        ((1000, 3), 0),
        ((70000, 3), 0),
        ((50, 100), 1),
        ((51, 101), 1),
        ((51, 101), 0),
        ((7, 512), 1),
        ((7, 513), 1),
        ((3, 5000), 1),
        ((2, 100003), 1),
        ((200000,), 0),
        ((3, 4000, 5), 1),
        ((3, 40, 700), 1),
    ],
)
def test_running_values(shape, dim, dtype):
    x = numbers(shape, dtype)
    y = x.cuda()
    n = max(1, shape[dim])
    if dtype in FLOATS:
        close(y.cumsum(dim), x.double().cumsum(dim).to(x.dtype), dtype, n**0.5)
        z = 1 + (numbers(shape, dtype) * (0.3 / n**0.5)).to(x.dtype)
        if dtype != "bfloat16":
            close(z.cuda().cumprod(dim), z.double().cumprod(dim).to(x.dtype), "float16" if n > 1000 else dtype)
    else:
        exact(y.cumsum(dim), x.cumsum(dim))
    rounded = (x * 2).round() if dtype in FLOATS else x
    for call in (tg.cummax, tg.cummin):
        for ours, expected in zip(call(rounded.cuda(), dim), call(rounded, dim)):
            exact(ours, expected)


def test_running_extremes_of_nan():
    x = numbers((5, 3000), "float32")
    x[1, 700] = x[1, 2000] = float("nan")
    for dim in (0, 1):
        for ours, expected in zip(tg.cummax(x.cuda(), dim), tg.cummax(x, dim)):
            exact(ours, expected)


def test_the_same_bits_every_time():
    x, narrow = numbers((3, 300001), "float32").cuda(), numbers((50001, 30), "float32").cuda()
    for call in (lambda: x.sum(1), lambda: x.var(1), lambda: x.sum(0), lambda: x.cumsum(1), lambda: narrow.var(0)):
        first = call().cpu().numpy()
        for _ in range(5):
            np.testing.assert_array_equal(call().cpu().numpy(), first)

"""Long rows that the blocks of a CUDA device share, beside the CPU in float64. Skipped without a device."""

import numpy as np
import pytest
import tensorgrad as tg
import tensorgrad.nn.functional as F

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "float16": 2e-3, "bfloat16": 1.6e-2}


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return tg.from_numpy(rng.standard_normal(shape, dtype=np.float32)).to(getattr(tg, dtype))


def close(ours, expected, dtype, scale=1.0):
    assert ours.device.type == "cuda"
    assert ours.shape == expected.shape
    a, b = ours.detach().cpu().double().numpy(), expected.detach().double().numpy()
    np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(
    "rows, n",
    [(1, 4095), (1, 4097), (3, 8191), (140, 5001), (140, 16383), (2, 16385), (64, 50257), (1, 65536), (3, 65536),
     (2, 65537), (140, 20001), (64, 16383), (50, 65535)],
)  # fmt: skip
def test_softmax_of_long_rows(rows, n, dtype):
    x = numbers((rows, n), dtype) * 3
    y = x.cuda()
    close(F.softmax(y, -1), F.softmax(x.double(), -1), dtype, 1e-3)
    close(F.log_softmax(y, -1), F.log_softmax(x.double(), -1), dtype, 10)
    shifted = tg.cat([y.new_zeros(1), y.reshape(-1)])[1:].reshape(y.shape)  # off the boundary of 16 bytes
    close(F.softmax(shifted, -1), F.softmax(x.double(), -1), dtype, 1e-3)


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("rows, n", [(40001, 2), (30011, 3), (20003, 5), (20001, 7), (9999, 10), (5003, 15)])
def test_softmax_of_many_short_rows(rows, n, dtype):
    x = numbers((rows, n), dtype) * 3
    x[7, 1] = float("-inf")
    y = x.cuda()
    close(F.softmax(y, -1), F.softmax(x.double(), -1), dtype, 1e-3)
    x[7, 1] = 0
    close(F.log_softmax(x.cuda(), -1), F.log_softmax(x.double(), -1), dtype, 10)
    x[9] = float("-inf")
    x[rows - 1, 0] = float("nan")
    ours, expected = F.softmax(x.cuda(), -1).double().cpu(), F.softmax(x.double(), -1)
    np.testing.assert_array_equal(ours.isnan().numpy(), expected.isnan().numpy())


@pytest.mark.parametrize("n", [4099, 30001, 50257])
def test_softmax_of_long_rows_with_infinities(n):
    x = numbers((5, n), "float32")
    x[1, : n // 2] = float("-inf")  # whole parts of a row
    x[2] = float("-inf")
    x[3, n - 2] = float("nan")
    x[4, n // 3] = float("inf")
    for f in (F.softmax, F.log_softmax):
        close(f(x.cuda(), -1), f(x, -1), "float32", 1.0)
    x[1, : n - 1] = float("-inf")
    close(F.softmax(x[1:2].cuda(), -1), F.softmax(x[1:2], -1), "float32")


def test_softmax_of_long_rows_in_a_graph():
    x = numbers((7, 50257), "float32").cuda()
    step = tg.cuda.graphed(lambda: F.softmax(x, -1))
    for _ in range(3):
        close(step(), F.softmax(x.cpu().double(), -1), "float32", 1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows, n", [(1, 4100), (3, 8192), (301, 8188), (270, 16384), (290, 9000), (140, 32768)])
def test_layer_norm_of_long_rows(rows, n, dtype):
    x, g = numbers((rows, n), dtype), numbers((rows, n), dtype, 1)
    weight, bias = 1 + numbers((n,), dtype, 2) / 4, numbers((n,), dtype, 3)
    results = []
    for device, kind in (("cuda", x.dtype), ("cpu", tg.float64)):
        leaves = [t.to(device).to(kind).detach().requires_grad_() for t in (x, weight, bias)]
        y = F.layer_norm(leaves[0], (n,), leaves[1], leaves[2])
        y.backward(g.to(device).to(kind))
        results.append([y, *(leaf.grad for leaf in leaves)])
    for ours, expected, scale in zip(*results, (10, 10, rows**0.5, rows**0.5)):
        close(ours, expected, dtype, scale)

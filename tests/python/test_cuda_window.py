"""Padding, rolling, triangles and repeating by interpolation on a CUDA device, exactly as on the CPU: every mode, words
wider than elements, odd bases, strides, nothing. Skipped without a device."""

import numpy as np
import pytest
import tensorgrad as tg
import tensorgrad.nn.functional as F
from device_results import check

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int16", "uint8", "bool"]


def numbers(shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return tg.from_numpy(rng.integers(0, 2 if dtype == "bool" else 90, shape)).to(getattr(tg, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape, pad",
    [
        ((1,), (1, 0)),
        ((5,), (0, 3)),
        ((0, 4), (1, 2)),
        ((0,), (2, 2)),
        ((7, 33), (1, 2, 3, 4)),
        ((7, 32), (0, 0, 3, 4)),
        ((3, 5, 64), (0, 0, 2, 1)),
        ((2, 3, 9, 11), (1, 1, 1, 1)),
        ((2, 3, 9, 11), (-1, 2, 3, -2, 1, 0)),
        ((300, 700), (70, 1, 2, 90)),
    ],
)
def test_constant_padding(shape, pad, dtype):
    x = numbers(shape, dtype)
    for value in (0, 1):
        check(lambda x, value=value: F.pad(x, pad, value=value), x)
    check(lambda x: F.pad(x.reshape(-1)[1:], (3, 1), value=1), x)
    if len(shape) > 1:
        check(lambda x: F.pad(x.transpose(0, 1), pad, value=1), x)
        check(lambda x: F.pad(x[:, ::2], pad[:2]), x)
        check(lambda x: F.pad(x[:1].expand(3, *x.shape[1:]), pad[:2], value=1), x) if shape[0] else None


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "int64", "uint8"])
def test_padding_by_what_is_inside(dtype, mode):
    for shape, pad in (
        ((2, 3, 9), (4, 8)),
        ((2, 3, 9), (0, 1)),
        ((2, 3, 9, 11), (1, 2, 3, 4)),
        ((2, 3, 9, 64), (0, 0, 3, 4)),
        ((2, 3, 5, 6, 7), (1, 2, 3, 4, 0, 2)),
        ((8, 16, 32, 32), (1, 1, 1, 1)),
    ):
        x = numbers(shape, dtype)
        check(lambda x, pad=pad: F.pad(x, pad, mode=mode), x)
        check(lambda x, pad=pad: F.pad(x.transpose(0, 1), pad, mode=mode), x)
        check(lambda x, pad=pad: F.pad(x[..., ::2], (1, 2), mode=mode) if x.dim() == 3 else x * 1, x)


def test_gradients_of_padding():
    for mode in ("constant", "reflect", "replicate", "circular"):
        grads = []
        for device in ("cpu", "cuda"):
            x = numbers((2, 3, 9, 11)).to(device).requires_grad_()
            y = F.pad(x, (1, 2, 3, 4), mode=mode)
            (y * tg.arange(y.numel(), dtype=tg.float32).reshape(y.shape).to(device)).sum().backward()
            grads.append(x.grad.cpu().numpy())
        np.testing.assert_array_equal(*grads)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (0, 3), (7, 33), (40, 64), (3, 4, 5, 8), (700, 300)])
def test_rolling(shape, dtype):
    x = numbers(shape, dtype)
    for dim in range(len(shape)):
        for shift in (0, 1, -3, 1000003):
            check(lambda x, shift=shift, dim=dim: x.roll(shift, dim), x)
    check(lambda x: x.roll(5), x)
    if len(shape) > 1:
        check(lambda x: x.roll((1, -2), (0, 1)), x)
        check(lambda x: x.transpose(0, 1).roll((3, 1), (0, 1)), x)
        check(lambda x: x[:, ::2].roll(1, 1), x)
        check(lambda x: x.reshape(-1)[1:].roll(-1, 0), x) if x.numel() else None


def test_padding_in_a_graph():
    x = numbers((8, 16, 32, 32)).cuda()
    step = tg.cuda.graphed(lambda: (F.pad(x, (1, 1, 1, 1), mode="reflect"), F.pad(x, (1, 2)), x.roll(3, 2)))
    for _ in range(3):
        x.add_(1)
        y = x.cpu()
        for ours, expected in zip(step(), (F.pad(y, (1, 1, 1, 1), mode="reflect"), F.pad(y, (1, 2)), y.roll(3, 2))):
            np.testing.assert_array_equal(ours.cpu().numpy(), expected.numpy())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (0, 3), (7, 33), (33, 7), (3, 40, 64), (2, 3, 64, 16), (300, 1000)])
def test_triangles(shape, dtype):
    x = numbers(shape, dtype)
    for diagonal in (0, 1, -1, 5, -6, 1000, -1000, 2**62, -(2**62)):
        for f in (tg.tril, tg.triu):
            check(lambda x, f=f, diagonal=diagonal: f(x, diagonal), x)
    check(lambda x: tg.tril(x.transpose(-1, -2)), x)
    if dtype == "float32" and x.numel():
        flat = tg.cat([x.new_zeros(1), x.reshape(-1)])  # off the boundary of 16 bytes
        check(lambda flat: tg.triu(flat[1:].reshape(shape), 1), flat)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_nearest_entries(dtype):
    x = numbers((2, 3, 6, 10), dtype)
    for size in ((12, 20), (6, 10), (18, 10), (5, 7), (13, 25), (1, 1)):
        check(lambda x, size=size: F.interpolate(x, size=size), x)
    for factor in (2, 3.0, 1.5, 0.5, (2, 1)):
        check(lambda x, factor=factor: F.interpolate(x, scale_factor=factor), x)
    check(lambda x: F.interpolate(x[:, :, 0], scale_factor=4), x)
    check(lambda x: F.interpolate(x.transpose(2, 3), scale_factor=2), x)


@pytest.mark.parametrize("align", [False, True])
def test_linear_interpolation(align):
    for shape, size in (((2, 3, 9), (14,)), ((2, 3, 6, 10), (13, 7)), ((1, 1, 1, 4), (3, 1))):
        mode = "linear" if len(shape) == 3 else "bilinear"
        x = numbers(shape)
        grads, outs = [], []
        for device in ("cpu", "cuda"):
            y = x.detach().to(device).requires_grad_()
            outs.append(F.interpolate(y, size=size, mode=mode, align_corners=align))
            outs[-1].square().sum().backward()
            grads.append(y.grad)
        assert outs[1].device.type == "cuda"
        for ours, expected in ((outs[1], outs[0]), (grads[1], grads[0])):
            np.testing.assert_allclose(ours.detach().cpu().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-4)


def test_interpolation_in_a_graph():
    x = numbers((2, 3, 6, 10)).cuda()
    step = tg.cuda.graphed(lambda: (F.interpolate(x, size=(5, 13)), F.interpolate(x, size=(5, 13), mode="bilinear")))
    for _ in range(3):
        x.add_(1)
        ours = [t.cpu().numpy() for t in step()]
        np.testing.assert_array_equal(ours[0], F.interpolate(x.cpu(), size=(5, 13)).numpy())
        np.testing.assert_allclose(ours[1], F.interpolate(x.cpu(), size=(5, 13), mode="bilinear").numpy(), rtol=1e-5)

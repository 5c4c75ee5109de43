"""Masks, positions, classes and permutations on a CUDA device beside the CPU's results. Skipped without a device."""

import numpy as np
import pytest
import tensorgrad as tg
from device_results import DEVICE, check, same

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
SHAPES = [(), (1,), (1000,), (33, 65), (3, 5, 7), (2, 3, 4, 5), (700, 900), (0,), (4, 0)]


def numbers(dtype, *shape):
    x = tg.randint(0, 4, shape)
    x = x if dtype not in ("float32", "float64", "float16", "bfloat16") else x * tg.tensor(-0.5)  # -0 is 0
    return x.to(getattr(tg, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_masks(dtype, shape):
    tg.manual_seed(len(shape))
    x, y = numbers(dtype, *shape), numbers(dtype, *shape)
    check(tg.nonzero, x)
    check(lambda t: tg.nonzero(tg.zeros_like(t)), x)
    for mask in (tg.rand(*shape) < 0.3, tg.ones(*shape) > 0, tg.zeros(*shape) > 0):
        check(tg.masked_select, x, mask)
        check(lambda a, m, b: a.masked_scatter(m, b), x, mask, y)
        if shape:
            check(lambda a, m: a[m], x, mask)
            check(lambda a, m: a[:, 0][m[:, 0]] if a.dim() > 1 and a.shape[1] else a, x, mask)
    if len(shape) > 1:
        check(lambda a: tg.nonzero(a.transpose(0, -1)), x)
        check(lambda a, m: tg.masked_select(a, m), x, tg.rand(shape[-1]) < 0.5)
    check(tg.unique, x) if dtype not in ("float16", "bfloat16", "bool") else None


def test_gradients_of_masks():
    tg.manual_seed(2)
    x, y, mask = tg.randn(30, 40), tg.randn(30, 40), tg.rand(30, 40) < 0.4
    for f in (lambda a, b, m: a.masked_select(m) * 2, lambda a, b, m: a.masked_scatter(m, b) * b):
        on_cpu = [t.clone().requires_grad_() for t in (x, y)]
        there = [t.clone().to(DEVICE).requires_grad_() for t in (x, y)]
        f(*on_cpu, mask).sum().backward()
        f(*there, mask.to(DEVICE)).sum().backward()
        same([t.grad for t in there if t.grad is not None], [t.grad for t in on_cpu if t.grad is not None])


def test_too_short_a_source():
    x, mask = tg.zeros(5, device=DEVICE), tg.ones(5, device=DEVICE) > 0
    with pytest.raises((ValueError, RuntimeError), match="masked_scatter"):
        x.masked_scatter(mask, tg.ones(4, device=DEVICE))


def test_classes():
    for shape, classes in (((64,), 10), ((3, 5), 7), ((), 3), ((0,), 4)):
        x = tg.randint(0, classes, shape)
        check(lambda t: tg.nn.functional.one_hot(t, classes), x)  # noqa: B023
        if x.numel() > 0:
            check(lambda t: tg.nn.functional.one_hot(t), x)
    with pytest.raises((IndexError, ValueError)):
        tg.nn.functional.one_hot(tg.tensor([0, 5], device=DEVICE), 3)
        tg.cuda.synchronize()


@pytest.mark.parametrize("n", [0, 1, 2, 7, 100, 128, 129, 4000, 5000, 300_000])
def test_permutations(n):
    tg.manual_seed(n)
    first, second = tg.randperm(n, device=DEVICE), tg.randperm(n, device=DEVICE)
    assert first.device.type == DEVICE and first.dtype == tg.int64
    assert tg.randperm(n, device=DEVICE, dtype=tg.int32).dtype == tg.int32
    for p in (first, second):
        np.testing.assert_array_equal(np.sort(p.cpu().numpy()), np.arange(n))
    tg.manual_seed(n)
    again = tg.randperm(n, device=DEVICE)
    np.testing.assert_array_equal(first.cpu().numpy(), again.cpu().numpy())
    if n >= 100:
        assert (first != second).sum().item() > n // 2


def test_every_permutation_is_as_likely():
    tg.manual_seed(1)
    found = {}
    for _ in range(1200):
        key = tuple(tg.randperm(3, device=DEVICE).tolist())
        found[key] = found.get(key, 0) + 1
    assert len(found) == 6 and min(found.values()) > 130 and max(found.values()) < 280


def test_draws_by_weight():
    tg.manual_seed(1)
    weights = tg.tensor([[1.0, 0.0, 3.0, 4.0], [0.0, 0.0, 0.0, 2.0]])
    there = weights.to(DEVICE)
    drawn = tg.multinomial(there, 40_000, True)
    assert drawn.device.type == DEVICE and drawn.dtype == tg.int64 and drawn.shape == (2, 40_000)
    counts = np.bincount(drawn[0].cpu().numpy(), minlength=4) / 40_000
    np.testing.assert_allclose(counts, [0.125, 0, 0.375, 0.5], atol=0.02)
    assert (drawn[1] == 3).all().item()
    tg.manual_seed(5)
    on_cpu = tg.multinomial(weights, 1000, True)
    tg.manual_seed(5)
    np.testing.assert_array_equal(tg.multinomial(there, 1000, True).cpu().numpy(), on_cpu.numpy())
    without = tg.multinomial(tg.rand(50, 300, device=DEVICE), 300)
    np.testing.assert_array_equal(np.sort(without.cpu().numpy(), 1), np.tile(np.arange(300), (50, 1)))
    for bad in ([1.0, -1.0], [float("nan"), 1.0], [float("inf"), 1.0], [0.0, 0.0]):
        with pytest.raises((ValueError, RuntimeError), match="multinomial"):
            tg.multinomial(tg.tensor(bad, device=DEVICE), 1)

"""Quantiles, medians without NaN and the most frequent values beside PyTorch: every interpolation, NaN, infinities, any
dim, gradients, refused inputs."""

import numpy as np
import pytest
import tensorgrad as tg

torch = pytest.importorskip("torch")

MODES = ("linear", "lower", "higher", "midpoint", "nearest")


def numbers(shape, dtype="float32", nan=0.15):
    rng = np.random.default_rng(len(shape))
    x = np.round(rng.standard_normal(shape) * 3, 1).astype(dtype)
    x[rng.random(shape) < nan] = np.nan
    return x


def both(array):
    return torch.from_numpy(array.copy()), tg.from_numpy(array.copy())


def close(ours, theirs):
    assert tuple(ours.shape) == tuple(theirs.shape) and str(ours.dtype).split(".")[1] == str(theirs.dtype).split(".")[1]
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["quantile", "nanquantile"])
@pytest.mark.parametrize("interpolation", MODES)
def test_quantiles(name, interpolation, dtype):
    for shape in ((), (1,), (9,), (4, 7), (3, 1, 5), (2, 3, 4)):
        for nan in (0, 0.3, 1.1):
            theirs, ours = both(np.asarray(numbers(shape or (1,), dtype, nan)).reshape(shape))
            for q in (0.0, 0.3, 0.5, 1.0, [0.25], [0.1, 0.9, 0.5]):
                a, b = (q if isinstance(q, float) else lib.tensor(q, dtype=getattr(lib, dtype)) for lib in (torch, tg))
                for dim in (None, *range(-len(shape), len(shape))):
                    for keepdim in (False, True):
                        options = {"dim": dim, "keepdim": keepdim, "interpolation": interpolation}
                        close(getattr(tg, name)(ours, b, **options), getattr(torch, name)(theirs, a, **options))


@pytest.mark.parametrize("interpolation", MODES)
def test_gradients_of_quantiles(interpolation):
    array = np.random.default_rng(3).permutation(24).reshape(4, 6).astype(np.float64)
    array[1, 2] = np.nan
    for name in ("quantile", "nanquantile"):
        theirs, ours = both(array)
        theirs.requires_grad_(), ours.requires_grad_()
        getattr(torch, name)(theirs, 0.35, 1, interpolation=interpolation).nansum().backward()
        getattr(tg, name)(ours, 0.35, 1, interpolation=interpolation).nansum().backward()
        close(ours.grad, theirs.grad)


def test_refused_quantiles():
    x = tg.tensor([1.0, 2.0])
    for call in (
        lambda: tg.quantile(tg.tensor([1, 2]), 0.5),
        lambda: tg.quantile(x, 1.5),
        lambda: tg.quantile(x, tg.tensor([0.5, -0.1])),
        lambda: tg.quantile(x, tg.tensor([[0.5]])),
        lambda: tg.quantile(x, tg.tensor([0.5], dtype=tg.float64)),
        lambda: tg.quantile(x, 0.5, interpolation="cubic"),
        lambda: tg.quantile(tg.zeros(0), 0.5),
        lambda: tg.nanquantile(x, 0.5, 1),
    ):
        with pytest.raises((RuntimeError, IndexError, ValueError, TypeError), match="quantile"):
            call()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
def test_medians_without_nan_and_modes(dtype):
    for shape in ((1,), (9,), (4, 7), (3, 8, 5)):
        array = numbers(shape, "float32", 0.3 if dtype.startswith("float") else 0)
        theirs, ours = both(np.abs(array).astype(dtype))
        close(tg.nanmedian(ours), torch.nanmedian(theirs))
        finite_theirs, finite = both(np.nan_to_num(np.abs(array)).astype(dtype))
        for dim in range(-len(shape), len(shape)):
            for keepdim in (False, True):
                a, b = torch.nanmedian(theirs, dim, keepdim), tg.nanmedian(ours, dim, keepdim)
                close(b.values, a.values)
                at = b.indices if keepdim else b.indices.unsqueeze(dim)
                np.testing.assert_array_equal(
                    ours.gather(dim, at).numpy().ravel(), b.values.numpy().ravel()
                )  # the place is one of its value
                a, b = torch.mode(finite_theirs, dim, keepdim), tg.mode(finite, dim, keepdim)
                close(b.values, a.values)
                at = b.indices if keepdim else b.indices.unsqueeze(dim)
                np.testing.assert_array_equal(finite.gather(dim, at).numpy().ravel(), b.values.numpy().ravel())
    assert tg.mode(tg.tensor(3)).values.item() == 3 and np.isnan(tg.nanmedian(tg.full((3,), float("nan"))).item())
    for call in (lambda: tg.mode(tg.zeros(2, 0)), lambda: tg.nanmedian(tg.zeros(2, 0), 1)):
        with pytest.raises(IndexError):
            call()


def test_gradients_of_medians_and_modes():
    array = np.array([[1.0, np.nan, 3.0, 2.0], [5.0, 5.0, 4.0, 5.0]])
    theirs, ours = both(array)
    theirs.requires_grad_(), ours.requires_grad_()
    (torch.nanmedian(theirs[:1], 1).values.sum() * 2).backward()
    (tg.nanmedian(ours[:1], 1).values.sum() * 2).backward()
    close(ours.grad, theirs.grad)
    ours.grad = None
    tg.mode(ours[1:], 1).values.sum().backward()
    assert ours.grad.numpy().sum() == 1 and ours.grad.numpy()[1, 2] == 0

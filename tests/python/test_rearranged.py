"""Order, padding, gathering and shared gradients beside PyTorch, over shapes that take different ways."""

import numpy as np
import pytest
import tensorgrad as tg

torch = pytest.importorskip("torch")


def both(array):
    return torch.from_numpy(array.copy()), tg.from_numpy(array.copy())


def same(ours, theirs):
    np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy())


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 6, 9), (1, 2, 5, 40)])
def test_padding_by_what_lies_inside(mode, shape):
    pad = (2, 3) if len(shape) == 3 else (2, 1, 0, 4)
    theirs, ours = both(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    theirs.requires_grad_(), ours.requires_grad_()
    a, b = torch.nn.functional.pad(theirs, pad, mode=mode), tg.nn.functional.pad(ours, pad, mode=mode)
    same(b, a)
    g = np.random.default_rng(1).standard_normal(a.shape).astype(np.float32)
    a.backward(torch.from_numpy(g)), b.backward(tg.from_numpy(g))
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("pad", [(-1, 2), (3, -2), (-2, -3), (1, 2, -3, 1), (-2, -1, 3, -2), (0, -9)], ids=str)
def test_padding_that_cuts_off(mode, pad):
    theirs, ours = both(np.random.default_rng(2).standard_normal((2, 3, 6, 9)[4 - max(3, 2 + len(pad) // 2) :]))
    theirs.requires_grad_(), ours.requires_grad_()
    try:
        a = torch.nn.functional.pad(theirs, pad, mode=mode)
    except RuntimeError:  # PyTorch leaves no dim of size 0
        assert tg.nn.functional.pad(ours, pad, mode=mode).numel() == 0
        return
    b = tg.nn.functional.pad(ours, pad, mode=mode)
    same(b, a)
    assert b.is_contiguous()
    a.square().sum().backward(), b.square().sum().backward()
    np.testing.assert_allclose(ours.grad.numpy(), theirs.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("mode", ["reflect", "circular"])
def test_padding_that_does_not_fit(mode):
    for pad in ((9, 0), (0, 9)):
        with pytest.raises(RuntimeError):
            torch.nn.functional.pad(torch.zeros(1, 2, 5), pad, mode=mode)
        with pytest.raises(RuntimeError):
            tg.nn.functional.pad(tg.zeros(1, 2, 5), pad, mode=mode)


def test_a_joined_gradient_is_shared_as_in_pytorch_but_never_added_to():
    for lib in (torch, tg):
        a, b = lib.zeros(2, 3, requires_grad=True), lib.zeros(1, 3, requires_grad=True)
        g = lib.ones(3, 3)
        lib.cat([a, b]).backward(g)
        assert a.grad.data_ptr() == g.data_ptr()
        lib.cat([a, b]).backward(g)
        assert a.grad.tolist() == [[2.0] * 3] * 2 and b.grad.tolist() == [[2.0] * 3]
        if lib is tg:  # PyTorch adds in the caller's memory
            assert g.tolist() == [[1.0] * 3] * 3
        x, h = lib.zeros(2, 3, requires_grad=True), lib.ones(6)
        x.reshape(3, 2).flatten().backward(h)
        assert x.grad.data_ptr() == h.data_ptr() and x.grad.shape == (2, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("n", [1, 10, 16, 17, 60, 300, 3000])
def test_order_and_selection(dtype, n):
    rng = np.random.default_rng(n)
    for span in (2, 90, 10**6):
        if dtype.startswith("float"):
            array = np.round(rng.standard_normal((3, n)) * span, 1).astype(dtype)
            array[0, n // 2] = np.nan
        else:
            low, high = (0, min(span, 2 if dtype == "bool" else 200)) if dtype in ("bool", "uint8") else (-span, span)
            array = rng.integers(low, high, (3, n)).astype(dtype)
        theirs, ours = both(array)
        for descending in (False, True):
            a, b = torch.sort(theirs, dim=1, descending=descending, stable=True), tg.sort(ours, 1, descending)
            same(b[0], a[0])
            same(b[1], a[1])
            k = min(n, 5)
            same(tg.topk(ours, k, 1, descending)[1], a[1][:, :k])
        order = torch.sort(theirs, dim=1, stable=True)
        same(tg.kthvalue(ours, (n + 1) // 2, 1)[1], order[1][:, (n + 1) // 2 - 1])
        if dtype != "bool":
            same(ours.median(1)[0], theirs.median(1)[0])
        options = {"return_inverse": True, "return_counts": True}
        for b, a in zip(tg.unique(ours, **options), torch.unique(theirs, **options)):
            same(b, a)
        same(tg.unique(ours), torch.unique(theirs))


@pytest.mark.parametrize("rows, columns", [(33, 7), (700, 300), (1024, 256)])
def test_scattering_up_and_down_columns(rows, columns):
    rng = np.random.default_rng(4)
    x, index = rng.standard_normal((rows, columns)), rng.integers(0, rows, (rows, columns))
    (ta, oa), (ti, oi) = both(x), both(index)
    np.testing.assert_allclose(oa.scatter_add(0, oi, oa).numpy(), ta.scatter_add(0, ti, ta).numpy(), rtol=1e-12)
    ta.requires_grad_(), oa.requires_grad_()
    (ta.gather(0, ti) * torch.from_numpy(x)).sum().backward()
    (oa.gather(0, oi) * tg.from_numpy(x)).sum().backward()
    np.testing.assert_allclose(oa.grad.numpy(), ta.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "shapes", [((40, 1, 64), (1, 9, 64)), ((7, 100), (100,)), ((6, 5, 72), (6, 1, 1)), ((5, 250), (5, 1))]
)
def test_rows_beside_rows(shapes):
    arrays = [np.random.default_rng(2).standard_normal(s).astype(np.float32) for s in shapes]
    (ta, oa), (tb, ob) = map(both, arrays)
    same(oa + ob, ta + tb)
    same(tg.where(oa > ob, oa, ob), torch.where(ta > tb, ta, tb))


@pytest.mark.parametrize("shape, dim", [((1000, 2, 5), 1), ((30, 3, 4, 33), 2), ((5000, 3), 0), ((9, 65, 16), 1)])
def test_reductions_of_a_middle_dim(shape, dim):
    theirs, ours = both(np.random.default_rng(3).standard_normal(shape).astype(np.float32))
    np.testing.assert_allclose(ours.sum(dim).numpy(), theirs.sum(dim).numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ours.var(dim).numpy(), theirs.var(dim).numpy(), rtol=1e-5)
    # Ties and NaN: the first of them.
    array = np.round(theirs.numpy())
    array.reshape(-1)[:: 1 + array.size // 3] = np.nan
    theirs, ours = both(array)
    for name in ("max", "min"):
        a, b = getattr(theirs, name)(dim), getattr(ours, name)(dim)
        same(b[0], a[0])
        same(theirs.gather(dim, torch.from_numpy(b[1].numpy()).unsqueeze(dim)).squeeze(dim), a[0])
        hit = (array == np.expand_dims(a[0].numpy(), dim)) | (np.isnan(array) & np.isnan(np.expand_dims(a[0], dim)))
        np.testing.assert_array_equal(b[1].numpy(), hit.argmax(dim))

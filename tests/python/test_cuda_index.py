"""Reading, writing and joining by position on a CUDA device beside the CPU's results, exactly: odd sizes, views, one
element and none, every size, entries counted from the end and entries out of range. Skipped without a device."""

import numpy as np
import pytest
import tensorgrad as tg
from device_results import DEVICE, check, same

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


def numbers(dtype, *shape):
    x = tg.randint(0, 100, shape)
    return x % 2 == 0 if dtype == "bool" else x.to(getattr(tg, dtype))


def summands(dtype, *shape):
    """So small that 16-bit sums are whole numbers below 256 in any order of addition."""
    x = numbers(dtype, *shape)
    return x if dtype == "bool" else x % 4


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (33,), (7, 65), (5, 3, 9), (2, 3, 4, 5)])
def test_gather_and_scatter(dtype, shape):
    tg.manual_seed(len(shape))
    x = numbers(dtype, *shape)
    for dim in range(len(shape)):
        smaller = [max(1, n - 1) if d != dim else n + 2 for d, n in enumerate(shape)]
        index = tg.randint(0, shape[dim], smaller)
        check(lambda a, i, d=dim: a.gather(d, i), x, index)
        # Each place once, so that the order of writing does not matter.
        once = tg.rand(*shape).argsort(dim)
        check(lambda a, i, s, d=dim: a.scatter(d, i, s), x, once, numbers(dtype, *shape))
        check(lambda a, i, d=dim: a.scatter(d, i, 1), x, index)
        check(lambda a, i, s, d=dim: a.scatter_add(d, i, s), x, index % 2 % shape[dim], summands(dtype, *smaller))
    if len(shape) > 1:
        index = tg.randint(0, shape[0], shape)
        check(lambda a, i: a.transpose(0, -1).contiguous().transpose(0, -1).gather(0, i), x, index)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (33,), (7, 64), (6, 65), (5, 3, 8), (5, 8, 3)])
def test_rows(dtype, shape):
    tg.manual_seed(len(shape))
    x = numbers(dtype, *shape)
    for dim in range(len(shape)):
        n = shape[dim]
        index = tg.randint(0, n, (11,))
        check(lambda a, i, d=dim: a.index_select(d, i), x, index)
        check(lambda a, d=dim: a.index_select(d, tg.zeros(0, dtype=tg.int64, device=a.device)), x)
        rows = [11 if d == dim else s for d, s in enumerate(shape)]
        check(lambda a, i, s, d=dim: a.index_add(d, i, s), x, index, summands(dtype, *rows))
        once = tg.randperm(n)
        check(lambda a, i, s, d=dim: tg.index_copy(a, d, i, s), x, once, numbers(dtype, *shape))
        check(lambda a, i, d=dim: tg.index_fill(a, d, i, 1), x, index)
    from_end = tg.randint(-shape[0], shape[0], (9,))
    check(lambda a, i: a[i], x, from_end)
    check(lambda a, i: a[i][..., :1], x[: shape[0]], from_end.reshape(3, 3))
    check(lambda a, i: a.take(i), x, tg.randint(-x.numel(), x.numel(), (4, 5)))
    check(lambda a, i: a.index_put((i,), a[:1].reshape(a.shape[1:])), x, from_end)
    if len(shape) > 1:
        check(lambda a, i: a[i, i % a.shape[1]], x, from_end)
        check(lambda a, i: a[:, i % a.shape[1]], x, from_end)
        # Rows that do not begin at a whole word.
        check(lambda a, i: a.reshape(-1)[1 : 1 + 4 * 6].reshape(6, 4)[i % 6], numbers(dtype, 5, 6), from_end)


def test_gradients_of_positions():
    tg.manual_seed(5)
    x, index = tg.randn(7, 30), tg.randint(0, 7, (9, 30))
    for f in (
        lambda t, i: t.gather(0, i),
        lambda t, i: t.index_select(0, i[:, 0]),
        lambda t, i: t[i[:, 0] - 3],
        lambda t, i: t.take(i - 100),
        lambda t, i: t.scatter_add(0, i, (i * 2.0)),
        lambda t, i: tg.take_along_dim(t, i - 7, 0),
    ):
        a, b = x.clone().requires_grad_(), x.clone().to(DEVICE).requires_grad_()
        expected, ours = f(a, index), f(b, index.to(DEVICE))
        same(ours, expected)
        expected.sum().backward()
        ours.sum().backward()
        same(b.grad, a.grad)


@pytest.mark.parametrize(
    "f",
    [
        lambda t, i: t.gather(0, i),
        lambda t, i: t.scatter(0, i, 1.0),
        lambda t, i: t.scatter_add(0, i, t[:2]),
        lambda t, i: t.index_select(0, i[:, 0]),
        lambda t, i: t.index_add(0, i[:, 0], t[:2]),
        lambda t, i: t[i[:, 0]],
        lambda t, i: t.take(i * 100),
        lambda t, i: t.index_put((i[:, 0],), t[:2]),
    ],
)
def test_entries_out_of_range(f):
    x, good = tg.randn(5, 3).to(DEVICE), tg.tensor([[0] * 3, [4] * 3], device=DEVICE)
    for bad in (5, -6, 2**40):
        index = good.clone()
        index[1, 0] = bad
        with pytest.raises(IndexError, match="out of range"):
            f(x, index)
            tg.cuda.synchronize()
        tg.cuda.synchronize()  # raised once
        assert f(x, good // 100).isfinite().all().item()


def test_negative_entries_where_they_are_not_allowed():
    x, index = tg.randn(5, 3).to(DEVICE), tg.full((2, 3), -1, dtype=tg.int64, device=DEVICE)
    for f in (
        lambda: x.gather(0, index),
        lambda: x.scatter(0, index, 1.0),
        lambda: x.index_select(0, index[:, 0]),
        lambda: x.index_add(0, index[:, 0], x[:2]),
    ):
        with pytest.raises(IndexError, match="out of range"):
            f()
            tg.cuda.synchronize()


@pytest.mark.parametrize("dtype", DTYPES)
def test_joining(dtype):
    tg.manual_seed(6)
    for sizes, dim in (
        ([(4, 8)] * 3, 0),
        ([(4, 8)] * 3, 1),
        ([(4, 7), (1, 7), (300, 7)], 0),
        ([(50, 3), (50, 1), (50, 130)], 1),
        ([(3, 2, 5), (3, 4, 5), (3, 1, 5)], 1),
        ([(3, 2, 5), (3, 2, 1)], -1),
        ([(4, 8)] * 150, 0),
        ([(5, 1)] * 70, 1),
        ([(0,), (2, 3), (0, 3)], 0),
        ([(7,)], 0),
        ([(0, 3), (0, 3)], 1),
        ([(300, 1024), (300, 2048)], 1),
    ):
        check(lambda *ts, d=dim: tg.cat(ts, d), *(numbers(dtype, *s) for s in sizes))
    for count, shape in ((3, (4, 6)), (1, (5,)), (65, (2, 3)), (2, ()), (2, (0, 3)), (3, (300, 1000))):
        for dim in range(len(shape) + 1):
            check(lambda *ts, d=dim: tg.stack(ts, d), *(numbers(dtype, *shape) for _ in range(count)))


def test_joining_views_and_mixed_dtypes():
    tg.manual_seed(7)
    x, y = tg.randn(12, 10), tg.randn(12, 10)
    check(lambda a, b: tg.cat([a.t(), b.t()], 1), x, y)
    check(lambda a, b: tg.cat([a[1:], b[:, :].contiguous()[:5]], 0), x, y)
    check(lambda a, b: tg.cat([a.reshape(-1)[1:], b.reshape(-1)[3:]], 0), x, y)
    check(lambda a, b: tg.cat([a, (b * 10).to(tg.int32)], 0), x, y)
    check(lambda a, b: tg.stack([a[:1].expand(12, 10), b], 1), x, y)
    check(lambda a: tg.cat(tg.chunk(a, 4, 1), 0), x[:, :8])


def test_gradients_of_joining():
    tg.manual_seed(8)
    shapes = [(4, 3), (4, 5), (4, 1)]
    a = [tg.randn(*s).requires_grad_() for s in shapes]
    b = [t.detach().clone().to(DEVICE).requires_grad_() for t in a]
    g = tg.randn(4, 9)
    tg.cat(a, 1).backward(g)
    tg.cat(b, 1).backward(g.to(DEVICE))
    same([t.grad for t in b], [t.grad for t in a])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "count, rows, size",
    [(1, 1, 1), (5, 3, 2), (64, 2, 33), (65, 1, 7), (1000, 7, 130), (300, 5000, 20), (5000, 40, 3), (9000, 2, 260)],
)
def test_tables(dtype, count, rows, size):
    """One row that nearly all entries name, and gradients whose sums are exact."""
    tg.manual_seed(count)
    table = numbers(dtype, rows, size)
    index = tg.where(tg.rand(count) < 0.7, tg.tensor(rows // 2), tg.randint(0, rows, (count,)))
    g = tg.randint(-8, 8, (count, size)).to(table.dtype)
    for options in ({}, {"padding_idx": rows // 2}, {"padding_idx": 0}, {"scale_grad_by_freq": True}):
        a, b = table.clone().requires_grad_(), table.clone().to(DEVICE).requires_grad_()
        expected = tg.nn.functional.embedding(index, a, **options)
        ours = tg.nn.functional.embedding(index.to(DEVICE), b, **options)
        same(ours, expected)
        expected.backward(g)
        ours.backward(g.to(DEVICE))
        if "scale_grad_by_freq" in options:
            np.testing.assert_allclose(b.grad.cpu().numpy(), a.grad.numpy(), rtol=1e-5, atol=1e-5)
        else:
            same(b.grad, a.grad)


def test_an_entry_that_is_no_row_of_the_table():
    table = tg.randn(5, 3).to(DEVICE).requires_grad_()
    with pytest.raises(IndexError, match="out of range"):
        tg.nn.functional.embedding(tg.tensor([0, 5], device=DEVICE), table)
        tg.cuda.synchronize()

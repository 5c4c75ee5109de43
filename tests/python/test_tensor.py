"""The Tensor class against torch: construction, attributes, operators, indexing, errors, printing."""

import itertools
import pickle

import numpy as np
import pytest
import tensorgrad as tg

torch = pytest.importorskip("torch")


def same(mine, theirs):
    assert list(mine.shape) == list(theirs.shape)
    assert str(mine.dtype) == str(theirs.dtype)
    np.testing.assert_array_equal(np.array(mine.tolist()), np.array(theirs.tolist()))


def both(function):
    """The same call with either library; both results, or the exceptions' classes."""
    results = []
    for library in (tg, torch):
        try:
            results.append(function(library))
        except Exception as error:
            results.append(error)
    return results


CONSTRUCTED = [
    lambda t: t.tensor([[1, 2], [3, 4]]),
    lambda t: t.tensor([1.0, 2.0]),
    lambda t: t.tensor([True, False]),
    lambda t: t.tensor([1, 2.5]),
    lambda t: t.tensor([True, 2]),
    lambda t: t.tensor([]),
    lambda t: t.tensor([[], []]),
    lambda t: t.tensor(3),
    lambda t: t.tensor(2.5, dtype=t.float64),
    lambda t: t.tensor(np.arange(6, dtype=np.int16).reshape(2, 3)),
    lambda t: t.tensor([np.float32(1), np.float64(2)]),
    lambda t: t.tensor(range(4)),
    lambda t: t.tensor([[1.5, 2.5]], dtype=t.int32),
    lambda t: t.as_tensor(np.float64(2)),
    lambda t: t.as_tensor(np.arange(3)),
    lambda t: t.zeros(2, 3),
    lambda t: t.zeros((2, 3), dtype=t.int8),
    lambda t: t.ones([2]),
    lambda t: t.ones(()),
    lambda t: t.full((2, 2), 7),
    lambda t: t.full((2,), 1.5),
    lambda t: t.full((2,), True),
    lambda t: t.arange(5),
    lambda t: t.arange(1, 2, 0.25),
    lambda t: t.arange(5.0),
    lambda t: t.arange(10, 0, -3),
    lambda t: t.linspace(0, 1, 5),
    lambda t: t.eye(3),
    lambda t: t.eye(2, 3, dtype=t.float64),
    lambda t: t.zeros_like(t.ones(2, 2, dtype=t.int64)),
    lambda t: t.full_like(t.ones(2), 3),
    lambda t: t.ones(3).new_zeros(2, 2),
    lambda t: t.ones(3, dtype=t.float64).new_tensor([1, 2]),
    lambda t: t.LongTensor([1, 2]),
    lambda t: t.FloatTensor(2, 0),
    lambda t: t.Tensor([1, 2]),
]


@pytest.mark.parametrize("make", CONSTRUCTED, ids=range(len(CONSTRUCTED)))
def test_construction(make):
    same(make(tg), make(torch))


REFUSED = [
    lambda t: t.tensor([[1, 2], [3]]),
    lambda t: t.tensor("abc"),
    lambda t: t.tensor([1, "a"]),
    lambda t: t.tensor(None),
    lambda t: t.zeros(-1),
    lambda t: t.zeros("a"),
    lambda t: t.zeros(2, dtype="float"),
    lambda t: t.zeros(2, nothing=1),
    lambda t: t.arange(0, 5, -1),
    lambda t: t.ones(2, 3) + t.ones(4),
    lambda t: t.ones(2, 3) @ t.ones(2, 3),
    lambda t: t.ones(2) + "a",
    lambda t: t.ones(2) + None,
    lambda t: t.ones(2, 3).view(4),
    lambda t: t.ones(2, 3).view(-1, -1),
    lambda t: t.ones(2, 3).reshape(7),
    lambda t: t.ones(2, 3).sum(5),
    lambda t: t.ones(2, 3).sum(dim="a"),
    lambda t: t.ones(2, 3).transpose(0, 2),
    lambda t: t.ones(2, 3)[5],
    lambda t: t.ones(2, 3)[0, 0, 0],
    lambda t: t.ones(2, 3)["a"],
    lambda t: t.ones(2, 3)[1.5],
    lambda t: t.ones(2, 3)[t.tensor([5])],
    lambda t: t.ones(2, 3)[t.ones(2, 3)],
    lambda t: t.ones(3)[::-1],
    lambda t: t.ones(2).item(),
    lambda t: bool(t.ones(2)),
    lambda t: int(t.ones(2)),
    lambda t: len(t.tensor(1)),
    lambda t: iter(t.tensor(1)),
    lambda t: t.ones(2, requires_grad=True).numpy(),
    lambda t: t.ones(2, dtype=t.int64, requires_grad=True),
    lambda t: t.ones(2).backward(),
    lambda t: t.ones(2, requires_grad=True).backward(),
    lambda t: t.ones(2, requires_grad=True).add_(1),
    lambda t: t.cat([]),
    lambda t: t.cat([t.ones(2), t.ones(2, 2)]),
    lambda t: t.stack([t.ones(2), t.ones(3)]),
    lambda t: t.relu(3),
    lambda t: t.relu(),
    lambda t: t.relu(t.ones(2), t.ones(2)),
    lambda t: t.ones(2).softmax(3),
    lambda t: t.device("nowhere"),
    lambda t: t.ones(2).to("nowhere"),
    lambda t: t.from_numpy([1, 2]),
    lambda t: t.from_numpy(np.array(["a"])),
    lambda t: t.ones(2, 2).permute(0),
    lambda t: t.ones(2, 2).permute(0, 0),
    lambda t: t.ones(2, 2).expand(3, 3),
    lambda t: t.ones(2, 2).squeeze(4),
    lambda t: t.manual_seed("a"),
    lambda t: t.nn.Linear(2, 3)(t.ones(4, 5)),
    lambda t: t.nn.Conv2d(3, 4, 3)(t.ones(1, 2, 8, 8)),
    lambda t: t.nn.functional.cross_entropy(t.ones(2, 3), t.tensor([0, 5])),
    lambda t: t.randint(5, 2, (3,)),
    lambda t: t.randperm(-1),
    lambda t: t.ones(2).__setitem__(0, "a"),
    lambda t: t.ones(2).__setitem__(0, t.ones(3)),
]


@pytest.mark.parametrize("call", REFUSED, ids=range(len(REFUSED)))
def test_what_torch_refuses_is_refused_with_the_same_kind_of_error(call):
    mine, theirs = both(call)
    assert isinstance(theirs, Exception), "torch accepts this"
    assert isinstance(mine, Exception), f"accepted: {mine}"
    base = next(c for c in type(theirs).__mro__ if c.__module__ == "builtins")
    assert isinstance(mine, base), f"{type(mine).__name__}: {mine} where torch raises {type(theirs).__name__}: {theirs}"
    assert str(mine)


OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">="]


@pytest.mark.parametrize("operator", OPERATORS)
def test_operators(operator):
    values = [
        lambda t: t.tensor([[1.0, -2.0], [3.5, 4.0]]),
        lambda t: t.tensor([2, 3]),
        lambda t: t.tensor([2.0, 0.5], dtype=t.float64),
        lambda t: t.tensor(3),
        lambda t: 2,
        lambda t: 1.5,
    ]
    for a, b in itertools.product(values, values):
        if not isinstance(a(torch), torch.Tensor) and not isinstance(b(torch), torch.Tensor):
            continue
        mine, theirs = both(lambda t: eval(f"x {operator} y", {"x": a(t), "y": b(t)}))  # noqa: B023
        if isinstance(theirs, Exception):
            assert isinstance(mine, Exception)
            continue
        assert str(mine.dtype) == str(theirs.dtype)
        np.testing.assert_allclose(np.array(mine.tolist()), np.array(theirs.tolist()), rtol=2e-6)


@pytest.mark.parametrize("operator", ["&", "|", "^"])
def test_bit_operators(operator):
    for make in (
        lambda t: (t.tensor([True, False]), t.tensor([True, True])),
        lambda t: (t.tensor([6, 3]), t.tensor([5, 4])),
        lambda t: (t.tensor([6, 3]), 5),
    ):
        mine, theirs = both(lambda t: eval(f"x {operator} y", dict(zip("xy", make(t)))))  # noqa: B023
        same(mine, theirs)
    same(~tg.tensor([True, False]), ~torch.tensor([True, False]))


def test_operators_in_place_keep_the_object():
    for operator in ("+=", "-=", "*=", "/=", "**="):
        results = []
        for t in (tg, torch):
            x = t.tensor([1.0, 2.0, 4.0])
            before = x
            scope = {"x": x}
            exec(f"x {operator} 2", scope)
            assert scope["x"] is before
            results.append(before)
        same(*results)


KEYS = [
    lambda t: 1,
    lambda t: -1,
    lambda t: slice(None),
    lambda t: slice(1, None),
    lambda t: slice(None, None, 2),
    lambda t: slice(-2, None),
    lambda t: slice(5, 1),
    lambda t: None,
    lambda t: Ellipsis,
    lambda t: (0, 1),
    lambda t: (slice(None), 1),
    lambda t: (Ellipsis, 0),
    lambda t: (0, Ellipsis, 1),
    lambda t: (None, 0),
    lambda t: (slice(None), None, slice(0, 2)),
    lambda t: [0, 2],
    lambda t: [[0, 1], [1, 2]],
    lambda t: ([0, 1], [1, 2]),
    lambda t: t.tensor([0, 0, 2]),
    lambda t: (slice(None), t.tensor([1, 0])),
    lambda t: (t.tensor([0, 1]), slice(None), t.tensor([1, 0])),
    lambda t: t.tensor([True, False, True]),
    lambda t: True,
    lambda t: False,
    lambda t: (t.tensor(1), 2),
    lambda t: np.array([2, 0]),
    lambda t: np.int64(1),
    lambda t: t.tensor([], dtype=t.int64),
    lambda t: [True, False, True],
    lambda t: (0, [1, 2], None),
    lambda t: t.arange(24).reshape(3, 4, 2) % 3 == 0,
]


@pytest.mark.parametrize("key", KEYS, ids=range(len(KEYS)))
def test_indexing_reads_and_writes(key):
    mine, theirs = both(lambda t: t.arange(24).reshape(3, 4, 2)[key(t)])
    same(mine, theirs)

    def write(t):
        x = t.arange(24).reshape(3, 4, 2)
        x[key(t)] = -1
        return x

    same(*both(write))

    def write_tensor(t):
        x = t.arange(24).reshape(3, 4, 2)
        x[key(t)] = x[key(t)] * 10
        return x

    same(*both(write_tensor))


def test_views_share_memory():
    x = tg.zeros(4, 4)
    x[1].fill_(1)
    x[:, 2] += 5
    x.t()[0, 3] = 9
    y = torch.zeros(4, 4)
    y[1].fill_(1)
    y[:, 2] += 5
    y.t()[0, 3] = 9
    same(x, y)


PRINTED = [
    lambda t: t.tensor([[1.0, 2.0], [3.0, 4.0]]),
    lambda t: t.tensor([1, -20, 300]),
    lambda t: t.tensor([0.1, 1000.5]),
    lambda t: t.tensor([1e-5, 1.0]),
    lambda t: t.tensor([1e10, 1.0]),
    lambda t: t.tensor([float("nan"), float("inf"), -1.0]),
    lambda t: t.tensor([float("nan"), 0.5]),
    lambda t: t.tensor(3.14159),
    lambda t: t.tensor(7),
    lambda t: t.tensor([True, False]),
    lambda t: t.tensor([]),
    lambda t: t.zeros(0, 3),
    lambda t: t.zeros(2, 3, dtype=t.float64),
    lambda t: t.tensor([1, 2], dtype=t.int32),
    lambda t: t.tensor([1.5, 2], dtype=t.float16),
    lambda t: t.tensor([1.5, 2], dtype=t.bfloat16),
    lambda t: t.arange(2000),
    lambda t: t.arange(10000.0).reshape(100, 100),
    lambda t: t.arange(24).reshape(2, 3, 4),
    lambda t: t.arange(60.0),
    lambda t: t.zeros(3),
    lambda t: t.tensor([-0.0, 1.0]),
    lambda t: t.tensor([1.0, 2.0], requires_grad=True),
    lambda t: t.tensor([1.0, 2.0], requires_grad=True) + 1,
    lambda t: (t.ones(2, 2, requires_grad=True) @ t.ones(2, 2)).relu(),
    lambda t: t.arange(16.0).reshape(2, 2, 2, 2) / 3,
    lambda t: t.tensor([123456789.0]),
    lambda t: t.tensor([[0.001, 0.002], [0.5, 100.0]]),
    lambda t: t.nn.Parameter(t.ones(2)),
    lambda t: t.Size([2, 3]),
    lambda t: t.float32,
    lambda t: t.bool,
    lambda t: t.device("cpu"),
    lambda t: t.device("cuda:1"),
    lambda t: t.ones(2, 3).shape,
    lambda t: t.ones(2, 3).max(1),
]


@pytest.mark.parametrize("make", PRINTED, ids=range(len(PRINTED)))
def test_printing(make):
    assert repr(make(tg)) == repr(make(torch))


def test_print_options():
    for library in (tg, torch):
        library.set_printoptions(precision=2, threshold=5, edgeitems=2, linewidth=40)
    try:
        for make in PRINTED:
            assert repr(make(tg)) == repr(make(torch))
    finally:
        for library in (tg, torch):
            library.set_printoptions(profile="default")
            library.set_printoptions(sci_mode=None)


def test_format_and_conversions_of_numbers():
    for t in (tg, torch):
        x = t.tensor(2.5)
        assert f"{x:.3f}" == "2.500"
        assert float(x) == 2.5 and int(x) == 2 and bool(x)
        assert [10, 20, 30][t.tensor(1)] == 20
        assert round(t.tensor([1.5]).item()) == 2
        assert x in t.tensor([2.5, 3.0])
        assert [float(v) for v in t.tensor([1.0, 2.0])] == [1.0, 2.0]
        assert hash(x) == hash(x)
        assert list(reversed(t.tensor([1, 2]).tolist())) == [2, 1]


def test_identity_of_objects():
    x = tg.ones(3, requires_grad=True)
    (x * 2).sum().backward()
    assert x.grad is x.grad
    grad = x.grad
    grad.note = "kept"
    assert x.grad.note == "kept" and grad is x.grad
    y = tg.ones(2)
    x2 = tg.ones(2, requires_grad=True)
    x2.grad = y
    assert x2.grad is y
    x2.grad = None
    assert x2.grad is None
    with pytest.raises(AttributeError):
        x.no_such_attribute  # noqa: B018


def test_attributes_may_form_cycles():
    import gc
    import weakref

    x = tg.ones(2)
    x.me = x
    seen = weakref.ref(x)
    del x
    gc.collect()
    assert seen() is None


def test_pickling_and_copying():
    import copy

    x = tg.randn(3, 4, requires_grad=True)
    y = pickle.loads(pickle.dumps(x))
    assert y.tolist() == x.tolist() and y.requires_grad and y.dtype is x.dtype
    for dtype in (tg.bool, tg.uint8, tg.int64, tg.float16, tg.bfloat16, tg.float64):
        a = tg.tensor([1, 0, 1]).to(dtype)
        b = pickle.loads(pickle.dumps(a))
        assert b.dtype is dtype and b.tolist() == a.tolist()
    for value in (tg.float32, tg.device("cuda:1"), tg.Size([1, 2]), tg.relu):
        assert pickle.loads(pickle.dumps(value)) == value
    z = copy.deepcopy(x)
    assert z is not x and z.tolist() == x.tolist() and z.requires_grad
    p = tg.nn.Parameter(tg.ones(2))
    q = copy.deepcopy([p, p])
    assert q[0] is q[1] and type(q[0]) is tg.nn.Parameter
    with pytest.raises(RuntimeError):
        copy.deepcopy(x * 2)


def test_size_is_a_tuple():
    s = tg.ones(2, 3).shape
    assert s == (2, 3) and isinstance(s, tuple) and s.numel() == 6
    assert isinstance(s[:1], tg.Size) and isinstance(s + (4,), tg.Size) and s[0] == 2
    a, b = s
    assert (a, b) == (2, 3)
    with pytest.raises(TypeError):
        tg.Size(["a"])


def test_out_arguments():
    x, y = tg.tensor([1.0, 2.0]), tg.empty(0)
    assert tg.add(x, x, out=y) is y
    assert y.tolist() == [2.0, 4.0]
    with pytest.raises(TypeError):
        tg.add(x, x, out=3)


def test_flexible_signatures():
    for t in (tg, torch):
        x = t.arange(24.0).reshape(2, 3, 4)
        assert x.view(6, 4).shape == x.view((6, 4)).shape == x.view(t.Size([6, 4])).shape == x.reshape([6, 4]).shape
        assert x.permute(2, 0, 1).shape == x.permute((2, 0, 1)).shape == t.permute(x, (2, 0, 1)).shape
        assert x.sum(0).shape == x.sum(dim=0).shape == x.sum((0,)).shape == x.sum(axis=0).shape
        assert x.sum((0, 1), keepdim=True).shape == (1, 1, 4)
        assert x.size(0) == x.size()[0] == 2 and x.size(-1) == 4
        assert x.expand(5, 2, 3, 4).shape == x.expand([5, 2, 3, 4]).shape
        assert x.repeat(2, 1, 1).shape == (4, 3, 4)
        assert t.zeros(size=(2, 3)).shape == (2, 3)
        assert x.max(dim=1).values.shape == x.max(1)[0].shape
        values, indices = x.max(0)
        assert indices.dtype == t.int64
        assert x.flip(0, 1).tolist() == x.flip([0, 1]).tolist()
        assert t.std(x, dim=0).shape == x.std(0, unbiased=False).shape
        assert x.type() == "torch.FloatTensor"
        assert x.T.shape == (4, 3, 2) if t is tg else True

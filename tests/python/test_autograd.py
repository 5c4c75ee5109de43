"""Gradients in Python: modes, hooks, custom functions, checks, and what torch refuses."""

import pytest
import tensorgrad as tg
from tensorgrad.autograd import Function, gradcheck, gradgradcheck


def test_backward_accumulates():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    (x * x).sum().backward()
    (x * x).sum().backward()
    assert x.grad.tolist() == [4.0, 8.0]
    y = x * 3
    y.backward(tg.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [7.0, 38.0]
    with pytest.raises(RuntimeError):
        y.backward(tg.ones(3))


def test_grad_returns_and_leaves_grad_alone():
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    z = tg.tensor([1.0], requires_grad=True)
    (g,) = tg.autograd.grad((x**3).sum(), x, create_graph=True)
    assert g.tolist() == [3.0, 12.0] and x.grad is None
    (gg,) = tg.autograd.grad(g.sum(), x)
    assert gg.tolist() == [6.0, 12.0]
    with pytest.raises(RuntimeError):
        tg.autograd.grad(x.sum(), z)
    assert tg.autograd.grad(x.sum(), z, allow_unused=True) == (None,)
    assert tg.autograd.grad(x.sum(), z, materialize_grads=True)[0].tolist() == [0.0]


def test_a_graph_is_used_once_unless_retained():
    x = tg.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    with pytest.raises(RuntimeError, match="second time|retain_graph"):
        y.backward()


def test_modes():
    x = tg.ones(2, requires_grad=True)
    with tg.no_grad():
        assert not (x * 2).requires_grad and not tg.is_grad_enabled()
        with tg.enable_grad():
            assert (x * 2).requires_grad
    assert tg.is_grad_enabled()

    @tg.no_grad()
    def plain():
        return x * 2

    @tg.no_grad
    def bare():
        return x * 2

    @tg.inference_mode()
    def inference():
        return x * 2

    assert not plain().requires_grad and not bare().requires_grad and not inference().requires_grad
    with tg.set_grad_enabled(False):
        assert not (x * 2).requires_grad
    tg.set_grad_enabled(False)
    assert not tg.is_grad_enabled()
    tg.set_grad_enabled(True)
    with pytest.raises(ZeroDivisionError), tg.no_grad():
        1 / 0  # noqa: B018
    assert tg.is_grad_enabled()

    @tg.no_grad()
    def generate():
        yield x * 2
        yield x * 3

    for value in generate():
        assert not value.requires_grad and tg.is_grad_enabled()


def test_hooks():
    x = tg.ones(2, requires_grad=True)
    seen = []
    handle = x.register_hook(lambda g: seen.append(g.tolist()))
    y = x * 2
    y.register_hook(lambda g: g * 10)
    y.retain_grad()
    y.sum().backward()
    assert seen == [[20.0, 20.0]] and x.grad.tolist() == [20.0, 20.0]
    handle.remove()
    (x * 2).sum().backward()
    assert len(seen) == 1
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    (x * 2).sum().backward()
    assert seen[-1] == [24.0, 24.0]
    with pytest.raises(RuntimeError):
        tg.ones(2).register_hook(print)

    def failing(g):
        raise KeyError("from the hook")

    z = x * 2
    z.register_hook(failing)
    with pytest.raises(KeyError, match="from the hook"):
        z.sum().backward()


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * g


class Affine(Function):
    @staticmethod
    def forward(ctx, x, w, times, offset=None):
        ctx.save_for_backward(x, w)
        ctx.times = times
        return x * w * times, x + w

    @staticmethod
    def backward(ctx, g, h):
        x, w = ctx.saved_tensors
        assert ctx.needs_input_grad == (True, True, False)
        return g * w * ctx.times + h, g * x * ctx.times + h, None


class Separate(Function):
    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


def test_custom_functions():
    x = tg.tensor([1.0, 2.0], dtype=tg.float64, requires_grad=True)
    y = Cube.apply(x)
    assert y.grad_fn.name().startswith("Cube")
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 12.0]
    w = tg.tensor([3.0, 4.0], dtype=tg.float64, requires_grad=True)
    assert gradcheck(Cube.apply, (x,)) and gradgradcheck(Cube.apply, (x,))
    assert gradcheck(lambda a, b: Affine.apply(a, b, 2.0), (x, w))
    assert gradcheck(Separate.apply, (x,))
    with tg.no_grad():
        assert not Cube.apply(x).requires_grad


def test_wrong_custom_functions():
    class TooMany(Cube):
        @staticmethod
        def backward(ctx, g):
            return g, g

    class WrongKind(Cube):
        @staticmethod
        def backward(ctx, g):
            return "gradient"

    class Raises(Cube):
        @staticmethod
        def backward(ctx, g):
            raise ValueError("in backward")

    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            return g

    for cls, error in ((TooMany, RuntimeError), (WrongKind, TypeError), (Raises, ValueError)):
        x = tg.ones(2, requires_grad=True)
        with pytest.raises(error):
            cls.apply(x).sum().backward()
    x = tg.tensor([1.0, 2.0], dtype=tg.float64, requires_grad=True)
    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        gradcheck(Wrong.apply, (x,))
    assert not gradcheck(Wrong.apply, (x,), raise_exception=False)
    with pytest.raises(RuntimeError):
        Cube()


def test_in_place_changes_of_saved_tensors_are_caught():
    x = tg.ones(2, requires_grad=True)
    y = x * 2
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match="inplace|in place|in-place"):
        z.sum().backward()


def test_the_graph_can_be_walked_and_drawn(tmp_path):
    x = tg.ones(2, requires_grad=True)
    y = (x * 2).sum()
    node = y.grad_fn
    assert node.name() == "SumBackward0" and node.next_functions[0][0].name() == "MulBackward0"
    assert "Mul" in tg.graph_to_dot([y])
    tg.render(y, tmp_path / "graph.svg")
    assert (tmp_path / "graph.svg").read_text().startswith("<")


def test_deep_graphs():
    x = tg.ones(1, requires_grad=True)
    y = x
    for _ in range(200_000):
        y = y + 1
    y.backward()
    assert x.grad.tolist() == [1.0]


def test_data_and_detach():
    x = tg.ones(2, requires_grad=True)
    x.data.mul_(3)
    x.data = x.data + 1
    assert x.tolist() == [4.0, 4.0] and x.requires_grad and x.is_leaf
    d = x.detach()
    d[0] = 7
    assert x[0].item() == 7.0 and not d.requires_grad

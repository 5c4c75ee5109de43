"""Convolutions and batch norm of inputs whose channels lie last in memory: values, memory order and gradients as
PyTorch's."""

import numpy as np
import pytest
import tensorgrad as tg

torch = pytest.importorskip("torch")

# batch, channels, height, width, outputs, kernel, options
CASES = [
    (2, 8, 9, 11, 24, 1, {}),  # a product
    (2, 24, 9, 8, 20, 3, {"stride": 2, "padding": 1}),
    (2, 11, 16, 15, 16, 7, {"stride": 2, "padding": 3}),
    (1, 16, 10, 10, 16, 3, {"padding": 2, "dilation": 2}),
    (2, 32, 7, 7, 48, 3, {"padding": 1, "groups": 2}),
    (3, 20, 14, 9, 20, 3, {"padding": 1, "groups": 20}),
    (2, 18, 13, 13, 18, 5, {"padding": 2, "stride": 2, "groups": 18}),
    (2, 16, 8, 8, 32, 2, {"stride": 2}),
]


def leaves(lib, case, dtype):
    n, c, h, w, k, kernel, options = case
    rng = np.random.default_rng(3)
    sizes = [(n, h, w, c), (k, c // options.get("groups", 1), kernel, kernel), (k,)]
    x, weight, bias = (lib.from_numpy(rng.standard_normal(size).astype(dtype)) for size in sizes)
    return [t.requires_grad_() for t in (x.permute(0, 3, 1, 2), weight, bias)]


def run(lib, case, dtype):
    """Output, its strides, the gradients and the input gradient's strides."""
    x, weight, bias = leaves(lib, case, dtype)
    out = lib.nn.functional.conv2d(x, weight, bias, **case[-1])
    rng = np.random.default_rng(4)
    n, k, h, w = tuple(out.shape)
    g = lib.from_numpy(rng.standard_normal((n, h, w, k)).astype(dtype)).permute(0, 3, 1, 2)
    out.backward(g)
    arrays = [t.detach().numpy() for t in (out, x.grad, weight.grad, bias.grad)]
    return arrays, tuple(out.stride()), tuple(x.grad.stride())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_convolution_keeps_the_order_of_its_input(case, dtype):
    ours, order, grad_order = run(tg, case, dtype)
    theirs, expected, grad_expected = run(torch, case, dtype)
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())
    assert order == expected
    assert grad_order == grad_expected


@pytest.mark.parametrize("case", [CASES[0], CASES[1], CASES[6]], ids=str)
def test_gradients_of_gradients(case):
    results = []
    for lib in (tg, torch):
        x, weight, bias = leaves(lib, case, "float64")
        out = lib.nn.functional.conv2d(x, weight, bias, **case[-1])
        (dx, dw) = lib.autograd.grad((out * out).sum(), (x, weight), create_graph=True)
        (dx * dx).sum().backward(retain_graph=True)
        (dw * dw).sum().backward()
        results.append([t.grad.detach().numpy() for t in (x, weight)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10 * np.abs(b).max())


def test_fewer_than_eight_channels_go_through_planes():
    case = (2, 3, 16, 15, 16, 7, {"stride": 2, "padding": 3})
    ours, theirs = run(tg, case, "float64")[0], run(torch, case, "float64")[0]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_a_row_major_upstream_gradient():
    case = CASES[1]
    grads = []
    for lib in (tg, torch):
        x, weight, bias = leaves(lib, case, "float64")
        out = lib.nn.functional.conv2d(x, weight, bias, **case[-1])
        rng = np.random.default_rng(5)
        out.backward(lib.from_numpy(rng.standard_normal(tuple(out.shape))))
        grads.append([t.grad.numpy() for t in (x, weight, bias)])
    for a, b in zip(*grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


BATCH_CASES = [(4, 5, 7, 6), (3, 64, 9, 8), (2, 3, 9, 31), (2, 130, 3, 3), (2, 7, 3, 4, 5), (6, 16, 1, 1), (3, 1, 4, 4)]


def normalise(lib, sizes, dtype, training):
    """Results by name, and the strides of the output and of the input's gradient."""
    rng = np.random.default_rng(6)
    channels, dims = sizes[1], (0, len(sizes) - 1, *range(1, len(sizes) - 1))

    def last(scale, shift):
        memory = (rng.standard_normal((sizes[0], *sizes[2:], channels)) * scale + shift).astype("float32")
        return lib.from_numpy(memory).to(getattr(lib, dtype)).permute(*dims)

    def row():
        return lib.from_numpy(rng.standard_normal(channels).astype("float32") ** 2 + 0.5).to(getattr(lib, dtype))

    x, g = last(2, 5).requires_grad_(), last(1, 0)
    weight, bias, mean, var = row().requires_grad_(), row().requires_grad_(), row(), row()
    out = lib.nn.functional.batch_norm(x, mean, var, weight, bias, training)
    out.backward(g)
    named = {"out": out, "x": x.grad, "weight": weight.grad, "bias": bias.grad, "mean": mean, "var": var}
    return {k: t.detach().float().numpy() for k, t in named.items()}, tuple(out.stride()), tuple(x.grad.stride())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("sizes", BATCH_CASES, ids=str)
def test_batch_norm_keeps_the_order_of_its_input(sizes, dtype, training):
    ours, order, grad_order = normalise(tg, sizes, dtype, training)
    theirs, expected, grad_expected = normalise(torch, sizes, dtype, training)
    tolerance = {"float32": 1e-4, "float64": 1e-6, "bfloat16": 0.05}[dtype]  # compared as float32
    for name, b in theirs.items():
        np.testing.assert_allclose(ours[name], b, rtol=tolerance, atol=tolerance * np.abs(b).max(), err_msg=name)
    if 1 not in sizes:  # one channel or one pixel lies both ways
        assert order == expected
        assert grad_order == grad_expected


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 4, 5), (2, 1, 4, 5), (2, 3, 1, 1), (0, 3, 4, 5)])
@pytest.mark.parametrize("permuted", [False, True])
def test_memory_format_says_how_a_tensor_lies(shape, permuted):
    def strides(lib):
        x = lib.ones(shape, dtype=lib.float64)
        if permuted:
            x = lib.ones((shape[0], *shape[2:], shape[1]), dtype=lib.float64).permute(0, 3, 1, 2)
        last, rows = lib.channels_last, lib.contiguous_format
        made = [
            x.contiguous(memory_format=last),
            x.contiguous(memory_format=rows),
            x.contiguous(),
            x.to(memory_format=last),
            x.to(lib.float32, memory_format=last),
            x.to("cpu", memory_format=rows),
            x.clone(memory_format=last),
            x.clone(memory_format=rows),
            x.clone(memory_format=lib.preserve_format),
            x.float(memory_format=last),
        ]
        return [
            (
                tuple(t.shape),
                t.is_contiguous(),
                t.is_contiguous(memory_format=last),
                [step for step, size in zip(t.stride(), t.shape, strict=True) if size != 1],
            )
            for t in made
            if t.numel()
        ]

    assert strides(tg) == strides(torch)


def test_memory_format_of_volumes_and_modules_and_its_errors():
    def look(lib):
        x = lib.ones(2, 3, 4, 5, 6).contiguous(memory_format=lib.channels_last_3d)
        model = lib.nn.Sequential(lib.nn.Conv2d(3, 8, 3), lib.nn.BatchNorm2d(8), lib.nn.Linear(4, 5))
        model = model.to(memory_format=lib.channels_last)
        weight = model[0].weight
        assert weight.is_leaf and weight.requires_grad
        answer = [x.stride(), x.is_contiguous(memory_format=lib.channels_last_3d), weight.stride()]
        y = model[0](lib.ones(2, 3, 7, 9).to(memory_format=lib.channels_last))
        answer += [y.stride(), model[2].weight.stride()]
        for wrong in (
            lambda: lib.ones(2, 3).contiguous(memory_format=lib.channels_last),
            lambda: lib.ones(2, 3, 4, 5).to(memory_format=lib.channels_last_3d),
            lambda: lib.ones(2, 3).t().contiguous(memory_format=lib.preserve_format),
        ):
            with pytest.raises(RuntimeError):
                wrong()
        with pytest.raises(TypeError):
            lib.ones(2, 3, 4, 5).contiguous(memory_format="sideways")
        return answer

    assert look(tg) == look(torch)


def test_laying_out_is_part_of_the_graph():
    x = tg.randn(2, 3, 4, 5, dtype=tg.float64, requires_grad=True)
    assert tg.autograd.gradcheck(lambda t: t.to(memory_format=tg.channels_last) * 2, (x,))

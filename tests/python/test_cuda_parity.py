"""Operations, gradients and training on a CUDA device against the CPU: NMSE 1e-7 in float32, gradients to 1e-4, twenty
training steps to 1e-4. Skipped without a device. `python -m parity --device cuda` runs PyTorch's own samples."""

import subprocess
import sys

import numpy as np
import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")

F = tg.nn.functional


def positive(*shape):
    return tg.rand(*shape) + 0.1


def permuted(*shape):
    return tg.randn(*shape[::-1]).permute(*range(len(shape) - 1, -1, -1))


def activated(activation):
    return lambda x, weight, bias=None: tg._C._linear_activation(x, weight, bias, activation)


def attend(q, k, v, **options):
    return F.scaled_dot_product_attention(q, k, v, **options)


def attend_causal(q, k, v):
    return attend(q, k, v, is_causal=True)


def attend_packed(q, k, v, f=attend):
    return f(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)


def attend_seen(q, k, v):
    """A mask that hides every key of some queries."""
    i, j = tg.arange(q.size(-2), device=q.device), tg.arange(k.size(-2), device=q.device)
    return attend(q, k, v, attn_mask=(i.reshape(-1, 1) + j) % 5 < i.reshape(-1, 1) % 4)


def attend_biased(q, k, v):
    i, j = tg.arange(q.size(-2), device=q.device), tg.arange(k.size(-2), device=q.device)
    return attend(q, k, v, attn_mask=((i.reshape(-1, 1) - j) % 7).to(q.dtype))


def attend_dropped(q, k, v, **options):
    tg.manual_seed(5)  # the CPU and the device drop the same elements then
    return attend(q, k, v, dropout_p=0.3, **options)


# Heads above 256 always go by blocks of products, narrower ones where that was faster.
ATTENTION_BY_BLOCKS = {
    "": (attend, [(2, 3, 150, 260), (2, 3, 171, 260), (2, 3, 171, 270)]),
    "causal": (attend_causal, [(2, 2, 700, 258)] * 3),
    "causal, more keys": (attend_causal, [(2, 1, 290, 257), (2, 1, 700, 257), (2, 1, 700, 3)]),
    "causal, more queries": (attend_causal, [(1, 2, 700, 257), (1, 2, 290, 257), (1, 2, 290, 9)]),
    "of packed heads": (attend_packed, [(2, 150, 3, 260), (2, 131, 3, 260), (2, 131, 3, 260)]),
    "causal, of packed heads": (lambda *t: attend_packed(*t, attend_causal), [(3, 530, 2, 300)] * 3),
    "with hidden rows": (attend_seen, [(2, 2, 140, 264)] * 3),
    "with a bias": (attend_biased, [(2, 2, 140, 264), (2, 2, 77, 264), (2, 2, 77, 264)]),
    "of one query": (attend, [(1, 2, 1, 300), (1, 2, 5, 300), (1, 2, 5, 300)]),
    "without queries": (attend, [(1, 2, 0, 300), (1, 2, 5, 300), (1, 2, 5, 300)]),
    "without keys": (attend, [(1, 2, 4, 300), (1, 2, 0, 300), (1, 2, 0, 300)]),
    "of 1500 keys": (attend, [(1, 2, 33, 260), (1, 2, 1500, 260), (1, 2, 1500, 7)]),
    "of 8300 keys": (attend, [(1, 1, 3, 260), (1, 1, 8300, 260), (1, 1, 8300, 5)]),
    "of shared keys": (
        lambda q, k, v: attend(q, k, v, enable_gqa=True),
        [(2, 4, 150, 260), (2, 2, 130, 260), (2, 2, 130, 260)],
    ),
    "dropped": (attend_dropped, [(2, 3, 150, 260), (2, 3, 171, 260), (2, 3, 171, 270)]),
    "dropped, of 1500 keys": (attend_dropped, [(1, 2, 33, 260), (1, 2, 1500, 260), (1, 2, 1500, 7)]),
    "of few queries, dropped": (attend_dropped, [(1, 2, 17, 40), (1, 2, 3001, 40), (1, 2, 3001, 33)]),
    "of heads of 200, dropped": (attend_dropped, [(2, 3, 70, 200), (2, 3, 90, 200), (2, 3, 90, 200)]),
    **{
        f"of heads of {d}, dropped": (attend_dropped, [(70, 2, 140, d), (70, 2, 192, d), (70, 2, 192, d)])
        for d in (16, 64, 100)
    },
    "causal, dropped": (lambda *t: attend_dropped(*t, is_causal=True), [(3, 5, 77, 24)] * 3),
    "all dropped": (lambda *t: attend(*t, dropout_p=1.0), [(2, 3, 20, 8)] * 3),
    "or not": (attend, [(2, 3, 300, 64)] * 3),
    "or not, causal": (attend_causal, [(1, 2, 1100, 32)] * 3),
}

# By tiles of 32 queries or keys split over blocks, of 64, and (with this many heads) of 128.
ATTENTION_BY_TILES = {
    "of one query and many keys": (attend, [(2, 3, 1, 64), (2, 3, 5000, 64), (2, 3, 5000, 64)]),
    "of few queries and many keys": (attend, [(1, 2, 17, 40), (1, 2, 3001, 40), (1, 2, 3001, 33)]),
    "of wide heads, split": (attend, [(1, 2, 40, 128), (1, 2, 2050, 128), (1, 2, 2050, 100)]),
    "causal, split": (attend_causal, [(1, 1, 1500, 20)] * 3),
    "with hidden rows, split": (attend_seen, [(1, 1, 9, 24), (1, 1, 1300, 24), (1, 1, 1300, 24)]),
    "of many heads": (attend, [(70000, 1, 3, 4), (70000, 1, 2, 4), (70000, 1, 2, 4)]),
    **{
        f"of heads of {d} {kind}": (f, [(70, 2, 200, d), (70, 2, 140, d), (70, 2, 140, d - 3)])
        for d in (20, 64, 100)
        for kind, f in (("", attend), ("causal", attend_causal), ("masked", attend_seen), ("biased", attend_biased))
    },
    "of equal lengths, causal": (attend_causal, [(70, 2, 128, 64)] * 3),
}

# About what a block of threads takes, and a cluster of 2, 4 and 8 blocks.
LONG_ROWS = [(700, 4096), (3, 4100), (70, 8192), (300, 8200), (40, 16384), (9, 20004), (5, 32768), (4, 32772)]

CASES = {
    "add broadcast": (lambda a, b: a + b, [(33, 1, 65), (7, 65)]),
    "sub scaled": (lambda a, b: tg.sub(a, b, alpha=0.5), [(1001,), (1001,)]),
    "mul strided": (lambda a, b: a.transpose(0, 1) * b, [(31, 67), (67, 31)]),
    "div": (lambda a, b: a / (b.abs() + 0.5), [(5, 77), (77,)]),
    "pow": (lambda a: a.abs() ** 2.5, [(513,)]),
    "exp": (lambda a: a.exp(), [(4097,)]),
    "log": (lambda a: (a.abs() + 0.1).log(), [(63, 65)]),
    "tanh": (lambda a: a.tanh(), [(1, 1)]),
    "sigmoid": (lambda a: a.sigmoid(), [(3, 5, 7)]),
    "gelu": (F.gelu, [(1025,)]),
    "gelu tanh": (lambda a: F.gelu(a, approximate="tanh"), [(257,)]),
    "silu": (F.silu, [(129, 3)]),
    "erf": (lambda a: a.erf(), [(999,)]),
    "where": (lambda a, b: tg.where(a > 0, a, b), [(65, 33), (33,)]),
    "clamp": (lambda a: a.clamp(-0.5, 0.7), [(300,)]),
    "maximum": (tg.maximum, [(70, 3), (70, 3)]),
    "sum": (lambda a: a.sum(), [(513, 1027)]),
    "sum rows": (lambda a: a.sum(1), [(65, 1030)]),
    "sum columns": (lambda a: a.sum(0), [(1030, 65)]),
    "sum middle": (lambda a: a.sum(1), [(9, 33, 17)]),
    "mean of a wide matrix": (lambda a: a.mean(0), [(700, 4100)]),
    "var": (lambda a: a.var(-1), [(31, 100)]),
    "max": (lambda a: a.max(1)[0], [(33, 70)]),
    "logsumexp": (lambda a: a.logsumexp(1), [(33, 70)]),
    "cumsum": (lambda a: a.cumsum(1), [(7, 300)]),
    "prod": (lambda a: (1 + 0.1 * a).prod(1), [(7, 30)]),
    "norm": (lambda a: a.norm(), [(70, 70)]),
    "matmul": (tg.matmul, [(65, 33), (33, 129)]),
    "matmul transposed": (lambda a, b: a.t() @ b.t(), [(33, 65), (129, 33)]),
    "matmul batched": (tg.matmul, [(3, 5, 17, 9), (3, 5, 9, 21)]),
    "matmul broadcast": (tg.matmul, [(3, 1, 17, 9), (5, 9, 21)]),
    "matmul of heads": (
        lambda a, b: a.transpose(1, 2) @ b.transpose(1, 2).transpose(2, 3),
        [(3, 17, 4, 8), (3, 19, 4, 8)],
    ),
    "matvec": (tg.matmul, [(130, 70), (70,)]),
    "linear": (F.linear, [(7, 5, 33), (65, 33), (65,)]),
    "linear of a column": (F.linear, [(1, 1), (3, 1), (3,)]),
    "softmax": (lambda a: a.softmax(-1), [(65, 33)]),
    "softmax of long rows": (lambda a: (a * 3).softmax(-1), [(5, 5000)]),
    "softmax of very long rows": (lambda a: (a * 3).softmax(-1), [(2, 40000)]),
    "softmax of odd rows": (lambda a: a.softmax(-1), [(9, 1027)]),
    "softmax along dim 0": (lambda a: a.softmax(0), [(33, 65)]),
    "log_softmax": (lambda a: a.log_softmax(-1), [(17, 1500)]),
    "layer_norm": (lambda a, w, b: F.layer_norm(a, (33,), w, b), [(65, 33), (33,), (33,)]),
    "layer_norm of long rows": (lambda a, w, b: F.layer_norm(a, (4096,), w, b), [(70, 4096), (4096,), (4096,)]),
    "layer_norm of odd rows": (lambda a, w, b: F.layer_norm(a, (1027,), w, b), [(300, 1027), (1027,), (1027,)]),
    "softmax of 16384": (lambda a: (a * 3).softmax(-1), [(3, 16384)]),
    "softmax of 2048": (lambda a: a.softmax(-1), [(30, 2048)]),
    "matmul of few rows": (tg.matmul, [(33, 1000), (1000, 2050)]),
    "linear of few rows": (F.linear, [(64, 1024), (515, 1024), (515,)]),
    "linear of packs": (F.linear, [(128, 64), (256, 64), (256,)]),
    "linear of many rows": (F.linear, [(5000, 24), (16, 24), (16,)]),
    "linear of transposed rows": (lambda a, *w: F.linear(a.transpose(0, 1), *w), [(33, 70), (24, 33), (24,)]),
    **{
        f"linear, gelu by tanh and linear of {m} x {k} x {n}": (
            tg._C._linear_gelu_linear,
            [(m, k), (n, k), (n,), (k, n), (k,)],
        )
        for m, k, n in [(130, 64, 256), (64, 33, 40), (13, 20, 35), (1, 1, 1), (512, 96, 384)]
    },
    "linear, gelu by tanh and linear without biases": (
        lambda x, w, w2: tg._C._linear_gelu_linear(x, w, None, w2, None),
        [(3, 7, 24), (40, 24), (16, 40)],
    ),
    "linear gelu": (activated("gelu"), [(130, 64), (96, 64), (96,)]),
    "linear gelu tanh": (activated("gelu_tanh"), [(130, 64), (96, 64), (96,)]),
    "linear gelu tanh without bias": (activated("gelu_tanh"), [(3, 7, 33), (40, 33)]),
    "linear gelu tanh of odd rows": (activated("gelu_tanh"), [(13, 20), (35, 20), (35,)]),
    "linear gelu tanh of one": (activated("gelu_tanh"), [(1, 1), (1, 1), (1,)]),
    "layer_norm of very long rows": (lambda a, w: F.layer_norm(a, (40000,), w), [(3, 40000), (40000,)]),
    "layer_norm without weights": (lambda a: F.layer_norm(a, (768,)), [(33, 768)]),
    "group_norm": (lambda a, w, b: F.group_norm(a, 3, w, b), [(4, 6, 5, 7), (6,), (6,)]),
    "batch_norm": (
        lambda a, w, b: F.batch_norm(a, None, None, w, b, training=True),
        [(5, 7, 6, 9), (7,), (7,)],
    ),
    **{
        f"batch_norm of {shape}": (
            # times something that varies: the gradients of a plain sum are 0, and what is left of them is rounding
            lambda a, w, b, c: F.batch_norm(a, None, None, w, b, training=True) * c,
            [shape, (shape[1],), (shape[1],), shape],
        )
        for shape in [(300, 5, 28, 28), (1, 3, 130, 131), (500, 33), (40, 2, 7, 7), (6, 300, 4, 4)]
    },
    "batch_norm with given statistics": (
        lambda a, m, w, b: F.batch_norm(a, m.detach(), m.detach() ** 2 + 0.1, w, b),
        [(5, 7, 6, 8), (7,), (7,), (7,)],
    ),
    "batch_norm far from zero": (
        lambda a, c: F.batch_norm(a * 0.1 + 30, None, None, training=True) * c,
        [(64, 8, 14, 14), (64, 8, 14, 14)],
    ),
    "mean of few": (lambda a: a.mean(1), [(32, 8, 128, 128)]),
    "sum of few odd": (lambda a: a.sum(0), [(3, 150001)]),
    "matmul of many heads": (
        lambda a, b: a.transpose(1, 2) @ b.transpose(1, 2).transpose(2, 3),
        [(9, 130, 4, 24), (9, 70, 4, 24)],
    ),
    "matmul of long heads": (
        lambda a, b: a.transpose(1, 2).transpose(2, 3) @ b.transpose(1, 2),
        [(3, 1000, 2, 40), (3, 1000, 2, 33)],
    ),
    "matmul of large heads": (
        lambda a, b: a.transpose(1, 2) @ b.transpose(1, 2),
        [(3, 600, 2, 530), (3, 530, 2, 20)],
    ),
    "max_pool2d": (lambda a: F.max_pool2d(a, 3, 2, 1), [(2, 3, 17, 19)]),
    "avg_pool2d": (lambda a: F.avg_pool2d(a, 2), [(2, 3, 16, 18)]),
    "adaptive_avg_pool2d": (lambda a: F.adaptive_avg_pool2d(a, (3, 5)), [(2, 3, 16, 18)]),
    "attention": (F.scaled_dot_product_attention, [(2, 3, 17, 8), (2, 3, 19, 8), (2, 3, 19, 8)]),
    "causal attention": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        [(2, 3, 33, 16), (2, 3, 33, 16), (2, 3, 33, 16)],
    ),
    **{
        f"attention of heads of {d}": (
            lambda q, k, v: F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))),
            [(2, 70, 3, d), (2, 131, 3, d), (2, 131, 3, d)],
        )
        for d in (3, 20, 32, 64, 100, 130)
    },
    **{f"attention by blocks {name}": case for name, case in ATTENTION_BY_BLOCKS.items()},
    **{f"attention by tiles {name}": case for name, case in ATTENTION_BY_TILES.items()},
    "attention of unlike heads": (F.scaled_dot_product_attention, [(2, 3, 70, 18), (2, 3, 90, 18), (2, 3, 90, 35)]),
    **{
        f"layer_norm of {rows} x {n}": (
            lambda a, *w, n=n: F.layer_norm(a, (n,), *w),
            [(rows, n), (n,), (n,)],
        )
        for rows, n in LONG_ROWS
    },
    "rms_norm of 12000": (lambda a, w: F.rms_norm(a, (12000,), w), [(33, 12000), (12000,)]),
    "mse_loss": (F.mse_loss, [(33, 65), (33, 65)]),
    "permute and reshape": (lambda a: a.permute(2, 0, 1).reshape(-1), [(5, 6, 7)]),
    "cat": (lambda a, b: tg.cat([a, b], 1), [(5, 6), (5, 9)]),
    "gather": (lambda a: a.gather(1, tg.arange(20, device=a.device).reshape(4, 5) % 7), [(4, 7)]),
    "index_select": (lambda a: a.index_select(0, tg.tensor([3, 0, 3], device=a.device)), [(5, 6)]),
    "advanced index": (lambda a: a[tg.tensor([3, 0, 3], device=a.device), :, 1], [(5, 6, 3)]),
    "sort": (lambda a: a.sort(-1)[0], [(5, 700)]),
    "topk": (lambda a: a.topk(5)[0], [(5, 70)]),
    "tril": (lambda a: a.tril(1), [(9, 8)]),
    "masked_fill": (lambda a: a.masked_fill(a > 1, 0.5), [(40, 40)]),
    "pad": (lambda a: F.pad(a, (1, 2, 3, 0)), [(3, 5, 7)]),
}


def agree(ours, expected, gradient=False):
    ours, expected = ours.detach().cpu().numpy(), expected.detach().numpy()
    assert ours.shape == expected.shape and ours.dtype == expected.dtype
    if expected.size == 0:
        return
    if gradient:
        assert np.abs(ours - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
    else:
        assert np.mean((ours - expected) ** 2) <= 1e-7 * max(np.mean(expected**2), 1e-30)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("random", ["ones", "random"])
def test_operation_agrees_with_the_cpu(name, random):
    f, shapes = CASES[name]
    tg.manual_seed(len(name))
    on_cpu = [tg.randn(*shape).requires_grad_() for shape in shapes]
    on_cuda = [t.detach().to("cuda").requires_grad_() for t in on_cpu]
    expected, ours = f(*on_cpu), f(*on_cuda)
    assert ours.device.type == "cuda"
    agree(ours, expected)
    g = tg.randn(*expected.shape) if random == "random" else tg.ones(()).expand(expected.shape)
    wanted = tg.autograd.grad(expected, on_cpu, g, allow_unused=True)
    found = tg.autograd.grad(ours, on_cuda, g.to("cuda"), allow_unused=True)
    for a, b in zip(found, wanted, strict=True):
        if b is not None:
            agree(a, b, gradient=True)


@pytest.mark.parametrize("name", ATTENTION_BY_BLOCKS)
def test_float64_attention_by_blocks(name):
    f, shapes = ATTENTION_BY_BLOCKS[name]
    tg.manual_seed(7)
    on_cpu = [tg.randn(*shape, dtype=tg.float64).requires_grad_() for shape in shapes]
    on_cuda = [t.detach().to("cuda").requires_grad_() for t in on_cpu]
    expected, ours = f(*on_cpu), f(*on_cuda)
    g = tg.randn(*expected.shape, dtype=tg.float64)
    wanted = [expected, *tg.autograd.grad(expected, on_cpu, g)]
    for a, b in zip([ours, *tg.autograd.grad(ours, on_cuda, g.to("cuda"))], wanted, strict=True):
        np.testing.assert_allclose(a.detach().cpu().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)


CHANNELS_LAST = [  # input, weight, options
    ((2, 8, 9, 11), (16, 8, 3, 3), {"padding": 1}),
    ((3, 3, 12, 10), (5, 3, 5, 5), {"stride": 2, "padding": 2}),
    ((2, 12, 7, 9), (12, 1, 3, 3), {"groups": 12, "padding": 1}),
    ((1, 16, 8, 8), (24, 8, 1, 1), {"groups": 2}),
    ((2, 8, 12, 12), (8, 8, 3, 3), {"dilation": 2}),
    ((2, 7, 1, 5), (3, 7, 1, 1), {}),
]


def channels_last(t):
    return t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def assert_lies_last(t):
    _, c, h, w = t.shape
    wanted = (c * h * w, 1, c * w, c)
    assert all(n == 1 or s == e for n, s, e in zip(t.shape, t.stride(), wanted, strict=True))


@pytest.mark.parametrize("dtype", [tg.float32, tg.bfloat16, tg.float16])
@pytest.mark.parametrize("weight_last", [False, True])
@pytest.mark.parametrize("case", range(len(CHANNELS_LAST)))
def test_channels_last_convolution(case, weight_last, dtype):
    x_shape, w_shape, options = CHANNELS_LAST[case]
    tg.manual_seed(case)
    on_cpu = [t.to(dtype).float() for t in (tg.randn(*x_shape), tg.randn(*w_shape) * 0.2, tg.randn(w_shape[0]))]
    x, w, b = (t.to("cuda").to(dtype) for t in on_cpu)
    x = channels_last(x).requires_grad_()
    w = (channels_last(w) if weight_last else w).requires_grad_()
    b.requires_grad_()
    for t in on_cpu:
        t.requires_grad_()
    y, expected = F.conv2d(x, w, b, **options), F.conv2d(*on_cpu, **options)
    tensor_cores = options.get("groups", 1) == 1 and x_shape[1] % 8 == 0 and w_shape[0] % 8 == 0
    if tensor_cores:  # cuDNN has engines; others may be rearranged into planes
        assert_lies_last(y)
    g = tg.randn(*y.shape).to(dtype)
    expected.backward(g.float())
    y.backward(g.to("cuda"))
    if tensor_cores:
        assert_lies_last(x.grad)
    assert w.grad.stride() == w.stride()
    tolerance = {tg.float32: 2e-3, tg.bfloat16: 2e-2, tg.float16: 4e-3}[dtype]  # TF32 has float16's mantissa
    for ours, wanted in zip([y, x.grad, w.grad, b.grad], [expected, *(t.grad for t in on_cpu)], strict=True):
        a, e = ours.detach().float().cpu().numpy(), wanted.detach().numpy()
        assert np.abs(a - e).max() <= tolerance * np.abs(e).max()


def test_channels_last_convolution_is_differentiable_twice():
    found = []
    for device, last in (("cpu", False), ("cuda", True)):
        tg.manual_seed(1)
        x, w = tg.randn(2, 8, 6, 5, device=device), tg.randn(8, 8, 3, 3, device=device)
        if last:
            x = channels_last(x)
        x.requires_grad_(), w.requires_grad_()
        y = F.conv2d(x, w, padding=1)
        dx, dw = tg.autograd.grad((y * y).sum(), [x, w], create_graph=True)
        ((dx * dx).sum() + (dw * dw).sum()).backward()
        found.append([x.grad.cpu().numpy(), w.grad.cpu().numpy()])
    for a, e in zip(*found[::-1], strict=True):
        assert np.abs(a - e).max() <= 5e-3 * np.abs(e).max()


def test_attention_in_a_graph_drops_others_at_every_replay():
    q = tg.randn(2, 3, 64, 16, device="cuda")
    attend(q, q, q, dropout_p=0.5)
    graph = tg.cuda.CUDAGraph()
    with tg.cuda.graph(graph):
        y = attend(q, q, q, dropout_p=0.5)
    found = []
    for _ in range(2):
        graph.replay()
        found.append(y.cpu().numpy().copy())
    assert np.isfinite(found).all() and (found[0] != found[1]).mean() > 0.9


@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_attention_keeps_no_matrix_of_scores(dropout_p):
    q = tg.randn(1, 1, 16384, 16, device="cuda", requires_grad=True)
    before = tg.cuda.memory_allocated()
    tg.cuda.reset_peak_memory_stats()
    attend(q, q, q, dropout_p=dropout_p).sum().backward()
    assert tg.cuda.max_memory_allocated() - before < 16384 * 16384 * 4 // 8


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_with_weights_agrees_with_the_cpu(batch_first):
    tg.manual_seed(3)
    layer = tg.nn.MultiheadAttention(48, 6, batch_first=batch_first)
    x = tg.randn(5, 33, 48)
    y, w = layer(x, x, x)
    (y.sum() + (w * w).sum()).backward()
    wanted = [y, w], [p.grad for p in layer.parameters()]
    layer.zero_grad()
    layer.to("cuda")
    x = x.to("cuda")
    y, w = layer(x, x, x)
    (y.sum() + (w * w).sum()).backward()
    for ours, expected in zip([y, w], wanted[0], strict=True):
        agree(ours, expected)
    for p, expected in zip(layer.parameters(), wanted[1], strict=True):
        agree(p.grad, expected, gradient=True)


def test_a_program_without_pytorch():
    """The libraries that it needs are opened by itself; in the other tests PyTorch may have brought them already."""
    code = """
import tensorgrad as tg
layers = tg.nn.Sequential(tg.nn.Conv2d(1, 32, 3, padding=1), tg.nn.BatchNorm2d(32), tg.nn.ReLU(), tg.nn.Flatten(),
                          tg.nn.Linear(32 * 28 * 28, 10)).to("cuda")
layers(tg.randn(64, 1, 28, 28, device="cuda")).sum().backward()
with tg.autocast("cuda", dtype=tg.bfloat16):
    layers(tg.randn(64, 1, 28, 28, device="cuda")).sum().backward()
q = tg.randn(2, 4, 64, 64, device="cuda").bfloat16()
print(float(tg.nn.functional.scaled_dot_product_attention(q, q, q).sum().isfinite()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.strip() == "1.0", done.stderr


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 4)])
def test_nothing_is_something(shape):
    x = tg.randn(*shape, device="cuda", requires_grad=True)
    for f in (lambda t: t + 1, lambda t: t.sum(), lambda t: t * t, F.gelu, lambda t: t.reshape(-1)):
        y = f(x)
        assert y.shape == f(tg.randn(*shape)).shape
    (x * 2).sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 3, "out_channels": 5, "kernel_size": 3},
        {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
        {"in_channels": 2, "out_channels": 3, "kernel_size": (1, 5), "dilation": 2, "bias": False},
        {"in_channels": 64, "out_channels": 64, "kernel_size": 3, "padding": 1},
    ],
)
def test_convolution_agrees_with_the_cpu(options):
    tg.backends.cudnn.allow_tf32 = False
    try:
        tg.manual_seed(1)
        layer = tg.nn.Conv2d(**options)
        x = tg.randn(3, options["in_channels"], 19, 23).requires_grad_()
        expected = layer(x)
        g = tg.randn(*expected.shape)
        expected.backward(g)
        wanted = [x.grad] + [p.grad for p in layer.parameters()]
        layer.zero_grad()
        layer.to("cuda")
        on_cuda = x.detach().to("cuda").requires_grad_()
        ours = layer(on_cuda)
        agree(ours, expected)
        ours.backward(g.to("cuda"))
        for a, b in zip([on_cuda.grad] + [p.grad for p in layer.parameters()], wanted, strict=True):
            agree(a, b, gradient=True)
    finally:
        tg.backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("offset", [1, 2, 4])
def test_convolution_of_arrays_off_the_boundary_of_a_pack(offset, dtype):
    def off(t):
        flat = tg.cat([t.new_zeros(offset), t.reshape(-1)]).to("cuda", getattr(tg, dtype))
        return flat[offset:].reshape(t.shape).detach().requires_grad_()

    tg.manual_seed(1)
    x, w, b = tg.randn(2, 8, 9, 8), tg.randn(16, 8, 3, 3), tg.randn(16)
    moved = [off(t) for t in (x, w, b)]
    plain = [t.detach().cpu().double().requires_grad_() for t in moved]
    ours, expected = F.conv2d(*moved, padding=1), F.conv2d(*plain, padding=1)
    g = tg.randn(*expected.shape)
    ours.backward(off(g).detach())
    expected.backward(g.to(getattr(tg, dtype)).double())
    for a, b in zip([ours, *(t.grad for t in moved)], [expected, *(t.grad for t in plain)]):
        error = ((a.detach().cpu().double() - b.detach()) ** 2).mean() / (b.detach() ** 2).mean()
        assert error.item() < (1e-5 if dtype == "float32" else 1e-3)


def models():
    from test_train_parity import OPTIMIZERS, batches, cnn, mlp, transformer

    return OPTIMIZERS, batches, {"mlp": mlp, "cnn": cnn, "transformer": transformer}


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("kind", ["mlp", "cnn", "transformer"])
def test_twenty_training_steps_match_the_cpu(kind, optimizer):
    pytest.importorskip("torch", reason="the models are those of test_train_parity.py, which needs PyTorch")
    optimizers, batches, makers = models()
    tg.backends.cudnn.allow_tf32 = False
    try:
        losses = {}
        for device in ("cpu", "cuda"):
            tg.manual_seed(0)
            model = makers[kind](tg).to(device)
            optimize = optimizers[optimizer](tg, model.parameters())
            losses[device] = []
            for x, labels in batches(makers[kind], np.float32):
                optimize.zero_grad()
                output = model(tg.from_numpy(x).to(device))
                loss = tg.nn.functional.cross_entropy(output, tg.from_numpy(labels).to(device))
                loss.backward()
                optimize.step()
                losses[device].append(loss.item())
        np.testing.assert_allclose(losses["cuda"], losses["cpu"], rtol=1e-4)
        assert losses["cpu"][-1] != losses["cpu"][0]
    finally:
        tg.backends.cudnn.allow_tf32 = True

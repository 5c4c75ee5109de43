"""autocast: every listed operation gives the dtype that PyTorch gives, on the CPU's lists and on CUDA's; scopes nest; a
parameter is cast once; values are PyTorch's.

PyTorch's CUDA lists are asked through fake CUDA tensors, which need no device; here the CPU follows CUDA's lists."""

import warnings

import pytest

torch = pytest.importorskip("torch", reason="the judge: scripts/setup --torch")
tg = pytest.importorskip("tensorgrad")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

# name: (function of (library, tensors), shapes). A shape "i5" is an int64 tensor of class numbers.
CASES = {
    "linear": (lambda t, x, w, b: t.nn.functional.linear(x, w, b), [(3, 4), (5, 4), (5,)]),
    "matmul": (lambda t, a, b: a @ b, [(2, 3, 4), (4, 5)]),
    "mm": (lambda t, a, b: t.mm(a, b), [(3, 4), (4, 5)]),
    "bmm": (lambda t, a, b: t.bmm(a, b), [(2, 3, 4), (2, 4, 5)]),
    "mv": (lambda t, a, b: t.mv(a, b), [(3, 4), (4,)]),
    "addmm": (lambda t, c, a, b: t.addmm(c, a, b), [(3, 5), (3, 4), (4, 5)]),
    "baddbmm": (lambda t, c, a, b: t.baddbmm(c, a, b), [(2, 3, 5), (2, 3, 4), (2, 4, 5)]),
    "einsum": (lambda t, a, b: t.einsum("ij,kj->ik", a, b), [(3, 4), (5, 4)]),
    "einsum of one": (lambda t, a: t.einsum("ij->i", a), [(3, 4)]),
    "tensordot": (lambda t, a, b: t.tensordot(a, b, 1), [(3, 4), (4, 5)]),
    "conv1d": (lambda t, x, w: t.nn.functional.conv1d(x, w), [(2, 3, 8), (4, 3, 3)]),
    "conv2d": (lambda t, x, w: t.nn.functional.conv2d(x, w), [(2, 3, 8, 8), (4, 3, 3, 3)]),
    "conv_transpose2d": (lambda t, x, w: t.nn.functional.conv_transpose2d(x, w), [(2, 3, 4, 4), (3, 4, 3, 3)]),
    "prelu": (lambda t, x, w: t.nn.functional.prelu(x, w), [(2, 3, 4), (3,)]),
    "sdpa": (lambda t, q, k, v: t.nn.functional.scaled_dot_product_attention(q, k, v), [(2, 2, 4, 8)] * 3),
    "cross_entropy": (lambda t, x, y: t.nn.functional.cross_entropy(x, y), [(3, 5), "i5"]),
    "cross_entropy smooth": (
        lambda t, x, y: t.nn.functional.cross_entropy(x, y, label_smoothing=0.1),
        [(3, 5), "i5"],
    ),
    "nll_loss": (lambda t, x, y: t.nn.functional.nll_loss(x, y), [(3, 5), "i5"]),
    "mse_loss": (lambda t, a, b: t.nn.functional.mse_loss(a, b), [(3, 4)] * 2),
    "l1_loss": (lambda t, a, b: t.nn.functional.l1_loss(a, b), [(3, 4)] * 2),
    "smooth_l1_loss": (lambda t, a, b: t.nn.functional.smooth_l1_loss(a, b), [(3, 4)] * 2),
    "huber_loss": (lambda t, a, b: t.nn.functional.huber_loss(a, b), [(3, 4)] * 2),
    "kl_div": (lambda t, a, b: t.nn.functional.kl_div(a, b, reduction="sum"), [(3, 4)] * 2),
    "bce_with_logits": (lambda t, a, b: t.nn.functional.binary_cross_entropy_with_logits(a, b), [(3, 4)] * 2),
    "poisson_nll_loss": (lambda t, a, b: t.nn.functional.poisson_nll_loss(a, b), [(3, 4)] * 2),
    "soft_margin_loss": (lambda t, a, b: t.nn.functional.soft_margin_loss(a, b), [(3, 4)] * 2),
    "hinge_embedding_loss": (lambda t, a, b: t.nn.functional.hinge_embedding_loss(a, b), [(3, 4)] * 2),
    "margin_ranking_loss": (lambda t, a, b, y: t.nn.functional.margin_ranking_loss(a, b, y), [(3,)] * 3),
    "cosine_embedding_loss": (
        lambda t, a, b, y: t.nn.functional.cosine_embedding_loss(a, b, y),
        [(3, 4), (3, 4), (3,)],
    ),
    "triplet_margin_loss": (lambda t, a, b, c: t.nn.functional.triplet_margin_loss(a, b, c), [(3, 4)] * 3),
    "gaussian_nll_loss": (lambda t, a, b: t.nn.functional.gaussian_nll_loss(a, b, b * b + 1), [(3, 4)] * 2),
    "cosine_similarity": (lambda t, a, b: t.nn.functional.cosine_similarity(a, b), [(3, 4)] * 2),
    "pairwise_distance": (lambda t, a, b: t.nn.functional.pairwise_distance(a, b), [(3, 4)] * 2),
    "bilinear": (lambda t, a, b, w: t.nn.functional.bilinear(a, b, w), [(3, 4), (3, 5), (2, 4, 5)]),
    "normalize": (lambda t, x: t.nn.functional.normalize(x), [(3, 4)]),
    "softmax": (lambda t, x: t.softmax(x, -1), [(3, 4)]),
    "log_softmax": (lambda t, x: x.log_softmax(-1), [(3, 4)]),
    "softmin": (lambda t, x: t.nn.functional.softmin(x, -1), [(3, 4)]),
    "layer_norm": (lambda t, x, w, b: t.nn.functional.layer_norm(x, (4,), w, b), [(3, 4), (4,), (4,)]),
    "rms_norm": (lambda t, x, w: t.nn.functional.rms_norm(x, (4,), w), [(3, 4), (4,)]),
    "group_norm": (lambda t, x: t.nn.functional.group_norm(x, 2), [(3, 4, 5)]),
    "instance_norm": (lambda t, x: t.nn.functional.instance_norm(x), [(3, 4, 5)]),
    "gelu": (lambda t, x: t.nn.functional.gelu(x), [(3, 4)]),
    "silu": (lambda t, x: t.nn.functional.silu(x), [(3, 4)]),
    "softplus": (lambda t, x: t.nn.functional.softplus(x), [(3, 4)]),
    "logsigmoid": (lambda t, x: t.nn.functional.logsigmoid(x), [(3, 4)]),
    "dropout": (lambda t, x: t.nn.functional.dropout(x, 0.5), [(3, 4)]),
    "max_pool2d": (lambda t, x: t.nn.functional.max_pool2d(x, 2), [(1, 2, 4, 4)]),
    "avg_pool2d": (lambda t, x: t.nn.functional.avg_pool2d(x, 2), [(1, 2, 4, 4)]),
    "embedding": (lambda t, w, i: t.nn.functional.embedding(i, w), [(5, 4), "i5"]),
    "sum": (lambda t, x: x.sum(), [(3, 4)]),
    "sum of dim": (lambda t, x: x.sum(0), [(3, 4)]),
    "mean": (lambda t, x: x.mean(), [(3, 4)]),
    "prod": (lambda t, x: x.prod(), [(3, 4)]),
    "prod of dim": (lambda t, x: x.prod(0), [(3, 4)]),
    "cumsum": (lambda t, x: x.cumsum(0), [(3, 4)]),
    "cumprod": (lambda t, x: x.cumprod(0), [(3, 4)]),
    "logsumexp": (lambda t, x: t.logsumexp(x, 0), [(3, 4)]),
    "norm": (lambda t, x: x.norm(), [(3, 4)]),
    "norm of dim": (lambda t, x: x.norm(2, 0), [(3, 4)]),
    "var": (lambda t, x: x.var(), [(3, 4)]),
    "std": (lambda t, x: x.std(0), [(3, 4)]),
    "amax": (lambda t, x: x.amax(0), [(3, 4)]),
    "pow": (lambda t, x: x**3, [(3, 4)]),
    "pow of tensor": (lambda t, a, b: a**b, [(3, 4)] * 2),
    "pow of number": (lambda t, x: 2**x, [(3, 4)]),
    "square": (lambda t, x: x.square(), [(3, 4)]),
    "number / tensor": (lambda t, x: 1 / x, [(3, 4)]),
    "tensor / number": (lambda t, x: x / 2, [(3, 4)]),
    "add": (lambda t, a, b: a + b, [(3, 4)] * 2),
    "mul": (lambda t, a, b: a * b, [(3, 4)] * 2),
    "addcmul": (lambda t, a, b, c: t.addcmul(a, b, c), [(3, 4)] * 3),
    "addcdiv": (lambda t, a, b, c: t.addcdiv(a, b, c), [(3, 4)] * 3),
    "atan2": (lambda t, a, b: t.atan2(a, b), [(3, 4)] * 2),
    "dot": (lambda t, a, b: t.dot(a, b), [(4,)] * 2),
    "cat": (lambda t, a, b: t.cat([a, b]), [(3, 4)] * 2),
    "stack": (lambda t, a, b: t.stack([a, b]), [(3, 4)] * 2),
    "scatter_add": (lambda t, x, i, s: x.scatter_add(0, i, s), [(5,), "i5", (3,)]),
    "where": (lambda t, a, b: t.where(a > 0, a, b), [(3, 4)] * 2),
}
for _name in (
    "exp exp2 expm1 log log2 log10 log1p reciprocal rsqrt sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh "
    "atanh erf erfc erfinv sigmoid relu abs neg floor round sign square"
).split():
    CASES[_name] = (lambda t, x, f=_name: getattr(t, f)(x), [(3, 4)])


def name_of(dtype):
    return str(dtype).rpartition(".")[2]


def arguments(lib, shapes, dtypes, device):
    made, n = [], 0
    for shape in shapes:
        if shape == "i5":
            made.append(lib.tensor([0, 2, 1], device=device))
            continue
        dtype = getattr(lib, dtypes[n % len(dtypes)])
        n += 1
        made.append((lib.ones(shape, device=device) * 0.5).to(dtype))
    return made


def outcome(lib, function, shapes, dtypes, device):
    try:
        return name_of(function(lib, *arguments(lib, shapes, dtypes, device)).dtype)
    except (RuntimeError, ValueError, TypeError):
        return "refused"


DTYPES = [["float32"], ["bfloat16"], ["float32", "bfloat16"], ["bfloat16", "float32"], ["float64"]]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtypes", DTYPES, ids=lambda d: "-".join(d))
def test_dtype_on_the_cpu(name, dtypes):
    function, shapes = CASES[name]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = outcome(torch, function, shapes, dtypes, "cpu")
    with tg.autocast("cpu", dtype=tg.bfloat16):
        actual = outcome(tg, function, shapes, dtypes, "cpu")
    if expected == "refused":  # mixed dtypes that PyTorch does not take
        return
    assert actual == expected


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtypes", DTYPES, ids=lambda d: "-".join(d))
def test_dtype_on_cuda(name, dtypes):
    function, shapes = CASES[name]
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    try:
        with FakeTensorMode():
            expected = outcome(torch, function, shapes, dtypes, "cuda")
    finally:
        torch.set_autocast_enabled("cuda", False)
    tg._C._autocast_lists_of_cuda(True)
    try:
        with tg.autocast("cpu", dtype=tg.bfloat16):
            actual = outcome(tg, function, shapes, dtypes, "cpu")
    finally:
        tg._C._autocast_lists_of_cuda(False)
    if expected == "refused":
        return
    assert actual == expected


def test_binary_cross_entropy_is_refused_on_cuda_and_float32_on_the_cpu():
    p = tg.full((3,), 0.5).bfloat16()
    with tg.autocast("cpu"):
        assert tg.nn.functional.binary_cross_entropy(p, p).dtype is tg.float32
        tg._C._autocast_lists_of_cuda(True)
        try:
            with pytest.raises(RuntimeError, match="with_logits"):
                tg.nn.functional.binary_cross_entropy(p, p)
        finally:
            tg._C._autocast_lists_of_cuda(False)


def model(lib):
    nn = lib.nn
    return nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.LayerNorm(32), nn.Linear(32, 5))


def test_training_steps_match_torch():
    theirs, ours = model(torch), model(tg)
    torch.manual_seed(3)
    for p, q in zip(theirs.parameters(), ours.parameters()):
        q.data.copy_(tg.from_numpy(p.detach().numpy()))
    x, y = torch.randn(16, 12), torch.randint(0, 5, (16,))
    results = []
    for lib, net, inputs in ((torch, theirs, (x, y)), (tg, ours, (tg.from_numpy(x.numpy()), tg.from_numpy(y.numpy())))):
        optimizer = lib.optim.AdamW(net.parameters(), lr=1e-2)
        losses = []
        for _ in range(8):
            optimizer.zero_grad()
            with lib.autocast("cpu", dtype=lib.bfloat16):
                logits = net(inputs[0])
                loss = lib.nn.functional.cross_entropy(logits, inputs[1])
            assert name_of(logits.dtype) == "bfloat16" and name_of(loss.dtype) == "float32"
            loss.backward()
            assert all(name_of(p.grad.dtype) == "float32" for p in net.parameters())
            optimizer.step()
            losses.append(loss.item())
        results.append(losses)
    assert results[1] == pytest.approx(results[0], rel=2e-2)
    assert results[1][-1] < 0.7 * results[1][0]


def test_scopes_nest_and_restore():
    a = tg.randn(3, 3)
    assert not tg.is_autocast_enabled("cpu")
    with tg.autocast("cpu", dtype=tg.float16):
        assert tg.is_autocast_enabled("cpu") and tg.get_autocast_dtype("cpu") is tg.float16
        assert (a @ a).dtype is tg.float16
        with tg.amp.autocast("cpu", dtype=tg.bfloat16):
            assert (a @ a).dtype is tg.bfloat16
            with tg.autocast("cpu", enabled=False):
                assert (a @ a).dtype is tg.float32
            assert (a @ a).dtype is tg.bfloat16
        assert (a @ a).dtype is tg.float16
        with pytest.raises(ZeroDivisionError), tg.autocast("cpu", enabled=False):
            raise ZeroDivisionError
        assert (a @ a).dtype is tg.float16
    assert (a @ a).dtype is tg.float32 and tg.get_autocast_dtype("cpu") is tg.bfloat16


def test_decorator():
    @tg.autocast("cpu", dtype=tg.bfloat16)
    def product(a):
        return a @ a

    assert product(tg.randn(3, 3)).dtype is tg.bfloat16
    assert not tg.is_autocast_enabled("cpu")


def test_a_parameter_is_cast_once_and_gets_the_whole_gradient():
    w = tg.randn(4, 4, requires_grad=True)
    x = tg.randn(3, 4)
    with tg.autocast("cpu", dtype=tg.bfloat16):
        first = tg.nn.functional.linear(x, w)
        second = tg.nn.functional.linear(x, w)
        casts = {y.grad_fn.next_functions[0][0] or y.grad_fn.next_functions[1][0] for y in (first, second)}
        assert {c.name() for c in casts} == {"ToCopyBackward0"} and len({id(c) for c in casts}) <= 2
        (first + second).float().sum().backward()
        w.data.mul_(2)  # changed: cast again
        third = tg.nn.functional.linear(x, w)
    assert tg.allclose(third.float(), 2 * first.float(), rtol=1e-2, atol=1e-2)
    expected = 2 * x.bfloat16().float().sum(0).expand(4, 4)
    assert tg.allclose(w.grad, expected, rtol=2e-2, atol=2e-2)


def test_a_cast_without_history_is_not_used_where_gradients_are_recorded():
    w, x = tg.randn(4, 4, requires_grad=True), tg.randn(3, 4)
    with tg.autocast("cpu", dtype=tg.bfloat16):
        with tg.no_grad():
            tg.nn.functional.linear(x, w)
        tg.nn.functional.linear(x, w).float().sum().backward()
    assert w.grad is not None


@pytest.mark.parametrize("cache", [True, False])
def test_cache_setting(cache):
    with tg.autocast("cpu", cache_enabled=cache):
        assert tg.is_autocast_cache_enabled() is cache
    assert tg.is_autocast_cache_enabled()


def test_backward_inside_of_the_scope_keeps_the_forwards_dtypes():
    x = tg.randn(5, 5, requires_grad=True)
    with tg.autocast("cpu", dtype=tg.bfloat16):
        y = (x * x).exp().sum()
        y.backward()
    assert tg.allclose(x.grad, (2 * x * (x * x).exp()).detach(), rtol=1e-5)


@pytest.mark.parametrize("cast", [None, "float32"])
def test_custom_function(cast):
    seen = []

    class Product(tg.autograd.Function):
        @staticmethod
        @tg.amp.custom_fwd(device_type="cpu", cast_inputs=None if cast is None else getattr(tg, cast))
        def forward(ctx, a, b):
            ctx.save_for_backward(a, b)
            seen.append((a.dtype, tg.is_autocast_enabled("cpu")))
            return a @ b

        @staticmethod
        @tg.amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            seen.append(tg.is_autocast_enabled("cpu"))
            return g @ b.t(), a.t() @ g

    a, b = tg.randn(3, 3, requires_grad=True), tg.randn(3, 3, requires_grad=True)
    with tg.autocast("cpu", dtype=tg.bfloat16):
        y = Product.apply(a, b)
    y.float().sum().backward()
    assert y.dtype is (tg.bfloat16 if cast is None else tg.float32)
    assert seen == ([(tg.float32, True), True] if cast is None else [(tg.float32, False), False])
    assert a.grad.dtype is tg.float32


def test_wrong_arguments():
    with pytest.raises(RuntimeError, match="device_type"):
        tg.autocast("tpu")
    with pytest.raises(ValueError):
        tg.autocast(3)
    with pytest.warns(UserWarning, match="casts nothing"):
        scope = tg.autocast("cpu", dtype=tg.int32)
    with scope:
        assert not tg.is_autocast_enabled("cpu")


@pytest.mark.skipif(tg.cuda.is_available(), reason="there is a device")
def test_without_a_device_cuda_scopes_do_nothing():
    with pytest.warns(UserWarning, match="CUDA is not available"):
        scope = tg.cuda.amp.autocast()
    with scope:
        assert not tg.is_autocast_enabled("cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tg.cuda.amp.autocast(enabled=False)

"""nn against torch.nn: printing, registration, state dicts, hooks, outputs and gradients with the same weights."""

import collections
import copy

import numpy as np
import pytest
import tensorgrad as tg

torch = pytest.importorskip("torch")

# Made the same way in both libraries; with an input's shape, the outputs and gradients are compared too.
MODULES = [
    (lambda nn: nn.Linear(4, 3), (2, 4)),
    (lambda nn: nn.Linear(4, 3, bias=False), (2, 5, 4)),
    (lambda nn: nn.Conv1d(2, 4, 3, padding=1), (2, 2, 7)),
    (lambda nn: nn.Conv2d(3, 6, 3, stride=2, padding=1), (2, 3, 8, 8)),
    (lambda nn: nn.Conv2d(4, 4, (3, 1), padding="same", groups=2, bias=False), (2, 4, 6, 5)),
    (lambda nn: nn.Conv2d(4, 8, 3, dilation=2, padding=2, padding_mode="reflect"), (1, 4, 9, 9)),
    (lambda nn: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), (1, 2, 5, 5)),
    (lambda nn: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), (2, 3, 5, 5)),
    (lambda nn: nn.ConvTranspose1d(3, 4, 3, stride=2), (2, 3, 5)),
    (lambda nn: nn.BatchNorm1d(4), (6, 4)),
    (lambda nn: nn.BatchNorm2d(3, momentum=0.3), (4, 3, 5, 5)),
    (lambda nn: nn.BatchNorm2d(3, affine=False, track_running_stats=False), (4, 3, 5, 5)),
    (lambda nn: nn.LayerNorm(5), (3, 5)),
    (lambda nn: nn.LayerNorm((4, 5), bias=False), (3, 4, 5)),
    (lambda nn: nn.RMSNorm(5), (3, 5)),
    (lambda nn: nn.GroupNorm(2, 4), (3, 4, 5)),
    (lambda nn: nn.InstanceNorm2d(3, affine=True), (2, 3, 4, 4)),
    (lambda nn: nn.LocalResponseNorm(2), (2, 4, 5, 5)),
    (lambda nn: nn.Dropout(0.3).eval(), (3, 4)),
    (lambda nn: nn.Dropout2d(0.3).eval(), (3, 4, 2, 2)),
    (lambda nn: nn.Flatten(), (2, 3, 4)),
    (lambda nn: nn.Unflatten(1, (2, 3)), (2, 6)),
    (lambda nn: nn.Identity(3, key=1), (2, 3)),
    (lambda nn: nn.ReLU(), (3, 4)),
    (lambda nn: nn.ReLU6(), (3, 4)),
    (lambda nn: nn.LeakyReLU(0.2), (3, 4)),
    (lambda nn: nn.ELU(), (3, 4)),
    (lambda nn: nn.CELU(1.5), (3, 4)),
    (lambda nn: nn.SELU(), (3, 4)),
    (lambda nn: nn.GELU(), (3, 4)),
    (lambda nn: nn.GELU(approximate="tanh"), (3, 4)),
    (lambda nn: nn.SiLU(), (3, 4)),
    (lambda nn: nn.Mish(), (3, 4)),
    (lambda nn: nn.Sigmoid(), (3, 4)),
    (lambda nn: nn.LogSigmoid(), (3, 4)),
    (lambda nn: nn.Tanh(), (3, 4)),
    (lambda nn: nn.Softplus(), (3, 4)),
    (lambda nn: nn.Softsign(), (3, 4)),
    (lambda nn: nn.Tanhshrink(), (3, 4)),
    (lambda nn: nn.Hardshrink(), (3, 4)),
    (lambda nn: nn.Softshrink(), (3, 4)),
    (lambda nn: nn.Hardtanh(), (3, 4)),
    (lambda nn: nn.Hardsigmoid(), (3, 4)),
    (lambda nn: nn.Hardswish(), (3, 4)),
    (lambda nn: nn.Threshold(0.1, 20), (3, 4)),
    (lambda nn: nn.GLU(), (3, 4)),
    (lambda nn: nn.PReLU(), (3, 4)),
    (lambda nn: nn.Softmax(dim=1), (3, 4)),
    (lambda nn: nn.LogSoftmax(dim=-1), (3, 4)),
    (lambda nn: nn.Softmin(dim=0), (3, 4)),
    (lambda nn: nn.MaxPool1d(2), (2, 3, 8)),
    (lambda nn: nn.MaxPool2d(2), (2, 3, 8, 8)),
    (lambda nn: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), (2, 3, 8, 8)),
    (lambda nn: nn.AvgPool1d(2), (2, 3, 8)),
    (lambda nn: nn.AvgPool2d((2, 1), padding=(1, 0), count_include_pad=False), (2, 3, 8, 8)),
    (lambda nn: nn.AdaptiveAvgPool2d((1, 1)), (2, 3, 8, 8)),
    (lambda nn: nn.AdaptiveAvgPool2d((None, 3)), (2, 3, 5, 7)),
    (lambda nn: nn.AdaptiveAvgPool1d(3), (2, 3, 8)),
    (lambda nn: nn.AdaptiveMaxPool2d(3), (2, 3, 8, 8)),
    (lambda nn: nn.ZeroPad2d(2), (1, 2, 3, 3)),
    (lambda nn: nn.ConstantPad2d((1, 0, 2, 1), 3.5), (1, 2, 3, 3)),
    (lambda nn: nn.ReflectionPad2d(1), (1, 2, 3, 3)),
    (lambda nn: nn.ReplicationPad2d(1), (1, 2, 3, 3)),
    (lambda nn: nn.PixelShuffle(2), (1, 8, 3, 3)),
    (lambda nn: nn.Upsample(scale_factor=2), (1, 2, 3, 3)),
    (lambda nn: nn.Upsample(size=(5, 7), mode="bilinear", align_corners=True), (1, 2, 3, 3)),
    (lambda nn: nn.Upsample(scale_factor=2, mode="bilinear"), (1, 2, 3, 3)),
    (lambda nn: nn.Unfold(2, padding=1), (1, 2, 4, 4)),
    (lambda nn: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Linear(8, 2))), (3, 4)),
    (lambda nn: nn.Sequential(collections.OrderedDict(a=nn.Linear(4, 8), b=nn.Tanh())), (3, 4)),
    (lambda nn: nn.Sequential(), (2, 3)),
    (lambda nn: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), (2, 5, 8)),
    (lambda nn: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, 0.0, norm_first=True), 2), (5, 2, 8)),
    (lambda nn: nn.Embedding(10, 3, padding_idx=0), None),
    (lambda nn: nn.MultiheadAttention(8, 2), None),
    (lambda nn: nn.MultiheadAttention(8, 2, kdim=4, vdim=6, bias=False), None),
    (lambda nn: nn.ModuleList([nn.Linear(2, 2) for _ in range(3)] + [nn.ReLU()]), None),
    (lambda nn: nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.ReLU(inplace=True)}), None),
    (lambda nn: nn.Bilinear(2, 3, 4), None),
    (lambda nn: nn.TransformerDecoderLayer(8, 2, 16), None),
    (lambda nn: nn.CrossEntropyLoss(), None),
    (lambda nn: nn.MSELoss(reduction="sum"), None),
    (lambda nn: nn.NLLLoss(), None),
    (lambda nn: nn.CosineSimilarity(), None),
]


def numbers(t):
    return np.array(t.detach().tolist())


def close(mine, theirs, tolerance=2e-5):
    assert list(mine.shape) == list(theirs.shape)
    np.testing.assert_allclose(numbers(mine), numbers(theirs), rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("make, shape", MODULES, ids=range(len(MODULES)))
def test_module_is_torchs(make, shape):
    mine, theirs = make(tg.nn), make(torch.nn)
    assert repr(mine) == repr(theirs)
    assert {k: list(v.shape) for k, v in mine.state_dict().items()} == {
        k: list(v.shape) for k, v in theirs.state_dict().items()
    }
    assert [n for n, _ in mine.named_modules()] == [n for n, _ in theirs.named_modules()]
    assert [n for n, _ in mine.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    if shape is None:
        return
    tg.init_from_torch(mine, theirs)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(shape, generator=generator)
    a, b = tg.from_numpy(x.numpy().copy()).requires_grad_(), x.clone().requires_grad_()
    out_a, out_b = mine(a), theirs(b)
    close(out_a, out_b)
    up = torch.randn(out_b.shape, generator=generator)
    out_a.backward(tg.from_numpy(up.numpy())), out_b.backward(up)
    close(a.grad, b.grad, 1e-4)
    for (name, p), (_, q) in zip(mine.named_parameters(), theirs.named_parameters()):
        if q.grad is not None:
            close(p.grad, q.grad, 5e-4), name
    for p, q in zip(mine.buffers(), theirs.buffers()):
        close(p, q)


ATTENTION = [
    dict(need_weights=True),
    dict(need_weights=False),
    dict(need_weights=True, average_attn_weights=False),
    dict(mask="float"),
    dict(mask="bool"),
    dict(padding="bool"),
    dict(padding="float", mask="float"),
    dict(mask="heads"),
    dict(cross=True),
    dict(batch_first=True),
    dict(batch_first=True, padding="bool", need_weights=False),
    dict(unbatched=True),
    dict(add_bias_kv=True),
    dict(add_zero_attn=True, need_weights=False),
    dict(kdim=5, vdim=7, cross=True),
    dict(bias=False),
    dict(causal=True, need_weights=False),
]


@pytest.mark.parametrize("case", ATTENTION, ids=range(len(ATTENTION)))
def test_multihead_attention(case):
    case = dict(case)
    made = {k: case[k] for k in ("batch_first", "add_bias_kv", "add_zero_attn", "kdim", "vdim", "bias") if k in case}
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(8, 2, **made)
    for p in theirs.parameters():
        torch.nn.init.normal_(p, std=0.4)
    mine = tg.init_from_torch(tg.nn.MultiheadAttention(8, 2, **made), theirs)
    L, S, N = 5, 6 if case.get("cross") else 5, 3
    query = torch.randn(L, N, 8)
    key = torch.randn(S, N, made.get("kdim", 8)) if case.get("cross") else query
    value = torch.randn(S, N, made.get("vdim", 8)) if case.get("cross") else query
    if made.get("batch_first"):
        query, key, value = (t.transpose(0, 1).contiguous() for t in (query, key, value))
    if case.get("unbatched"):
        query, key, value = query[:, 0].contiguous(), key[:, 0].contiguous(), value[:, 0].contiguous()
    masks = {"float": torch.randn(L, S), "bool": torch.eye(L, S).bool(), "heads": torch.randn(N * 2, L, S)}
    keywords = {k: case[k] for k in ("need_weights", "average_attn_weights") if k in case}
    if "mask" in case:
        keywords["attn_mask"] = masks[case["mask"]]
    if case.get("causal"):
        keywords["attn_mask"] = torch.nn.Transformer.generate_square_subsequent_mask(L)
        keywords["is_causal"] = True
    if "padding" in case:
        hidden = torch.zeros(N, S, dtype=torch.bool)
        hidden[1, -2:] = True
        keywords["key_padding_mask"] = hidden if case["padding"] == "bool" else hidden * -3.0

    def mine_of(t):
        return tg.from_numpy(t.numpy().copy()) if isinstance(t, torch.Tensor) else t

    q, k, v = (t.clone().requires_grad_() for t in (query, key, value))
    a, b, c = (mine_of(t).requires_grad_() for t in (query, key, value))
    out_t, weights_t = theirs(q, k, v, **keywords)
    out_m, weights_m = mine(a, b, c, **{name: mine_of(t) for name, t in keywords.items()})
    close(out_m, out_t)
    assert (weights_m is None) == (weights_t is None)
    if weights_t is not None:
        close(weights_m, weights_t)
    up = torch.randn(out_t.shape)
    out_t.backward(up), out_m.backward(mine_of(up))
    for x, y in ((a, q), (b, k), (c, v)):
        close(x.grad, y.grad, 1e-4)
    for p, r in zip(mine.parameters(), theirs.parameters()):
        close(p.grad, r.grad, 5e-4)


def test_embedding():
    theirs = torch.nn.Embedding(10, 3, padding_idx=2)
    mine = tg.init_from_torch(tg.nn.Embedding(10, 3, padding_idx=2), theirs)
    index = [[1, 2, 4], [1, 9, 2]]
    a, b = mine(tg.tensor(index)), theirs(torch.tensor(index))
    close(a, b)
    a.sum().backward(), b.sum().backward()
    close(mine.weight.grad, theirs.weight.grad)
    assert tg.nn.Embedding.from_pretrained(tg.ones(2, 3)).weight.requires_grad is False


LOSSES = [
    lambda F, x, y: F.mse_loss(x, y),
    lambda F, x, y: F.l1_loss(x, y, reduction="sum"),
    lambda F, x, y: F.smooth_l1_loss(x, y, beta=0.5),
    lambda F, x, y: F.huber_loss(x, y, reduction="none", delta=0.7),
    lambda F, x, y: F.binary_cross_entropy(x.sigmoid(), y.sigmoid()),
    lambda F, x, y: F.binary_cross_entropy_with_logits(x, y.sigmoid(), pos_weight=y.sigmoid() + 1),
    lambda F, x, y: F.kl_div(x.log_softmax(1), y.softmax(1), reduction="batchmean"),
    lambda F, x, y: F.kl_div(x.log_softmax(1), y.log_softmax(1), log_target=True, reduction="sum"),
    lambda F, x, y: F.cross_entropy(x, y.softmax(1)),
    lambda F, x, y: F.cross_entropy(x, y.argmax(1), label_smoothing=0.1),
    lambda F, x, y: F.cross_entropy(x, y.argmax(1), weight=y.sigmoid()[0], reduction="sum"),
    lambda F, x, y: F.nll_loss(x.log_softmax(1), y.argmax(1), ignore_index=1),
    lambda F, x, y: F.poisson_nll_loss(x, y.exp(), full=True),
    lambda F, x, y: F.gaussian_nll_loss(x, y, y.exp(), full=True),
    lambda F, x, y: F.soft_margin_loss(x, y.sign()),
    lambda F, x, y: F.hinge_embedding_loss(x, y.sign()),
    lambda F, x, y: F.margin_ranking_loss(x, x * 2, y.sign(), margin=0.3),
    lambda F, x, y: F.cosine_embedding_loss(x, y, y[:, 0].sign(), margin=0.1),
    lambda F, x, y: F.triplet_margin_loss(x, y, y.flip(0), swap=True),
    lambda F, x, y: F.cosine_similarity(x, y),
    lambda F, x, y: F.pairwise_distance(x, y),
    lambda F, x, y: F.normalize(x),
    lambda F, x, y: F.softmax(x, 1) + F.gelu(y),
    lambda F, x, y: F.pad(x, (1, 2, 0, 1), value=2.0),
    lambda F, x, y: F.scaled_dot_product_attention(x, y, y, is_causal=True),
    lambda F, x, y: F.layer_norm(x, (3,)) + F.rms_norm(y, (3,)),
    lambda F, x, y: F.one_hot(y.argmax(1), 4) * x.sum(),
]


@pytest.mark.parametrize("loss", LOSSES, ids=range(len(LOSSES)))
def test_functional(loss):
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    a, b = tg.from_numpy(x.numpy().copy()).requires_grad_(), x.clone().requires_grad_()
    mine, theirs = loss(tg.nn.functional, a, tg.from_numpy(y.numpy())), loss(torch.nn.functional, b, y)
    close(mine, theirs)
    mine.sum().backward(), theirs.sum().backward()
    close(a.grad, b.grad)


class Net(tg.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = tg.nn.Linear(3, 4)
        self.scale = tg.nn.Parameter(tg.ones(4))
        self.register_buffer("count", tg.zeros(1))
        self.register_buffer("scratch", tg.zeros(2), persistent=False)
        self.state = tg.nn.Buffer(tg.ones(2))
        self.note = "plain"

    def forward(self, x):
        return self.first(x) * self.scale


def test_registration():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == ["scale", "first.weight", "first.bias"]
    assert [n for n, _ in net.named_buffers()] == ["count", "scratch", "state"]
    assert list(net.state_dict()) == ["scale", "count", "state", "first.weight", "first.bias"]
    assert list(net.children()) == [net.first] and net.get_submodule("first") is net.first
    assert net.get_parameter("first.weight") is net.first.weight
    net.first = tg.nn.Identity()
    assert [n for n, _ in net.named_parameters()] == ["scale"]
    del net.scale
    assert not list(net.parameters())
    with pytest.raises(AttributeError):
        net.scale  # noqa: B018
    with pytest.raises(TypeError):
        net.first = 3
    with pytest.raises(KeyError):
        net.register_buffer("note", tg.ones(1))
    with pytest.raises(KeyError):
        net.add_module("a.b", tg.nn.Identity())

    class Early(tg.nn.Module):
        def __init__(self):
            self.layer = tg.nn.Linear(1, 1)

    with pytest.raises(AttributeError, match="before Module.__init__"):
        Early()


def test_shared_parameters_are_listed_once():
    a, b = tg.nn.Linear(2, 2), tg.nn.Linear(2, 2)
    b.weight = a.weight
    both = tg.nn.Sequential(a, b)
    assert len(list(both.parameters())) == 3
    assert len(both.state_dict()) == 4
    assert len(list(both.named_parameters(remove_duplicate=False))) == 4


def test_load_state_dict_names_what_does_not_fit():
    mine, theirs = tg.nn.Sequential(tg.nn.Linear(2, 3)), torch.nn.Sequential(torch.nn.Linear(2, 3))

    def message(module, library, state):
        with pytest.raises(RuntimeError) as caught:
            module.load_state_dict(state(library))
        return str(caught.value)

    for state in (
        lambda t: {"0.weight": t.ones(3, 2)},
        lambda t: {"0.weight": t.ones(2, 2), "0.bias": t.ones(3), "x": t.ones(1)},
        lambda t: {},
        lambda t: {"0.weight": t.ones(3, 2), "0.bias": 3},
    ):
        text = message(theirs, torch, state).replace("<class 'torch.Tensor'>", "")
        assert message(mine, tg, state) == text
    result = mine.load_state_dict({"0.weight": tg.ones(3, 2), "extra": tg.ones(1)}, strict=False)
    assert result.missing_keys == ["0.bias"] and result.unexpected_keys == ["extra"]
    assert mine[0].weight.tolist() == [[1, 1]] * 3
    assert repr(mine.load_state_dict(mine.state_dict())) == "<All keys matched successfully>"
    with pytest.raises(TypeError):
        mine.load_state_dict(3)


def test_state_dict_shares_memory_and_load_copies():
    net = Net()
    state = net.state_dict()
    state["scale"][0] = 9
    assert net.scale[0].item() == 9 and not state["scale"].requires_grad
    other = Net()
    parameter = other.scale
    other.load_state_dict(state)
    assert other.scale is parameter and parameter[0].item() == 9


def test_hooks():
    calls = []
    net = tg.nn.Linear(2, 2)
    handles = [
        net.register_forward_pre_hook(lambda m, args: calls.append("pre")),
        net.register_forward_hook(lambda m, args, out: calls.append("post")),
        net.register_forward_hook(lambda m, args, out: out * 2),
        net.register_full_backward_hook(lambda m, gi, go: calls.append((gi[0].shape, go[0].shape))),
    ]
    x = tg.ones(3, 2, requires_grad=True)
    out = net(x)
    assert calls == ["pre", "post"]
    out.sum().backward()
    assert calls[2] == ((3, 2), (3, 2))
    for handle in handles:
        handle.remove()
    calls.clear()
    assert not calls and np.allclose(numbers(net(x)) * 2, numbers(out))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", ["ReLU()", "GELU()", "GELU(approximate='tanh')", "ReLU(inplace=True)"])
def test_linear_and_activation_in_one_product(activation, training):
    def make(nn):
        body = [
            nn.Linear(7, 65),
            eval(f"nn.{activation}"),
            nn.Linear(65, 5),
            nn.Linear(5, 33),
            eval(f"nn.{activation}"),
        ]
        return nn.Sequential(*body)

    mine, theirs = make(tg.nn), make(torch.nn)
    tg.init_from_torch(mine, theirs)
    x = torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(2))
    a, b = tg.from_numpy(x.numpy().copy()).requires_grad_(training), x.clone().requires_grad_(training)
    with tg.set_grad_enabled(training), torch.set_grad_enabled(training):
        out_a, out_b = mine(a), theirs(b)
    close(out_a, out_b)
    if training:
        out_a.sum().backward(), out_b.sum().backward()
        close(a.grad, b.grad)
        for p, q in zip(mine.parameters(), theirs.parameters(), strict=True):
            close(p.grad, q.grad, 1e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_transformer_layer_without_gradients(activation):
    mine, theirs = (nn.TransformerEncoderLayer(8, 2, 16, 0.0, activation, batch_first=True) for nn in (tg.nn, torch.nn))
    tg.init_from_torch(mine, theirs)
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(3))
    with tg.no_grad(), torch.no_grad():
        close(mine(tg.from_numpy(x.numpy())), theirs(x))


def test_modules_with_hooks_or_their_own_forward_are_called_one_by_one():
    net = tg.nn.Sequential(tg.nn.Linear(2, 2), tg.nn.ReLU())
    x = tg.randn(3, 2)
    want = numbers(net(x))
    seen = []
    for module in net:
        handle = module.register_forward_hook(lambda m, args, out: seen.append((type(m).__name__, out.shape)))
        assert np.allclose(numbers(net(x)), want) and seen.pop() == (type(module).__name__, (3, 2)) and not seen
        handle.remove()
    net[1].forward = lambda input: input - 1
    assert np.allclose(numbers(net(x)), numbers(net[0](x)) - 1)
    net[1] = type("Own", (tg.nn.ReLU,), {"forward": lambda self, input: input * 3})()
    assert np.allclose(numbers(net(x)), numbers(net[0](x)) * 3)


def test_modes_dtypes_and_copies():
    net = tg.nn.Sequential(tg.nn.Linear(2, 2), tg.nn.Dropout(), tg.nn.BatchNorm1d(2))
    assert net.training and not net.eval().training and not net[1].training
    weight = net[0].weight
    net.double()
    assert net[0].weight is weight and weight.dtype is tg.float64 and net[2].num_batches_tracked.dtype is tg.int64
    net.to(tg.float32).to("cpu").to(device="cpu", dtype=tg.float64).float()
    assert weight.dtype is tg.float32
    twin = copy.deepcopy(net)
    assert twin[0].weight is not weight and twin[0].weight.tolist() == weight.tolist()
    twin.requires_grad_(False)
    assert not any(p.requires_grad for p in twin.parameters())
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Dropout", "BatchNorm1d", "Sequential"]


def test_containers():
    layers = tg.nn.ModuleList([tg.nn.Linear(1, 1), tg.nn.ReLU()])
    layers.append(tg.nn.Tanh())
    layers.insert(0, tg.nn.Identity())
    assert len(layers) == 4 and isinstance(layers[-1], tg.nn.Tanh) and len(layers[1:3]) == 2
    with pytest.raises(IndexError):
        layers[4]
    named = tg.nn.ModuleDict({"a": tg.nn.Identity()})
    named["b"] = tg.nn.ReLU()
    assert list(named) == ["a", "b"] and "a" in named
    values = tg.nn.ParameterList([tg.ones(2), tg.nn.Parameter(tg.zeros(1))])
    assert len(list(values.parameters())) == 2
    mapping = tg.nn.ParameterDict({"x": tg.ones(2)})
    assert [n for n, _ in mapping.named_parameters()] == ["x"]
    chain = tg.nn.Sequential(tg.nn.Identity(), tg.nn.ReLU())
    del chain[0]
    assert list(chain._modules) == ["0"]


def test_default_initialisation_is_seeded_and_in_bounds():
    def weights():
        tg.manual_seed(5)
        return [p.tolist() for p in tg.nn.Sequential(tg.nn.Linear(16, 8), tg.nn.Conv2d(2, 3, 3)).parameters()]

    assert weights() == weights()
    layer = tg.nn.Linear(100, 50)
    assert layer.weight.abs().max().item() <= 0.1 and layer.bias.abs().max().item() <= 0.1
    assert layer.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)


INITS = [
    "uniform_",
    "normal_",
    "ones_",
    "zeros_",
    "xavier_uniform_",
    "xavier_normal_",
    "kaiming_uniform_",
    "kaiming_normal_",
    "trunc_normal_",
    "orthogonal_",
    "eye_",
]


@pytest.mark.parametrize("name", INITS)
def test_init(name):
    tg.manual_seed(1), torch.manual_seed(1)  # means of 20000 numbers: two draws in twenty would differ by more
    mine, theirs = tg.empty(200, 100), torch.empty(200, 100)
    assert getattr(tg.nn.init, name)(mine) is mine
    getattr(torch.nn.init, name)(theirs)
    assert mine.mean().item() == pytest.approx(theirs.mean().item(), abs=0.02)
    assert mine.std().item() == pytest.approx(theirs.std().item(), rel=0.05, abs=1e-6)


def attribute_cases(lib):
    """What attribute access on modules gives: values by name, or the error's text."""
    nn = lib.nn

    class Own(nn.Module):  # a __getattr__ that falls back on Module's
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(lib.ones(2))
            self.layer = nn.Linear(2, 3, bias=False)
            self.register_buffer("count", lib.zeros(1))
            self.register_buffer("nothing", None)

        def __getattr__(self, name):
            return 42 if name == "magic" else super().__getattr__(name)

    class Plain(nn.Module):
        @property
        def broken(self):
            return self.missing

    class All(nn.Linear):
        def __getattribute__(self, name):
            return "every" if name == "any" else super().__getattribute__(name)

    own, plain, late, every = Own(), Plain(), type("Late", (Plain,), {})(), All(2, 3)
    type(late).__getattr__ = lambda self, name: f"late {name}"
    plain.layer = nn.Linear(2, 2)
    plain.layer.extra = 7
    swapped = nn.Linear(2, 2)
    swapped._parameters = collections.OrderedDict(weight="other")
    shadowed = nn.Linear(2, 2)
    shadowed.__dict__["weight"] = "in front"
    empty = Plain.__new__(Plain)  # no __init__: none of the dicts
    found = []
    for module, names in [
        (own, ["magic", "scale", "count", "nothing", "layer", "absent"]),
        (plain, ["broken", "absent", "layer", "training"]),
        (plain.layer, ["weight", "bias", "extra", "in_features"]),
        (late, ["absent", "training"]),
        (every, ["any", "weight", "absent"]),
        (swapped, ["weight", "bias"]),
        (shadowed, ["weight", "bias"]),
        (empty, ["weight", "forward"]),
        (copy.deepcopy(own), ["magic", "scale", "absent"]),
    ]:
        for name in names:
            try:
                value = getattr(module, name)
            except AttributeError as error:
                found.append(str(error))
                continue
            plainly = value if isinstance(value, (int, str)) else type(value).__name__
            found.append(tuple(value.shape) if hasattr(value, "shape") else plainly)
    found.append(tuple(nn.Module.__getattr__(nn.Linear(2, 3), "bias").shape))
    return found


def test_attributes_of_modules_are_found_as_in_pytorch():
    assert attribute_cases(tg) == attribute_cases(torch)

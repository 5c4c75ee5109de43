"""Several CUDA devices: work goes where the tensors are, copies between devices keep the order of both, "cuda" means
the chosen device. Skipped where there are fewer than two."""

import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(tg.cuda.device_count() < 2, reason="needs two CUDA devices")

F = tg.nn.functional


@pytest.fixture(autouse=True)
def first_device():
    tg.cuda.set_device(0)
    yield
    tg.cuda.set_device(0)


def test_cuda_means_the_chosen_device():
    assert tg.ones(1, device="cuda").device == tg.device("cuda:0")
    with tg.cuda.device(1):
        assert tg.cuda.current_device() == 1
        assert tg.ones(1, device="cuda").device == tg.device("cuda:1")
        with tg.cuda.device(None):
            assert tg.cuda.current_device() == 1
        tg.ones(3, device="cuda:0").sum()  # work elsewhere changes nothing
        assert tg.cuda.current_device() == 1
    assert tg.cuda.current_device() == 0
    with tg.cuda.device_of(tg.ones(1, device="cuda:1")):
        assert tg.ones(1).cuda().device.index == 1
    with pytest.raises(RuntimeError, match="99"):
        tg.cuda.set_device(99)
    assert tg.cuda.current_device() == 0
    assert all(tg.cuda.get_device_name(i) for i in range(2))


def test_every_family_computes_on_the_second_device():
    tg.manual_seed(1)
    model = tg.nn.Sequential(
        tg.nn.Conv2d(3, 8, 3, padding=1), tg.nn.BatchNorm2d(8), tg.nn.ReLU(), tg.nn.MaxPool2d(2), tg.nn.Flatten(2)
    )
    attention = tg.nn.MultiheadAttention(16, 2, batch_first=True)
    x = tg.randn(4, 3, 8, 8)

    def losses(device):
        x_there = x.to(device)
        tokens = model(x_there)  # (4, 8, 16)
        y, _ = attention(tokens, tokens, tokens)
        y = F.layer_norm(y, (16,)).softmax(-1).cumsum(1).sort(-1)[0]
        loss = F.cross_entropy(y.reshape(32, 16), tg.arange(32, device=device) % 16)
        loss.backward()
        return loss

    tg.backends.cudnn.allow_tf32 = False
    try:
        expected = losses("cpu").item()
        grads = [p.grad.clone() for p in model.parameters()]
        for m in (model, attention):
            m.zero_grad()
            m.to("cuda:1")
        optimizer = tg.optim.Adam([*model.parameters(), *attention.parameters()], lr=1e-3)
        loss = losses("cuda:1")
    finally:
        tg.backends.cudnn.allow_tf32 = True
    assert loss.device == tg.device("cuda:1") and loss.item() == pytest.approx(expected, rel=1e-5)
    for p, g in zip(model.parameters(), grads, strict=True):
        assert p.grad.device == tg.device("cuda:1")
        assert tg.allclose(p.grad.cpu(), g, rtol=1e-3, atol=1e-5)
    optimizer.step()
    assert tg.cuda.current_device() == 0


def test_copies_between_devices_keep_the_order():
    a = tg.zeros(1 << 22, device="cuda:0")
    for step in range(1, 20):
        for _ in range(20):
            a = a + 1  # queued work that the copy has to wait for
        b = a.to("cuda:1")
        a.fill_(0)  # after the copy has read it
        c = b * 2
        assert float(c[0]) == float(c[-1]) == 40.0, step
    d = tg.empty(1 << 22, device="cuda:0")
    d.copy_(b)
    assert bool((d == 20).all())
    part = tg.arange(24.0, device="cuda:1").reshape(4, 6).t()[1:4]
    assert part.to("cuda:0").cpu().tolist() == part.cpu().tolist()


def test_gradients_cross_devices():
    w = tg.randn(5, 5, device="cuda:0", requires_grad=True)
    v = tg.randn(5, 5, device="cuda:1", requires_grad=True)
    ((w @ w).to("cuda:1") @ v).sum().backward()
    assert w.grad.device == tg.device("cuda:0") and v.grad.device == tg.device("cuda:1")
    u = w.detach().cpu().requires_grad_()
    ((u @ u) @ v.detach().cpu()).sum().backward()
    assert tg.allclose(w.grad.cpu(), u.grad, rtol=1e-4, atol=1e-4)


def test_two_devices_do_not_mix():
    with pytest.raises(RuntimeError, match=r"cuda:0.*cuda:1|cuda:1.*cuda:0"):
        tg.ones(2, device="cuda:0") + tg.ones(2, device="cuda:1")


def test_streams_events_graphs_and_memory_of_the_second_device():
    before = tg.cuda.memory_allocated(1)
    x = tg.ones(1 << 20, device="cuda:1")
    assert tg.cuda.memory_allocated(1) - before == 4 << 20 and tg.cuda.memory_allocated("cuda:0") >= 0
    free, total = tg.cuda.mem_get_info(1)
    assert 0 < free < total
    side = tg.cuda.Stream(device=1)
    done = tg.cuda.Event()
    assert done.query()
    with tg.cuda.stream(side):
        assert tg.cuda.current_device() == 1
        side.wait_stream(tg.cuda.default_stream(1))
        y = x * 3
        done.record()
    assert tg.cuda.current_device() == 0
    tg.cuda.default_stream(1).wait_event(done)
    assert float((y + 1).sum()) == 4 * (1 << 20)
    with tg.cuda.device(1):
        doubled = tg.cuda.graphed(lambda: x * 2)
        x.fill_(21)
        assert float(doubled()[7]) == 42.0
    tg.manual_seed(3)
    a = tg.randn(100, device="cuda:1")
    tg.manual_seed(3)
    assert tg.equal(a, tg.randn(100, device="cuda:1"))
    tg.cuda.synchronize(1)


# --- NCCL

nccl = tg.cuda.nccl


def ranks(*values, dtype=None):
    return [tg.tensor(v, device=f"cuda:{i}", dtype=dtype) for i, v in enumerate(values)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32", "int64", "uint8", "int8"])
def test_all_reduce(dtype):
    a, b = ranks([1, 2, 3], [10, 20, 30], dtype=getattr(tg, dtype))
    nccl.all_reduce([a, b])
    assert a.tolist() == b.tolist() == [11, 22, 33]
    out = [tg.zeros_like(a), tg.zeros_like(b)]
    nccl.all_reduce((a, b), out, op=nccl.MAX)
    assert out[0].tolist() == out[1].tolist() == [11, 22, 33]


def test_operations_of_all_reduce():
    results = {nccl.PROD: [3.0, -8.0], nccl.MIN: [1.0, -2.0], nccl.MAX: [3.0, 4.0], nccl.AVG: [2.0, 1.0]}
    for op, expected in results.items():
        a, b = ranks([1.0, -2.0], [3.0, 4.0])
        nccl.all_reduce([a, b], op=op)
        assert a.tolist() == b.tolist() == expected


def test_reduce_and_broadcast():
    a, b = ranks([1.0, 2.0], [3.0, 4.0])
    nccl.reduce([a, b], root=1)
    assert (a.tolist(), b.tolist()) == ([1.0, 2.0], [4.0, 6.0])
    out = tg.zeros(2, device="cuda:0")
    nccl.reduce([a, b], out)
    assert (a.tolist(), out.tolist()) == ([1.0, 2.0], [5.0, 8.0])
    nccl.broadcast([a, b], root=1)
    assert a.tolist() == [4.0, 6.0]
    nccl.broadcast([a, b])


def test_all_gather_and_reduce_scatter():
    a, b = ranks([[1.0, 2.0]], [[3.0, 4.0]])
    out = [tg.zeros(2, 2, device=t.device) for t in (a, b)]
    nccl.all_gather([a, b], out)
    assert out[0].tolist() == out[1].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    parts = [tg.zeros(2, device=t.device) for t in (a, b)]
    nccl.reduce_scatter(out, parts)
    assert (parts[0].tolist(), parts[1].tolist()) == ([2.0, 4.0], [6.0, 8.0])


def test_collectives_follow_the_work_before_them():
    a, b = (tg.full((1 << 20,), 1.0, device=f"cuda:{i}") for i in range(2))
    for _ in range(20):
        a.mul_(0.5)
        b.mul_(0.5)
        nccl.all_reduce([a, b])
    assert a.sum().item() == b.sum().item() == 1 << 20
    assert tg.cuda.current_device() == 0
    assert nccl.version() >= (2, 0, 0)
    assert nccl.is_available([a, b])
    assert not nccl.is_available([a, a])
    assert not nccl.is_available([a.cpu()])


def test_what_collectives_refuse():
    a, b = ranks([1.0, 2.0], [3.0, 4.0])
    with pytest.raises(ValueError, match="empty list"):
        nccl.all_reduce([])
    with pytest.raises(RuntimeError, match="both on cuda:0"):
        nccl.all_reduce([a, a])
    with pytest.raises(RuntimeError, match="is on cpu"):
        nccl.broadcast([a, b.cpu()])
    with pytest.raises((RuntimeError, TypeError), match="float64"):
        nccl.all_reduce([a, b.double()])
    with pytest.raises(RuntimeError, match="3 elements"):
        nccl.all_reduce([a, tg.zeros(3, device="cuda:1")])
    with pytest.raises(ValueError, match="contiguous"):
        nccl.all_reduce([a, tg.zeros(4, device="cuda:1")[::2]])
    with pytest.raises(IndexError, match="root 2 of 2"):
        nccl.broadcast([a, b], root=2)
    with pytest.raises(ValueError, match="2 inputs, but 1 outputs"):
        nccl.all_gather([a, b], [tg.zeros(4, device="cuda:0")])
    saved = (a.clone().requires_grad_() * 2).exp()
    out = saved.detach()
    nccl.reduce([out, b])
    with pytest.raises(RuntimeError, match="modified"):
        saved.sum().backward()

"""CUDA on a machine that has a device: streams, events, memory, graphs, DLPack, errors. Skipped elsewhere."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorgrad as tg

pytestmark = pytest.mark.skipif(not tg.cuda.is_available(), reason=f"no CUDA device: {tg.cuda.unavailable_reason()}")


def run_python(code, **environment):
    code = "import tensorgrad as tg\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def slow_work(n=2048, times=20):
    """Some milliseconds of work on the current stream; returns its result."""
    x = tg.ones(n, n, device="cuda") / n
    y = x
    for _ in range(times):
        y = y @ x
    return y


# ---- streams, events, memory


def test_streams_run_in_order_through_events():
    side = tg.cuda.Stream()
    with tg.cuda.stream(side):
        assert tg.cuda.current_stream() == side
        y = slow_work()
        done = side.record_event()
    assert tg.cuda.current_stream() == tg.cuda.default_stream()
    tg.cuda.current_stream().wait_event(done)
    total = y.sum()  # on the default stream, after the side stream's work
    y.record_stream(tg.cuda.current_stream())
    assert total.item() == pytest.approx(2048.0, rel=1e-4)
    assert done.query() and side.query()


def test_wait_stream_both_ways():
    side = tg.cuda.Stream(priority=-1)
    x = slow_work()
    side.wait_stream(tg.cuda.current_stream())
    with tg.cuda.stream(side):
        y = x * 2
    tg.cuda.current_stream().wait_stream(side)
    np.testing.assert_allclose(y.cpu().numpy()[0, :4], [2 / 2048] * 4, rtol=1e-4)


def test_events_measure_time():
    start, end = tg.cuda.Event(enable_timing=True), tg.cuda.Event(enable_timing=True)
    slow_work()
    start.record()
    slow_work(times=50)
    end.record()
    assert not end.query() or start.query()
    end.synchronize()
    long = start.elapsed_time(end)
    start.record()
    slow_work(times=1)
    end.record()
    tg.cuda.synchronize()
    assert 0 < start.elapsed_time(end) < long < 10_000


def test_record_stream_keeps_memory_until_the_other_stream_is_done():
    side = tg.cuda.Stream()
    for _ in range(5):
        x = tg.full((1 << 20,), 3.0, device="cuda")
        side.wait_stream(tg.cuda.current_stream())
        with tg.cuda.stream(side):
            slow_work(times=10)
            y = x + 1
        x.record_stream(side)
        place = x.data_ptr()
        del x
        z = tg.full((1 << 20,), -1.0, device="cuda")  # would take x's block at once
        assert z.data_ptr() != place
        side.synchronize()
        assert y.cpu().numpy().min() == 4.0


def test_pinned_memory_and_asynchronous_copies():
    array = np.random.default_rng(0).standard_normal((257, 1031)).astype(np.float32)
    x = tg.from_numpy(array)
    assert not x.is_pinned()
    pinned = x.pin_memory()
    assert pinned.is_pinned() and pinned.pin_memory() is not None
    assert pinned.pin_memory().data_ptr() == pinned.data_ptr()
    assert tg.tensor([1.0, 2.0], pin_memory=True).is_pinned()
    on_device = pinned.to("cuda", non_blocking=True)
    back = tg.empty(257, 1031).pin_memory()
    back.copy_(on_device * 2, non_blocking=True)
    tg.cuda.synchronize()
    np.testing.assert_array_equal(back.numpy(), array * 2)


def test_memory_is_counted_and_reused():
    tg.cuda.synchronize()
    before = tg.cuda.memory_allocated()
    tg.cuda.reset_peak_memory_stats()
    x = tg.empty(1 << 20, device="cuda")
    assert tg.cuda.memory_allocated() - before == 4 << 20
    place = x.data_ptr()
    y = tg.empty(1 << 20, device="cuda")
    del x, y
    assert tg.cuda.memory_allocated() == before
    assert tg.cuda.max_memory_allocated() - before >= 8 << 20
    assert tg.cuda.memory_reserved() >= 8 << 20
    again = tg.empty(1 << 20, device="cuda"), tg.empty(1 << 20, device="cuda")
    assert place in [t.data_ptr() for t in again]
    reserved = tg.cuda.memory_reserved()
    del again
    tg.cuda.empty_cache()
    assert tg.cuda.memory_reserved() < reserved


def test_out_of_memory_is_an_error_that_one_recovers_from():
    total = tg.cuda.get_device_properties().total_memory
    keep = tg.ones(1000, device="cuda")
    with pytest.raises(tg.cuda.OutOfMemoryError, match=r"tried to allocate .* cuda:0"):
        tg.empty(2 * total, dtype=tg.uint8, device="cuda")
    assert keep.sum().item() == 1000
    # What is cached is given back before a request fails.
    big = tg.empty(total // 2, dtype=tg.uint8, device="cuda")
    del big
    bigger = tg.empty(total // 5 * 3, dtype=tg.uint8, device="cuda")
    del bigger
    tg.cuda.empty_cache()
    assert tg.ones(1 << 20, device="cuda").sum().item() == 1 << 20


def test_seeds():
    tg.cuda.manual_seed(5)
    a, b = tg.randn(1000, device="cuda"), tg.rand(1000, device="cuda")
    tg.cuda.manual_seed(5)
    assert tg.equal(a, tg.randn(1000, device="cuda")) and tg.equal(b, tg.rand(1000, device="cuda"))
    tg.manual_seed(5)
    np.testing.assert_allclose(tg.randn(1000).numpy(), a.cpu().numpy(), rtol=1e-5, atol=1e-6)
    assert tg.equal(a, tg.randn(1000, device="cuda")) and not tg.equal(a, tg.randn(1000, device="cuda"))


# ---- errors


def test_mixed_devices_name_both():
    x, y = tg.ones(3, 3, device="cuda"), tg.ones(3, 3)
    layer = tg.nn.Linear(3, 3)
    calls = [lambda: x + y, lambda: x @ y, lambda: layer(x), lambda: tg.cat([x, y]), lambda: tg.where(x > 0, x, y)]
    for call in calls:
        with pytest.raises(RuntimeError, match=r"cuda:0.*cpu|cpu.*cuda:0"):
            call()
    assert (x + tg.tensor(1.0)).device.type == "cuda"  # a number joins any device
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        x.numpy()
    with pytest.raises(RuntimeError, match="99"):
        tg.ones(1, device="cuda:99")


def test_a_bad_index_surfaces_where_it_is_with_synchronous_launches():
    code = """
    table = tg.randn(10, 4, device="cuda")
    try:
        tg.nn.functional.embedding(tg.tensor([1, 11], device="cuda"), table)
        print("nothing")
    except IndexError as error:
        print("at the operation:", error)
    """
    status, output = run_python(code, TENSORGRAD_CUDA_SYNC="1")
    assert status == 0 and "at the operation:" in output
    with pytest.raises(IndexError):
        tg.nn.functional.embedding(tg.tensor([1, 11], device="cuda"), tg.randn(10, 4, device="cuda"))
        tg.cuda.synchronize()
    assert tg.ones(3, device="cuda").sum().item() == 3  # the device goes on


# ---- DLPack


def test_dlpack_shares_memory_with_pytorch_in_stream_order():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA device")
    theirs = torch.arange(12.0, device="cuda").reshape(3, 4)
    ours = tg.from_dlpack(theirs)
    assert ours.data_ptr() == theirs.data_ptr() and ours.device.type == "cuda"
    ours += 1
    tg.cuda.synchronize()
    assert theirs[2, 3].item() == 12
    back = torch.from_dlpack(ours)
    assert back.data_ptr() == theirs.data_ptr()
    # Made on a side stream of ours, read on a stream of PyTorch's, without a wait of the host.
    side, other = tg.cuda.Stream(), torch.cuda.Stream()
    for _ in range(5):
        with tg.cuda.stream(side):
            value = slow_work()
            with torch.cuda.stream(other):
                seen = torch.from_dlpack(value) * 2
        torch.cuda.synchronize()
        assert seen[0, 0].item() == pytest.approx(2 / 2048, rel=1e-4)
    for _ in range(5):
        with torch.cuda.stream(other):
            x = torch.ones(2048, 2048, device="cuda") / 2048
            y = x
            for _ in range(20):
                y = y @ x
            with tg.cuda.stream(side):
                seen = tg.from_dlpack(y) * 2
        tg.cuda.synchronize()
        assert seen[0, 0].item() == pytest.approx(2 / 2048, rel=1e-4)


# ---- graphs


def test_a_graph_replays_on_new_contents():
    layer = tg.nn.Linear(16, 8).to("cuda")
    x = tg.randn(4, 16, device="cuda")
    with tg.no_grad():
        layer(x)
        graph = tg.cuda.CUDAGraph()
        with tg.cuda.graph(graph):
            y = layer(x).relu().sum(1)
        for seed in range(3):
            tg.manual_seed(seed)
            x.copy_(tg.randn(4, 16, device="cuda"))
            graph.replay()
            np.testing.assert_allclose(y.cpu().numpy(), layer(x).relu().sum(1).cpu().numpy(), rtol=1e-5, atol=1e-5)


def training(optimizer, dropout, clip=False):
    tg.manual_seed(3)
    nn = tg.nn
    model = nn.Sequential(nn.Linear(20, 64), nn.GELU(), nn.Dropout(dropout), nn.LayerNorm(64), nn.Linear(64, 5))
    model.to("cuda")
    makers = {
        "sgd": lambda p: tg.optim.SGD(p, lr=0.05, momentum=0.9),
        "adam": lambda p: tg.optim.Adam(p, lr=3e-3),
        "adamw": lambda p: tg.optim.AdamW(p, lr=3e-3, amsgrad=True),
    }
    x, labels = tg.randn(32, 20, device="cuda"), tg.randint(0, 5, (32,), device="cuda")
    optimizer = makers[optimizer](model.parameters())

    def step():
        optimizer.zero_grad()
        loss = tg.nn.functional.cross_entropy(model(x), labels)
        loss.backward()
        if clip:
            tg.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss

    return model, optimizer, step


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_graphed_training_step_is_the_eager_one(name, dropout):
    """The same losses step by step: Adam's bias correction and the random numbers move on in a replay."""
    _, _, step = training(name, dropout, clip=name == "adam")
    eager = [step().item() for _ in range(20)]
    model, optimizer, step = training(name, dropout, clip=name == "adam")
    replay = tg.cuda.graphed(step, warmup=3)
    replayed = [replay().item() for _ in range(17)]
    np.testing.assert_allclose(replayed, eager[3:], rtol=2e-4)
    assert replayed[-1] < replayed[0]
    if name != "sgd":
        counts = [state["step"].item() for state in optimizer.state_dict()["state"].values()]
        assert counts == [20.0] * len(counts)


def test_a_graph_draws_new_random_numbers_at_every_replay():
    x = tg.ones(10_000, device="cuda")
    graph = tg.cuda.CUDAGraph()
    with tg.cuda.graph(graph):
        a = tg.nn.functional.dropout(x, 0.5)
        b = tg.randn(1000, device="cuda")
    tg.cuda.manual_seed(7)
    seen = []
    for _ in range(3):
        graph.replay()
        seen.append((a.cpu().numpy(), b.cpu().numpy()))
    assert not np.array_equal(seen[0][0], seen[1][0]) and not np.array_equal(seen[1][1], seen[2][1])
    assert abs(np.mean([s[0] for s in seen]) - 1) < 0.05
    tg.cuda.manual_seed(7)
    for old in seen:  # what eager calls draw from the same state
        np.testing.assert_array_equal(tg.nn.functional.dropout(x, 0.5).cpu().numpy(), old[0])
        np.testing.assert_array_equal(tg.randn(1000, device="cuda").cpu().numpy(), old[1])


def test_what_cannot_be_captured_says_so():
    x = tg.randn(100, device="cuda")
    other = tg.Generator(device="cuda") if hasattr(tg, "Generator") else None
    calls = {
        "item": lambda: x.sum().item(),
        "nonzero": lambda: x.nonzero(),
        "copy to the CPU": lambda: x.cpu(),
        "copy from the CPU": lambda: x.copy_(tg.ones(100)),
        "synchronize": lambda: tg.cuda.synchronize(),
        "allclose": lambda: tg.allclose(x, x),
    }
    if other is not None:
        calls["uniform_"] = lambda: x.uniform_(generator=other)
    for name, call in calls.items():
        graph = tg.cuda.CUDAGraph()
        with pytest.raises(RuntimeError, match=name), tg.cuda.graph(graph):
            x * 2
            call()
        assert (x * 0 + 1).sum().item() == 100  # the stream is in order afterwards
    graph = tg.cuda.CUDAGraph()
    with tg.cuda.graph(graph):
        y = x * 2
    graph.replay()
    assert tg.equal(y, x * 2)


def test_graph_memory_goes_back():
    x = tg.randn(1 << 20, device="cuda")
    tg.cuda.synchronize()
    before = tg.cuda.memory_reserved()
    for _ in range(3):
        graph = tg.cuda.CUDAGraph()
        with tg.cuda.graph(graph):
            y = x * 2 + 1
        graph.replay()
        assert tg.cuda.memory_reserved() > before
        tg.cuda.synchronize()
        del y, graph
        assert tg.cuda.memory_reserved() == before

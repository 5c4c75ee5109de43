"""GradScaler beside PyTorch's, on the CPU: scales, skipped steps, parameters, state."""

import pickle

import pytest

torch = pytest.importorskip("torch", reason="the judge: scripts/setup --torch")
tg = pytest.importorskip("tensorgrad")


def run(lib, values, optimizer, fused, unscale=False, **options):
    """Steps whose losses are values * w; what was seen after each."""
    w = lib.ones(3, requires_grad=True)
    opt = getattr(lib.optim, optimizer)([w], lr=0.1, fused=fused)
    scaler = lib.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2, **options)
    seen = []
    for v in values:
        opt.zero_grad()
        loss = (w * lib.tensor([v, 1.0, 2.0])).sum()
        scaler.scale(loss).backward()
        if unscale:
            scaler.unscale_(opt)
            seen.append([float(g) for g in w.grad])
        scaler.step(opt)
        scaler.update()
        seen.append(([float(x) for x in w], scaler.get_scale(), scaler._get_growth_tracker()))
    return seen, scaler.state_dict()


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscale", [False, True])
def test_steps_match_torch(optimizer, fused, unscale):
    values = [1.0, 2.0, float("inf"), 0.5, 3.0, float("nan"), 1.0, 1.0, 1.0]
    expected, their_state = run(torch, values, optimizer, fused, unscale)
    actual, state = run(tg, values, optimizer, fused, unscale)
    for e, a in zip(expected, actual):
        if isinstance(e, tuple):
            assert a[0] == pytest.approx(e[0], rel=1e-5) and a[1:] == e[1:]
        else:
            assert a == pytest.approx(e, nan_ok=True)
    assert state == their_state


def test_the_scale_does_not_grow_to_infinity():
    scale, tracker = tg.tensor(3e38), tg.tensor(0, dtype=tg.int32)
    tg._C._amp_update_scale_(scale, tracker, tg.zeros(()), 2.0, 0.5, 1)
    assert scale.item() == pytest.approx(3e38) and tracker.item() == 0


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("bad", [None, float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("n", [0, 1, 7, 1000, 70001])
def test_unscale_finds_every_place(dtype, bad, n):
    g = tg.randn(n).to(getattr(tg, dtype))
    other = tg.randn(5, 4).t().to(getattr(tg, dtype))  # not row-major
    before = [g.float().clone(), other.float().clone()]
    if bad is not None and n:
        g[n - 1] = bad
    found = tg.zeros(())
    tg._C._amp_foreach_non_finite_check_and_unscale_([g, other], found, tg.tensor(0.25))
    assert found.item() == (1.0 if bad is not None and n else 0.0)
    assert tg.allclose(other.float(), before[1] * 0.25)
    if bad is None:
        assert tg.allclose(g.float(), before[0] * 0.25, rtol=1e-2, atol=1e-6)


def test_mistakes_raise():
    w = tg.ones(2, requires_grad=True)
    opt = tg.optim.SGD([w], lr=0.1)
    scaler = tg.amp.GradScaler("cpu")
    with pytest.raises(AssertionError, match="scale"):
        scaler.unscale_(opt)
    scaler.scale((w * 2).sum()).backward()
    scaler.unscale_(opt)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(opt)
    scaler.step(opt)
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.step(opt)
    with pytest.raises(RuntimeError, match="after step"):
        scaler.unscale_(opt)
    scaler.update()
    with pytest.raises(AssertionError):
        scaler.update()
    with pytest.raises(RuntimeError, match="empty"):
        scaler.load_state_dict({})
    half = tg.ones(2, dtype=tg.float16, requires_grad=True)
    scaler.scale(half.sum()).backward()
    with pytest.raises(ValueError, match="FP16"):
        scaler.unscale_(tg.optim.SGD([half], lr=0.1))


def test_disabled_and_lists_and_pickle():
    off = tg.amp.GradScaler("cpu", enabled=False)
    x = tg.ones(2)
    assert off.scale(x) is x and off.state_dict() == {} and off.get_scale() == 1.0
    on = tg.amp.GradScaler("cpu", init_scale=4.0)
    a, (b,) = on.scale([x, (x * 2,)])
    assert a.tolist() == [4.0, 4.0] and b.tolist() == [8.0, 8.0]
    again = pickle.loads(pickle.dumps(on))
    assert again.state_dict() == on.state_dict()
    again.update(16.0) if again._scale is not None else again.scale(x)
    again.update(16.0)
    assert again.get_scale() == 16.0


@pytest.mark.skipif(tg.cuda.is_available(), reason="there is a device")
def test_without_a_device_the_cuda_scaler_does_nothing():
    with pytest.warns(UserWarning, match="CUDA is not available"):
        scaler = tg.cuda.amp.GradScaler()
    assert not scaler.is_enabled()

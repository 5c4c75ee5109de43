"""Optimizers and schedules against torch.optim, step by step."""

import numpy as np
import pytest
import tensorgrad as tg

torch = pytest.importorskip("torch")

OPTIMIZERS = [
    ("SGD", dict(lr=0.1)),
    ("SGD", dict(lr=0.1, momentum=0.9)),
    ("SGD", dict(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)),
    ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.5, maximize=True)),
    ("Adam", dict(lr=0.1)),
    ("Adam", dict(lr=0.1, weight_decay=0.1, amsgrad=True)),
    ("Adam", dict(lr=0.1, betas=(0.5, 0.9), eps=1e-3, maximize=True)),
    ("AdamW", dict(lr=0.1)),
    ("AdamW", dict(lr=0.05, weight_decay=0.3, amsgrad=True)),
]


def pair(name, settings, groups=False):
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator)]
    theirs = [t.clone().requires_grad_() for t in start]
    mine = [tg.from_numpy(t.numpy().copy()).requires_grad_() for t in start]

    def build(library, params):
        given = [{"params": params[:1]}, {"params": params[1:], "lr": 0.01}] if groups else params
        return getattr(library.optim, name)(given, **settings)

    return mine, theirs, build(tg, mine), build(torch, theirs)


def run(mine, theirs, a, b, steps=5):
    for _ in range(steps):
        for params, optimizer in ((mine, a), (theirs, b)):
            optimizer.zero_grad()
            sum((p**2 * (i + 1) + p).sum() for i, p in enumerate(params)).backward()
            optimizer.step()
        for p, q in zip(mine, theirs):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name, settings", OPTIMIZERS, ids=range(len(OPTIMIZERS)))
def test_steps_are_torchs(name, settings):
    run(*pair(name, settings))
    run(*pair(name, settings, groups=True))


@pytest.mark.parametrize("name, settings", OPTIMIZERS, ids=range(len(OPTIMIZERS)))
def test_state_dict(name, settings):
    mine, theirs, a, b = pair(name, settings)
    run(mine, theirs, a, b, 3)
    saved, expected = a.state_dict(), b.state_dict()
    assert saved["param_groups"] == expected["param_groups"] or set(saved["param_groups"][0]) <= set(
        expected["param_groups"][0]
    )
    assert set(saved["state"]) == set(expected["state"])
    for key in saved["state"]:
        assert set(saved["state"][key]) <= set(expected["state"][key])
    fresh = getattr(tg.optim, name)(mine, lr=3.0)
    fresh.load_state_dict(saved)
    run(mine, theirs, fresh, b, 3)


def test_optimizer_refuses():
    p = tg.ones(2, requires_grad=True)
    for bad in (
        lambda: tg.optim.SGD([], lr=0.1),
        lambda: tg.optim.SGD([p], lr=-1),
        lambda: tg.optim.Adam([p], betas=(1.0, 0.9)),
        lambda: tg.optim.SGD([p], nesterov=True),
        lambda: tg.optim.SGD([p * 2], lr=0.1),
        lambda: tg.optim.SGD([{"params": [p]}, {"params": [p]}], lr=0.1),
    ):
        with pytest.raises(ValueError):
            bad()
    for bad in (
        lambda: tg.optim.SGD(p, lr=0.1),
        lambda: tg.optim.SGD([3], lr=0.1),
        lambda: tg.optim.SGD([{"params": {p}}], lr=1),
    ):
        with pytest.raises(TypeError):
            bad()
    with pytest.raises(ValueError):
        tg.optim.SGD([p], lr=0.1).load_state_dict({"state": {}, "param_groups": []})


def test_closure_hooks_and_repr():
    p = tg.ones(2, requires_grad=True)
    optimizer = tg.optim.SGD([p], lr=0.5)
    calls = []
    optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("after"))

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0 and p.tolist() == [0.0, 0.0] and calls == ["after"]
    assert repr(optimizer) == repr(torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=0.5))
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.step()
    optimizer.add_param_group({"params": tg.ones(1, requires_grad=True), "lr": 3})
    assert len(optimizer.param_groups) == 2 and optimizer.param_groups[1]["lr"] == 3


SCHEDULES = [
    ("StepLR", dict(step_size=3, gamma=0.5)),
    ("MultiStepLR", dict(milestones=[2, 5, 5], gamma=0.3)),
    ("ExponentialLR", dict(gamma=0.9)),
    ("CosineAnnealingLR", dict(T_max=5, eta_min=0.01)),
    ("LinearLR", dict(total_iters=4)),
    ("ConstantLR", dict(total_iters=3)),
    ("PolynomialLR", dict(total_iters=6, power=2.0)),
    ("LambdaLR", dict(lr_lambda=lambda e: 0.95**e)),
    ("MultiplicativeLR", dict(lr_lambda=lambda e: 0.9)),
    ("CosineAnnealingWarmRestarts", dict(T_0=3, T_mult=2)),
    ("OneCycleLR", dict(max_lr=0.5, total_steps=13)),
    ("OneCycleLR", dict(max_lr=0.5, total_steps=13, three_phase=True)),
]


@pytest.mark.parametrize("name, settings", SCHEDULES, ids=range(len(SCHEDULES)))
def test_schedules_are_torchs(name, settings):
    rates = []
    for library in (tg, torch):
        optimizer = library.optim.SGD([library.ones(2, requires_grad=True)], lr=0.2, momentum=0.9)
        schedule = getattr(library.optim.lr_scheduler, name)(optimizer, **settings)
        seen = []
        for _ in range(12):
            seen.append(
                (optimizer.param_groups[0]["lr"], schedule.get_last_lr()[0], optimizer.param_groups[0]["momentum"])
            )
            optimizer.step()
            schedule.step()
        rates.append(seen)
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-9)


def test_schedules_resume_and_combine():
    rates = []
    for library in (tg, torch):
        L = library.optim.lr_scheduler
        optimizer = library.optim.SGD([library.ones(2, requires_grad=True)], lr=0.2)
        schedule = L.SequentialLR(
            optimizer, [L.LinearLR(optimizer, total_iters=3), L.StepLR(optimizer, 2)], milestones=[3]
        )
        seen = []
        for _ in range(9):
            seen.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        plateau = L.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
        for value in (3, 2, 2, 2, 2, 1, 1, 1):
            plateau.step(value)
            seen.append(optimizer.param_groups[0]["lr"])
        rates.append(seen)
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-9)
    optimizer = tg.optim.SGD([tg.ones(2, requires_grad=True)], lr=0.2)
    schedule = tg.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(3):
        optimizer.step(), schedule.step()
    again = tg.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    again.load_state_dict(schedule.state_dict())
    assert again.last_epoch == 3 and again.get_last_lr() == schedule.get_last_lr()


@pytest.mark.parametrize("norm", [2.0, 1.0, float("inf"), 3.0])
def test_clipping(norm):
    results = []
    for library in (tg, torch):
        params = [library.ones(3, 2, requires_grad=True), library.ones(4, requires_grad=True)]
        sum((p * (i + 2)).sum() for i, p in enumerate(params)).backward()
        total = library.nn.utils.clip_grad_norm_(params, 1.5, norm_type=norm)
        results.append([total.item(), *[v for p in params for v in p.grad.flatten().tolist()]])
        library.nn.utils.clip_grad_value_(params, 0.1)
        results[-1] += params[0].grad.flatten().tolist()
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


def test_vectors_of_parameters():
    net = tg.nn.Linear(2, 3)
    vector = tg.nn.utils.parameters_to_vector(net.parameters())
    assert vector.shape == (9,)
    tg.nn.utils.vector_to_parameters(vector * 2, net.parameters())
    assert tg.nn.utils.parameters_to_vector(net.parameters()).tolist() == (vector * 2).tolist()

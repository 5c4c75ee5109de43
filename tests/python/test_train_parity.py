"""Twenty training steps beside PyTorch: the same weights and batches, the loss and every gradient at each step."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the judge of parity: scripts/setup --torch")
tensorgrad = pytest.importorskip("tensorgrad")

STEPS = 20


def mlp(lib):
    nn = lib.nn
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 5))


def cnn(lib):
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, stride=2, padding=1, groups=2),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12 * 2 * 2, 5),
    )


def transformer(lib):
    nn = lib.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(17, 16)
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
            self.norm1 = nn.LayerNorm(16)
            self.norm2 = nn.LayerNorm(16)
            self.up = nn.Linear(16, 48)
            self.down = nn.Linear(48, 16)
            self.head = nn.Linear(16, 5)

        def forward(self, tokens):
            x = self.embedding(tokens)
            y = self.norm1(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            x = x + self.down(lib.nn.functional.gelu(self.up(self.norm2(x))))
            return self.head(x.mean(dim=1))

    return Block()


def batches(kind, dtype):
    rng = np.random.default_rng(5)
    for _ in range(STEPS):
        labels = rng.integers(0, 5, 8)
        if kind is transformer:
            yield rng.integers(0, 17, (8, 9)), labels
        elif kind is cnn:
            yield rng.standard_normal((8, 1, 16, 16)).astype(dtype), labels
        else:
            yield rng.standard_normal((8, 20)).astype(dtype), labels


OPTIMIZERS = {
    "sgd": lambda lib, p: lib.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda lib, p: lib.optim.Adam(p, lr=2e-3),
    "adamw": lambda lib, p: lib.optim.AdamW(p, lr=2e-3, weight_decay=0.05),
}
SCHEDULERS = {
    "sgd": lambda lib, o: lib.optim.lr_scheduler.StepLR(o, step_size=6, gamma=0.5),
    "adam": lambda lib, o: lib.optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS),
    "adamw": lambda lib, o: lib.optim.lr_scheduler.StepLR(o, step_size=100),
}


def gradients_of(model):
    return {name: np.array(p.grad.detach().numpy()) for name, p in model.named_parameters()}


@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [mlp, cnn, transformer], ids=lambda kind: kind.__name__)
def test_twenty_steps(kind, dtype, optimizer):
    torch.manual_seed(2)
    theirs = kind(torch).to(getattr(torch, dtype))
    ours = kind(tensorgrad).to(getattr(tensorgrad, dtype))
    ours.load_state_dict({k: tensorgrad.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    pairs = []
    for lib, model in ((torch, theirs), (tensorgrad, ours)):
        made = OPTIMIZERS[optimizer](lib, model.parameters())
        pairs.append((lib, model, made, SCHEDULERS[optimizer](lib, made)))
    # A float32 step rounds differently in the last bit, and training carries the difference on.
    rtol, atol = (1e-3, 2e-5) if dtype == "float32" else (1e-8, 1e-10)
    for step, (x, labels) in enumerate(batches(kind, dtype)):
        losses, gradients = [], []
        for lib, model, made, scheduler in pairs:
            made.zero_grad()
            loss = lib.nn.functional.cross_entropy(model(lib.from_numpy(x.copy())), lib.from_numpy(labels.copy()))
            loss.backward()
            gradients.append(gradients_of(model))
            lib.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            made.step()
            scheduler.step()
            losses.append(loss.item())
        np.testing.assert_allclose(losses[1], losses[0], rtol=rtol, atol=atol, err_msg=f"loss of step {step}")
        assert gradients[0].keys() == gradients[1].keys()
        for name, expected in gradients[0].items():
            np.testing.assert_allclose(
                gradients[1][name], expected, rtol=rtol, atol=atol, err_msg=f"{name}, step {step}"
            )
        assert pairs[1][2].param_groups[0]["lr"] == pytest.approx(pairs[0][2].param_groups[0]["lr"], rel=1e-12)


@pytest.mark.parametrize("kind", [mlp, cnn, transformer], ids=lambda kind: kind.__name__)
def test_init_from_torch_copies_weights_and_buffers(kind):
    theirs = kind(torch)
    ours = kind(tensorgrad)
    ours.init_from_torch(theirs)
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name].numpy(), value.numpy())

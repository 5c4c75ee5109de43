"""A program with types, for the type checker alone (scripts/lint): the stubs must know what it uses."""

import tensorgrad as torch
from tensorgrad import Tensor, nn


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> float:
    optimizer.zero_grad()
    loss: Tensor = nn.functional.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()
    return float(loss.item())


x: Tensor = torch.randn(4, 3)
total: Tensor = (x * 2 + 1).sum()
shape: tuple[int, ...] = tuple(x.shape)
model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
step(model, torch.optim.SGD(model.parameters(), lr=0.1), x, torch.zeros(4, 1))

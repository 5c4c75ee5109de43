"""A network of two layers learns exclusive or: the smallest complete training loop. The twin of examples/cpp/xor.cpp.

python examples/python/xor.py
"""

import argparse
import os
import sys

import tensorgrad as torch
from tensorgrad import nn
from tensorgrad.nn.functional import mse_loss


def main():
    options = argparse.ArgumentParser(description="Trains a network of two layers on exclusive or.")
    options.add_argument("--steps", type=int, default=500, help="gradient steps")
    options.add_argument("--lr", type=float, default=0.05, help="learning rate of Adam")
    options.add_argument("--seed", type=int, default=0, help="seed of the random numbers")
    options.add_argument("--device", default="cpu", help="cpu or cuda")
    options.add_argument("--out", default="", help="folder to save the model in")
    options.add_argument("--quick", action="store_true", help="few steps, for tests")
    options = options.parse_args()
    if options.quick:
        options.steps = 200

    torch.manual_seed(options.seed)
    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], device=options.device)
    y = torch.tensor([[0.0], [1.0], [1.0], [0.0]], device=options.device)

    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1), nn.Sigmoid()).to(options.device)
    print(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)

    for step in range(1, options.steps + 1):
        loss = mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:4}  loss {loss.item():.6f}")

    with torch.no_grad():
        answer = model(x)
        print(answer)
        if options.out:
            os.makedirs(options.out, exist_ok=True)
            torch.save(model.state_dict(), f"{options.out}/xor.safetensors")
        learnt = answer.round().eq(y).all().item()
    print("learnt" if learnt else "not learnt: try more --steps")
    return 0 if learnt else 1


if __name__ == "__main__":
    sys.exit(main())

"""Draws the graph that backward() walks: of a formula, and of a small network. The twin of examples/cpp/draw_graph.cpp.

python examples/python/draw_graph.py --out pictures     # formula.svg, network.svg, and the same as .dot for Graphviz
"""

import argparse
import os

import tensorgrad as torch
from tensorgrad import nn
from tensorgrad.nn.functional import cross_entropy


def main():
    options = argparse.ArgumentParser(description="Draws gradient graphs as SVG and DOT.")
    options.add_argument("--device", default="cpu", help="where it is computed: cpu or cuda")
    options.add_argument("--out", default="graphs", help="folder for the pictures")
    options.add_argument("--quick", action="store_true", help="for tests: the same")
    options = options.parse_args()
    out, device = options.out, options.device
    os.makedirs(out, exist_ok=True)
    torch.manual_seed(0)

    # A formula of three numbers.
    a, b, c = (torch.tensor(v, requires_grad=True, device=device) for v in (2.0, -3.0, 10.0))
    a.name, b.name, c.name = "a", "b", "c"
    product = a * b
    product.name = "product"
    product.retain_grad()
    result = (product + c).tanh()
    result.backward(retain_graph=True)
    torch.render(result, f"{out}/formula.svg")
    torch.render(result, f"{out}/formula.dot")

    # A network of two layers and its loss.
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).to(device)
    for name, parameter in model.named_parameters():
        parameter.name = name
    loss = cross_entropy(model(torch.randn(5, 4, device=device)), torch.tensor([0, 1, 2, 1, 0], device=device))
    loss.name = "loss"
    loss.backward(retain_graph=True)
    torch.render(loss, f"{out}/network.svg")
    torch.render(loss, f"{out}/network.dot")

    print(f"d result / d a = {a.grad.item():g}")
    print(f"pictures in {out}: formula.svg, network.svg (and .dot: dot -Tpng {out}/network.dot -o network.png)")


if __name__ == "__main__":
    main()

"""Whole training steps: forward, loss, backward, optimizer, in tensorgrad, PyTorch eager and torch.compile, each in a
process of its own, taking turns.

    make bench-models     ARGS="--only gpt --json FILE --no-compile"

The models are written once, for whatever library is passed in. Batches are fixed; a step is timed from zero_grad to the
end of optimizer.step. Peak resident memory is that of the process, so it includes the library itself.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe
from bench.peers import Peer, PeerError, take_turns
from bench.report import markdown

ROOT = Path(__file__).resolve().parent.parent


def mlp(lib: Any) -> Any:
    nn = lib.nn
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def cnn(lib: Any) -> Any:
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 5 * 5, 120),
        nn.ReLU(),
        nn.Linear(120, 10),
    )


def resnet18(lib: Any) -> Any:
    nn = lib.nn

    class Block(nn.Module):
        def __init__(self, inner: int, outer: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(outer)
            self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(outer)
            self.relu = nn.ReLU()
            self.shortcut = nn.Identity()
            if stride != 1 or inner != outer:
                skip = nn.Conv2d(inner, outer, 1, stride=stride, bias=False)
                self.shortcut = nn.Sequential(skip, nn.BatchNorm2d(outer))

        def forward(self, x: Any) -> Any:
            y = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    blocks = []
    inner = 64
    for outer, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        blocks += [Block(inner, outer, stride), Block(outer, outer, 1)]
        inner = outer
    stem = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def _block(lib: Any, d: int, heads: int) -> Any:
    nn = lib.nn

    class Block(nn.Module):
        """Pre-norm transformer block; the attention over packed projections and scaled_dot_product_attention."""

        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(d)
            self.norm2 = nn.LayerNorm(d)
            self.qkv = nn.Linear(d, 3 * d)
            self.out = nn.Linear(d, d)
            self.up = nn.Linear(d, 4 * d)
            self.down = nn.Linear(4 * d, d)

        def forward(self, x: Any, causal: bool = False) -> Any:
            n, t, _ = x.shape
            qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
            a = lib.nn.functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=causal)
            x = x + self.out(a.transpose(1, 2).reshape(n, t, d))
            return x + self.down(lib.nn.functional.gelu(self.up(self.norm2(x))))

    return Block()


def vit(lib: Any) -> Any:
    nn = lib.nn

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(1, 128, 4, stride=4)
            self.position = nn.Parameter(lib.zeros(1, 49, 128))
            self.blocks = nn.ModuleList([_block(lib, 128, 4) for _ in range(6)])
            self.norm = nn.LayerNorm(128)
            self.head = nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2) + self.position
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x).mean(dim=1))

    return ViT()


def gpt(lib: Any) -> Any:
    nn = lib.nn

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(65, 256)
            self.positions = nn.Embedding(128, 256)
            self.blocks = nn.ModuleList([_block(lib, 256, 8) for _ in range(6)])
            self.norm = nn.LayerNorm(256)
            self.head = nn.Linear(256, 65)

        def forward(self, x: Any) -> Any:
            x = self.tokens(x) + self.positions(lib.arange(x.shape[1]))
            for block in self.blocks:
                x = block(x, causal=True)
            return self.head(self.norm(x)).reshape(-1, 65)

    return GPT()


# name: (model, batch for a random generator: inputs and labels)
MODELS: dict[str, tuple[Callable[[Any], Any], Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]]] = {
    "MLP 784-512-256-10, batch 64": (mlp, lambda r: (_normal(r, 64, 784), r.integers(0, 10, 64))),
    "LeNet-like CNN 28x28, batch 64": (cnn, lambda r: (_normal(r, 64, 1, 28, 28), r.integers(0, 10, 64))),
    "ResNet-18, CIFAR shape, batch 16": (resnet18, lambda r: (_normal(r, 16, 3, 32, 32), r.integers(0, 10, 16))),
    "ViT 28x28 patch 4 d 128 6 layers, batch 64": (vit, lambda r: (_normal(r, 64, 1, 28, 28), r.integers(0, 10, 64))),
    "GPT 6 layers d 256 T 128, batch 16": (gpt, lambda r: (r.integers(0, 65, (16, 128)), r.integers(0, 65, 16 * 128))),
}


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


class Training:
    """One model in one library; a worker of bench/worker.py makes it on the request `model`."""

    def __init__(self, lib: Any, name: str, compiled: bool):
        make, batch = MODELS[name]
        lib.manual_seed(0)
        self.lib = lib
        model = make(lib)
        self.parameters = list(model.parameters())
        self.optimizer = lib.optim.AdamW(self.parameters, lr=1e-3)
        self.model = lib.compile(model) if compiled else model
        self.x, self.labels = (lib.from_numpy(array) for array in batch(np.random.default_rng(3)))

    def step(self) -> float:
        begin = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.lib.nn.functional.cross_entropy(self.model(self.x), self.labels)
        loss.backward()
        self.optimizer.step()
        self.last = loss.item()
        return time.perf_counter() - begin

    def measure(self, seconds: float, least: int) -> list[float]:
        gc.collect()
        for _ in range(2):
            self.step()
        samples: list[float] = []
        begin = time.perf_counter()
        while len(samples) < least or time.perf_counter() - begin < seconds:
            samples.append(self.step())
        return samples

    @staticmethod
    def peak_megabytes() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_model(name: str, args: argparse.Namespace, kinds: list[tuple[str, str, bool]]) -> dict[str, Any]:
    """A fresh process of each library for each model, so that peak memory is the model's own."""
    peers = []
    try:
        for label, library, compiled in kinds:
            peer = Peer(label, library, "cpu", args.threads)
            peers.append(peer)
            peer.ask("model", name=name, compiled=compiled)
        request = {"do": "measure_model", "seconds": args.seconds, "least": 3}
        samples, _ = take_turns(peers, args.rounds, 0.2, request)
        memory = {peer.name: peer.ask("peak_memory")["megabytes"] for peer in peers}
    finally:
        for peer in peers:
            peer.close()
    return {"name": name, "ms": {k: statistics.median(v) * 1e3 for k, v in samples.items()}, "peak_mb": memory}


def table(rows: list[dict[str, Any]], labels: list[str]) -> str:
    header = ["training step", *(f"{label}, ms" for label in labels)]
    others = [label for label in labels if label != "tensorgrad"]
    header += [f"ratio to {label}" for label in others] + [f"{label}, peak MB" for label in labels]
    lines = []
    for row in rows:
        ms, peak = row["ms"], row["peak_mb"]
        line = [row["name"], *(f"{ms[label]:.2f}" for label in labels)]
        line += [
            f"{ms['tensorgrad'] / ms[label]:.3f}" if label in ms and "tensorgrad" in ms else "-" for label in others
        ]
        lines.append(line + [f"{peak[label]:.0f}" for label in labels])
    return markdown(header, lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--only", default="", help="only the models whose name contains this text")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    from tqdm import tqdm

    kinds = [("torch eager", "torch", False), ("torch.compile", "torch", True), ("tensorgrad", "tensorgrad", False)]
    if args.no_compile:
        kinds.pop(1)
    rows, failed = [], False
    chosen = [name for name in MODELS if args.only.lower() in name.lower()]
    for name in tqdm(chosen, file=sys.stderr, disable=None):
        try:
            rows.append(run_model(name, args, kinds))
        except PeerError as error:
            print(f"bench: {name}: {error}", file=sys.stderr)
            failed = True
    print(table(rows, [label for label, _, _ in kinds]))
    if args.json:
        args.json.write_text(json.dumps({"meta": describe("cpu") | {"threads": args.threads}, "rows": rows}, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

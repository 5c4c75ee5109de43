"""The models and programs that bench/models.py times, written once for whatever library is passed in as `lib`.

A `Program` says what one step does: a training step (zero_grad, forward, loss, backward, optimizer), a forward pass
under no_grad, or an epoch fed by a DataLoader. The batch comes from a seeded generator, so all libraries get the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Batch = tuple[np.ndarray, np.ndarray]


def mlp(lib: Any, width: int = 784, hidden: int = 512, second: int = 256) -> Any:
    nn = lib.nn
    return nn.Sequential(
        nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, second), nn.ReLU(), nn.Linear(second, 10)
    )


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


def demo_cnn(lib: Any, dropout: float = 0.0) -> Any:
    """The network of `make demo` (examples/cpp/fashion_mnist.cpp), on request with dropout."""
    nn = lib.nn
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10))


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


def _block(lib: Any, d: int, heads: int, dropout: float) -> Any:
    nn = lib.nn
    attention = nn.functional.scaled_dot_product_attention
    gelu = nn.functional.gelu

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
            self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

        def forward(self, x: Any, causal: bool = False) -> Any:
            n, t, _ = x.shape
            qkv = self.qkv(self.norm1(x)).reshape(n, t, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
            a = attention(qkv[0], qkv[1], qkv[2], is_causal=causal)
            x = x + self.drop(self.out(a.transpose(1, 2).reshape(n, t, d)))
            return x + self.drop(self.down(gelu(self.up(self.norm2(x)))))

    return Block()


def vit(lib: Any, d: int = 128, heads: int = 4, layers: int = 6, dropout: float = 0.0) -> Any:
    nn = lib.nn

    class ViT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(1, d, 4, stride=4)
            self.position = nn.Parameter(lib.zeros(1, 49, d))
            self.blocks = nn.ModuleList([_block(lib, d, heads, dropout) for _ in range(layers)])
            self.norm = nn.LayerNorm(d)
            self.head = nn.Linear(d, 10)

        def forward(self, x: Any) -> Any:
            x = self.patches(x).flatten(2).transpose(1, 2) + self.position
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x).mean(dim=1))

    return ViT()


def gpt(
    lib: Any, d: int = 256, heads: int = 8, layers: int = 6, length: int = 128, words: int = 65, dropout: float = 0.0
) -> Any:
    nn = lib.nn

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(words, d)
            self.positions = nn.Embedding(length, d)
            self.blocks = nn.ModuleList([_block(lib, d, heads, dropout) for _ in range(layers)])
            self.norm = nn.LayerNorm(d)
            self.head = nn.Linear(d, words)

        def forward(self, x: Any) -> Any:
            x = self.tokens(x) + self.positions(lib.arange(x.shape[1], device=x.device))
            for block in self.blocks:
                x = block(x, causal=True)
            return self.head(self.norm(x)).reshape(-1, words)

    return GPT()


def recurrent(lib: Any, width: int = 32, hidden: int = 64) -> Any:
    """An LSTM cell written out in small operations and unrolled: the cost of an operation counts, not arithmetic."""
    nn = lib.nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(width, 4 * hidden)
            self.carried = nn.Linear(hidden, 4 * hidden, bias=False)
            self.head = nn.Linear(hidden, 10)

        def forward(self, x: Any) -> Any:
            h = c = lib.zeros(x.shape[0], hidden, dtype=x.dtype)
            for t in range(x.shape[1]):
                i, f, g, o = (self.inner(x[:, t]) + self.carried(h)).chunk(4, dim=1)
                c = lib.sigmoid(f) * c + lib.sigmoid(i) * lib.tanh(g)
                h = lib.sigmoid(o) * lib.tanh(c)
            return self.head(h)

    return Recurrent()


@dataclass(frozen=True)
class Program:
    """`kind`: "train" (a whole step), "infer" (a forward pass under no_grad) or "epoch" (over a DataLoader)."""

    name: str
    make: Callable[[Any], Any]
    batch: Callable[[np.random.Generator], Batch]
    kind: str = "train"


def _vectors(n: int, width: int = 784) -> Callable[[np.random.Generator], Batch]:
    return lambda r: (r.standard_normal((n, width)).astype(np.float32), r.integers(0, 10, n))


def _images(n: int, channels: int = 1, size: int = 28) -> Callable[[np.random.Generator], Batch]:
    return lambda r: (r.standard_normal((n, channels, size, size)).astype(np.float32), r.integers(0, 10, n))


def _text(n: int, length: int = 128, words: int = 65) -> Callable[[np.random.Generator], Batch]:
    return lambda r: (r.integers(0, words, (n, length)), r.integers(0, words, n * length))


def _series(n: int, length: int, width: int = 32) -> Callable[[np.random.Generator], Batch]:
    return lambda r: (r.standard_normal((n, length, width)).astype(np.float32), r.integers(0, 10, n))


def _named(name: str, **sizes: Any) -> Callable[[Any], Any]:
    make = {"mlp": mlp, "demo_cnn": demo_cnn, "vit": vit, "gpt": gpt, "recurrent": recurrent}[name]
    return lambda lib: make(lib, **sizes)


STEPS = [
    Program("MLP 784-512-256-10, batch 64", mlp, _vectors(64)),
    Program("LeNet-like CNN 28x28, batch 64", cnn, _images(64)),
    Program("ResNet-18, CIFAR shape, batch 16", resnet18, _images(16, 3, 32)),
    Program("ViT 28x28 patch 4 d 128 6 layers, batch 64", vit, _images(64)),
    Program("GPT 6 layers d 256 T 128, batch 16", gpt, _text(16)),
]

SHAPES = [
    Program("MLP, batch 1", mlp, _vectors(1)),
    Program("MLP, batch 7", mlp, _vectors(7)),
    Program("MLP, batch 256", mlp, _vectors(256)),
    Program("MLP 100-333-77-10, batch 50", _named("mlp", width=100, hidden=333, second=77), _vectors(50, 100)),
    Program("MLP 1000-2000-999-10, batch 128", _named("mlp", width=1000, hidden=2000, second=999), _vectors(128, 1000)),
    Program("CNN, batch 1", cnn, _images(1)),
    Program("CNN, batch 7", cnn, _images(7)),
    Program("CNN, batch 256", cnn, _images(256)),
    Program("demo CNN, batch 64", demo_cnn, _images(64)),
    Program("demo CNN with dropout 0.25, batch 64", _named("demo_cnn", dropout=0.25), _images(64)),
    Program("ResNet-18, batch 1", resnet18, _images(1, 3, 32)),
    Program("ResNet-18, batch 7", resnet18, _images(7, 3, 32)),
    Program("ResNet-18, batch 64", resnet18, _images(64, 3, 32)),
    Program("ViT, batch 1", vit, _images(1)),
    Program("ViT d 192 3 heads dropout 0.1, batch 7", _named("vit", d=192, heads=3, dropout=0.1), _images(7)),
    Program("GPT, batch 1", gpt, _text(1)),
    Program("GPT d 192 6 heads T 100, batch 7", _named("gpt", d=192, heads=6, length=100), _text(7, 100)),
    Program("GPT 50257 words 2 layers, batch 4", _named("gpt", layers=2, words=50257), _text(4, 128, 50257)),
    Program("GPT, batch 64", gpt, _text(64)),
    Program("GPT with dropout 0.1, batch 16", _named("gpt", dropout=0.1), _text(16)),
    Program("LSTM of small operations, 64 steps, batch 16", recurrent, _series(16, 64)),
    Program("LSTM of small operations, 64 steps, batch 1", recurrent, _series(1, 64)),
]

INFERENCE = [
    Program("MLP, batch 1", mlp, _vectors(1), "infer"),
    Program("MLP, batch 64", mlp, _vectors(64), "infer"),
    Program("CNN, batch 1", cnn, _images(1), "infer"),
    Program("CNN, batch 64", cnn, _images(64), "infer"),
    Program("ResNet-18, batch 1", resnet18, _images(1, 3, 32), "infer"),
    Program("ResNet-18, batch 16", resnet18, _images(16, 3, 32), "infer"),
    Program("ResNet-18 224x224, batch 1", resnet18, _images(1, 3, 224), "infer"),
    Program("ViT, batch 1", vit, _images(1), "infer"),
    Program("ViT, batch 64", vit, _images(64), "infer"),
    Program("GPT, batch 1", gpt, _text(1), "infer"),
    Program("GPT, batch 16", gpt, _text(16), "infer"),
    Program("LSTM of small operations, 64 steps, batch 1", recurrent, _series(1, 64), "infer"),
]

EPOCHS = [Program("demo CNN, an epoch of 9600 images, batch 64", demo_cnn, _images(9600), "epoch")]

SETS = {"steps": STEPS, "shapes": SHAPES, "inference": INFERENCE, "epochs": EPOCHS}


def find(chosen: str, name: str) -> Program:
    return next(program for program in SETS[chosen] if program.name == name)

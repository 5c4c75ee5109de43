"""The rows of the table: four modules, three sizes each, as `name, inputs, input shape, how to build the module`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MODULES = ["nn.Linear", "nn.Conv2d", "nn.MultiheadAttention", "nn.Softmax"]
DIRECTIONS = ["forward", "backward", "backward, random gradient"]


@dataclass(frozen=True)
class Case:
    module: str  # the class, as in "nn.Linear"
    inputs: str  # the row's label
    shape: tuple[int, ...]
    args: tuple[int, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.module} {self.inputs}"


def _linear(n: int, k: int, m: int) -> Case:
    return Case("nn.Linear", f"input={n}x{k}, features={m}", (n, k), (k, m))


def _conv(n: int, c: int, s: int, out: int) -> Case:
    return Case("nn.Conv2d", f"input={n}x{c}x{s}x{s} kernel=3 channels={out}", (n, c, s, s), (c, out, 3))


def _attention(n: int, t: int, d: int, heads: int) -> Case:
    label = f"input={n}x{t}x{d} d_model={d} n_heads={heads}"
    return Case("nn.MultiheadAttention", label, (n, t, d), (d, heads), {"batch_first": True})


def _softmax(n: int, k: int) -> Case:
    return Case("nn.Softmax", f"input={n}x{k} dim=-1", (n, k), (), {"dim": -1})


CASES = [
    _linear(32, 64, 128),
    _linear(64, 1024, 2048),
    _linear(128, 2048, 4096),
    _conv(4, 3, 32, 16),
    _conv(8, 32, 64, 64),
    _conv(8, 64, 128, 128),
    _attention(16, 32, 64, 4),
    _attention(32, 64, 128, 8),
    _attention(32, 128, 256, 8),
    _softmax(128, 64),
    _softmax(512, 256),
    _softmax(1024, 512),
]

"""The cases of the operation sweep for devices alone: layers and running sums that read and write bfloat16, batch
norm and pools of images whose channels lie last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.ops_cases import add, text
from bench.ops_kit import Kit

Shape = tuple[int, ...]


def half(name: str, shapes: tuple[Shape, ...], call: Callable[..., Any], **options: Any) -> None:
    """`call(f, *inputs)` over normal bfloat16 inputs of these shapes, `f` being nn.functional."""

    def build(kit: Kit) -> Callable[[], Any]:
        inputs = [kit.bfloat16(*shape) for shape in shapes]
        return lambda: call(kit.f, *inputs)

    add("half", f"{name} {text(shapes[0])}", build, backward=True, **({"tolerance": 2e-2} | options))


def rows() -> None:
    for shape in ((32, 64), (1024, 512), (16384, 1536), (4096, 4096), (64, 50257), (1_000_000, 3), (8, 8, 128, 128)):
        half("softmax", (shape,), lambda f, x: f.softmax(x, -1))
        half("log_softmax", (shape,), lambda f, x: f.log_softmax(x, -1))
    half("softmax dim 1 of", ((16, 21, 64, 64),), lambda f, x: f.softmax(x, 1))
    for shape in ((32, 64), (1024, 768), (16384, 1536), (4096, 4096), (4096, 16384), (100_000, 10), (8, 100_000)):
        d = shape[-1]
        half("layer_norm", (shape, (d,), (d,)), lambda f, x, w, b, d=d: f.layer_norm(x, (d,), w, b))
        half("rms_norm", (shape, (d,)), lambda f, x, w, d=d: f.rms_norm(x, (d,), w))
    for shape, dim in (((1024, 1024), 1), ((1024, 1024), 0), ((8, 1_000_000), 1)):
        # PyTorch adds in bfloat16 there.
        half(f"cumsum dim {dim}", (shape,), lambda f, x, dim=dim: x.cumsum(dim), tolerance=0.25)


def planes() -> None:
    for shape in (
        (16, 16, 28, 28),
        (32, 64, 32, 32),
        (64, 256, 14, 14),
        (8, 256, 56, 56),
        (64, 512, 7, 7),
        (8192, 512),
    ):
        c = shape[1]
        half("batch_norm", (shape, (c,), (c,)), lambda f, x, w, b: f.batch_norm(x, None, None, w, b, True))

        def mixed(kit: Kit, shape: Shape = shape, c: int = c) -> Callable[[], Any]:
            x, w, b = kit.bfloat16(*shape), kit.normal(c), kit.normal(c)
            mean, var = kit.normal(c, grad=False), kit.uniform(0.5, 1, c, grad=False)
            return lambda: kit.f.batch_norm(x, mean, var, w, b, True)

        add("half", f"batch_norm with float32 weights {text(shape)}", mixed, backward=True, tolerance=2e-2)
        if len(shape) == 4:
            half("group_norm 8", (shape, (c,), (c,)), lambda f, x, w, b: f.group_norm(x, 8, w, b))
    for shape in ((8, 64, 112, 112), (64, 256, 14, 14)):
        half("max_pool2d k3 s2 p1", (shape,), lambda f, x: f.max_pool2d(x, 3, 2, 1))
        half("avg_pool2d k2", (shape,), lambda f, x: f.avg_pool2d(x, 2))
        half("adaptive_avg_pool2d 1", (shape,), lambda f, x: f.adaptive_avg_pool2d(x, 1))


def losses() -> None:
    for count, classes in ((64, 10), (128, 1000), (1024, 50257), (1024, 50304), (100_000, 3)):

        def build(kit: Kit, count: int = count, classes: int = classes, **options: Any) -> Callable[[], Any]:
            x, target = kit.bfloat16(count, classes), kit.index(classes, count)
            return lambda: kit.f.cross_entropy(x, target, **options)

        add("half", f"cross_entropy {count}x{classes}", build, backward=True, tolerance=2e-2)
    for shape, count in (((1000, 64), 512), ((50257, 768), 8192)):

        def table(kit: Kit, shape: Shape = shape, count: int = count) -> Callable[[], Any]:
            x, index = kit.bfloat16(*shape), kit.index(shape[0], count)
            return lambda: kit.f.embedding(index, x)

        add("half", f"embedding of {count} in {text(shape)}", table, backward=True, tolerance=2e-2)


def channels_last() -> None:
    def last(name: str, shape: Shape, bfloat16: bool, call: Callable[..., Any], weights: bool = False) -> None:
        """`call(f, x, *weights)` of an image (N, C, H, W) that lies as `shape`, (N, H, W, C)."""

        def build(kit: Kit) -> Callable[[], Any]:
            x = (kit.bfloat16 if bfloat16 else kit.normal)(*shape)
            w = [kit.normal(shape[-1]), kit.normal(shape[-1])] if weights else []
            return lambda: call(kit.f, x.permute(0, 3, 1, 2), *w)

        options: dict[str, Any] = {"tolerance": 2e-2} if bfloat16 else {}
        add("last", f"{name} {'bfloat16 ' * bfloat16}{text(shape)}", build, backward=True, **options)

    for shape in ((32, 28, 28, 64), (8, 56, 56, 256), (64, 7, 7, 512), (8, 112, 112, 64)):
        for half in (False, True):
            norm = lambda f, x, w, b: f.batch_norm(x, None, None, w, b, True)  # noqa: E731
            last("batch_norm", shape, half, norm, weights=True)
            last("max_pool2d k2", shape, half, lambda f, x: f.max_pool2d(x, 2))
            last("max_pool2d k3 s2 p1", shape, half, lambda f, x: f.max_pool2d(x, 3, 2, 1))
            last("avg_pool2d k2", shape, half, lambda f, x: f.avg_pool2d(x, 2))
            last("adaptive_avg_pool2d 1", shape, half, lambda f, x: f.adaptive_avg_pool2d(x, 1))


rows()
planes()
losses()
channels_last()

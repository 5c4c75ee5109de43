"""The cases of the operation sweep that are layers: softmax, norms, losses, pools and optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.ops_cases import add, text
from bench.ops_kit import Kit

Shapes = tuple[tuple[int, ...], ...]


def layer(family: str, name: str, shapes: Shapes, call: Callable[..., Any], **options: Any) -> None:
    """`call(f, *inputs)` over normal inputs of these shapes, `f` being nn.functional."""

    def build(kit: Kit) -> Callable[[], Any]:
        inputs = [kit.normal(*shape) for shape in shapes]
        return lambda: call(kit.f, *inputs)

    add(family, f"{name} {text(shapes[0])}", build, backward=True, **options)


def softmaxes() -> None:
    shapes = [
        (4,),
        (32, 64),
        (128, 64),
        (512, 256),
        (1024, 512),
        (64, 50257),
        (100_000, 10),
        (1_000_000, 3),
        (4096, 4096),
        (8, 8, 128, 128),
    ]
    for shape in shapes:
        layer("softmax", "softmax", (shape,), lambda f, x: f.softmax(x, -1))
        layer("softmax", "log_softmax", (shape,), lambda f, x: f.log_softmax(x, -1))
    for shape in ((512, 256), (16, 21, 64, 64), (512, 3, 100)):
        layer("softmax", "softmax dim 1 of", (shape,), lambda f, x: f.softmax(x, 1))
    layer("softmax", "softmax dim 0", ((512, 256),), lambda f, x: f.softmax(x, 0))
    layer("softmax", "softmax of transposed", ((512, 512),), lambda f, x: f.softmax(x.t(), -1))


def norms() -> None:
    for shape in ((2, 8), (32, 64), (64, 128), (1024, 768), (16384, 256), (100_000, 10), (8, 100_000)):
        d = shape[-1]
        layer("norm", "layer_norm", (shape, (d,), (d,)), lambda f, x, w, b, d=d: f.layer_norm(x, (d,), w, b))
        layer("norm", "rms_norm", (shape, (d,)), lambda f, x, w, d=d: f.rms_norm(x, (d,), w))
    for shape in (
        (4, 3, 4, 4),
        (16, 16, 28, 28),
        (32, 64, 32, 32),
        (8, 256, 56, 56),
        (64, 512, 4, 4),
        (256, 64),
        (32, 1024),
    ):
        c = shape[1]

        def build(kit: Kit, shape: tuple[int, ...] = shape, c: int = c, train: bool = True) -> Callable[[], Any]:
            x, w, b = kit.normal(*shape), kit.normal(c), kit.normal(c)
            mean, var = kit.normal(c, grad=False), kit.uniform(0.5, 1, c, grad=False)
            return lambda: kit.f.batch_norm(x, mean, var, w, b, train)

        add("norm", f"batch_norm {text(shape)}", build, backward=True)
        add("norm", f"batch_norm eval {text(shape)}", lambda kit, b=build: b(kit, train=False), backward=True)
        if len(shape) == 4 and c % 4 == 0:
            layer("norm", "group_norm 4", (shape, (c,), (c,)), lambda f, x, w, b: f.group_norm(x, 4, w, b))
            layer("norm", "instance_norm", (shape,), lambda f, x: f.instance_norm(x))
    layer("norm", "normalize", ((512, 512),), lambda f, x: f.normalize(x))
    layer("norm", "local_response_norm", ((8, 16, 32, 32),), lambda f, x: f.local_response_norm(x, 5))


def losses() -> None:
    for rows, classes in ((4, 10), (64, 10), (128, 1000), (1024, 50257), (10_000, 10), (100_000, 3)):

        def build(kit: Kit, rows: int = rows, classes: int = classes, **options: Any) -> Callable[[], Any]:
            x, target = kit.normal(rows, classes), kit.index(classes, rows)
            return lambda: kit.f.cross_entropy(x, target, **options)

        add("loss", f"cross_entropy {rows}x{classes}", build, backward=True)
        add(
            "loss",
            f"cross_entropy smoothing {rows}x{classes}",
            lambda kit, b=build: b(kit, label_smoothing=0.1),
            backward=True,
        )

        def soft(kit: Kit, rows: int = rows, classes: int = classes) -> Callable[[], Any]:
            x, target = kit.normal(rows, classes), kit.uniform(0, 1, rows, classes, grad=False)
            return lambda: kit.f.cross_entropy(x, target)

        if rows * classes < 10_000_000:
            add("loss", f"cross_entropy probabilities {rows}x{classes}", soft, backward=True)

        def nll(kit: Kit, rows: int = rows, classes: int = classes) -> Callable[[], Any]:
            x, target = kit.normal(rows, classes), kit.index(classes, rows)
            return lambda: kit.f.nll_loss(x, target)

        add("loss", f"nll_loss {rows}x{classes}", nll, backward=True)

    def images(kit: Kit) -> Callable[[], Any]:
        x, target = kit.normal(4, 21, 64, 64), kit.index(21, 4, 64, 64)
        return lambda: kit.f.cross_entropy(x, target)

    add("loss", "cross_entropy of images 4x21x64x64", images, backward=True)
    for shape in ((4,), (32, 64), (512, 512), (2048, 2048)):
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            layer("loss", name, (shape, shape), lambda f, x, y, n=name: getattr(f, n)(x, y.detach()))
        layer("loss", "mse_loss none", (shape, shape), lambda f, x, y: f.mse_loss(x, y, reduction="none"))

        def bce(kit: Kit, shape: tuple[int, ...] = shape, logits: bool = True) -> Callable[[], Any]:
            x, y = kit.uniform(0.05, 0.95, *shape), kit.uniform(0, 1, *shape, grad=False)
            name = "binary_cross_entropy_with_logits" if logits else "binary_cross_entropy"
            return lambda: getattr(kit.f, name)(x, y)

        add("loss", f"bce_with_logits {text(shape)}", bce, backward=True)
        add("loss", f"bce {text(shape)}", lambda kit, b=bce: b(kit, logits=False), backward=True)
        layer("loss", "kl_div", (shape, shape), lambda f, x, y: f.kl_div(x, y.detach().abs(), reduction="sum"))
    layer("loss", "cosine_similarity", ((512, 512), (512, 512)), lambda f, x, y: f.cosine_similarity(x, y))


def pools() -> None:
    shapes = ((2, 3, 8, 8), (16, 16, 28, 28), (32, 64, 32, 32), (8, 64, 112, 112))
    for shape in shapes:
        for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (5, 3, 2)):
            tag = f"k{kernel} s{stride} p{padding}"
            of = {"kernel_size": kernel, "stride": stride, "padding": padding}
            layer("pool", f"max_pool2d {tag}", (shape,), lambda f, x, of=of: f.max_pool2d(x, **of))
            layer("pool", f"avg_pool2d {tag}", (shape,), lambda f, x, of=of: f.avg_pool2d(x, **of))
        layer("pool", "adaptive_avg_pool2d 1", (shape,), lambda f, x: f.adaptive_avg_pool2d(x, 1))
        layer("pool", "adaptive_avg_pool2d 7", (shape,), lambda f, x: f.adaptive_avg_pool2d(x, 7))
        layer("pool", "adaptive_max_pool2d 4", (shape,), lambda f, x: f.adaptive_max_pool2d(x, 4))
    layer("pool", "max_pool1d k3 s2", ((16, 32, 1000),), lambda f, x: f.max_pool1d(x, 3, 2))
    layer("pool", "avg_pool1d k3 s2", ((16, 32, 1000),), lambda f, x: f.avg_pool1d(x, 3, 2))


def optimizers() -> None:
    def case(name: str, sizes: list[tuple[int, ...]], label: str, fused: bool, **options: Any) -> None:
        def build(kit: Kit) -> Callable[[], Any]:
            parameters = [kit.normal(*shape, grad=True) for shape in sizes]
            for p in parameters:
                p.grad = kit.normal(*p.shape, grad=False)
            # PyTorch's fastest form: fused. tensorgrad has one form.
            of = options | ({"fused": True} if fused and kit.lib.__name__ == "torch" else {})
            kind, _, _ = name.partition(" ")
            return getattr(kit.lib.optim, kind)(parameters, lr=1e-5, **of).step

        add("optim", f"{name} over {label}", build, exact=False)

    model = [(256, 256), (256,)] * 100
    for label, sizes in (
        ("1 of 4", [(4,)]),
        ("1 of 1024x1024", [(1024, 1024)]),
        ("1 of 4096x4096", [(4096, 4096)]),
        ("20 of 64x64", [(64, 64)] * 20),
        ("200 of 32", [(32,)] * 200),
        ("200 of 256x256 and 256", model),
    ):
        case("Adam", sizes, label, True)
        case("AdamW", sizes, label, True)
        case("SGD", sizes, label, True)
        case("SGD momentum", sizes, label, True, momentum=0.9)


softmaxes()
norms()
losses()
pools()
optimizers()

"""The shapes of bench/shapes.py."""

from __future__ import annotations

from dataclasses import dataclass

Sizes = dict[str, tuple[tuple[int, ...], float]]


@dataclass(frozen=True)
class Convolution:
    name: str
    batch: int
    channels: int
    space: tuple[int, ...]
    outputs: int
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int | tuple[int, ...] = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    channels_last: bool = False
    dtype: str = "float32"

    @property
    def function(self) -> str:
        return f"conv{'_transpose' if self.transposed else ''}{len(self.space)}d"

    def leaves(self) -> Sizes:
        """Name: (shape, standard deviation)."""
        first, second = self.outputs, self.channels // self.groups
        if self.transposed:
            first, second = self.channels, self.outputs // self.groups
        terms = self.channels // self.groups
        for size in self.kernel:
            terms *= size
        return {
            "input": ((self.batch, self.channels, *self.space), 1.0),
            "weight": ((first, second, *self.kernel), terms**-0.5),
            "bias": ((self.outputs,), 1.0),
        }


@dataclass(frozen=True)
class Attention:
    name: str
    batch: int
    heads: int
    queries: int
    keys: int
    size: int
    causal: bool = False
    mask: str = ""  # "bool" or "float"
    key_heads: int = 0  # 0: as many as the query's
    dropout: float = 0.0  # every library draws its own numbers: then results are not compared
    dtype: str = "float32"

    def leaves(self) -> Sizes:
        key = (self.batch, self.key_heads or self.heads, self.keys, self.size)
        query = (self.batch, self.heads, self.queries, self.size)
        return {"query": (query, 1.0), "key": (key, 1.0), "value": (key, 1.0)}


@dataclass(frozen=True)
class MultiHead:
    name: str
    batch: int
    length: int
    embed: int
    heads: int
    dropout: float = 0.0
    dtype: str = "float32"

    def leaves(self) -> Sizes:
        e = self.embed
        return {
            "input": ((self.batch, self.length, e), 1.0),
            "in_proj_weight": ((3 * e, e), e**-0.5),
            "in_proj_bias": ((3 * e,), 0.1),
            "out_proj.weight": ((e, e), e**-0.5),
            "out_proj.bias": ((e,), 0.1),
        }


def _conv(family: str, n: int, c: int, size: int, k: int, kernel: int, stride: int = 1, pad: int = -1, **more):
    """A square two-dimensional convolution; pad -1: half of the kernel."""
    pad = kernel // 2 * more.get("dilation", 1) if pad < 0 else pad
    label = f"{family} {n}x{c}x{size}x{size} to {k} k{kernel}"
    label += f" s{stride}" if stride > 1 else ""
    for key, text in (("dilation", "d"), ("groups", "g")):
        label += f" {text}{more[key]}" if key in more else ""
    for key in ("transposed", "channels_last"):
        label += f" {key}" if more.get(key) else ""
    label += f" {more['dtype']}" if "dtype" in more else ""
    return Convolution(label, n, c, (size, size), k, (kernel, kernel), stride, pad, **more)


def _line(family: str, n: int, c: int, size: int, k: int, kernel: int, stride: int = 1, pad: int = -1, **more):
    pad = kernel // 2 * more.get("dilation", 1) if pad < 0 else pad
    label = f"{family} {n}x{c}x{size} to {k} k{kernel}" + "".join(f" {key} {v}" for key, v in more.items())
    return Convolution(label + (f" s{stride}" if stride > 1 else ""), n, c, (size,), k, (kernel,), stride, pad, **more)


def _volume(n: int, c: int, depth: int, size: int, k: int, kernel: int, stride: int = 1):
    label = f"3-d {n}x{c}x{depth}x{size}x{size} to {k} k{kernel}" + (f" s{stride}" if stride > 1 else "")
    return Convolution(label, n, c, (depth, size, size), k, (kernel,) * 3, stride, kernel // 2)


_RESNET_BLOCKS = [(64, 56), (128, 28), (256, 14), (512, 7)]

CONVOLUTIONS = [
    _conv("table", 4, 3, 32, 16, 3, pad=0),
    _conv("table", 8, 32, 64, 64, 3, pad=0),
    _conv("table", 8, 64, 128, 128, 3, pad=0),
    _conv("lenet", 64, 1, 28, 6, 5),
    _conv("lenet", 64, 6, 14, 16, 5, pad=0),
    _conv("cnn", 64, 1, 28, 32, 3),
    _conv("cnn", 64, 32, 14, 64, 3),
    # ResNet-18 at CIFAR's shape
    _conv("cifar", 16, 3, 32, 64, 3),
    *(_conv("cifar", 16, c, size, c, 3) for c, size in [(64, 32), (128, 16), (256, 8), (512, 4)]),
    *(_conv("cifar", 16, c, size, 2 * c, 3, 2) for c, size in [(64, 32), (128, 16), (256, 8)]),
    *(_conv("cifar", 16, c, size, 2 * c, 1, 2) for c, size in [(64, 32), (128, 16), (256, 8)]),
    # ImageNet
    _conv("resnet", 1, 3, 224, 64, 7, 2),
    _conv("resnet", 8, 3, 224, 64, 7, 2),
    *(_conv("resnet", n, c, size, c, 3) for n in (1, 8) for c, size in _RESNET_BLOCKS),
    *(_conv("resnet", n, c, 2 * size, c, 3, 2) for n in (1, 8) for c, size in _RESNET_BLOCKS[1:]),
    *(_conv("resnet", n, c // 2, 2 * size, c, 1, 2) for n in (1, 8) for c, size in _RESNET_BLOCKS[1:]),
    *(_conv("resnet50", n, 4 * c, size, c, 1) for n in (1, 4) for c, size in _RESNET_BLOCKS),
    *(_conv("resnet50", n, c, size, 4 * c, 1) for n in (1, 4) for c, size in _RESNET_BLOCKS),
    _conv("resnet50", 4, 256, 56, 512, 1, 2),
    _conv("resnext", 4, 128, 56, 128, 3, groups=32),
    _conv("resnext", 4, 512, 14, 512, 3, groups=32),
    # depthwise
    *(_conv("mobilenet", n, c, s, c, 3, groups=c) for n in (1, 8) for c, s in [(32, 112), (144, 56), (576, 14)]),
    *(_conv("mobilenet", n, c, s, c, 3, 2, groups=c) for n in (1, 8) for c, s in [(96, 112), (192, 28), (576, 14)]),
    _conv("mobilenet", 1, 960, 7, 960, 3, groups=960),
    _conv("efficientnet", 4, 240, 28, 240, 5, groups=240),
    _conv("efficientnet", 4, 672, 14, 672, 5, 2, groups=672),
    *(_conv("convnext", n, c, s, c, 7, groups=c) for n in (1, 8) for c, s in [(96, 56), (384, 14), (768, 7)]),
    _conv("convnext", 4, 3, 224, 96, 4, 4, pad=0),
    _conv("convnext", 4, 96, 56, 192, 2, 2, pad=0),
    _conv("depthwise doubled", 8, 32, 28, 64, 3, groups=32),
    _conv("depthwise", 8, 256, 10, 256, 3, groups=256),
    _conv("depthwise", 4, 200, 19, 200, 5, 2, groups=200),
    _conv("depthwise", 2, 128, 32, 128, 3, dilation=2, groups=128),
    # other kernels, dilation, groups
    *(_conv("dilated", 4, 64, 32, 64, 3, dilation=d) for d in (2, 4)),
    _conv("dilated", 1, 256, 28, 256, 3, dilation=2),
    _conv("dilated", 2, 256, 33, 256, 3, dilation=6),
    _conv("dilated", 2, 96, 50, 96, 3, dilation=3),
    _conv("dilated", 4, 48, 40, 64, 5, dilation=2),
    _conv("grouped", 8, 128, 28, 128, 3, groups=8),
    _conv("grouped", 8, 192, 14, 192, 3, 2, groups=8),
    _conv("grouped", 8, 64, 28, 128, 3, groups=2),
    _conv("grouped", 8, 64, 28, 64, 1, groups=4),
    _conv("5x5", 8, 32, 32, 64, 5),
    _conv("5x5", 8, 64, 14, 64, 5),
    _conv("5x5", 1, 192, 27, 192, 5),
    _conv("5x5", 4, 64, 28, 96, 5, 2),
    _conv("3x3 s3", 4, 64, 27, 128, 3, 3, pad=0),
    _conv("2x2 s2", 8, 128, 14, 256, 2, 2, pad=0),
    _conv("strided odd", 4, 70, 25, 110, 3, 2),
    _conv("strided small", 1, 32, 16, 64, 3, 2),
    _conv("strided deep", 2, 1024, 14, 1024, 1, 2),
    _conv("7x7", 4, 16, 48, 32, 7),
    _conv("11x11", 4, 3, 112, 64, 11, 4, pad=2),
    _conv("3x3 s2", 8, 3, 112, 32, 3, 2),
    _conv("vit patch", 8, 3, 224, 192, 16, 16, pad=0),
    _conv("vit patch", 64, 1, 28, 128, 4, 4, pad=0),
    Convolution("1x7", 8, 64, (17, 17), 64, (1, 7), 1, (0, 3)),
    Convolution("7x1", 8, 64, (17, 17), 64, (7, 1), 1, (3, 0)),
    # odd sizes
    _conv("odd", 4, 17, 37, 100, 3),
    _conv("odd", 3, 5, 19, 7, 3),
    _conv("odd", 2, 3, 65, 100, 3),
    _conv("odd", 2, 100, 64, 3, 3),
    _conv("odd", 7, 33, 13, 65, 1),
    _conv("odd", 5, 10, 21, 30, 3, 2),
    _conv("odd", 1, 1, 101, 1, 5),
    _conv("odd", 1, 2, 9, 2, 3),
    _conv("small", 1, 16, 8, 16, 3),
    _conv("small", 1, 8, 4, 8, 3),
    _conv("small", 2, 64, 1, 64, 1),
    # U-Net
    _conv("unet", 1, 64, 128, 64, 3),
    _conv("unet", 1, 3, 256, 64, 3, pad=0),
    _conv("unet", 2, 128, 32, 64, 2, 2, pad=0, transposed=True),
    _conv("unet", 1, 256, 28, 128, 2, 2, pad=0, transposed=True),
    _conv("dcgan", 16, 128, 8, 64, 4, 2, pad=1, transposed=True),
    _conv("dcgan", 16, 64, 16, 3, 4, 2, pad=1, transposed=True),
    _conv("dcgan", 16, 256, 4, 128, 4, 2, pad=1, transposed=True),
    _conv("upsample", 2, 128, 16, 128, 3, 2, pad=1, transposed=True),
    _conv("upsample", 4, 32, 28, 32, 3, 2, pad=1, transposed=True),
    _conv("upsample", 4, 32, 28, 32, 3, pad=1, transposed=True),
    # one dimension
    _line("audio", 8, 1, 16000, 32, 80, 4, pad=0),
    _line("audio", 8, 32, 4000, 32, 3),
    _line("audio", 8, 64, 1000, 128, 3, 2),
    _line("audio", 4, 80, 3000, 384, 3),
    _line("audio", 4, 384, 1500, 384, 3, 2),
    _line("audio", 8, 64, 1000, 64, 3, dilation=4),
    _line("audio", 8, 256, 200, 256, 1),
    _line("audio", 8, 256, 200, 256, 31, groups=256),
    _line("audio", 4, 64, 500, 32, 4, 2, pad=1, transposed=True),
    # three dimensions
    _volume(2, 16, 16, 32, 32, 3),
    _volume(1, 3, 16, 56, 32, 3, 2),
    _volume(2, 32, 8, 16, 64, 1),
    Convolution("3-d 2x32x8x28x28 to 64 k1x3x3", 2, 32, (8, 28, 28), 64, (1, 3, 3), 1, (0, 1, 1)),
    Convolution("3-d 2x64x8x28x28 to 64 k3x1x1", 2, 64, (8, 28, 28), 64, (3, 1, 1), 1, (1, 0, 0)),
    # channels last
    _conv("nhwc", 8, 64, 56, 64, 3, channels_last=True),
    _conv("nhwc", 8, 256, 14, 256, 3, channels_last=True),
    _conv("nhwc", 8, 64, 56, 256, 1, channels_last=True),
    _conv("nhwc", 8, 144, 28, 144, 3, groups=144, channels_last=True),
    _conv("nhwc", 16, 64, 32, 128, 3, 2, channels_last=True),
    _conv("nhwc", 4, 3, 224, 64, 7, 2, channels_last=True),
    _conv("nhwc", 8, 128, 28, 256, 1, 2, channels_last=True),
    _conv("nhwc", 8, 512, 7, 512, 1, channels_last=True),
    _conv("nhwc", 8, 96, 56, 96, 3, 2, groups=96, channels_last=True),
    _conv("nhwc", 4, 96, 28, 96, 7, groups=96, channels_last=True),
    _conv("nhwc", 4, 64, 28, 64, 5, channels_last=True),
    _conv("nhwc", 4, 128, 14, 128, 3, groups=8, channels_last=True),
    # float64
    _conv("double", 2, 32, 28, 64, 3, dtype="float64"),
    _conv("double", 2, 64, 28, 128, 3, 2, dtype="float64"),
    _conv("double", 2, 64, 28, 64, 1, dtype="float64"),
    _conv("double", 2, 64, 28, 64, 3, groups=64, dtype="float64"),
]


def _sdpa(b: int, h: int, t: int, s: int, d: int, **more):
    label = f"sdpa {b}x{h}x{t}x{s} size {d}" + "".join(f" {key} {value}" for key, value in more.items())
    return Attention(label, b, h, t, s, d, **more)


ATTENTIONS = [
    _sdpa(16, 4, 16, 16, 16),
    _sdpa(16, 4, 32, 32, 16, causal=True),
    _sdpa(8, 8, 64, 64, 64),
    _sdpa(8, 8, 128, 128, 32),
    _sdpa(8, 8, 128, 128, 64, causal=True),
    _sdpa(2, 12, 197, 197, 64),
    _sdpa(2, 12, 512, 512, 64),
    _sdpa(2, 12, 512, 512, 64, causal=True),
    _sdpa(2, 12, 512, 512, 64, mask="bool"),
    _sdpa(2, 12, 512, 512, 64, mask="float"),
    _sdpa(1, 8, 2048, 2048, 64),
    _sdpa(1, 8, 2048, 2048, 64, causal=True),
    _sdpa(1, 8, 1024, 1024, 128, causal=True),
    _sdpa(1, 1, 4096, 4096, 64, causal=True),
    _sdpa(1, 1, 2048, 2048, 64),
    _sdpa(1, 2, 1000, 1000, 80),
    _sdpa(2, 4, 333, 555, 33),
    _sdpa(2, 4, 300, 300, 1),
    _sdpa(1, 4, 512, 512, 256),
    _sdpa(8, 8, 1, 4096, 64),
    _sdpa(1, 32, 1, 1024, 128),
    _sdpa(1, 8, 1, 8192, 64),
    _sdpa(1, 1, 1, 8192, 64),
    _sdpa(1, 2, 4, 4096, 128),
    _sdpa(4, 8, 64, 1024, 64),
    _sdpa(4, 8, 1024, 77, 40),
    _sdpa(2, 8, 256, 256, 64, key_heads=2),
    _sdpa(1, 32, 1, 2048, 64, key_heads=8),
    _sdpa(2, 4, 200, 200, 48, dtype="float64"),
    MultiHead("mha 16x32x64 h4", 16, 32, 64, 4),
    MultiHead("mha 32x64x128 h8", 32, 64, 128, 8),
    MultiHead("mha 32x128x256 h8", 32, 128, 256, 8),
    MultiHead("mha 1x1x64 h4", 1, 1, 64, 4),
    MultiHead("mha 4x197x192 h3", 4, 197, 192, 3),
    MultiHead("mha 1x1024x256 h4", 1, 1024, 256, 4),
    MultiHead("mha 2x50x96 h6", 2, 50, 96, 6),
    _sdpa(8, 8, 64, 64, 64, dropout=0.1),
    _sdpa(2, 12, 197, 197, 64, dropout=0.1),
    _sdpa(2, 12, 512, 512, 64, causal=True, dropout=0.1),
    _sdpa(1, 8, 2048, 2048, 64, dropout=0.1),
    MultiHead("mha 16x32x64 h4 dropout 0.1", 16, 32, 64, 4, 0.1),
    MultiHead("mha 32x128x256 h8 dropout 0.1", 32, 128, 256, 8, 0.1),
]

SHAPES = [*CONVOLUTIONS, *ATTENTIONS]

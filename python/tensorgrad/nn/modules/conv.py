"""Convolutions. Input (N, C, *spatial) or (C, *spatial); weight (out, in / groups, *kernel)."""

import math

from ... import _C
from .. import functional as F
from .. import init
from .._sizes import ntuple, pair, single, triple
from ..parameter import Parameter
from .module import Module


class _ConvNd(Module):
    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding,
        dilation,
        transposed,
        output_padding,
        groups,
        bias,
        padding_mode,
        device=None,
        dtype=None,
    ):
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'valid', 'same'}}")
            if padding == "same" and any(s != 1 for s in stride):
                raise ValueError("padding='same' is not supported for strided convolutions")
        modes = ("zeros", "reflect", "replicate", "circular")
        if padding_mode not in modes:
            raise ValueError(f"padding_mode must be one of {set(modes)}, but got padding_mode='{padding_mode}'")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.transposed = transposed
        self.output_padding = output_padding
        self.groups = groups
        self.padding_mode = padding_mode
        # For F.pad, last dimension first: (left, right, top, bottom, ...).
        if isinstance(padding, str):
            self._pad_sides = []
            for d, k in zip(reversed(dilation), reversed(kernel_size)):
                total = d * (k - 1) if padding == "same" else 0
                self._pad_sides += [total // 2, total - total // 2]
        else:
            self._pad_sides = [p for p in reversed(padding) for _ in range(2)]
        if transposed:
            shape = (in_channels, out_channels // groups, *kernel_size)
        else:
            shape = (out_channels, in_channels // groups, *kernel_size)
        self.weight = Parameter(_C.empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(_C.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self):
        s = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            s += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            s += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.output_padding):
            s += f", output_padding={self.output_padding}"
        if self.groups != 1:
            s += f", groups={self.groups}"
        if self.bias is None:
            s += ", bias=False"
        if self.padding_mode != "zeros":
            s += f", padding_mode={self.padding_mode}"
        return s

    def _run(self, conv, input):
        padding = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._pad_sides, mode=self.padding_mode)
            padding = 0
        return conv(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


def _settings(parse, kernel_size, stride, padding, dilation):
    return parse(kernel_size), parse(stride), padding if isinstance(padding, str) else parse(padding), parse(dilation)


class Conv1d(_ConvNd):
    """Convolution over (N, C, L)."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        k, s, p, d = _settings(single, kernel_size, stride, padding, dilation)
        super().__init__(
            in_channels, out_channels, k, s, p, d, False, single(0), groups, bias, padding_mode, device, dtype
        )

    def forward(self, input):
        return self._run(F.conv1d, input)


class Conv2d(_ConvNd):
    """Convolution over (N, C, H, W)."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        k, s, p, d = _settings(pair, kernel_size, stride, padding, dilation)
        super().__init__(
            in_channels, out_channels, k, s, p, d, False, pair(0), groups, bias, padding_mode, device, dtype
        )

    def forward(self, input):
        if self.padding_mode == "zeros":
            return _C.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        return self._run(F.conv2d, input)


class Conv3d(_ConvNd):
    """Convolution over (N, C, D, H, W)."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        k, s, p, d = _settings(triple, kernel_size, stride, padding, dilation)
        super().__init__(
            in_channels, out_channels, k, s, p, d, False, triple(0), groups, bias, padding_mode, device, dtype
        )

    def forward(self, input):
        return self._run(F.conv3d, input)


class _ConvTransposeNd(_ConvNd):
    _conv = None

    def __init__(
        self,
        n,
        in_channels,
        out_channels,
        kernel_size,
        stride,
        padding,
        output_padding,
        groups,
        bias,
        dilation,
        padding_mode,
        device,
        dtype,
    ):
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        parse = ntuple(n)
        super().__init__(
            in_channels,
            out_channels,
            parse(kernel_size),
            parse(stride),
            parse(padding),
            parse(dilation),
            True,
            parse(output_padding),
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def _output_padding(self, input, output_size):
        """The output_padding that makes the result `output_size` large (which a stride leaves open)."""
        if output_size is None:
            return self.output_padding
        n = len(self.kernel_size)
        has_batch = input.dim() == n + 2
        skip = 2 if has_batch else 1
        if len(output_size) == skip + n:
            output_size = output_size[skip:]
        if len(output_size) != n:
            raise ValueError(
                f"ConvTranspose{n}D: for {input.dim()}D input, output_size must have {n} or {skip + n} elements (got "
                f"{len(output_size)})"
            )
        result = []
        for i in range(n):
            smallest = (
                (input.size(i + skip) - 1) * self.stride[i]
                - 2 * self.padding[i]
                + self.dilation[i] * (self.kernel_size[i] - 1)
                + 1
            )
            if not smallest <= output_size[i] <= smallest + self.stride[i] - 1:
                raise ValueError(
                    f"requested an output size of {output_size}, but valid sizes in dimension {i} range from "
                    f"{smallest} to "
                    f"{smallest + self.stride[i] - 1} (for an input of {input.size()[2:]})"
                )
            result.append(output_size[i] - smallest)
        return result

    def forward(self, input, output_size=None):
        extra = self._output_padding(input, output_size)
        conv = getattr(F, type(self)._conv)
        return conv(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)


class ConvTranspose1d(_ConvTransposeNd):
    """The gradient of Conv1d with respect to its input, as a layer; weight (in, out / groups, k)."""

    _conv = "conv_transpose1d"

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        super().__init__(
            1,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            bias,
            dilation,
            padding_mode,
            device,
            dtype,
        )


class ConvTranspose2d(_ConvTransposeNd):
    """The gradient of Conv2d with respect to its input, as a layer; weight (in, out / groups, kh, kw)."""

    _conv = "conv_transpose2d"

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        super().__init__(
            2,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            groups,
            bias,
            dilation,
            padding_mode,
            device,
            dtype,
        )

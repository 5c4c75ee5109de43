"""Printing tensors as torch prints them."""

import math

from . import _C


class _Options:
    precision = 4
    threshold = 1000
    edgeitems = 3
    linewidth = 80
    sci_mode = None


_options = _Options()


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """How tensors print: digits, when to summarise, how many items at each edge, line width, scientific notation."""
    o = _options
    if profile is not None:
        if profile == "default":
            o.precision, o.threshold, o.edgeitems, o.linewidth = 4, 1000, 3, 80
        elif profile == "short":
            o.precision, o.threshold, o.edgeitems, o.linewidth = 2, 1000, 2, 80
        elif profile == "full":
            o.precision, o.threshold, o.edgeitems, o.linewidth = 4, math.inf, 3, 80
    if precision is not None:
        o.precision = precision
    if threshold is not None:
        o.threshold = threshold
    if edgeitems is not None:
        o.edgeitems = edgeitems
    if linewidth is not None:
        o.linewidth = linewidth
    o.sci_mode = sci_mode


def get_printoptions():
    """The settings of set_printoptions as a dict."""
    return {name: getattr(_options, name) for name in ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")}


class _Formatter:
    """Decides once, from all values that will be shown, how wide and in which notation each is written."""

    def __init__(self, values, is_float):
        self.is_float = is_float
        self.sci = False
        self.whole = True
        self.width = 1
        if not is_float:
            self.width = max((len(str(v)) for v in values), default=1)
            return
        sizes = sorted(abs(v) for v in values if math.isfinite(v) and v != 0)
        if sizes:
            small, large = sizes[0], sizes[-1]
            self.whole = all(v == math.ceil(v) for v in sizes)
            wide = large / small > 1000.0 if small > 0 else True
            self.sci = wide or large > 1.0e8 or (not self.whole and small < 1.0e-4)
        if sizes and _options.sci_mode is not None:
            self.sci = _options.sci_mode
        shown = [v for v in values if math.isfinite(v) and v != 0] if sizes else []
        self.width = max((len(self._number(v)) for v in shown), default=1)

    def _number(self, v):
        if self.sci:
            return f"{v:.{_options.precision}e}"
        if self.whole:
            text = f"{v:.0f}"
            return text + "." if math.isfinite(v) else text
        return f"{v:.{_options.precision}f}"

    def format(self, v):
        text = self._number(v) if self.is_float else str(v)
        return " " * (self.width - len(text)) + text


def _shown_values(t):
    """All elements that will be written, as a flat list."""
    if t.numel() > _options.threshold:
        edge = _options.edgeitems
        for dim in range(t.dim()):
            if t.size(dim) > 2 * edge:
                t = _C.cat([t.narrow(dim, 0, edge), t.narrow(dim, t.size(dim) - edge, edge)], dim)
    return t.reshape(-1).tolist()


def _vector(t, indent, summarize, formatter):
    per_line = max(1, int(math.floor((_options.linewidth - indent) / (formatter.width + 2))))
    edge = _options.edgeitems
    if summarize and not edge:
        words = ["..."]
    elif summarize and t.size(0) > 2 * edge:
        words = [formatter.format(v) for v in t[:edge].tolist()] + [" ..."]
        words += [formatter.format(v) for v in t[-edge:].tolist()]
    else:
        words = [formatter.format(v) for v in t.tolist()]
    lines = [", ".join(words[i : i + per_line]) for i in range(0, len(words), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _body(t, indent, summarize, formatter):
    if t.dim() == 0:
        return formatter.format(t.item())
    if t.dim() == 1:
        return _vector(t, indent, summarize, formatter)
    edge = _options.edgeitems
    n = t.size(0)
    if summarize and n > 2 * edge:
        parts = [_body(t[i], indent + 1, summarize, formatter) for i in range(edge)]
        parts.append("...")
        parts += [_body(t[i], indent + 1, summarize, formatter) for i in range(n - edge, n)]
    else:
        parts = [_body(t[i], indent + 1, summarize, formatter) for i in range(n)]
    return "[" + ("," + "\n" * (t.dim() - 1) + " " * (indent + 1)).join(parts) + "]"


def _with_suffixes(text, suffixes, indent, force_newline):
    parts = [text]
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if force_newline or length + len(suffix) + 2 > _options.linewidth:
            parts.append(",\n" + " " * indent + suffix)
            length = indent + len(suffix)
            force_newline = False
        else:
            parts.append(", " + suffix)
            length += len(suffix) + 2
    parts.append(")")
    return "".join(parts)


def tensor_repr(self):
    """repr(tensor)."""
    prefix = "tensor("
    indent = len(prefix)
    suffixes = []
    if self.device.type != "cpu":
        suffixes.append(f"device='{self.device}'")
    dtype = self.dtype
    default = dtype in (_C.get_default_dtype(), _C.int64, _C.bool)
    with _C.no_grad_guard():
        t = self.detach()
        if t.numel() == 0:
            if t.dim() != 1:
                suffixes.append(f"size={tuple(t.shape)}")
            if dtype != _C.get_default_dtype():
                suffixes.append(f"dtype={dtype}")
            text = "[]"
        else:
            if not default:
                suffixes.append(f"dtype={dtype}")
            if dtype in (_C.float16, _C.bfloat16):
                t = t.float()
            if t.device.type != "cpu":
                t = t.cpu()
            summarize = t.numel() > _options.threshold
            formatter = _Formatter(_shown_values(t), dtype.is_floating_point)
            text = _body(t, indent, summarize, formatter)
    fn = self.grad_fn
    if fn is not None:
        suffixes.append(f"grad_fn=<{fn.name()}>")
    elif self.requires_grad:
        suffixes.append("requires_grad=True")
    text = _with_suffixes(prefix + text, suffixes, indent, force_newline=False)
    from .nn.parameter import Parameter

    return "Parameter containing:\n" + text if isinstance(self, Parameter) else text


def tensor_format(self, spec):
    """format(tensor, spec): of a 0-d tensor its number's."""
    if self.dim() == 0 and type(self) is _C.Tensor:
        return self.item().__format__(spec)
    return object.__format__(self, spec)

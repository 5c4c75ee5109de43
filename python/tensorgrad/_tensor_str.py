"""Printing tensors: the core writes the text that torch writes."""

from . import _C


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """How tensors print: digits, when to summarise, how many items at each edge, line width, scientific notation.

    `profile` is "default", "short" or "full".
    """
    _C._set_printoptions(precision, threshold, edgeitems, linewidth, profile, sci_mode)


def get_printoptions():
    """The settings of set_printoptions as a dict."""
    return _C._get_printoptions()


def tensor_repr(self):
    """repr(tensor)."""
    from .nn.parameter import Parameter

    text = _C._to_string(self)
    return "Parameter containing:\n" + text if isinstance(self, Parameter) else text


def tensor_format(self, spec):
    """format(tensor, spec): of a 0-d tensor its number's."""
    if self.dim() == 0 and type(self) is _C.Tensor:
        return self.item().__format__(spec)
    return object.__format__(self, spec)

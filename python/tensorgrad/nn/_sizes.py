"""Small helpers shared by the layers."""

from collections.abc import Iterable


def ntuple(n):
    def parse(x):
        """x as a tuple: one number stands for all."""
        if isinstance(x, Iterable) and not isinstance(x, str):
            return tuple(x)
        return (x,) * n

    return parse


single = ntuple(1)
pair = ntuple(2)
triple = ntuple(3)

"""The ``__doc__`` of operations: their signatures come from the extension, what they do from _docs.txt, read when it is
first asked for. The examples there are run by the tests, with tensorgrad and with PyTorch."""

from functools import cache
from pathlib import Path
from textwrap import dedent


@cache
def texts():
    """Operation -> what it does, with an example."""
    found, name = {}, ""
    for line in (Path(__file__).parent / "_docs.txt").read_text().splitlines():
        if line and not line.startswith(" "):
            name = line
            found[name] = []
        else:
            found[name].append(line)
    return {name: dedent("\n".join(lines)).strip() for name, lines in found.items()}


def describe(name, signatures):
    """The docstring of the operation `name`, or of its form in place."""
    known = texts()
    if name in known:
        return f"{signatures}\n\n{known[name]}"
    plain = name.rstrip("_")
    if name.endswith("_") and plain in known:
        in_place = f"In place: this tensor becomes the result of {plain}, and is returned."
        return f"{signatures}\n\n{in_place}\n\n{known[plain]}"
    return signatures

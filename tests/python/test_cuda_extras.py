"""`pip install .[cuda]` names the wheel of every NVIDIA library that the CUDA half opens at run time."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_opened_library_has_its_wheel_in_the_extra():
    text = (ROOT / "pyproject.toml").read_text()
    extra = re.search(r"^cuda = \[(.*?)\]", text, re.MULTILINE | re.DOTALL).group(1)
    named = {re.split(r"[<>=]", entry)[0] for entry in re.findall(r'"([^"]+)"', extra)}
    opened = set()
    for source in (ROOT / "src/kernels/cuda").glob("*.c*"):
        opened |= set(re.findall(r'open_library\(\s*"[^"]+",\s*"([^"]+)"', source.read_text()))
    assert opened and opened <= named, (opened, named)

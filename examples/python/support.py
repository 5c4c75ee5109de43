"""What the examples share beside the library: data, progress bar, pictures, Ctrl-C. Twin: examples/cpp/support.cpp."""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from pathlib import Path

from tensorgrad.utils.data import MNIST, FashionMNIST

DEBIAN = "/usr/share/datasets/fashion-mnist"
DIGITS = os.environ.get("TENSORGRAD_DIGITS") or str(Path(__file__).resolve().parents[2] / "data" / "digits")


class Progress:
    """One line that is redrawn on a terminal: share done, loss, images a second, time left."""

    def __init__(self, label, total):
        self.label, self.total = label, total
        self.first, self.first_images = -1, 0
        self.images_per_second = 0.0
        self.drawn, self.terminal = False, sys.stdout.isatty()
        self.start = self.last = time.monotonic()

    def update(self, done, images, loss):
        now = time.monotonic()
        if self.first < 0:  # the first step warms up, and a continued epoch does not start at 0
            self.first, self.first_images, self.start = done, images, now
            return
        seconds = now - self.start
        self.images_per_second = (images - self.first_images) / seconds if seconds > 0 else 0.0
        if not self.terminal or (done < self.total and now - self.last < 0.1):
            return
        self.last, self.drawn = now, True
        left = seconds / (done - self.first) * (self.total - done)
        full = 28 * done // max(self.total, 1)
        bar = "=" * full + (">" if full < 28 else "")
        print(
            f"\r{self.label} [{bar:28}] {100 * done // max(self.total, 1):3} %  loss {loss:.4f}  "
            f"{self.images_per_second:.0f} images/s  {left:.0f} s left \033[K",
            end="",
            flush=True,
        )

    def close(self):
        if self.drawn:
            print("\r\033[K", end="")


_interrupted = False


def catch_interrupt():
    """From here on Ctrl-C only sets a mark; a second one ends the program."""

    def mark(number, frame):
        global _interrupted
        _interrupted = True
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, mark)
    signal.signal(signal.SIGTERM, mark)


def interrupted():
    return _interrupted


def find_data(folder, mean, std):
    """Training and test set, their name and folder: `folder`, Debian's package, or the digits of this repository."""
    if folder and Path(folder).name != "digits":
        kind, name = FashionMNIST, "Fashion-MNIST"
    elif not folder and any(Path(DEBIAN).glob("train-images-idx3-ubyte*")):
        return find_data(DEBIAN, mean, std)
    else:
        if not folder:
            print("Fashion-MNIST is not here (apt install dataset-fashion-mnist, or --data DIR with its four files).")
        kind, name, folder = MNIST, "the digits of this repository", folder or DIGITS
    train, test = kind(folder, True, mean=mean, std=std), kind(folder, False, mean=mean, std=std)
    height, width = train.data.shape[1:]
    print(f"data: {name} ({folder}), {len(train)} + {len(test)} images of {height}x{width}")
    return train, test, name, folder


_STYLE = (
    "<style>text{font:12px sans-serif;fill:#333}.m{text-anchor:middle}.e{text-anchor:end}"
    ".b{font-weight:bold;font-size:14px}</style>\n"
    '<rect width="100%" height="100%" fill="white"/>\n'
)


def _svg(width, height, body):
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n'
    return head + _STYLE + body + "</svg>\n"


def _text(x, y, kind, s):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{s}</text>\n'


def curves_svg(title, losses, accuracies, steps_per_epoch):
    """The losses of every step (a thin line and its moving mean) and the test accuracy after each epoch."""
    left, top, width, height = 60, 40, 600, 300
    stride, window = max(1, len(losses) // 1200), max(1, len(losses) // 40)
    means, total = [], 0.0
    for i, value in enumerate(losses):
        total += value - (losses[i - window] if i >= window else 0.0)
        means.append(total / min(i + 1, window))
    highest = max([1e-9] + [v for v in losses if math.isfinite(v)])

    def line(values, style):
        points = (
            f"{left + width * (i + 1) / max(1, len(losses)):.1f} "
            f"{top + height - height * min(values[i], highest) / highest:.1f}"
            for i in range(0, len(values), stride)
        )
        return f'<path d="M{" L".join(points)}" fill="none" {style}/>\n' if values else ""

    body = _text(left + width / 2, 22, "m b", title)
    for i in range(6):
        y = top + height - height * i / 5
        body += f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>\n'
        body += _text(left - 8, y + 4, "e", f"{highest * i / 5:.2f}") + _text(
            left + width + 8, y + 4, "", f"{20 * i} %"
        )
    body += line(losses, 'stroke="#b8cde6"') + line(means, 'stroke="#1f5fa8" stroke-width="2"')
    points = []
    for epoch, accuracy in enumerate(accuracies, 1):
        x, y = left + width * steps_per_epoch * epoch / max(1, len(losses)), top + height - height * accuracy
        points.append(f"{x:.1f} {y:.1f}")
        body += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#c4451c"/>\n' + _text(
            x - 8, y - 10, "e", f"{100 * accuracy:.2f} %"
        )
    if points:
        body += f'<path d="M{" L".join(points)}" fill="none" stroke="#c4451c" stroke-width="2"/>\n'
    body += _text(left + width / 2, top + height + 36, "m", f"step (of {len(losses)})")
    body += _text(left, top - 8, "m", "training loss") + _text(left + width, top - 8, "m", "test accuracy")
    return _svg(left + width + 60, top + height + 50, body)


def confusion_text(counts, classes):
    """counts[i][j]: images of class i taken for class j."""
    longest = max(map(len, classes))
    lines = [
        "rows: what it is; columns: what it was taken for",
        " " * longest + "".join(f" {c[:6]:>6}" for c in classes) + "   right",
    ]
    for name, row in zip(classes, counts, strict=True):
        cells = "".join(f" {n:6}" if n else "      ." for n in row)
        lines.append(f"{name:{longest}}{cells}  {100 * row[classes.index(name)] / max(1, sum(row)):5.1f} %")
    return "\n".join(lines)


def confusion_svg(counts, classes):
    cell, left, top = 46, 100, 60
    body = ""
    for i, (name, row) in enumerate(zip(classes, counts, strict=True)):
        y = top + cell * i
        body += _text(left - 8, y + cell / 2 + 4, "e", name)
        body += _text(left + cell * (i + 0.5), top - 8 if i % 2 else top - 26, "m", name)
        for j, n in enumerate(row):
            light = int(255 - 190 * math.sqrt(n / max(1, sum(row))))
            red, green = (light, 255 - (255 - light) // 3) if i == j else (255, light)
            x = left + cell * j
            place = f'x="{x:.1f}" y="{y:.1f}" width="{cell - 1:.1f}" height="{cell - 1:.1f}"'
            body += f'<rect {place} fill="rgb({red},{green},{light})"/>\n'
            body += _text(x + cell / 2, y + cell / 2 + 4, "m", str(n)) if n else ""
    return _svg(left + cell * len(classes) + 20, top + cell * len(classes) + 20, body)

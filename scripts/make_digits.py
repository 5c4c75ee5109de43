"""Writes data/digits: the 1,797 handwritten digits of 8x8 pixels that scikit-learn ships, in MNIST's file layout.

Takes scikit-learn's wheel from PyPI (`pip download`), reads its digits.csv.gz, and writes images (0 to 16 becomes 0 to
255) and labels as gzip-compressed IDX files: the first 1,437 for training, the last 360 for testing.
"""

from __future__ import annotations

import csv
import gzip
import io
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "data" / "digits"
TRAIN = 1437


def rows() -> list[list[int]]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "-d",
                folder,
                "scikit-learn",
            ],
            check=True,
        )
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            packed = archive.read("sklearn/datasets/data/digits.csv.gz")
    text = io.StringIO(gzip.decompress(packed).decode())
    return [[int(float(cell)) for cell in row] for row in csv.reader(text)]


def write(name: str, dims: tuple[int, ...], content: bytes) -> None:
    head = struct.pack(f">BBBB{len(dims)}I", 0, 0, 8, len(dims), *dims)
    with open(FOLDER / f"{name}.gz", "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(head + content)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    data = rows()
    for part, examples in (("train", data[:TRAIN]), ("t10k", data[TRAIN:])):
        pixels = bytes(round(cell * 255 / 16) for row in examples for cell in row[:64])
        write(f"{part}-images-idx3-ubyte", (len(examples), 8, 8), pixels)
        write(f"{part}-labels-idx1-ubyte", (len(examples),), bytes(row[64] for row in examples))
    print(f"{len(data)} images in {FOLDER}")


if __name__ == "__main__":
    main()

"""The ratios of a run as bars, in SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def ratios(result: dict[str, Any], path: Path) -> None:
    """One bar a row and direction, on a logarithmic scale around 1 (PyTorch's time); shorter is faster."""
    try:
        import matplotlib

        matplotlib.use("svg")
        import matplotlib.pyplot as plt
    except ImportError:
        return
    rows = [row for row in result["rows"] if "ratio" in row]
    if not rows:
        return
    colours = {"forward": "#2b6cb0", "backward": "#c05621", "backward, random gradient": "#ecc94b"}
    labels = list(dict.fromkeys(f"{row['module']} {row['inputs']}" for row in rows))
    figure, axes = plt.subplots(figsize=(9, 0.42 * len(labels) + 1.2))
    directions = list(colours)
    for row in rows:
        place = labels.index(f"{row['module']} {row['inputs']}") + 0.26 * (directions.index(row["direction"]) - 1)
        axes.barh(place, row["ratio"], height=0.24, color=colours[row["direction"]])
    axes.axvline(1.0, color="#4a5568", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("time relative to PyTorch (less is faster)")
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.invert_yaxis()
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in colours.values()]
    axes.legend(handles, directions, fontsize=8, loc="best")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed salt and no date: the same figures give the same file.
    with matplotlib.rc_context({"svg.hashsalt": "tensorgrad"}):
        figure.savefig(path, metadata={"Date": None})
    plt.close(figure)

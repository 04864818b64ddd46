"""One look for all plots: colour-blind-safe, legible when small, the same bytes every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from cifar_resnet.files import replacing
from cifar_resnet.plots.palette import PALETTE

# Plots have a white ground.
RIGHT, WRONG, TRAIN, HELD_OUT, RATE, QUIET = (
    PALETTE[name].light for name in ("right", "wrong", "train", "held-out", "rate", "quiet")
)

STYLE: Any = {  # matplotlib types the keys as literals
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same letters
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALETTE["line"].light,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 120,
    "svg.hashsalt": "cifar-resnet",  # else the ids inside an SVG are random
}


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of that size in inches, saved to `path` at the end."""
    with matplotlib.rc_context(STYLE):
        drawing = plt.figure(figsize=(width, height))
        try:
            yield drawing
            with replacing(path) as new:
                drawing.savefig(new, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})
        finally:
            plt.close(drawing)


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction of 1 in percent, as pages and plots write it; only 0 and 1 themselves are 0 % and 100 %."""
    text = f"{fraction:.{digits}%}"
    smallest = 10 ** -(digits + 2)
    if fraction < 1 and text == f"{1:.{digits}%}":
        return f">{1 - smallest:.{digits}%}"
    if fraction > 0 and text == f"{0:.{digits}%}":
        return f"<{smallest:.{digits}%}"
    return text


def run_styles(number: int) -> list[str]:
    """The line of each run in one chart, whose colours say what is measured: the last is solid, others are dashed."""
    return [*["--"] * (number - 1), "-"]


def short(name: str, length: int = 24) -> str:
    """A class name that fits into a plot: of a long one, beginning and end, where names differ."""
    end = length // 3
    return name if len(name) <= length else f"{name[: length - end - 1].rstrip()}…{name[-end:].lstrip()}"

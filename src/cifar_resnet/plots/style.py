"""One look for all plots: colour-blind-safe, legible when small, the same bytes every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

# Okabe and Ito's palette, https://jfly.uni-koeln.de/color/
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#595959"

STYLE: Any = {  # matplotlib types the keys as literals
    "font.family": "DejaVu Sans",  # ships with matplotlib, so every machine draws the same letters
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
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
            path.parent.mkdir(parents=True, exist_ok=True)
            drawing.savefig(path, metadata={"Software": None} if path.suffix == ".png" else {"Date": None})
        finally:
            plt.close(drawing)

"""One look for pages and plots: colour-blind-safe, legible when small, the same bytes every time."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names

from image_classifier.system.files import replacing


class Colour(NamedTuple):
    light: str
    dark: str


# The five hues are from Okabe and Ito, https://jfly.uni-koeln.de/color/: people with any colour vision tell them apart.
# Orange and purple are darkened, so that each colour has a contrast of 3 or more with its ground.
PALETTE = {
    "page": Colour("#fbfaf8", "#16171a"),
    "surface": Colour("#ffffff", "#1e2024"),
    "line": Colour("#e4e1db", "#33363c"),
    "ink": Colour("#1f2328", "#e6e6e3"),
    "quiet": Colour("#62666c", "#9da1a8"),
    "right": Colour("#0072b2", "#5ab4e6"),
    "wrong": Colour("#d55e00", "#f0904a"),
    "train": Colour("#009e73", "#3cc79d"),
    "held-out": Colour("#b0568f", "#dd97c4"),  # the test or validation images
    "rate": Colour("#a87800", "#e6b040"),  # learning rates
}
# Plots have a white ground.
RIGHT, WRONG, TRAIN, HELD_OUT, RATE, QUIET = (
    PALETTE[name].light for name in ("right", "wrong", "train", "held-out", "rate", "quiet")
)

MORE_FONTS = ("Noto Sans CJK JP", "Hiragino Sans", "WenQuanYi Zen Hei", "Noto Sans Devanagari", "Noto Sans Thai")
STYLE: Any = {  # matplotlib types the keys as literals
    # The first font ships with matplotlib, so every machine draws the same letters; the others have more letters.
    "font.family": ["DejaVu Sans", *(name for name in MORE_FONTS if name in get_font_names())],
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALETTE["line"].light,
    "legend.facecolor": PALETTE["page"].light,  # a legend may cover lines, which would else cross out its words
    "legend.edgecolor": "none",
    "lines.linewidth": 2,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 120,
    "svg.hashsalt": "cifar-resnet",  # else the ids inside an SVG are random
}


@contextmanager
def drawing_of(width: float, height: float, style: Any = STYLE) -> Iterator[Figure]:
    """A figure of that size in inches to draw into."""
    # From matplotlib's own defaults, whatever a matplotlibrc of the user says.
    with matplotlib.style.context(["default", style]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")  # a box is drawn; tables show the name
        drawing = plt.figure(figsize=(width, height))
        try:
            yield drawing
        finally:
            plt.close(drawing)


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of that size in inches, saved to `path` at the end."""
    with drawing_of(width, height) as drawing:
        yield drawing
        with replacing(path) as new:
            drawing.savefig(new, metadata={"Software": None})


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction of 1 in percent, for pages and plots; values near 0 and 1 give such as <0.1% and >99.9%."""
    text = f"{fraction:.{digits}%}"
    smallest = 10 ** -(digits + 2)
    if fraction < 1 and text == f"{1:.{digits}%}":
        return f">{1 - smallest:.{digits}%}"
    if fraction > 0 and text == f"{0:.{digits}%}":
        return f"<{smallest:.{digits}%}"
    return text


def run_styles(number: int) -> list[str]:
    """The line style of each run in a chart: the last is solid, the others are dashed. Colours show the metric."""
    return [*["--"] * (number - 1), "-"]


def short(name: str, length: int = 24) -> str:
    """A class name that fits into a plot. A long name keeps its beginning and end, where names differ."""
    end = length // 3
    return name if len(name) <= length else f"{name[: length - end - 1].rstrip()}…{name[-end:].lstrip()}"

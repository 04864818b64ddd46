"""Charts for a web page: SVG in the page's own type and colours, which may be light or dark."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Bbox

from cifar_resnet.evaluation import Evaluation
from cifar_resnet.history import EpochMetrics
from cifar_resnet.plots.evaluation import describe_reliability, draw_reliability
from cifar_resnet.plots.learning_curves import describe_learning_curves, draw_learning_curves
from cifar_resnet.plots.palette import PALETTE
from cifar_resnet.plots.style import RIGHT, STYLE, percent, short

NUM_BARS = 20
T = TypeVar("T")

# What the page's style sheet calls the colours of the plots.
PAGE_COLOURS = {
    "#000000": "currentColor",
    **{colour.light: f"var(--{name})" for name, colour in PALETTE.items()},
}
# Text stays text, and `$` in a class name is a dollar, not the start of a formula.
SVG_STYLE = {**STYLE, "svg.fonttype": "none", "text.parse_math": False}


@dataclass(frozen=True)
class Chart:
    """A panel of a figure as an SVG element."""

    alt: str  # the values in words
    svg: Markup


@contextmanager
def svg_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure of that size in inches to draw into and hand to `svg_panels`."""
    with mpl.rc_context(SVG_STYLE):
        drawing = plt.figure(figsize=(width, height))
        try:
            yield drawing
        finally:
            plt.close(drawing)


def svg_panels(drawing: Figure, alts: Sequence[str]) -> list[Chart]:
    """Each panel of a figure as an SVG element of its own and of one size, so that a narrow page can stack them."""
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")  # panels keep their places while others are hidden
    inches = drawing.dpi_scale_trans.inverted()
    boxes = [box.transformed(inches).padded(0.05) for panel in drawing.axes if (box := panel.get_tightbbox())]
    low, high, width = min(b.y0 for b in boxes), max(b.y1 for b in boxes), max(b.width for b in boxes)
    charts = []
    for panel, box, alt in zip(drawing.axes, boxes, alts, strict=True):
        for axes in drawing.axes:
            axes.set_visible(axes is panel)
        file = io.StringIO()
        bounds = Bbox.from_extents(box.x1 - width, low, box.x1, high)
        drawing.savefig(file, format="svg", bbox_inches=bounds, transparent=True, metadata={"Date": None})
        charts.append(Chart(f"{panel.get_title(loc='left')}. {alt}", _for_page(file.getvalue())))
    return charts


def _for_page(svg: str) -> Markup:
    """The SVG element without its XML header, in the page's colours. Matplotlib has escaped the text in it."""
    for colour, name in PAGE_COLOURS.items():
        svg = svg.replace(colour, name)
    return Markup(svg[svg.index("<svg") :])  # noqa: S704


def training_charts(histories: Mapping[str, Sequence[EpochMetrics]]) -> list[Chart]:
    """The learning curves of runs, by name."""
    with svg_figure(13, 3.8) as drawing:
        draw_learning_curves(histories, drawing)
        return svg_panels(drawing, _of_each(histories, describe_learning_curves))


def reliability_charts(evaluations: Mapping[str, Evaluation], num_bins: int) -> list[Chart]:
    """The reliability diagram of runs, by name."""
    with svg_figure(5.4, 3.6) as drawing:
        draw_reliability(evaluations, num_bins, drawing)
        return svg_panels(drawing, _of_each(evaluations, lambda each: [describe_reliability(each, num_bins)]))


def _of_each(runs: Mapping[str, T], describe: Callable[[T], Sequence[str]]) -> list[str]:
    """Each panel in words, run by run; a single run has no name."""
    panels = zip(*(describe(run) for run in runs.values()), strict=True)
    return [". ".join(": ".join(filter(None, pair)) for pair in zip(runs, each, strict=True)) for each in panels]


def draw_class_accuracy(evaluation: Evaluation, drawing: Figure) -> None:
    """Draw the accuracy on each class into a figure, the best on top; where they are many, on the worst ones."""
    accuracy = evaluation.class_accuracy
    order = np.argsort(accuracy, kind="stable")[:NUM_BARS]
    axes = drawing.subplots()
    axes.grid(visible=False, axis="y")
    bars = axes.barh(range(len(order)), accuracy[order], color=RIGHT, height=min(0.65, 0.1 * len(order)))
    axes.bar_label(bars, [percent(value) for value in accuracy[order]], padding=4)
    axes.set_yticks(range(len(order)), [short(evaluation.classes[number]) for number in order])
    few = len(order) == len(accuracy)
    title = "Accuracy by true class" if few else f"The {NUM_BARS} least accurate of {len(accuracy)} classes"
    axes.set(title=title, xlim=(0, 1.12), xticks=[0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def describe_class_accuracy(evaluation: Evaluation) -> str:
    """The accuracy on each class in words, the best first."""
    accuracy = evaluation.class_accuracy
    order = np.argsort(-accuracy, kind="stable")
    return ", ".join(f"{evaluation.classes[number]} {percent(accuracy[number])}" for number in order)

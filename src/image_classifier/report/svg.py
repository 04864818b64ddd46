"""Charts for a web page: SVG with the page's own font and colours, which may be light or dark."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import Bbox

from image_classifier.evaluation.predictions import Evaluation
from image_classifier.outputs.history import EpochMetrics
from image_classifier.plots.evaluation import describe_reliability, describe_risk, draw_reliability, draw_risk
from image_classifier.plots.learning_curves import describe_learning_curves, draw_learning_curves
from image_classifier.plots.style import PALETTE, RIGHT, STYLE, drawing_of, percent, short

NUM_BARS = 20
T = TypeVar("T")

# The names that the page's style sheet has for the colours of the plots.
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


def training_charts(histories: Mapping[str, Sequence[EpochMetrics]]) -> list[Chart]:
    """The learning curves of runs, by name."""
    with drawing_of(13, 3.8, SVG_STYLE) as drawing:
        draw_learning_curves(histories, drawing)
        return _panels(drawing, _of_each(histories, describe_learning_curves))


def reliability_charts(evaluations: Mapping[str, Evaluation], num_bins: int) -> list[Chart]:
    """The reliability diagram of runs, by name."""
    with drawing_of(5.4, 3.6, SVG_STYLE) as drawing:
        draw_reliability(evaluations, num_bins, drawing)
        return _panels(drawing, _of_each(evaluations, lambda each: [describe_reliability(each, num_bins)]))


def risk_charts(evaluation: Evaluation, answered: float | None) -> list[Chart]:
    """The curve of risk and coverage, with the share of images that get an answer, if there is a threshold."""
    with drawing_of(5.4, 3.6, SVG_STYLE) as drawing:
        draw_risk(evaluation, answered, drawing)
        return _panels(drawing, [describe_risk(evaluation)])


def class_accuracy_charts(evaluation: Evaluation) -> list[Chart]:
    """The accuracy on each class, or on the NUM_BARS worst classes; the best on top."""
    classes, accuracy = evaluation.classes, evaluation.class_accuracy
    worst_first = np.argsort(accuracy, kind="stable")
    shown = worst_first[:NUM_BARS]
    with drawing_of(5.4, max(3.6, 0.9 + 0.27 * len(shown)), SVG_STYLE) as drawing:
        axes = drawing.subplots()
        axes.grid(visible=False, axis="y")
        bars = axes.barh(range(len(shown)), accuracy[shown], color=RIGHT, height=min(0.65, 0.1 * len(shown)))
        axes.bar_label(bars, [percent(value) for value in accuracy[shown]], padding=4)
        axes.set_yticks(range(len(shown)), [short(classes[number]) for number in shown])
        few = len(shown) == len(classes)
        title = "Accuracy by true class" if few else f"The {NUM_BARS} least accurate of {len(classes)} classes"
        axes.set(title=title, xlim=(0, 1.12), xticks=[0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        best_first = np.argsort(-accuracy, kind="stable")
        return _panels(drawing, [", ".join(f"{classes[each]} {percent(accuracy[each])}" for each in best_first)])


def _of_each(runs: Mapping[str, T], describe: Callable[[T], Sequence[str]]) -> list[str]:
    """Each panel in words, run by run; a single run has no name."""
    panels = zip(*(describe(run) for run in runs.values()), strict=True)
    return [". ".join(": ".join(filter(None, pair)) for pair in zip(runs, each, strict=True)) for each in panels]


def _panels(drawing: Figure, alts: Sequence[str]) -> list[Chart]:
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
        svg = file.getvalue()  # matplotlib has escaped its text
        for colour, name in PAGE_COLOURS.items():
            svg = svg.replace(colour, name)
        charts.append(Chart(f"{panel.get_title(loc='left')}. {alt}", Markup(svg[svg.index("<svg") :])))  # noqa: S704
    return charts

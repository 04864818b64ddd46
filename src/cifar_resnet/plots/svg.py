"""Charts for a web page: SVG in the page's own type and colours, which may be light or dark."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from cifar_resnet.evaluation import Evaluation
from cifar_resnet.plots.style import BLUE, GREY, ORANGE, STYLE

# What the page's style sheet calls the colours of the plots.
PAGE_COLOURS = {
    "#000000": "currentColor",
    STYLE["grid.color"]: "var(--line)",
    GREY: "var(--quiet)",
    BLUE: "var(--first)",
    ORANGE: "var(--second)",
}
# Text stays text, and `$` in a class name is a dollar, not the start of a formula.
SVG_STYLE = {**STYLE, "svg.fonttype": "none", "text.parse_math": False}


@dataclass(frozen=True)
class Chart:
    """A panel of a figure as an SVG element."""

    title: str
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


def svg_panels(drawing: Figure) -> list[Chart]:
    """Each panel of a figure as an SVG element of its own, so that a narrow page can stack them."""
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")  # panels keep their places while others are hidden
    panels = []
    for panel in drawing.axes:
        for axes in drawing.axes:
            axes.set_visible(axes is panel)
        box = panel.get_tightbbox()
        assert box is not None, "a panel that was drawn has a size"
        box = box.transformed(drawing.dpi_scale_trans.inverted()).padded(0.05)
        file = io.StringIO()
        drawing.savefig(file, format="svg", bbox_inches=box, transparent=True, metadata={"Date": None})
        panels.append(Chart(panel.get_title(loc="left"), _for_page(file.getvalue())))
    return panels


def _for_page(svg: str) -> Markup:
    """The SVG element without its XML header, in the page's colours. Matplotlib has escaped the text in it."""
    for colour, name in PAGE_COLOURS.items():
        svg = svg.replace(colour.lower(), name)
    return Markup(svg[svg.index("<svg") :])  # noqa: S704


def draw_class_accuracy(evaluation: Evaluation, drawing: Figure) -> None:
    """Draw the accuracy on each class into a figure, the best on top."""
    accuracy = evaluation.confusion.diagonal() / np.maximum(evaluation.confusion.sum(axis=1), 1)
    order = np.argsort(accuracy, kind="stable")
    axes = drawing.subplots()
    axes.grid(visible=False, axis="y")
    bars = axes.barh([evaluation.classes[number] for number in order], accuracy[order], color=BLUE, height=0.65)
    axes.bar_label(bars, [f"{value:.1%}" for value in accuracy[order]], padding=4)
    axes.set(title="Accuracy by true class", xlim=(0, 1.12), xticks=[0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)

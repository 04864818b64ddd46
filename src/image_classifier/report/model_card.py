"""The model card: what the network is, how good it is and what it is not for, as Markdown.

Its parts follow Mitchell et al. 2019, arXiv:1810.03993.
"""

import re
from typing import Any

import numpy as np

from image_classifier.evaluation.statistics import wilson_interval
from image_classifier.plots.evaluation import risks
from image_classifier.plots.style import percent
from image_classifier.report.pages import template_environment
from image_classifier.report.report import Report, confused_pairs
from image_classifier.report.svg import NUM_BARS

SURE = 0.9  # the card tells how often the network is right at this confidence or above


def render_model_card(report: Report, num_train_images: int) -> str:
    """The card as Markdown. The same report gives the same bytes."""
    environment = template_environment(escape_markdown)
    environment.filters |= {"percent": percent, "interval": interval}
    evaluation = report.evaluation
    sure = evaluation.confidence >= SURE
    worst = np.argsort(evaluation.class_accuracy, kind="stable")[:NUM_BARS]
    return environment.get_template("model_card.md.j2").render(
        vars(report),
        classes=evaluation.classes,
        image_size_px=report.images.shape[1],
        num_train_images=num_train_images,
        num_images=len(evaluation.labels),
        sure=SURE,
        num_sure=int(sure.sum()),
        sure_accuracy=evaluation.right[sure].mean() if sure.any() else 0,
        class_rows=[
            (evaluation.classes[one], int(evaluation.confusion[one].sum()), evaluation.class_accuracy[one])
            for one in worst
        ],
        pairs=confused_pairs(evaluation),
        risks=risks(evaluation),
    )


def interval(fraction: float, total: int, digits: int = 2) -> str:
    """Wilson's interval of a share of `total` images, in words."""
    low, high = wilson_interval(round(fraction * total), total)
    return f"{percent(low, digits)} to {percent(high, digits)}"


def escape_markdown(value: Any) -> str:
    """A value as plain text on one line: nothing in it is read as Markdown or as HTML."""
    return re.sub(r"([\\`*_\[\]<>|&#~!$])", r"\\\1", re.sub(r"\s+", " ", str(value)))

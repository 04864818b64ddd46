"""Reports of invented mistakes, and class names that would break a page without escaping."""

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from image_classifier.data import Images
from image_classifier.evaluation.predictions import Evaluation
from image_classifier.outputs.history import EpochMetrics
from image_classifier.report.report import Report

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$\\frac{$",
    "{{ 7 * 7 }}",
    "</style><b>&amp;",
    "]]>-->",
)


def photographs(count: int) -> Images:
    """Pieces of two photographs, which compress as CIFAR-10's images do."""
    rng = np.random.default_rng(0)
    photos = [np.asarray(Image.fromarray(photo).resize((213, 142))) for photo in load_sample_images().images]
    corners = zip(rng.integers(0, 142 - 32, count), rng.integers(0, 213 - 32, count), strict=True)
    return np.stack([photos[number % 2][y : y + 32, x : x + 32] for number, (y, x) in enumerate(corners)])


def make_report(classes: tuple[str, ...], num_mistakes: int, num_shown: int | None = None) -> Report:
    """A report of `num_mistakes` wrong predictions and as many right ones."""
    rng = np.random.default_rng(0)
    count, shown = 2 * num_mistakes + 10, num_mistakes if num_shown is None else num_shown
    probabilities = rng.dirichlet(np.full(len(classes), 0.5), count)
    labels = probabilities.argmax(axis=1)
    labels[:num_mistakes] = (labels[:num_mistakes] + 1 + np.arange(num_mistakes) % (len(classes) - 1)) % len(classes)
    evaluation = Evaluation(classes, labels, probabilities)
    small = rng.random((2 * shown, 8, 8)).astype(np.float32)
    maps = np.stack([np.asarray(Image.fromarray(one).resize((32, 32))) for one in small] or [np.zeros((32, 32))])
    return Report(
        dataset="cifar10",
        evaluation=evaluation,
        metrics=evaluation.metrics(15) | {"test_images_in_training": 0},
        history=[EpochMetrics(n, 0.1, 2 / n, 1 - 1 / n, 2.2 / n, 1 - 1.1 / n, "test") for n in (2, 3, 4)],
        settings={
            "data": {"dataset": "cifar10", "validation_images": 0},
            "model": {"width": 64},
            "train": {"epochs": 3, "lr_max": "0.4"},
            "gradcam": {"method": "layercam", "layer": "layer2"},
        },
        calibration_bins=15,
        map_size_px=8,
        model_md5="0" * 32,
        images=photographs(shown) if shown else np.zeros((0, 32, 32, 3), np.uint8),
        for_predicted=maps[:shown].clip(0, 1).astype(np.float32),
        for_true=maps[shown : 2 * shown].clip(0, 1).astype(np.float32),
    )

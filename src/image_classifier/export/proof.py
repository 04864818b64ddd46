"""The proof that an exported model answers as the trained one: both on the whole test set, image by image."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image_classifier.data import Dataset, Images
from image_classifier.evaluation.predictions import Evaluation
from image_classifier.evaluation.statistics import PairedCounts, judged, p_text
from image_classifier.system.errors import UserError

TIMED_IMAGES = 100


@dataclass(frozen=True)
class Form:
    """A form of a model, as measured on the test set."""

    name: str
    answers: Evaluation
    milliseconds: float  # for one image alone: the fastest of TIMED_IMAGES, since other programs only add time
    num_bytes: int  # of its file


def measure(name: str, dataset: Dataset, num_bytes: int, answer: Callable[[Images], NDArray[np.float64]]) -> Form:
    """Let a form answer for all test images, and time it on single ones."""
    answers = Evaluation(dataset.classes, np.asarray(dataset.test_labels), answer(dataset.test_images))
    seconds = []
    for number in range(TIMED_IMAGES):
        image = dataset.test_images[number % len(dataset.test_images)][np.newaxis]
        start = time.perf_counter()
        answer(image)
        seconds.append(time.perf_counter() - start)
    return Form(name, answers, 1000 * min(seconds), num_bytes)


@dataclass(frozen=True)
class Proof:
    """The trained model, the exported one, and the form that this was made from: for float32 the trained model."""

    trained: Form
    source: Form
    exported: Form

    def largest_difference(self, form: Form) -> float:
        """Largest difference of a probability from the trained model's, over all test images and classes."""
        return float(np.abs(form.answers.probabilities - self.trained.answers.probabilities).max())

    def other_classes(self, form: Form) -> int:
        """Test images for which the most probable class is another than the trained model's."""
        return int((form.answers.predicted != self.trained.answers.predicted).sum())

    def counts(self, form: Form) -> PairedCounts:
        """How many test images the trained model, first, and a form get right."""
        return PairedCounts.of(self.trained.answers.right, form.answers.right)

    def require(self, tolerance: float, most_points: float) -> None:
        """A UserError if a probability in float32 differs by more than `tolerance`, or int8 costs more points."""
        exported = self.exported
        if self.source is self.trained:
            if (found := self.largest_difference(exported)) > tolerance:
                raise UserError(
                    f"a probability of {exported.name} differs by {found:.2g}; export.tolerance allows {tolerance:g}, "
                    "so nothing was written: serve the model with MLflow, or try another version of onnxruntime"
                )
        elif (lost := -100 * self.counts(exported).difference) > most_points:
            raise UserError(
                f"{exported.name} costs {lost:.2f} points of accuracy; export.int8_points allows {most_points:g}, so "
                "nothing was written: raise export.calibration_images, or export without --int8"
            )

    def rows(self) -> list[tuple[str, ...]]:
        """The table of all forms, a column each."""
        forms = (self.trained, self.source, self.exported)[self.source is self.trained :]
        total = len(self.trained.answers.labels)
        others = forms[1:]
        return [
            ("", *(form.name for form in forms)),
            ("right", *(f"{form.answers.right.sum():,} of {total:,}" for form in forms)),
            ("accuracy", *(f"{form.answers.accuracy:.2%}" for form in forms)),
            ("largest difference of a probability", "", *(f"{self.largest_difference(form):.1g}" for form in others)),
            ("images with another class", "", *(f"{self.other_classes(form):,}" for form in others)),
            ("McNemar's exact test", "", *(p_text(self.counts(form).p_value()) for form in others)),
            ("time for one image", *(f"{form.milliseconds:.2f} ms" for form in forms)),
            ("size of the file", *(f"{form.num_bytes / 1e6:.2f} MB" for form in forms)),
        ]

    def verdict(self) -> str:
        """What the export costs and gains, in words."""
        counts, exported = self.counts(self.exported), self.exported
        if self.source is self.trained:
            lead = (
                f"{exported.name} answers as the trained model does: of {counts.total:,} test images "
                f"{self.other_classes(exported) or 'none'} got another class, and no probability differs by more than "
                f"{self.largest_difference(exported):.1g}."
            )
        else:
            points, interval = 100 * abs(counts.difference), counts.difference_interval()
            lead = (
                f"{exported.name} gets {points:.2f} points {'fewer' if counts.difference <= 0 else 'more'} right, 95 % "
                f"interval {100 * interval.low:+.2f} to {100 * interval.high:+.2f}, {judged(counts.p_value())} "
                f"({p_text(counts.p_value())})."
            )
        smaller = self.source.num_bytes / exported.num_bytes
        faster = self.source.milliseconds / exported.milliseconds
        return (
            f"{lead} Against {self.source.name}, its file is {_times(smaller, 'smaller', 'larger')}, and one image "
            f"takes {_times(faster, 'less', 'more')} time here."
        )

    def facts(self) -> dict[str, Any]:
        """All figures, for JSON."""
        counts = self.counts(self.exported)
        forms = {form.name: form for form in (self.trained, self.source, self.exported)}
        return {
            "images": counts.total,
            "forms": {
                name: {
                    "right": int(form.answers.right.sum()),
                    "largest_difference": self.largest_difference(form),
                    "other_classes": self.other_classes(form),
                    "milliseconds": round(form.milliseconds, 3),
                    "bytes": form.num_bytes,
                }
                for name, form in forms.items()
            },
            "both_right": counts.both,
            "only_trained_right": counts.only_first,
            "only_exported_right": counts.only_second,
            "neither_right": counts.neither,
            "difference": counts.difference,
            "interval": list(counts.difference_interval()),
            "p_value": counts.p_value(),
            "verdict": self.verdict(),
        }


def _times(ratio: float, above: str, below: str) -> str:
    """A ratio in words, such as "3.9x smaller"; "as large" would need a third word, so 1.0x is one of them, too."""
    return f"{ratio:.1f}x {above}" if ratio >= 1 else f"{1 / ratio:.1f}x {below}"

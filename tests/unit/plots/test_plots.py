from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from image_classifier.evaluation.predictions import Evaluation
from image_classifier.outputs.history import EpochMetrics
from image_classifier.outputs.rates import LRSweep
from image_classifier.plots.evaluation import (
    describe_reliability,
    draw_reliability,
    matrix_classes,
    matrix_shares,
    plot_confusion,
    plot_misclassified,
    plot_reliability,
)
from image_classifier.plots.learning_curves import draw_learning_curves, plot_learning_curves
from image_classifier.plots.lr_curve import plot_lr_curve
from image_classifier.plots.style import drawing_of, percent, short
from image_classifier.report.svg import class_accuracy_charts
from image_classifier.training.lr_range import find_rates

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
random = np.random.default_rng(0)
IMAGES = random.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(200) % 10
EVALUATION = Evaluation(CLASSES, LABELS, random.dirichlet(np.ones(10), 200))
NO_MISTAKES = Evaluation(CLASSES, LABELS, np.eye(10)[LABELS])
HISTORY = [EpochMetrics(n, 0.1 / n, 2 / n, 1 - 0.5 / n, 2.1 / n, 1 - 0.6 / n, "validation") for n in range(1, 25)]
LOSSES = (2.3, 2.3, 2.3, 2.2, 2.0, 1.5, 1.2, 1.0, 1.1, 2.0, 3.9)
SWEEP = LRSweep(tuple(10.0 ** np.arange(-4, 1.5, 0.5)), LOSSES, LOSSES)

PLOTS: dict[str, Callable[[Path], None]] = {
    "learning curves": lambda path: plot_learning_curves(HISTORY, path),
    "one epoch": lambda path: plot_learning_curves(HISTORY[:1], path),
    "learning-rate curve": lambda path: plot_lr_curve(SWEEP, find_rates(SWEEP, "valley"), path),
    "learning-rate curve without rates": lambda path: plot_lr_curve(LRSweep((0.1,), (2.3,), (2.3,)), None, path),
    "sweep whose first loss is no number": lambda path: plot_lr_curve(LRSweep(), None, path),
    "confusion matrix": lambda path: plot_confusion(EVALUATION, path),
    "reliability": lambda path: plot_reliability(EVALUATION, 15, path),
    "mistakes": lambda path: plot_misclassified(EVALUATION, IMAGES, 7, path),
    "no mistakes": lambda path: plot_misclassified(NO_MISTAKES, IMAGES, 7, path),
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_has_the_same_bytes_every_time_and_makes_its_folder(tmp_path: Path, name: str) -> None:
    first, again = tmp_path / "a" / "plot.png", tmp_path / "b" / "plot.png"
    for path in (first, again):
        PLOTS[name](path)
    assert first.read_bytes() == again.read_bytes()
    picture = np.asarray(Image.open(first).convert("L"))
    assert min(picture.shape) >= 100
    assert (picture < 128).any()  # it has text at least


def test_a_users_own_style_changes_no_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PLOTS["learning-rate curve"](tmp_path / "usual.png")
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # from a matplotlibrc; here is no LaTeX
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "red")
    PLOTS["learning-rate curve"](tmp_path / "styled.png")
    assert (tmp_path / "usual.png").read_bytes() == (tmp_path / "styled.png").read_bytes()


def test_the_grid_shows_the_worst_mistakes_from_left_to_right_and_top_to_bottom(tmp_path: Path) -> None:
    images = np.full_like(IMAGES, 255)
    shown = EVALUATION.misclassified[:6]
    images[shown] = [[[(40 * number, 255, 0)]] for number in range(6)]
    plot_misclassified(EVALUATION, images, 6, tmp_path / "plot.png")
    picture = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB"))
    places = [np.argwhere((picture == (40 * number, 255, 0)).all(axis=2)).mean(axis=0) for number in range(6)]
    rows, columns = np.round(np.array(places)).T
    assert rows[0] == rows[1] == rows[2] == rows[3] == rows[4] < rows[5]
    assert columns[0] < columns[1] < columns[2] < columns[3] < columns[4]
    assert columns[5] == columns[0]


def test_a_bin_of_one_image_is_described_in_the_singular() -> None:
    evaluation = Evaluation(("cat", "dog"), np.array([0, 0, 1]), np.array([[0.9, 0.1], [0.9, 0.1], [0.7, 0.3]]))
    described = "1 image 70% sure and 0% right, 2 images 90% sure and 100% right"
    assert describe_reliability(evaluation, 10) == described


def test_a_line_does_not_cross_out_the_words_of_a_legend(tmp_path: Path) -> None:
    with drawing_of(5.5, 5) as drawing:
        draw_reliability({"": EVALUATION}, 15, drawing)
        (axes,) = drawing.axes
        axes.axhspan(0, 1, color="red")
        drawing.savefig(tmp_path / "plot.png", dpi=drawing.dpi)
        legend = axes.get_legend()
        assert legend
        box = legend.get_window_extent()
    picture = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).astype(int)[::-1]
    inside = picture[round(box.y0) + 3 : round(box.y1) - 3, round(box.x0) + 3 : round(box.x1) - 3]
    assert (inside[..., 0] - inside[..., 1]).max() < 128, "no pure red"


def test_no_two_ticks_of_low_accuracies_look_alike() -> None:
    history = [EpochMetrics(n, 0.1, 4.6, 0.01 + n / 1000, 4.6, 0.012, "test") for n in range(1, 7)]
    with drawing_of(13, 4) as drawing:
        draw_learning_curves({"": history}, drawing)
        ticks = [label.get_text() for label in drawing.axes[1].get_yticklabels()]
    assert "1.2%" in ticks
    assert len(set(ticks)) == len(ticks)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [
        (0, "0.0%"),
        (0.0004, "<0.1%"),
        (0.0006, "0.1%"),
        (0.5, "50.0%"),
        (0.9994, "99.9%"),
        (0.9996, ">99.9%"),
        (1, "100.0%"),
    ],
)
def test_only_certainty_is_called_0_or_100_percent(fraction: float, text: str) -> None:
    assert percent(fraction) == text


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert short("airplane") == "airplane"
    names = [f"digit {number % 10}, drawn by hand by writer no. {number:03}" for number in range(100)]
    for length in (20, 24):
        assert len({short(name, length) for name in names}) == 100
        assert max(len(short(name, length)) for name in names) <= length


def test_letters_that_no_font_has_are_drawn_without_a_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    evaluation = Evaluation(("猫", "🦊"), np.array([0, 1]), np.array([[0.4, 0.6], [0.2, 0.8]]))
    plot_confusion(evaluation, tmp_path / "matrix.png")
    assert "猫" in class_accuracy_charts(evaluation)[0].svg
    assert not recwarn.list


def test_a_matrix_of_many_classes_shows_those_with_the_most_mistakes() -> None:
    mistakes = np.zeros((100, 100), np.int64)
    mistakes[range(60, 100), range(40)] = np.arange(1, 41)  # class 99 is taken for class 39 forty times
    assert matrix_classes(mistakes) == [*range(25, 40), *range(85, 100)]
    assert matrix_classes(mistakes[:30, :30]) == list(range(30))


def test_the_colours_of_a_matrix_compare_mistakes_with_mistakes() -> None:
    shares = matrix_shares(np.array([[90, 10], [5, 95]]))
    assert shares == pytest.approx(np.array([[0.08 + 0.62 * 0.9, 0.7], [0.08 + 0.62 * 0.5, 0.08 + 0.62 * 0.95]]))
    assert matrix_shares(np.array([[3, 0], [0, 2]])) == pytest.approx(np.array([[0.7, 0], [0, 0.7]]))

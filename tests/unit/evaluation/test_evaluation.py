import math

import numpy as np
import pytest
import torch

from image_classifier.evaluation.predictions import Evaluation
from image_classifier.model.compute import Compute, prepare_compute
from image_classifier.model.inference import predict_logits, softmax
from image_classifier.model.network import Network, make_network
from image_classifier.project.params import Params

EVALUATION = Evaluation(
    classes=("cat", "dog", "frog"),
    labels=np.array([0, 1, 2, 2]),
    probabilities=np.array([[0.70, 0.20, 0.10], [0.50, 0.40, 0.10], [0.10, 0.30, 0.60], [0.25, 0.65, 0.10]]),
)


def test_metrics_are_those_computed_by_hand() -> None:
    metrics = EVALUATION.metrics(calibration_bins=2)
    assert metrics.pop("per_class_accuracy") == {"cat": 1.0, "dog": 0.0, "frog": 0.5}
    assert metrics == pytest.approx(
        {
            "accuracy": 2 / 4,
            "loss": -(math.log(0.7) + math.log(0.4) + math.log(0.6) + math.log(0.1)) / 4,
            "top2_accuracy": 3 / 4,  # the last image's true class is third
            "macro_f1": (2 / 3 + 0 + 2 / 3) / 3,
            # Up to 0.5: one image, wrong, confidence 0.5. Above: two of three right, mean confidence 0.65.
            "expected_calibration_error": (1 * 0.5 + 3 * (2 / 3 - 0.65)) / 4,
        }
    )


def test_rows_of_the_confusion_matrix_are_the_true_classes() -> None:
    assert EVALUATION.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]


def test_confidence_is_of_the_predicted_class_and_true_probability_of_the_true_one() -> None:
    assert EVALUATION.confidence.tolist() == [0.7, 0.5, 0.6, 0.65]
    assert EVALUATION.true_probability.tolist() == [0.7, 0.4, 0.6, 0.1]


def test_the_most_confident_mistake_comes_first() -> None:
    assert EVALUATION.misclassified.tolist() == [3, 1]


def test_equally_confident_mistakes_keep_their_order() -> None:
    probabilities = np.tile([0.25, 0.75], (100, 1))
    probabilities[60] = [0.125, 0.875]
    evaluation = Evaluation(("a", "b"), np.zeros(100, dtype=np.int64), probabilities)
    assert evaluation.misclassified.tolist() == [60, *range(60), *range(61, 100)]


def test_each_cell_of_the_confusion_matrix_gives_its_worst_images() -> None:
    """Six images of a that are taken for b, two for c, and one of c for a; the first ones are the most confident."""
    predicted = np.array([1, 1, 1, 1, 1, 1, 2, 2, 0])
    confidence = np.array([0.95, 0.94, 0.93, 0.92, 0.91, 0.90, 0.70, 0.60, 0.50])
    probabilities = np.full((9, 3), ((1 - confidence) / 2)[:, np.newaxis])
    probabilities[np.arange(9), predicted] = confidence
    evaluation = Evaluation(("a", "b", "c"), np.array([0] * 8 + [2]), probabilities)
    assert evaluation.worst_of_each_cell(3).tolist() == [0, 6, 8]
    assert evaluation.worst_of_each_cell(6).tolist() == [0, 1, 2, 6, 7, 8]
    assert evaluation.worst_of_each_cell(100).tolist() == evaluation.misclassified.tolist() == list(range(9))
    assert evaluation.worst_of_each_cell(2).tolist() == [0, 6], "with too few for all cells, the most confident"


def test_with_two_classes_nothing_is_said_of_the_top_two() -> None:
    metrics = Evaluation(("a", "b"), np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]])).metrics(10)
    assert metrics["accuracy"] == 0.5
    assert "top2_accuracy" not in metrics


def test_a_class_without_images_counts_as_zero() -> None:
    evaluation = Evaluation(("a", "b", "c"), np.array([0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
    metrics = evaluation.metrics(calibration_bins=10)
    assert metrics["per_class_accuracy"] == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert metrics["macro_f1"] == pytest.approx(2 / 3)


def test_a_true_class_of_probability_zero_leaves_the_loss_finite() -> None:
    evaluation = Evaluation(("a", "b", "c"), np.array([0, 1]), np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
    assert evaluation.metrics(calibration_bins=10)["loss"] == pytest.approx(354.2, abs=0.1)


def test_a_bin_of_confidences_holds_its_upper_edge() -> None:
    probabilities = np.array([[0.25, 0], [0.26, 0], [0.5, 0], [1, 0]])
    bins = Evaluation(("a", "b"), np.array([0, 1, 0, 0]), probabilities).calibration(num_bins=4)
    assert bins.counts.tolist() == [1, 2, 1]
    assert bins.confidence.tolist() == pytest.approx([0.25, 0.38, 1.0])
    assert bins.accuracy.tolist() == [1.0, 0.5, 1.0]


def test_softmax_sums_to_one_in_double_precision() -> None:
    logits = np.array([[1000.0, 999.0, -1000.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    probabilities = softmax(logits)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1], abs=1e-15)
    assert probabilities[0] == pytest.approx([1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0])


@pytest.fixture
def compute(tiny_params: Params) -> Compute:
    return prepare_compute(tiny_params.compute)


@pytest.fixture
def net(tiny_params: Params) -> Network:
    torch.manual_seed(0)
    return make_network(tiny_params.model, 10, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (501, 32, 32, 3), dtype=np.uint8)


def test_each_image_is_predicted_in_inference_mode_whatever_its_batch(
    net: Network, images: np.ndarray, compute: Compute
) -> None:
    logits = predict_logits(net.train(), images, compute)
    assert logits.shape == (501, 10)
    for index in (0, 499, 500):
        alone = net.eval()(net.normalize(torch.tensor(images[[index]])))
        np.testing.assert_allclose(logits[[index]], alone.detach(), atol=1e-5)


def test_mirrored_predictions_are_those_of_mirrored_images(net: Network, images: np.ndarray, compute: Compute) -> None:
    mirrored = predict_logits(net, images[:, :, ::-1].copy(), compute)
    assert np.array_equal(predict_logits(net, images, compute, mirrored=True), mirrored)
    assert not np.array_equal(predict_logits(net, images, compute), mirrored)

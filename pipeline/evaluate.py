"""Stage `evaluate`: the prediction for every test image, the metrics, the mistakes, and the training's curves."""

import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from image_classifier.data import Dataset, load_dataset, split_validation
from image_classifier.evaluation.predictions import Evaluation
from image_classifier.evaluation.unsure import at_threshold, find_threshold
from image_classifier.model.compute import Compute, prepare_compute
from image_classifier.model.inference import predict_logits, softmax
from image_classifier.model.model_file import load_model
from image_classifier.model.network import Network
from image_classifier.outputs.history import read_history
from image_classifier.outputs.rates import NoRatesError, read_found_rates, read_sweep
from image_classifier.plots.evaluation import plot_confusion, plot_misclassified, plot_reliability
from image_classifier.plots.learning_curves import plot_learning_curves
from image_classifier.plots.lr_curve import plot_lr_curve
from image_classifier.project import locations
from image_classifier.project.params import ComputeParams, DataParams, EvaluateParams
from image_classifier.system.errors import UserError
from image_classifier.system.files import replacing, write_json
from pipeline.stage import main


def run(data: DataParams, evaluate: EvaluateParams, compute: ComputeParams) -> None:
    """Write metrics, tables and pictures of the test set, and pictures of the sweep and of the epochs.

    A UserError if no threshold reaches `evaluate.wanted_accuracy`.
    """
    # Always float32: a served model computes in it too, and gives the same probabilities, apart from rounding.
    resolved = replace(prepare_compute(compute), precision=torch.float32)
    dataset = load_dataset(locations.DATA / data.dataset)
    net = resolved.place(load_model(locations.MODEL).net)
    probabilities = softmax(predict_logits(net, dataset.test_images, resolved))
    evaluation = Evaluation(dataset.classes, dataset.test_labels, probabilities)

    metrics = evaluation.metrics(evaluate.calibration_bins)
    if evaluate.flip_tta:
        mirrored = softmax(predict_logits(net, dataset.test_images, resolved, mirrored=True))
        metrics["flip_tta_accuracy"] = replace(evaluation, probabilities=(probabilities + mirrored) / 2).accuracy
    if evaluate.wanted_accuracy != "off":
        threshold = threshold_on_held_out(net, dataset, data, evaluate.wanted_accuracy, resolved)
        metrics["unsure"] = {"wanted_accuracy": evaluate.wanted_accuracy, **at_threshold(evaluation, threshold)}
    metrics["test_images_in_training"] = in_training = dataset.num_test_images_in_training()
    write_json(locations.TEST_METRICS, metrics)
    write_tables(evaluation)
    plot_confusion(evaluation, locations.CONFUSION_PLOT)
    plot_reliability(evaluation, evaluate.calibration_bins, locations.RELIABILITY_PLOT)
    plot_misclassified(evaluation, dataset.test_images, evaluate.grid_images, locations.MISCLASSIFIED_PLOT)
    try:
        found = read_found_rates(locations.LR_FOUND)
    except NoRatesError:
        found = None
    plot_lr_curve(read_sweep(locations.LR_CURVE), found, locations.LR_CURVE_PLOT)
    plot_learning_curves(read_history(locations.HISTORY), locations.LEARNING_CURVES)
    num_wrong = len(evaluation.misclassified)
    print(f"test accuracy {evaluation.accuracy:.2%}: {num_wrong} of {len(evaluation.labels)} images misclassified")
    if in_training:
        print(
            f"warning: {in_training} test images are also training images, so the accuracy promises too much",
            file=sys.stderr,
        )


def threshold_on_held_out(
    net: Network, dataset: Dataset, data: DataParams, wanted_accuracy: float, compute: Compute
) -> float:
    """The confidence up to which the model is unsure, found on the images that were held out of the training."""
    _, out = split_validation(dataset.train_labels, data.validation_images, data.split_seed)
    probabilities = softmax(predict_logits(net, dataset.train_images[out], compute))
    held_out = Evaluation(dataset.classes, dataset.train_labels[out], probabilities)
    if (threshold := find_threshold(held_out, wanted_accuracy)) is None:
        raise UserError(
            f"evaluate.wanted_accuracy is {wanted_accuracy:g}, and {len(out):,} held-out images show that at no "
            f"confidence ({held_out.accuracy:.2%} of all are right): lower it or set it to off, or hold out more images"
        )
    return threshold


def write_tables(evaluation: Evaluation) -> None:
    """Write the predictions, the confusion matrix, the most confused pairs and the mistakes as CSV."""
    classes, wrong = evaluation.classes, evaluation.misclassified
    names = np.array(classes, dtype=object)
    predictions = pd.DataFrame({"true": names[evaluation.labels], "predicted": names[evaluation.predicted]})
    probabilities = pd.DataFrame(evaluation.probabilities, columns=[f"p_{name}" for name in classes])
    confusion = pd.DataFrame(evaluation.confusion, columns=classes)
    confusion.insert(0, "true", classes, allow_duplicates=True)  # a class may be named `true`
    mistakes = predictions.iloc[wrong].assign(
        probability=evaluation.confidence[wrong], true_probability=evaluation.true_probability[wrong]
    )
    pairs = Counter(zip(mistakes["true"], mistakes["predicted"], strict=True)).most_common()
    sizes = Counter(predictions["true"])
    rows = [(*pair, count, f"{count / sizes[pair[0]]:.4f}") for pair, count in pairs]
    tables = {
        locations.PREDICTIONS: pd.concat([predictions, probabilities], axis=1).reset_index(),
        locations.CONFUSION: confusion,
        locations.CONFUSED_PAIRS: pd.DataFrame(rows, columns=["true", "predicted", "count", "share"]),
        locations.MISCLASSIFIED: mistakes.reset_index(),
    }
    for path, table in tables.items():
        with replacing(path) as new:
            table.to_csv(new, index=False, float_format="%.9f", lineterminator="\n")


if __name__ == "__main__":
    main(run, __doc__)

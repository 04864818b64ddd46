"""Stage `evaluate`: every test image's prediction, the figures that follow, the mistakes, and the training's curves."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from cifar_resnet import layout
from cifar_resnet.compute import Compute, prepare_compute
from cifar_resnet.data import Dataset, load_dataset
from cifar_resnet.evaluation import Evaluation
from cifar_resnet.files import replacing, write_json
from cifar_resnet.history import read_history
from cifar_resnet.inference import predict_logits, softmax
from cifar_resnet.lr_range import read_found_rates, read_sweep
from cifar_resnet.model_file import load_model
from cifar_resnet.networks.base import Network
from cifar_resnet.params import ComputeParams, DataParams, EvaluateParams
from cifar_resnet.plots.evaluation import plot_confusion, plot_misclassified, plot_reliability
from cifar_resnet.plots.learning_curves import plot_learning_curves
from cifar_resnet.plots.lr_curve import plot_lr_curve
from pipeline.stage import main


def run(data: DataParams, evaluate: EvaluateParams, compute: ComputeParams) -> None:
    """Write metrics, tables and pictures of the test set, and pictures of the sweep and of the epochs."""
    # In float32, whatever the training used: a served model gives these probabilities, apart from rounding.
    resolved = replace(prepare_compute(compute), precision=torch.float32)
    dataset = load_dataset(layout.DATA / data.dataset)
    net = resolved.place(load_model(layout.MODEL).net)
    probabilities = softmax(predict_logits(net, dataset.test_images, resolved))
    evaluation = Evaluation(dataset.classes, dataset.test_labels, probabilities)

    metrics = evaluation.metrics(evaluate.calibration_bins)
    if evaluate.flip_tta:
        metrics["flip_tta_accuracy"] = flip_tta_accuracy(net, dataset, evaluation, resolved)
    write_json(layout.TEST_METRICS, metrics)
    write_tables(evaluation)
    plot_confusion(evaluation, layout.CONFUSION_PLOT)
    plot_reliability(evaluation, evaluate.calibration_bins, layout.RELIABILITY_PLOT)
    plot_misclassified(evaluation, dataset.test_images, evaluate.grid_images, layout.MISCLASSIFIED_PLOT)
    plot_lr_curve(read_sweep(layout.LR_CURVE), read_found_rates(layout.LR_FOUND), layout.LR_CURVE_PLOT)
    plot_learning_curves(read_history(layout.HISTORY), layout.LEARNING_CURVES)
    num_wrong = len(evaluation.misclassified)
    print(f"test accuracy {evaluation.accuracy:.2%}: {num_wrong} of {len(evaluation.labels)} images misclassified")


def flip_tta_accuracy(net: Network, dataset: Dataset, evaluation: Evaluation, compute: Compute) -> float:
    """Accuracy of the probabilities averaged over each image and its mirror image."""
    mirrored = softmax(predict_logits(net, dataset.test_images, compute, mirrored=True))
    return replace(evaluation, probabilities=(evaluation.probabilities + mirrored) / 2).accuracy


def write_tables(evaluation: Evaluation) -> None:
    """Write the predictions, the confusion matrix, the pairs most confused and the mistakes as CSV."""
    names = pd.Series(evaluation.classes)
    true, predicted = names[evaluation.labels].to_numpy(), names[evaluation.predicted].to_numpy()
    predictions = pd.DataFrame({"true": true, "predicted": predicted})
    for number, name in enumerate(evaluation.classes):
        predictions[f"p_{name}"] = evaluation.probabilities[:, number]
    write_table(predictions, layout.PREDICTIONS, index_label="index", float_format="%.9f")

    confusion = pd.DataFrame(evaluation.confusion, index=evaluation.classes, columns=evaluation.classes)
    write_table(confusion, layout.CONFUSION, index_label="true")

    wrong = evaluation.misclassified
    pairs = Counter(zip(true[wrong], predicted[wrong], strict=True)).most_common()
    class_sizes = Counter(true)
    rows = [(*pair, count, count / class_sizes[pair[0]]) for pair, count in pairs]
    pairs_table = pd.DataFrame(rows, columns=["true", "predicted", "count", "share"])
    write_table(pairs_table, layout.CONFUSED_PAIRS, float_format="%.4f")

    misclassified = pd.DataFrame(
        {
            "index": wrong,
            "true": true[wrong],
            "predicted": predicted[wrong],
            "probability": evaluation.confidence[wrong],
            "true_probability": evaluation.true_probability[wrong],
        }
    )
    write_table(misclassified, layout.MISCLASSIFIED, float_format="%.9f")


def write_table(
    table: pd.DataFrame, path: Path, index_label: str | None = None, float_format: str | None = None
) -> None:
    """Write a table as CSV, its index only under a label."""
    with replacing(path) as new:
        table.to_csv(
            new, index=index_label is not None, index_label=index_label, float_format=float_format, lineterminator="\n"
        )


if __name__ == "__main__":
    main(run, __doc__)

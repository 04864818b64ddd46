"""Stage `gradcam_report`: the mistakes with Grad-CAM maps, as a page and a picture; and the model card."""

import hashlib
import json

from cifar_resnet import layout
from cifar_resnet.compute import prepare_compute
from cifar_resnet.data import load_dataset
from cifar_resnet.evaluation import read_predictions
from cifar_resnet.files import write_text
from cifar_resnet.gradcam import activation_maps, map_size_px, overlay
from cifar_resnet.history import read_history
from cifar_resnet.model_card import render_model_card
from cifar_resnet.model_file import load_model
from cifar_resnet.params import (
    AugmentParams,
    ComputeParams,
    DataParams,
    EvaluateParams,
    GradCAMParams,
    ModelParams,
    TrainParams,
)
from cifar_resnet.plots.gradcam import plot_gradcam
from cifar_resnet.report import Report
from pipeline.stage import main


def run(
    data: DataParams,
    augment: AugmentParams,
    model: ModelParams,
    train: TrainParams,
    evaluate: EvaluateParams,
    gradcam: GradCAMParams,
    compute: ComputeParams,
) -> None:
    """Explain the mistakes in `index.html` and `gradcam.png`, and describe the model in `model_card.md`."""
    resolved = prepare_compute(compute)
    dataset = load_dataset(layout.DATA / data.dataset)
    net = resolved.place(load_model(layout.MODEL).net)
    evaluation = read_predictions(layout.PREDICTIONS)

    shown = evaluation.worst_of_each_cell(gradcam.images)
    images = dataset.test_images[shown]
    for_predicted = activation_maps(net, images, evaluation.predicted[shown], gradcam)
    for_true = activation_maps(net, images, evaluation.labels[shown], gradcam)

    grid = slice(gradcam.grid_images)
    plot_gradcam(
        evaluation,
        shown[grid],
        images[grid],
        overlay(images[grid], for_predicted[grid]),
        overlay(images[grid], for_true[grid]),
        f"Mistakes, the most confident first, and the evidence for each class: {gradcam.method} on {gradcam.layer}",
        layout.GRADCAM_PLOT,
    )
    used = json.loads(layout.TRAIN_METRICS.read_text(encoding="utf-8"))
    rates = {name: f"{used[name]:.4g}" for name in ("lr_min", "lr_max")}  # where the settings may say `find`
    report = Report(
        dataset=dataset.name,
        evaluation=evaluation,
        metrics=json.loads(layout.TEST_METRICS.read_text(encoding="utf-8")),
        history=read_history(layout.HISTORY),
        settings={
            "data": data.model_dump(include={"dataset", "split_seed", "validation_images"}),
            "augment": augment.model_dump(),
            "model": model.model_dump(),
            "train": train.model_dump() | rates,
            "gradcam": gradcam.model_dump(),
        },
        calibration_bins=evaluate.calibration_bins,
        map_size_px=map_size_px(net, gradcam.layer, dataset.image_px),
        model_md5=hashlib.md5(layout.MODEL.read_bytes(), usedforsecurity=False).hexdigest(),
        images=images,
        for_predicted=for_predicted,
        for_true=for_true,
    )
    write_text(layout.GRADCAM_PAGE, report.render())
    num_train_images = len(dataset.train_labels) - data.validation_images
    write_text(layout.MODEL_CARD, render_model_card(report, num_train_images))
    print(f"{len(shown)} of {len(evaluation.misclassified)} mistakes explained in {layout.GRADCAM_PAGE}")


if __name__ == "__main__":
    main(run, __doc__)

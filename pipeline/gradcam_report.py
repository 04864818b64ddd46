"""Stage `gradcam_report`: the mistakes with Grad-CAM maps, as a page and a picture; and the model card."""

import hashlib
import json

from image_classifier.data import load_dataset
from image_classifier.evaluation.predictions import read_predictions
from image_classifier.model.compute import prepare_compute
from image_classifier.model.model_file import load_model
from image_classifier.outputs.history import read_history
from image_classifier.project import locations
from image_classifier.project.params import (
    AugmentParams,
    ComputeParams,
    DataParams,
    EvaluateParams,
    GradCAMParams,
    ModelParams,
    TrainParams,
)
from image_classifier.report.gradcam import activation_maps, map_size_px, overlay
from image_classifier.report.model_card import render_model_card
from image_classifier.report.picture import plot_gradcam
from image_classifier.report.report import Report
from image_classifier.system.files import write_text
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
    dataset = load_dataset(locations.DATA / data.dataset)
    net = resolved.place(load_model(locations.MODEL).net)
    evaluation = read_predictions(locations.PREDICTIONS)

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
        locations.GRADCAM_PLOT,
    )
    used = json.loads(locations.TRAIN_METRICS.read_text(encoding="utf-8"))
    rates = {name: f"{used[name]:.4g}" for name in ("lr_min", "lr_max")}  # where the settings may say `find`
    report = Report(
        dataset=dataset.name,
        evaluation=evaluation,
        metrics=json.loads(locations.TEST_METRICS.read_text(encoding="utf-8")),
        history=read_history(locations.HISTORY),
        settings={
            "data": data.model_dump(include={"dataset", "split_seed", "validation_images"}),
            "augment": augment.model_dump(),
            "model": model.model_dump(),
            "train": train.model_dump() | rates,
            "gradcam": gradcam.model_dump(),
        },
        calibration_bins=evaluate.calibration_bins,
        map_size_px=map_size_px(net, gradcam.layer, dataset.image_px),
        model_md5=hashlib.md5(locations.MODEL.read_bytes(), usedforsecurity=False).hexdigest(),
        images=images,
        for_predicted=for_predicted,
        for_true=for_true,
    )
    write_text(locations.GRADCAM_PAGE, report.render())
    num_train_images = len(dataset.train_labels) - data.validation_images
    write_text(locations.MODEL_CARD, render_model_card(report, num_train_images))
    print(f"{len(shown)} of {len(evaluation.misclassified)} mistakes explained in {locations.GRADCAM_PAGE}")


if __name__ == "__main__":
    main(run, __doc__)

"""`python -m benchmarks.maps`: how much depends on the pixels that each Grad-CAM method finds warmest.

To be called after `dvc repro`. In the most confident mistakes, the warmest fifth of the pixels for the predicted class
gets the mean colour, and the probability of that class is taken again. A map that shows what counts costs most of it;
a blob in the centre is there to compare with, since objects mostly are.
"""

import sys

import numpy as np

from image_classifier.data import Dataset, Images, load_dataset
from image_classifier.evaluation.predictions import read_predictions
from image_classifier.model.compute import prepare_compute
from image_classifier.model.inference import predict_logits, softmax
from image_classifier.model.model_file import load_model
from image_classifier.project import locations
from image_classifier.project.params import load_params
from image_classifier.report.gradcam import METHODS, Maps, activation_maps
from image_classifier.system.errors import UserError

SHARE = 0.2  # of the pixels
MISTAKES = 400


def main() -> None:
    """Print the mean probability of the predicted class, untouched and with the warmest pixels of each map blanked."""
    params = load_params(locations.PARAMS)
    compute = prepare_compute(params.compute.model_copy(update={"precision": "fp32"}))
    dataset = load_dataset(locations.DATA / params.data.dataset)
    net = compute.place(load_model(locations.MODEL).net)
    evaluation = read_predictions(locations.PREDICTIONS)
    wrong = evaluation.misclassified[:MISTAKES]
    images, predicted = dataset.test_images[wrong], evaluation.predicted[wrong]

    def probability(changed: Images) -> float:
        of_predicted = softmax(predict_logits(net, changed, compute))[np.arange(len(predicted)), predicted]
        return float(of_predicted.mean())

    print(f"{len(wrong)} mistakes, probability of the predicted class {probability(images):.2f}; without the warmest")
    print(f"{SHARE:.0%} of the pixels, for maps of {params.gradcam.layer}:")
    for method in METHODS:
        with_method = params.gradcam.model_copy(update={"method": method})
        maps = activation_maps(net, images, predicted, with_method)
        print(f"{method:<14}{probability(blank_warmest(images, maps, dataset)):.2f}", flush=True)
    blobs = np.broadcast_to(centre_blob(dataset.image_px), images.shape[:3])
    print(f"{'centre':<14}{probability(blank_warmest(images, blobs, dataset)):.2f}")


def blank_warmest(images: Images, maps: Maps, dataset: Dataset) -> Images:
    """Images (N, 32, 32, 3) with the mean colour where their maps (N, 32, 32) are highest."""
    flat = maps.reshape(len(maps), -1)
    warmest = np.argsort(-flat, axis=1, kind="stable")[:, : round(SHARE * flat.shape[1])]
    changed = images.reshape(len(images), -1, 3).copy()
    changed[np.arange(len(images))[:, np.newaxis], warmest] = np.rint(255 * np.array(dataset.mean))
    return changed.reshape(images.shape)


def centre_blob(image_px: int) -> Maps:
    """A map (image_px, image_px), the higher the nearer to the centre."""
    offset = np.arange(image_px, dtype=np.float32) - (image_px - 1) / 2
    blob: Maps = -np.hypot(offset, offset[:, np.newaxis])
    return blob


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")

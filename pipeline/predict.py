"""`python -m pipeline.predict IMAGE_OR_FOLDER...`: the most probable classes of any image files."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cifar_resnet import layout
from cifar_resnet.compute import prepare_compute
from cifar_resnet.data import load_dataset
from cifar_resnet.errors import UserError
from cifar_resnet.inference import predict_logits, softmax
from cifar_resnet.lock import locked_settings, read_lock
from cifar_resnet.model import load_weights, make_network
from cifar_resnet.params import Params, load_params
from cifar_resnet.prediction import Prediction, find_images, read_images, top_predictions
from pipeline.stage import main

ENLARGEMENT = 8  # of the overlays, so that a screen shows them at a useful size


def run(options: Namespace, params: Params) -> None:
    """Print what the network in models/model.pt makes of the images.

    Raises:
        UserError: an image, the model or the data set's description cannot be used.
    """
    require_trained_with(params)
    paths = find_images(options.images)
    images = read_images(paths)
    resolved = replace(prepare_compute(params.compute), precision=torch.float32)  # as the stage `evaluate` predicts
    dataset = load_dataset(layout.DATA / params.data.dataset)
    if not 1 <= options.top <= len(dataset.classes):
        raise UserError(f"--top is {options.top}; allowed: 1 to {len(dataset.classes)}, the number of classes")
    net = resolved.place(load_weights(make_network(dataset, params.model), layout.MODEL))
    probabilities = softmax(predict_logits(net, images, resolved))

    predictions = top_predictions(paths, probabilities, dataset.classes, options.top)
    print(json.dumps([one.as_json() for one in predictions], indent=2) if options.json else as_table(predictions))
    if options.gradcam:
        from cifar_resnet.gradcam import activation_maps, overlay  # takes 2 s

        maps = activation_maps(net, images, probabilities.argmax(axis=1), params.gradcam)
        write_overlays(paths, np.concatenate([images, overlay(images, maps)], axis=2), options.gradcam)


def require_trained_with(params: Params) -> None:
    """Make sure that the model on disk is one of this data set and network.

    Data sets may agree in all shapes, and the scale of the logits is no weight: `dvc.lock` knows, the file does not.

    Raises:
        UserError: it was trained with other settings.
    """
    trained_with = locked_settings(read_lock().get("train", {}))
    now = {"data.dataset": params.data.dataset, **{f"model.{key}": value for key, value in params.model}}
    for name, value in now.items():
        if trained_with.get(name, value) != value:
            raise UserError(
                f"{layout.MODEL} was trained with {name} {trained_with[name]}, but params.yaml has {value}: set it to "
                f"{trained_with[name]}, or train anew with `dvc repro train`"
            )


def as_table(predictions: Sequence[Prediction]) -> str:
    """A line per image, in columns."""
    rows = [prediction.as_row() for prediction in predictions]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def write_overlays(paths: Sequence[Path], pictures: np.ndarray, folder: Path) -> None:
    """Write a PNG per image, numbered since images from different folders may share a name."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--gradcam {folder}: {error.strerror}; give a folder to write to") from None
    for number, (path, picture) in enumerate(zip(paths, pictures, strict=True), start=1):
        image = Image.fromarray(picture)
        size = (ENLARGEMENT * image.width, ENLARGEMENT * image.height)
        image.resize(size, Image.Resampling.NEAREST).save(folder / f"{number:04}_{path.stem}.png")


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.predict", description=__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--top", type=int, default=3, help="classes to show, the most probable first (default: 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--gradcam", type=Path, metavar="DIR", help="write each image beside its heat map to this folder"
    )
    options = parser.parse_args()
    main(lambda: run(options, load_params(layout.PARAMS)))

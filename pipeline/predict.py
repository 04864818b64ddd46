"""`python -m pipeline.predict IMAGE_OR_FOLDER...`: the most probable classes of any image files."""

import csv
import io
import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Never

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from cifar_resnet import layout
from cifar_resnet.compute import prepare_compute
from cifar_resnet.data import Images
from cifar_resnet.errors import UserError
from cifar_resnet.image_files import printable, read_image
from cifar_resnet.inference import BATCH_SIZE, predict_logits, softmax
from cifar_resnet.model_file import load_model
from cifar_resnet.networks.base import Network
from cifar_resnet.params import Params, load_params
from cifar_resnet.prediction import Prediction, find_all_images, find_project_with_model, top_predictions
from pipeline.stage import main

ENLARGEMENT = 8  # of the overlays, so that a screen shows them at a useful size
WIDEST_COLUMN = 60  # characters; a longer path pushes its own row out of line, not all rows


def run(options: Namespace, params: Params) -> None:
    """Print what the network of this project, or else of the demo, makes of the images, batch by batch.

    Raises:
        UserError: the model or an argument cannot be used, or some of the images, after the others were predicted.
    """
    model = load_model(find_project_with_model() / layout.MODEL)
    if not 1 <= options.top <= len(model.classes):
        raise UserError(f"--top is {options.top}; allowed: 1 to {len(model.classes)}, the number of classes")
    if options.gradcam:
        prepare_folder(options.gradcam)
    paths = find_all_images(options.images)
    resolved = replace(prepare_compute(params.compute), precision=torch.float32)  # as the stage `evaluate` predicts
    net = resolved.place(model.net)
    as_line = line_format(options.format, paths, model.classes, options.top)

    num_unusable = 0
    bar: tqdm[Never] = tqdm(total=len(paths), desc="predict", unit="image", leave=False, delay=2, disable=None)
    with bar:
        for start in range(0, len(paths), BATCH_SIZE):
            numbers, images = read_usable(paths, range(start, min(start + BATCH_SIZE, len(paths))), model.image_px, bar)
            num_unusable += min(BATCH_SIZE, len(paths) - start) - len(numbers)
            if not numbers:
                continue
            probabilities = softmax(predict_logits(net, images, resolved))
            usable = [paths[number] for number in numbers]
            for prediction in top_predictions(usable, probabilities, model.classes, options.top):
                tqdm.write(as_line(prediction))
            if options.gradcam:
                write_overlays(options.gradcam, usable, numbers, explain(net, images, probabilities, params))
    if num_unusable:
        raise UserError(f"{num_unusable} of {len(paths)} images could not be used, each for the reason above")


def read_usable(
    paths: Sequence[Path], numbers: Sequence[int], side_px: int, bar: "tqdm[Never]"
) -> tuple[list[int], Images]:
    """Those of the images with these numbers that can be read, and which they are; the others are named."""
    usable, images = [], []
    for number in numbers:
        try:
            images.append(read_image(paths[number], side_px))
            usable.append(number)
        except UserError as error:
            tqdm.write(f"error: {error}", file=sys.stderr)
        bar.update()
    return usable, np.stack(images) if images else np.empty(0, np.uint8)


def line_format(name: str, paths: Sequence[Path], classes: Sequence[str], top: int) -> Callable[[Prediction], str]:
    """How a prediction is printed: as a row of a table, as JSON or as CSV, whose header is printed here."""
    if name == "json":
        return lambda prediction: json.dumps(prediction.as_json())
    if name == "csv":
        ranks = [f"{kind}_{rank}" for rank in range(1, top + 1) for kind in ("class", "probability")]
        print(csv_line(["image", *ranks]))
        return lambda prediction: csv_line(prediction.as_cells())
    path_width = min(WIDEST_COLUMN, max(len(printable(path)) for path in paths))
    widths = [path_width, *[max(map(len, classes)) + len(" 100.0%")] * top]
    return lambda prediction: "  ".join(map(str.ljust, prediction.as_row(), widths)).rstrip()


def csv_line(cells: Sequence[object]) -> str:
    """One line of CSV, without its end."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def prepare_folder(folder: Path) -> None:
    """Make sure that the overlays can be written, before any work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(None, "it cannot be written to")
    except OSError as error:
        raise UserError(f"--gradcam {printable(folder)}: {error.strerror}; give a folder to write to") from None


def explain(net: Network, images: Images, probabilities: NDArray[np.float64], params: Params) -> Images:
    """Each image with, to the right of it, what speaks for its most probable class."""
    from cifar_resnet.gradcam import activation_maps, overlay  # takes 2 s

    maps = activation_maps(net, images, probabilities.argmax(axis=1), params.gradcam)
    return np.concatenate([images, overlay(images, maps)], axis=2)


def write_overlays(folder: Path, paths: Sequence[Path], numbers: Sequence[int], pictures: Images) -> None:
    """Write a PNG per image, numbered since images from different folders may share a name."""
    for path, number, picture in zip(paths, numbers, pictures, strict=True):
        image = Image.fromarray(picture)
        size = (ENLARGEMENT * image.width, ENLARGEMENT * image.height)
        image.resize(size, Image.Resampling.NEAREST).save(folder / f"{number + 1:04}_{path.stem[:40]}.png")


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.predict", description=__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER")
    parser.add_argument("--top", type=int, default=3, help="classes to show, the most probable first (default: 3)")
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table",
        help="print a table (default), an object of JSON a line, or CSV",
    )  # fmt: skip
    parser.add_argument(
        "--gradcam", type=Path, metavar="DIR", help="write each image beside its heat map to this folder"
    )
    options = parser.parse_args()
    main(lambda: run(options, load_params(layout.PARAMS)))

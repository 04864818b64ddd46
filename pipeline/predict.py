"""`python -m pipeline.predict IMAGE_OR_FOLDER...`: the most probable classes of any image files."""

import csv
import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Never

import numpy as np
from PIL import Image
from tqdm import tqdm

from image_classifier.data import Images
from image_classifier.model.inference import batch_size
from image_classifier.project import locations
from image_classifier.project.params import Params, load_params
from image_classifier.serving.prediction import Ranked, load_predictor
from image_classifier.sources.image_decoding import FORMATS_IN_WORDS
from image_classifier.sources.image_files import escaped, image_suffixes, printable, read_image
from image_classifier.system.errors import UserError
from pipeline.stage import main

ENLARGEMENT = 8  # of the overlays, so that they are large enough on a screen
UNSURE = "unsure: "  # before the best guess
SHOWN_CLASSES = 3  # of each image, or both of a model of two classes
WIDEST_COLUMN = 60  # characters; a longer path shifts its own row only


def run(options: Namespace, params: Params) -> None:
    """Print the classes of the images by the model of this project, or else of the demo, batch by batch.

    A UserError if the model or an argument cannot be used; and at the end, if some of the images could not be used.
    """
    predictor = load_predictor(params.compute)
    classes = predictor.model.classes
    top = min(SHOWN_CLASSES, len(classes)) if options.top is None else options.top
    if not 1 <= top <= len(classes):
        raise UserError(f"--top is {top}; allowed: 1 to {len(classes)}, the number of classes")
    if options.gradcam:
        try:
            options.gradcam.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--gradcam {printable(options.gradcam)}: {error.strerror}; give a folder") from None
    paths = find_images(options.images)
    path_width = min(WIDEST_COLUMN, max(len(printable(path)) for path in paths))
    widths = [path_width, *[max(map(len, classes)) + len(" 100.0%")] * top]
    if predictor.unsure_up_to is not None:
        widths[1] += len(UNSURE)
    if options.format == "csv":
        print("image,unsure", *(f"class_{rank},probability_{rank}" for rank in range(1, top + 1)), sep=",")

    num_used, size = 0, batch_size(predictor.model.image_px)
    bar: tqdm[Never] = tqdm(total=len(paths), desc="predict", unit="image", leave=False, delay=2, disable=None)
    with bar:
        for start in range(0, len(paths), size):
            read = read_usable(paths, range(start, min(start + size, len(paths))), predictor.model.image_px, bar)
            num_used += len(read)
            if not read:
                continue
            images = np.stack(list(read.values()))
            probabilities = predictor.probabilities(images)
            for number, ranked in zip(read, predictor.best(probabilities, top), strict=True):
                with tqdm.external_write_mode():
                    write_row(options.format, paths[number], ranked, predictor.is_unsure(ranked), widths)
            if options.gradcam:
                maps = predictor.explain(images, probabilities, params.gradcam)
                for number, picture in zip(read, np.concatenate([images, maps], axis=2), strict=True):
                    write_overlay(options.gradcam, number, paths[number], picture)
    if num_used < len(paths):
        raise UserError(f"{len(paths) - num_used} of {len(paths)} images could not be used, each for the reason above")


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The given files, and the image files in the given folders, as `images_in` lists them.

    A UserError if a path does not exist, or a folder cannot be listed or holds no image file.
    """
    found: list[Path] = []
    for path in paths:
        try:
            path.lstat()
            inside = images_in(path) if path.is_dir() else [path]
        except OSError as error:
            reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise UserError(f"{printable(path)} {reason}: give image files, or folders of them") from None
        if not inside:
            raise UserError(f"{printable(path)} holds no image file: give a folder with {FORMATS_IN_WORDS} files")
        found += inside
    return found


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted by name, without hidden files and links to folders."""
    found, suffixes = [], image_suffixes()
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            found += [] if path.is_symlink() else images_in(path)
        elif path.name.lower().endswith(suffixes):
            found.append(path)
    return found


def read_usable(paths: Sequence[Path], numbers: Iterable[int], side_px: int, bar: "tqdm[Never]") -> dict[int, Images]:
    """Read the images with these numbers, and return them by number; print an error for each that cannot be read."""
    read = {}
    for number in numbers:
        try:
            read[number] = read_image(paths[number], side_px)
        except UserError as error:
            tqdm.write(f"error: {error}", file=sys.stderr)
        bar.update()
    return read


def write_row(kind: str, path: Path, ranked: Ranked, unsure: bool | None, widths: Sequence[int]) -> None:
    """Print a prediction as JSON, as CSV, or as a row of a table with columns of these widths.

    `unsure` is null in JSON and empty in CSV if the model has no threshold.
    """
    rounded = [(name, round(value, 6)) for name, value in ranked]
    if kind == "json":
        predictions = [{"class": name, "probability": value} for name, value in rounded]
        print(json.dumps({"image": str(path), "unsure": unsure, "predictions": predictions}))
    elif kind == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerow([escaped(str(path)), unsure, *chain(*rounded)])
    else:
        from image_classifier.plots.style import percent  # Matplotlib: 0.3 s

        best, *others = (f"{name} {percent(value)}" for name, value in ranked)
        cells = [printable(path), f"{UNSURE if unsure else ''}{best}", *others]
        print("  ".join(map(str.ljust, cells, widths)).rstrip())


def write_overlay(folder: Path, number: int, path: Path, picture: Images) -> None:
    """Write a PNG; its number tells images of the same name in different folders apart."""
    image = Image.fromarray(picture)
    size = (ENLARGEMENT * image.width, ENLARGEMENT * image.height)
    image.resize(size, Image.Resampling.NEAREST).save(folder / f"{number + 1:04}_{path.stem[:40]}.png")


def path_of(text: str) -> Path:
    """The path in `text`. Empty text is an error, which argparse shows: Path would read it as this folder."""
    if not text:
        raise ArgumentTypeError("the path is empty; perhaps a variable is not set")
    return Path(text)


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.predict", description=__doc__)
    parser.add_argument("images", nargs="+", type=path_of, metavar="IMAGE_OR_FOLDER")
    parser.add_argument(
        "--top", type=int, help=f"classes to show, the most probable first (default: {SHOWN_CLASSES}, or all if fewer)"
    )
    parser.add_argument(
        "--format",
        choices=("table", "json", "csv"),
        default="table",
        help="print a table (default), one JSON object per line, or CSV",
    )
    parser.add_argument(
        "--gradcam", type=path_of, metavar="FOLDER", help="write each image beside its heat map to this folder"
    )
    options = parser.parse_args()
    main(lambda: run(options, load_params(locations.PARAMS)))

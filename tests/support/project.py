"""The project under test, and settings with which it takes seconds."""

from pathlib import Path

from cifar_resnet.data import Dataset
from cifar_resnet.datasets import make_dataset
from cifar_resnet.params import load_params

PROJECT = Path(__file__).resolve().parent.parent.parent

TINY = {
    "data": {"dataset": "digits"},
    "augment": {"padding": 2, "flip": False, "cutout": 4},
    "model": {"width": 4},
    "lr_find": {"steps": 20},
    "train": {"epochs": 2, "peak_epoch": 0.5, "batch_size": 128},
    "gradcam": {"images": 6, "grid_images": 4},
    "compute": {"device": "cpu", "precision": "fp32", "compile": "off", "threads": 1},
    "runtime": {"workers": 0},
}


def make_digits(seed: int) -> Dataset:
    """The data set `digits`, with this seed of its test split."""
    data = load_params(PROJECT / "params.yaml").data
    return make_dataset(data.model_copy(update={"dataset": "digits", "split_seed": seed}))

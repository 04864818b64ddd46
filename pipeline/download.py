"""Stage `download`: the data set, verified, as NumPy arrays."""

import os

from cifar_resnet import layout
from cifar_resnet.data import make_digits, save_dataset
from cifar_resnet.params import DataParams
from cifar_resnet.sources import PUBLISHED_MD5, fetch_cifar10
from pipeline.stage import main

FIRST_SOURCE = "CIFAR10_SOURCE"  # environment variable


def run(data: DataParams) -> None:
    """Write the data set's folder."""
    folder = layout.DATA / data.dataset
    if data.dataset == "digits":
        dataset = make_digits(data.split_seed)
    else:
        first = os.environ.get(FIRST_SOURCE)
        sources = [first, *data.sources] if first else data.sources
        dataset = fetch_cifar10(sources, PUBLISHED_MD5, download=layout.DATA / "cifar10.archive")
    save_dataset(dataset, folder)
    print(f"{folder}: {len(dataset.train_labels):,} training and {len(dataset.test_labels):,} test images")


if __name__ == "__main__":
    main(run, __doc__)

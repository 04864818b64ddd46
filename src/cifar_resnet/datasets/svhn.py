"""`svhn`: 99,289 photos of house numbers' digits, 32x32 px, of which 26,032 are the test set (Netzer 2011)."""

from cifar_resnet.data import Dataset
from cifar_resnet.params import DataParams
from cifar_resnet.torchvision_sets import as_dataset, verified_files

HOME_PAGE = "http://ufldl.stanford.edu/housenumbers/"


def make(data: DataParams) -> Dataset:
    """The Street View House Numbers, without the extra training set."""
    from torchvision.datasets import SVHN

    checksums = dict(SVHN.split_list[split][1:] for split in ("train", "test"))
    with verified_files("svhn", data, checksums, "") as root:
        train, test = ((part.data.transpose(0, 2, 3, 1), part.labels)
                       for part in (SVHN(root, split=split) for split in ("train", "test")))  # fmt: skip
    return as_dataset("svhn", [str(digit) for digit in range(10)], train, test)

"""`cifar100`: 60,000 photos of 32x32 px in 100 classes, of which 10,000 are the test set (Krizhevsky 2009)."""

from cifar_resnet.data import Dataset
from cifar_resnet.params import DataParams
from cifar_resnet.torchvision_sets import as_dataset, verified_files

HOME_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"


def make(data: DataParams) -> Dataset:
    """CIFAR-100 with its fine labels."""
    from torchvision.datasets import CIFAR100

    meta = (CIFAR100.meta["filename"], CIFAR100.meta["md5"])
    checksums = dict([*CIFAR100.train_list, *CIFAR100.test_list, meta])
    with verified_files("cifar100", data, checksums, CIFAR100.base_folder) as root:
        train, test = (CIFAR100(root, train=is_train) for is_train in (True, False))
    return as_dataset("cifar100", train.classes, (train.data, train.targets), (test.data, test.targets))

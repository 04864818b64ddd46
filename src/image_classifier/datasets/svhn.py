"""`svhn`: 99,289 photos of house numbers' digits, 32x32 px, of which 26,032 are the test set (Netzer 2011)."""

from image_classifier.data import Made
from image_classifier.project.params import DataParams
from image_classifier.sources.torchvision_sets import verified_files

HOME_PAGE = "http://ufldl.stanford.edu/housenumbers/"
SOURCES = ("http://ufldl.stanford.edu/housenumbers/",)


def make(data: DataParams) -> Made:
    """The Street View House Numbers, without the extra training set."""
    from torchvision.datasets import SVHN

    splits = ("train", "test")
    with verified_files(data, SOURCES, dict(SVHN.split_list[split][1:] for split in splits), "") as root:
        parts = [SVHN(root, split=split) for split in splits]
    train, test = ((part.data.transpose(0, 2, 3, 1), part.labels) for part in parts)
    return "0123456789", train, test

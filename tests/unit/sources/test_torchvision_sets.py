"""The data sets that torchvision decodes, on tiny files in the real formats."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from torchvision.datasets import CIFAR10, CIFAR100, SVHN, FashionMNIST

from image_classifier.data import Dataset
from image_classifier.project.params import Params
from image_classifier.sources.making import make_dataset, plugin
from image_classifier.system.errors import UserError

NAMES = ("cifar10", "cifar100", "fashion_mnist", "svhn")
RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(256, size=(count, 32, 32, 3), dtype=np.uint8) for count in (6, 4))
TRAIN_LABELS, TEST_LABELS = np.array([3, 0, 9, 1, 0, 7]), np.array([2, 0, 5, 9])
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FINE_NAMES = [f"class {number}" for number in range(100)]


def _cifar_batch(images: np.ndarray, **labels: list[int]) -> bytes:
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    # As Python 2 wrote it, when the array constructor was in numpy.core.
    return pickle.dumps({"data": planes, **labels}, protocol=2).replace(b"numpy._core", b"numpy.core")


def _cifar10() -> dict[str, bytes]:
    train = {
        f"data_batch_{number + 1}": _cifar_batch(TRAIN[part], labels=TRAIN_LABELS[part].tolist())
        for number, part in enumerate(np.array_split(np.arange(len(TRAIN)), 5))
    }
    test = _cifar_batch(TEST, labels=TEST_LABELS.tolist())
    return {**train, "test_batch": test, "batches.meta": pickle.dumps({"label_names": list(CLASSES)}, protocol=2)}


def _cifar100() -> dict[str, bytes]:
    train, test = (  # with coarse and fine labels
        _cifar_batch(images, fine_labels=labels.tolist(), coarse_labels=[0] * len(labels))
        for images, labels in ((TRAIN, TRAIN_LABELS), (TEST, TEST_LABELS))
    )
    meta = pickle.dumps({"fine_label_names": FINE_NAMES, "coarse_label_names": ["animals"]}, protocol=2)
    return {"train": train, "test": test, "meta": meta}


def _fashion_mnist() -> dict[str, bytes]:
    def idx(array: np.ndarray) -> bytes:
        return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())

    parts = (("train", TRAIN, TRAIN_LABELS), ("t10k", TEST, TEST_LABELS))
    return {
        f"{part}-{kind}-idx{dimensions}-ubyte.gz": idx(array.astype(np.uint8))
        for part, images, labels in parts
        for kind, dimensions, array in (("images", 3, images[:, 2:30, 2:30, 0]), ("labels", 1, labels))
    }


def _svhn() -> dict[str, bytes]:
    def mat(images: np.ndarray, labels: np.ndarray) -> bytes:
        file = io.BytesIO()
        published = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]  # 0 is published as 10
        scipy.io.savemat(file, {"X": images.transpose(1, 2, 3, 0), "y": published})
        return file.getvalue()

    return {"train_32x32.mat": mat(TRAIN, TRAIN_LABELS), "test_32x32.mat": mat(TEST, TEST_LABELS)}


FILES: Mapping[str, Mapping[str, bytes]] = {
    "cifar10": _cifar10(),
    "cifar100": _cifar100(),
    "fashion_mnist": _fashion_mnist(),
    "svhn": _svhn(),
}


@pytest.fixture(autouse=True)
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torchvision expect the tiny files."""
    monkeypatch.chdir(tmp_path)

    def md5(name: str, file: str) -> str:
        return hashlib.md5(FILES[name][file]).hexdigest()

    for name, cifar in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        for files in ("train_list", "test_list"):
            monkeypatch.setattr(cifar, files, [[file, md5(name, file)] for file, _ in getattr(cifar, files)])
        monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": md5(name, cifar.meta["filename"])})
    resources = [(file, md5("fashion_mnist", file)) for file, _ in FashionMNIST.resources]
    monkeypatch.setattr(FashionMNIST, "resources", resources)
    splits = {split: ["", file, md5("svhn", file)] for split, (_, file, _) in list(SVHN.split_list.items())[:2]}
    monkeypatch.setattr(SVHN, "split_list", splits)


@pytest.fixture
def make(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Dataset]:
    """Make a data set from an archive of its files."""

    def make(name: str, **changed: bytes) -> Dataset:
        with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as archive:
            for file, content in {**FILES[name], **changed}.items():
                member = tarfile.TarInfo(f"folder/{file}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        monkeypatch.setattr(plugin(name), "SOURCES", (str(tmp_path / "source.tar.gz"),))
        return make_dataset(params.data.model_copy(update={"dataset": name}))

    return make


@pytest.mark.parametrize("name", NAMES)
def test_images_and_labels_are_those_of_the_published_files_in_order(name: str, make: Callable[..., Dataset]) -> None:
    dataset = make(name)
    assert dataset.name == name
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.tolist() == TRAIN_LABELS.tolist()
    assert dataset.test_labels.tolist() == TEST_LABELS.tolist()
    if name != "fashion_mnist":
        assert np.array_equal(dataset.train_images, TRAIN)
        assert np.array_equal(dataset.test_images, TEST)


def test_fashion_mnist_is_scaled_to_grey_images_in_rgb(make: Callable[..., Dataset]) -> None:
    images = make("fashion_mnist").train_images
    assert images.shape == (6, 32, 32, 3)
    assert (images == images[..., :1]).all()
    assert abs(images.mean() - TRAIN[:, 2:30, 2:30, 0].mean()) < 2


def test_each_has_the_published_class_names(make: Callable[..., Dataset]) -> None:
    assert make("cifar10").classes == CLASSES
    assert make("cifar100").classes == tuple(FINE_NAMES)
    assert make("fashion_mnist").classes[:2] == ("T-shirt/top", "Trouser")
    assert make("svhn").classes == tuple("0123456789")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.mkdir, (Path("executed"),)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_named_and_never_decoded(
    name: str, make: Callable[..., Dataset], capsys: pytest.CaptureFixture[str]
) -> None:
    file = max(FILES[name])
    with pytest.raises(UserError, match=f"no source gave {name}"):
        make(name, **{file: pickle.dumps(Malicious())})
    assert f"{file} is damaged or altered: its MD5 is" in capsys.readouterr().err
    assert not Path("executed").exists()

"""The data sets that stages share: on disk, in memory, and split."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from image_classifier.system.errors import UserError

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int64]
Channels = tuple[float, float, float]
Part = tuple[Images, Labels]  # images (N, H, H, 3), RGB, and their labels
Made = tuple[Sequence[str], Part, Part]  # classes, training set, test set


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images uint8 (N, image_px, image_px, 3), RGB; labels int64 (N,); mean and std of the training pixels / 255."""

    name: str
    classes: tuple[str, ...]
    mean: Channels
    std: Channels
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels

    @property
    def image_px(self) -> int:
        return int(self.train_images.shape[1])

    def num_test_images_in_training(self) -> int:
        """How many test images are, pixel for pixel, also training images."""
        seen = {digest(image) for image in self.train_images}
        return sum(digest(image) in seen for image in self.test_images)


def digest(image: Images) -> bytes:
    """The same bytes for the same pixels."""
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def save_dataset(dataset: Dataset, folder: Path) -> None:
    """Write `folder`, or replace it as a whole; the same data set gives the same bytes. A UserError if that fails."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a run that was killed
    partial.mkdir(parents=True)
    try:
        for array in ARRAYS:
            np.save(partial / f"{array}.npy", getattr(dataset, array))
        about = {"name": dataset.name, "classes": dataset.classes, "mean": dataset.mean, "std": dataset.std}
        (partial / "dataset.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror or error}): make room, then start it again") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_dataset(folder: Path) -> Dataset:
    """Open a data set that `save_dataset` wrote; its images are read from disk when they are used.

    Raises:
        UserError: the folder is missing or damaged.
    """
    try:
        about = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS
        }
        return Dataset(about["name"], tuple(about["classes"]), tuple(about["mean"]), tuple(about["std"]), **arrays)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"no data set in {folder} ({error}): run `dvc repro download`") from None


def split_validation(labels: Labels, num_images: int, seed: int) -> tuple[Indices, Indices]:
    """Training indices and `num_images` validation indices, both ascending.

    Each class has the same share in the validation images as in all, rounded up or down to a whole image.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    # Evenly spaced picks from a list sorted by class take from every class in proportion to its length.
    picked = np.arange(num_images) * len(labels) // num_images if num_images else np.arange(0)
    return np.sort(np.delete(by_class, picked)), np.sort(by_class[picked])

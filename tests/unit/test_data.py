from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support.project import make_digits

from image_classifier.data import ARRAYS, Dataset, load_dataset, save_dataset, split_validation
from image_classifier.system.errors import UserError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return make_digits(seed=0)


def test_the_hold_out_takes_the_same_number_from_classes_of_one_size() -> None:
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 500))
    training, validation = split_validation(labels, num_images=1000, seed=0)
    assert np.bincount(labels[validation]).tolist() == [100] * 10
    assert np.bincount(labels[training]).tolist() == [400] * 10


@pytest.mark.parametrize("num_images", [1, 7, 100, 333])
def test_the_hold_out_gives_classes_of_any_size_their_share_to_within_one_image(num_images: int) -> None:
    sizes = np.array([5, 301, 60, 634])
    labels = np.repeat(np.arange(4), sizes)
    _, validation = split_validation(labels, num_images, seed=0)
    counts = np.bincount(labels[validation], minlength=4)
    assert counts.sum() == num_images
    assert np.all(np.abs(counts - sizes * num_images / sizes.sum()) < 1)


@pytest.mark.parametrize("num_images", [0, 1, 50, 100])
def test_hold_out_and_training_part_are_ascending_and_hold_every_image_once(num_images: int) -> None:
    training, validation = split_validation(np.arange(100) % 3, num_images, seed=0)
    assert len(validation) == num_images
    assert np.all(np.diff(training) > 0)
    assert np.all(np.diff(validation) > 0)
    assert sorted([*training, *validation]) == list(range(100))


def test_the_seed_alone_chooses_the_hold_out() -> None:
    labels = np.arange(1000) % 10
    first, again, other = (split_validation(labels, 100, seed)[1] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert np.intersect1d(first, other).size < 50


def test_digits_are_split_by_class_into_1438_and_359(digits: Dataset) -> None:
    assert digits.train_images.shape == (1438, 32, 32, 3)
    assert digits.test_images.shape == (359, 32, 32, 3)
    assert digits.train_images.dtype == digits.test_images.dtype == np.uint8
    assert digits.train_labels.dtype == digits.test_labels.dtype == np.int64
    train_counts, test_counts = np.bincount(digits.train_labels), np.bincount(digits.test_labels)
    assert np.all(np.abs(test_counts - (train_counts + test_counts) * 359 / 1797) < 1)
    assert digits.classes == tuple("0123456789")


def test_an_enlarged_digit_is_gray_and_averages_to_its_8x8_original(digits: Dataset) -> None:
    _, test = split_validation(load_digits().target, num_images=359, seed=0)
    originals = load_digits().images[test] * (255 / 16)
    assert np.all(digits.test_images == digits.test_images[..., :1])
    shrunk = digits.test_images[..., 0].reshape(-1, 8, 4, 8, 4).mean(axis=(2, 4))
    assert np.corrcoef(shrunk.ravel(), originals.ravel())[0, 1] > 0.99


def test_mean_and_standard_deviation_are_of_the_training_part(digits: Dataset) -> None:
    pixels = digits.train_images / 255
    assert digits.mean == pytest.approx(pixels.mean(axis=(0, 1, 2)), abs=1e-7)
    assert digits.std == pytest.approx(pixels.std(axis=(0, 1, 2)), abs=1e-7)


def test_digits_are_the_same_bytes_each_time(digits: Dataset, tmp_path: Path) -> None:
    save_dataset(digits, tmp_path / "first")
    save_dataset(make_digits(seed=0), tmp_path / "second")
    assert _contents(tmp_path / "first") == _contents(tmp_path / "second")


def test_a_saved_data_set_replaces_an_earlier_one_and_loads_unchanged(digits: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "leftover").touch()
    save_dataset(digits, folder)
    loaded = load_dataset(folder)
    assert (loaded.name, loaded.classes, loaded.mean, loaded.std) == ("digits", digits.classes, digits.mean, digits.std)
    assert all(np.array_equal(getattr(loaded, array), getattr(digits, array)) for array in ARRAYS)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["digits", "dataset.json", *(f"{array}.npy" for array in ARRAYS)]
    )


def test_a_missing_data_set_is_answered_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*run `dvc repro download`"):
        load_dataset(tmp_path / "nowhere")


def test_a_data_set_cut_short_is_refused(digits: Dataset, tmp_path: Path) -> None:
    save_dataset(digits, tmp_path / "digits")
    array = tmp_path / "digits" / "train_images.npy"
    array.write_bytes(array.read_bytes()[:1000])
    with pytest.raises(UserError, match="run `dvc repro download`"):
        load_dataset(tmp_path / "digits")


@pytest.mark.parametrize("about", ["[]", "null", "{}", '{"name": 1, "classes": 2, "mean": 3, "std": 4}'])
def test_a_damaged_description_of_a_data_set_is_refused(digits: Dataset, tmp_path: Path, about: str) -> None:
    save_dataset(digits, tmp_path / "digits")
    (tmp_path / "digits" / "dataset.json").write_text(about)
    with pytest.raises(UserError, match="run `dvc repro download`"):
        load_dataset(tmp_path / "digits")


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_test_images_that_are_also_training_images_are_counted(digits: Dataset) -> None:
    assert digits.num_test_images_in_training() == 0
    mixed = np.concatenate([digits.train_images[[3, 5, 5]], digits.test_images[:10]])
    assert replace(digits, test_images=mixed).num_test_images_in_training() == 3

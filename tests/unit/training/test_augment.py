from collections.abc import Callable

import numpy as np
import pytest

from image_classifier.data import Images
from image_classifier.project.params import AugmentParams
from image_classifier.training.augment import Augmentation

MEAN = (0.4914, 0.4822, 0.4465)
MEAN_COLOUR = [125, 123, 114]
OFF = {"padding": 0, "padding_mode": "mean", "flip": False, "cutout": 0}


def augmented(images: Images, seed: int = 0, **settings: object) -> Images:
    augment = Augmentation(AugmentParams.model_validate({**OFF, **settings}), MEAN, images.shape[1])
    return augment(images, seed, np.arange(len(images)) % 2 == 0)


@pytest.fixture
def images() -> Images:
    return np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)


def test_shape_and_type_stay(images: Images) -> None:
    result = augmented(images, padding=4, flip=True, cutout=8)
    assert result.shape == images.shape
    assert result.dtype == np.uint8


def test_the_seed_alone_decides(images: Images) -> None:
    first, again, other = (augmented(images, seed, padding=4, flip=True, cutout=8) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_of_one_call_differ_in_what_is_done_to_them(images: Images) -> None:
    copies = np.repeat(images[:1], 64, axis=0)
    assert len({copy.tobytes() for copy in augmented(copies, padding=4, flip=True, cutout=8)}) > 50


def test_with_everything_off_images_stay_as_they_are(images: Images) -> None:
    assert np.array_equal(augmented(images), images)


def test_cutout_blanks_one_whole_square_with_the_mean_colour() -> None:
    white = np.full((200, 32, 32, 3), 255, dtype=np.uint8)
    corners = set()
    for image in augmented(white, cutout=8):
        rows, columns = np.nonzero((image != 255).any(axis=2))
        corners.add((rows[0], columns[0]))
        assert (image[rows[0] : rows[0] + 8, columns[0] : columns[0] + 8] == MEAN_COLOUR).all()
        assert len(rows) == 64
    assert len(corners) > 100  # of 25 x 25 places


def with_mean_colour(image: Images) -> Images:
    padded = np.full((40, 40, 3), MEAN_COLOUR, dtype=np.uint8)
    padded[4:36, 4:36] = image
    return padded


def with_reflection(image: Images) -> Images:
    return np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")


@pytest.mark.parametrize(("mode", "pad"), [("mean", with_mean_colour), ("reflect", with_reflection)])
def test_the_crop_is_a_window_of_the_padded_image(mode: str, pad: Callable[[Images], Images], images: Images) -> None:
    offsets = set()
    for image, cropped in zip(images, augmented(images, padding=4, padding_mode=mode), strict=True):
        padded = pad(image)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32, 3))[:, :, 0]
        found = np.argwhere((windows == cropped).all(axis=(2, 3, 4)))
        assert len(found) == 1
        offsets.add(tuple(found[0]))
    assert {row for row, _ in offsets} == {column for _, column in offsets} == set(range(9))


def test_half_of_the_images_are_mirrored(images: Images) -> None:
    result = augmented(np.repeat(images, 4, axis=0), flip=True)
    originals = np.repeat(images, 4, axis=0)
    same = (result == originals).all(axis=(1, 2, 3))
    mirrored = (result == originals[:, :, ::-1]).all(axis=(1, 2, 3))
    assert np.array_equal(same, ~mirrored)
    assert 100 < mirrored.sum() < 156


def test_with_alternating_flips_the_given_images_are_mirrored(images: Images) -> None:
    result = augmented(images, flip="alternate")
    assert np.array_equal(result[::2], images[::2, :, ::-1])
    assert np.array_equal(result[1::2], images[1::2])

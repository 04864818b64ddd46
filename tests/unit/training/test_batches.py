from dataclasses import replace

import numpy as np
import pytest
import torch
from support.batches import IMAGES, NUM_IMAGES, assert_equal, epoch_batches, labels_of, load

from image_classifier.project.params import AugmentParams
from image_classifier.training.augment import Augmentation


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(128, [128, 128, 44]), (100, [100] * 3), (1000, [300]), (23, [23] * 12 + [24]), (299, [300])],
)
def test_every_image_comes_once_an_epoch_and_the_last_batch_may_be_smaller(batch_size: int, sizes: list[int]) -> None:
    batches = epoch_batches(batch_size)
    loaded = load(batches)
    assert [len(labels) for _, labels in loaded] == [batches.size(number) for number in range(len(batches))] == sizes
    assert sorted(labels_of(loaded)) == list(range(NUM_IMAGES))


def test_batches_are_raw_images_with_their_labels() -> None:
    images, labels = load(epoch_batches())[0]
    assert images.shape == (128, 32, 32, 3)
    assert images.dtype == torch.uint8
    assert labels.dtype == torch.int64


@pytest.mark.parametrize("other", [{"epoch": 1}, {"seed": 1}])
def test_another_epoch_or_seed_has_another_order(other: dict[str, int]) -> None:
    assert labels_of(load(epoch_batches(**other))) != labels_of(load(epoch_batches()))


def test_an_image_is_augmented_differently_in_every_epoch() -> None:
    first, second = (load(epoch_batches(batch_size=NUM_IMAGES, epoch=epoch))[0] for epoch in (0, 1))
    same = first[0][first[1].argsort()] == second[0][second[1].argsort()]
    assert same.flatten(1).all(dim=1).sum() < 5


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_a_resumed_epoch_has_the_batches_that_were_left(first: int) -> None:
    assert_equal(load(epoch_batches(), first), load(epoch_batches())[first:])


@pytest.mark.parametrize("num_ranks", [2, 3, 7])
def test_processes_together_get_the_images_that_one_process_gets(num_ranks: int) -> None:
    shares = [load(epoch_batches(rank=rank, num_ranks=num_ranks)) for rank in range(num_ranks)]
    for whole, *parts in zip(load(epoch_batches()), *shares, strict=True):
        images, numbers = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        assert torch.equal(numbers.sort().values, whole[1].sort().values)
        assert torch.equal(images[numbers.argsort()], whole[0][whole[1].argsort()])


def test_with_alternating_flips_each_image_is_mirrored_in_every_second_epoch() -> None:
    params = AugmentParams(padding=0, padding_mode="mean", flip="alternate", cutout=0)
    augment = Augmentation(params, mean=(0.5, 0.5, 0.5), image_px=32)
    is_mirrored = np.zeros((4, NUM_IMAGES), dtype=bool)
    for epoch in range(4):
        for images, labels in load(replace(epoch_batches(epoch=epoch), augment=augment)):
            same, mirrored = ((images.numpy() == IMAGES[labels][:, :, ::step]).all(axis=(1, 2, 3)) for step in (1, -1))
            assert np.array_equal(same, ~mirrored)
            is_mirrored[epoch, labels] = mirrored
    assert np.array_equal(is_mirrored[:2], is_mirrored[2:])
    assert np.array_equal(is_mirrored[0], ~is_mirrored[1])
    assert 120 < is_mirrored[0].sum() < 180

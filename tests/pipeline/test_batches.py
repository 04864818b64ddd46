"""Batches from loader processes."""

import multiprocessing

import pytest
from support.batches import assert_equal, epoch_batches, load


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])  # defaults on macOS and Windows, and in Python 3.14
def test_loader_processes_give_the_same_batches_however_they_are_started(
    start_method: str,
) -> None:
    usual = multiprocessing.get_start_method()
    multiprocessing.set_start_method(start_method, force=True)
    try:
        assert_equal(load(epoch_batches(), num_workers=2), load(epoch_batches()))
    finally:
        multiprocessing.set_start_method(usual, force=True)


def test_loader_processes_change_nothing() -> None:
    assert_equal(load(epoch_batches(), num_workers=2), load(epoch_batches()))

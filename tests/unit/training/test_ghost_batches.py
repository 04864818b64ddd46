"""BatchNorm over parts of a batch."""

import copy

import pytest
import torch
from support.project import make_digits
from torch import nn

from image_classifier.model.compute import prepare_compute
from image_classifier.project.params import Params
from image_classifier.training.ghost_batches import use_ghost_batches
from image_classifier.training.loop import LearningRates, Trainer


@pytest.mark.parametrize(
    ("size", "parts", "momentum"),
    [
        (4, [5, 5], 0.19),  # twice 0.1: 1 - 0.9 * 0.9 = 0.19
        (3, [4, 4, 2], 0.271),
        (2, [3, 3, 3], 0.271),  # four would fit
    ],
)
def test_each_part_is_normalized_alone_and_the_running_statistics_move_as_far_as_by_one_batch(
    size: int, parts: list[int], momentum: float
) -> None:
    torch.manual_seed(0)
    images = torch.randn(sum(parts), 3, 8, 8) * torch.arange(1, sum(parts) + 1).view(-1, 1, 1, 1)
    norm = nn.BatchNorm2d(3, momentum=momentum)
    net, apart = nn.Sequential(copy.deepcopy(norm)), copy.deepcopy(norm)
    use_ghost_batches(net, size)
    apart.momentum = 0.1
    assert torch.equal(net(images), torch.cat([apart(part) for part in images.split(parts)]))
    torch.testing.assert_close(net[0].running_mean, apart.running_mean)
    torch.testing.assert_close(net[0].running_var, apart.running_var)


def test_a_batch_of_less_than_two_parts_and_an_evaluation_are_as_without() -> None:
    images = torch.randn(7, 3, 8, 8)
    norm = nn.BatchNorm2d(3)
    net = nn.Sequential(copy.deepcopy(norm))
    use_ghost_batches(net, 4)
    assert torch.equal(net(images), norm(images))
    assert torch.equal(net.eval()(images), norm.eval()(images))


def test_the_weights_have_the_same_names_with_and_without(tiny_params: Params) -> None:
    dataset, rates, compute = make_digits(seed=0), LearningRates(0.01, 0.1), prepare_compute(tiny_params.compute)
    nets = []
    for size in (0, 32):
        train = tiny_params.train.model_copy(update={"ghost_batch": size})
        nets.append(Trainer(train, rates, compute).start(dataset, tiny_params.model, seed=0).net)
    assert nets[0].state_dict().keys() == nets[1].state_dict().keys()
    inputs = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(*[net(inputs) for net in nets])

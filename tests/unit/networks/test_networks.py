"""The networks: the assignment's network, and what all networks have in common."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from image_classifier.model.network import Classifier, Network, make_network
from image_classifier.networks.custom_resnet import GlobalMaxPool
from image_classifier.project.params import CustomResNetParams, ModelParams, ResNet18Params, TimmParams

MEAN, STD = (0.5, 0.4, 0.2), (0.25, 0.2, 0.1)
NETWORKS: list[ModelParams] = [
    CustomResNetParams(network="custom_resnet", width=4, logit_scale=0.125),
    ResNet18Params(network="resnet18", zero_init_residual=False),
    TimmParams(network="timm", name="test_efficientnet"),
]


def network(width: int = 4, logit_scale: float = 0.125) -> Network:
    torch.manual_seed(0)
    settings = CustomResNetParams(network="custom_resnet", width=width, logit_scale=logit_scale)
    return make_network(settings, 10, MEAN, STD)


def raw_images(number: int, side_px: int = 32) -> Tensor:
    return torch.randint(0, 256, (number, side_px, side_px, 3), dtype=torch.uint8, generator=torch.manual_seed(1))


def test_the_assignments_network_has_6573130_parameters() -> None:
    assert sum(parameter.numel() for parameter in network(width=64).parameters()) == 6_573_130


def test_the_named_layers_give_the_assignments_shapes() -> None:
    net, shapes = network(width=64), {}
    for name in ("prep", "layer1", "layer2", "layer3", "pool", "classifier"):
        net.get_submodule(name).register_forward_hook(
            lambda _, __, output, name=name: shapes.update({name: tuple(output.shape)})
        )
    net(net.normalize(raw_images(2)))
    assert shapes == {
        "prep": (2, 64, 32, 32),
        "layer1": (2, 128, 16, 16),
        "layer2": (2, 256, 8, 8),
        "layer3": (2, 512, 4, 4),
        "pool": (2, 512, 1, 1),
        "classifier": (2, 10),
    }


def test_a_residual_layer_adds_its_branch_to_its_input() -> None:
    layer: Any = network().eval().layer1
    x = torch.rand(2, 4, 32, 32)
    entry = layer.entry(x)
    assert torch.equal(layer(x), entry + layer.residual(entry))


def test_pixels_are_standardised_by_channel_into_channels_last_float32() -> None:
    images = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    images[0, 5, 7] = torch.tensor([255, 102, 0])
    x = network().normalize(images)
    assert x.dtype == torch.float32
    assert x.shape == (1, 3, 32, 32)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert x[0, :, 5, 7].tolist() == pytest.approx([2, 0, -2], abs=1e-6)


def test_the_network_gives_scaled_logits_and_no_probabilities() -> None:
    x = network().normalize(raw_images(4))
    logits = network(logit_scale=1).eval()(x)
    assert (logits < 0).any()
    assert torch.equal(network(logit_scale=0.125).eval()(x), logits * 0.125)


def test_the_classifier_turns_raw_images_into_the_softmax_of_the_logits() -> None:
    net, images = network().eval(), raw_images(4)
    probabilities = Classifier(net)(images)
    exponentials = net(net.normalize(images)).exp()
    torch.testing.assert_close(probabilities, exponentials / exponentials.sum(dim=1, keepdim=True))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(4))


def test_the_global_pool_is_the_assignments_at_32_px_in_values_and_gradients() -> None:
    maps = torch.randn(8, 16, 4, 4, generator=torch.manual_seed(2)).relu()
    results = []
    for pool in (GlobalMaxPool(), nn.MaxPool2d(4)):
        leaf = maps.clone().to(memory_format=torch.channels_last).requires_grad_()
        pooled = pool(leaf)
        pooled.square().sum().backward()
        results.append((pooled, leaf.grad))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*results, strict=True))


def test_the_tests_know_every_network() -> None:
    assert {type(settings) for settings in NETWORKS} == set(get_args(ModelParams))


@pytest.mark.parametrize("settings", NETWORKS, ids=lambda settings: settings.network)
@pytest.mark.parametrize("side_px", [32, 64, 96])
@pytest.mark.parametrize("num_classes", [2, 200])
def test_every_network_takes_images_of_this_size(settings: ModelParams, side_px: int, num_classes: int) -> None:
    net = make_network(settings, num_classes, MEAN, STD)
    assert net(net.normalize(raw_images(2, side_px))).shape == (2, num_classes)


@pytest.mark.parametrize("settings", NETWORKS, ids=lambda settings: settings.network)
def test_params_name_the_layers_that_grad_cam_can_explain(settings: ModelParams) -> None:
    assert tuple(make_network(settings, 2, MEAN, STD).gradcam_layers()) == settings.gradcam_layers


def test_resnet18_has_the_number_of_parameters_that_its_file_says() -> None:
    net = make_network(NETWORKS[1], 10, MEAN, STD)
    assert sum(parameter.numel() for parameter in net.parameters()) == 11_173_962

"""Class activation maps: their form, what they must not do, and whether they show what a network really uses."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from image_classifier.data import Images, Labels
from image_classifier.model.network import Network, make_network
from image_classifier.project.params import CustomResNetParams, GradCAMParams, Params
from image_classifier.report.gradcam import METHODS, activation_maps, heat_palette, map_size_px, overlay
from image_classifier.system.errors import UserError

LAYERS = {"prep": 32, "layer1": 16, "layer2": 8, "layer3": 4}  # and their maps' side in pixels, for 32 px images
PATCH_PX = 6


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def make_net(seed: int = 0, width: int = 8) -> Network:
    torch.manual_seed(seed)
    model = CustomResNetParams(network="custom_resnet", width=width, logit_scale=0.125)
    return make_network(model, 2, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)).eval()


def noise(count: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def settings(method: str = "gradcam", layer: str = "layer2") -> GradCAMParams:
    return GradCAMParams.model_validate({"method": method, "layer": layer, "images": 10, "grid_images": 4})


def patched_images(count: int, seed: int) -> tuple[Images, Labels, Labels]:
    """Noise, half of it with a checkered patch: images, whether each has the patch, the patch's (row, column)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(64, 192, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(count) % 2
    corners = rng.integers(2, 30 - PATCH_PX, (count, 2))
    checks = np.where(np.indices((PATCH_PX, PATCH_PX)).sum(axis=0) % 2, 255, 0)[..., np.newaxis]
    for image, label, (row, column) in zip(images, labels, corners, strict=True):
        if label:
            image[row : row + PATCH_PX, column : column + PATCH_PX] = checks
    return images, labels, corners


@pytest.fixture(scope="module")
def patch_net() -> Network:
    """A network that has learned to find the patch."""
    net = make_net().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    for step in range(60):
        images, labels, _ = patched_images(64, seed=step)
        loss = nn.functional.cross_entropy(net(net.normalize(torch.tensor(images))), torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    images, labels, _ = patched_images(200, seed=1000)
    net.eval()
    with torch.no_grad():
        predicted = net(net.normalize(torch.tensor(images))).argmax(dim=1).numpy()
    assert (predicted == labels).mean() > 0.98, "it has not learned its task, so it cannot test the maps"
    return net


@pytest.mark.parametrize("method", METHODS)
def test_every_method_maps_every_layer_to_0_to_1(method: str) -> None:
    for layer in LAYERS:
        maps = activation_maps(make_net(), noise(3), np.array([0, 1, 1]), settings(method, layer))
        assert maps.shape == (3, 32, 32)
        assert maps.dtype == np.float32
        assert maps.min() >= 0
        assert maps.max() <= 1
        assert maps.max() > 0.9, "a map is stretched to its full range"


def test_every_method_in_params_is_known() -> None:
    for method in GradCAMParams.model_json_schema()["properties"]["method"]["enum"]:
        assert method in METHODS


def test_no_images_give_no_maps() -> None:
    assert activation_maps(make_net(), noise(0), np.array([], dtype=np.int64), settings()).shape == (0, 32, 32)


def test_maps_repeat_bit_for_bit() -> None:
    first, second = (activation_maps(make_net(), noise(5), np.arange(5) % 2, settings()) for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_an_image_has_the_same_map_in_any_batch() -> None:
    images, classes = noise(260), np.arange(260) % 2  # more than one batch
    together = activation_maps(make_net(), images, classes, settings())
    for index in (0, 249, 250, 259):
        alone = activation_maps(make_net(), images[index : index + 1], classes[index : index + 1], settings())
        np.testing.assert_allclose(together[index], alone[0], atol=1e-4)


def test_the_network_is_left_as_it_was() -> None:
    net = make_net().train()
    before = copy.deepcopy(net.state_dict())
    activation_maps(net, noise(3), np.array([0, 1, 0]), settings())
    assert net.training
    assert net.logit_scale == 0.125
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_images_are_preprocessed_as_for_training() -> None:
    net, seen = make_net(), []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    activation_maps(net, noise(3), np.array([0, 1, 0]), settings())
    assert torch.equal(seen[0], net.normalize(torch.tensor(noise(3))))


@pytest.mark.parametrize("method", METHODS)
def test_a_factor_on_the_logits_leaves_the_map_alone(method: str) -> None:
    net = make_net()
    expected = activation_maps(net, noise(3), np.array([0, 1, 0]), settings(method))
    net.logit_scale = 1e-4
    np.testing.assert_array_equal(activation_maps(net, noise(3), np.array([0, 1, 0]), settings(method)), expected)


@pytest.mark.parametrize("image_px", [32, 64])
@pytest.mark.parametrize("layer", LAYERS)
def test_the_size_of_a_layers_own_map_is_known(layer: str, image_px: int) -> None:
    assert map_size_px(make_net(), layer, image_px) == LAYERS[layer] * image_px // 32


def test_a_layer_that_the_network_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(UserError, match=r"gradcam\.layer is 'layer4'; .* allows prep \| layer1 \| layer2 \| layer3"):
        activation_maps(make_net(), noise(1), np.array([0]), settings(layer="layer4"))


def test_the_default_map_lights_up_on_the_patch_that_the_network_uses(patch_net: Network, params: Params) -> None:
    images, labels, corners = patched_images(64, seed=2000)
    images, corners = images[labels == 1], corners[labels == 1]
    maps = activation_maps(patch_net, images, np.ones(len(images), dtype=np.int64), params.gradcam)
    hits = 0
    for heat, (row, column) in zip(maps, corners, strict=True):
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        # A 4 px margin: half a pixel of an 8 px map.
        hits += row - 4 <= y < row + PATCH_PX + 4 and column - 4 <= x < column + PATCH_PX + 4
    # The patch with its margin covers 19 % of an image, so chance would hit it that often.
    assert hits / len(maps) > 0.9


def test_the_map_changes_when_the_weights_are_randomised(patch_net: Network, params: Params) -> None:
    """Adebayo et al. 2018, arXiv:1810.03292: a map that survives this shows the image, not the network."""
    images, labels, _ = patched_images(32, seed=3000)
    trained = activation_maps(patch_net, images, labels, params.gradcam)
    randomised = activation_maps(make_net(seed=1), images, labels, params.gradcam)
    assert np.corrcoef(trained.ravel(), randomised.ravel())[0, 1] < 0.5


def test_the_maps_of_two_classes_differ(patch_net: Network, params: Params) -> None:
    images, labels, _ = patched_images(8, seed=4000)
    one, other = (activation_maps(patch_net, images, classes, params.gradcam) for classes in (labels, 1 - labels))
    assert not np.allclose(one, other, atol=0.1)


def test_an_overlay_is_grey_without_evidence_and_warm_with_it() -> None:
    images = np.full((1, 32, 32, 3), (200, 100, 50), dtype=np.uint8)
    maps = np.zeros((1, 32, 32), dtype=np.float32)
    maps[0, 0, 0] = 1
    picture = overlay(images, maps)[0]
    assert picture.dtype == np.uint8
    gray = round(0.2126 * 200 + 0.7152 * 100 + 0.0722 * 50)
    assert picture[5, 5].tolist() == [gray] * 3
    red, green, blue = picture[0, 0].astype(int)
    assert min(red, green) > blue + 50, "yellow"


def test_hotter_is_lighter_and_less_transparent() -> None:
    palette = heat_palette().astype(int)
    assert (np.diff(palette[:, :3] @ [0.2126, 0.7152, 0.0722]) > 0).all()
    assert (np.diff(palette[:, 3]) > 0).all()
    assert palette[0, 3] == 0

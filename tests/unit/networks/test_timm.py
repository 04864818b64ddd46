"""Networks of timm: how they are made, and which weights they can start from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.project import make_digits
from torch import Tensor

from image_classifier.data import Dataset
from image_classifier.model.model_file import load_model, save_model
from image_classifier.model.network import Network, make_network
from image_classifier.model.start_file import (
    ANY_NUMBER,
    load_start,
    make_start_file,
    read_published,
    read_trained,
    require_fit,
    write_start,
)
from image_classifier.project import locations
from image_classifier.project.params import CustomResNetParams, Params, TimmParams
from image_classifier.system.errors import UserError

SETTINGS = TimmParams(network="timm", name="test_efficientnet")
MEAN, STD = (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return make_digits(seed=0)


def network(num_classes: int = 3, name: str = "test_efficientnet") -> Network:
    return make_network(SETTINGS.model_copy(update={"name": name}), num_classes, MEAN, STD)


def published(path: Path, num_classes: int = 1000) -> dict[str, Tensor]:
    """Write a file as timm publishes it, with the head for its own classes; returns what is in it."""
    prefix = "body."
    content = {name.removeprefix(prefix): value for name, value in network(num_classes).state_dict().items()}
    save_file(content, path)
    return content


def test_images_are_normalised_as_the_networks_weights_expect() -> None:
    net = network()
    assert net.colours == net.own_colours
    assert net.colours != (MEAN, STD)


def test_the_weights_of_timm_are_taken_but_for_the_head(tmp_path: Path) -> None:
    content = published(tmp_path / "timm.safetensors")
    write_start(tmp_path / "start.safetensors", read_published(network(), 3, tmp_path / "timm.safetensors"))
    net = network()
    load_start(net, tmp_path / "start.safetensors", ("a", "b", "c"))
    learnt = net.state_dict()
    assert not any(learnt.pop(f"body.classifier.{name}").any() for name in ("weight", "bias"))
    assert all(torch.equal(value, content[name.removeprefix("body.")]) for name, value in learnt.items() if value.ndim)


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("b", "a", "c"), ("a", "b", "c", "d")])
def test_a_model_of_the_same_classes_keeps_its_head_and_others_get_a_new_one(
    classes: tuple[str, ...], digits: Dataset, tmp_path: Path
) -> None:
    trained = network()
    save_model(tmp_path / "model.pt", trained, SETTINGS, of_classes(digits, ("a", "b", "c")))
    write_start(tmp_path / "start.safetensors", *read_trained(SETTINGS, tmp_path / "model.pt"))
    net = network(len(classes))
    load_start(net, tmp_path / "start.safetensors", classes)
    ours, theirs = (each.state_dict() for each in (net, trained))
    assert torch.equal(ours["body.conv_stem.weight"], theirs["body.conv_stem.weight"])
    assert (classes == ("a", "b", "c")) == torch.equal(
        ours["body.classifier.weight"][:3], theirs["body.classifier.weight"]
    )


def of_classes(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    return Dataset(**{**vars(dataset), "classes": classes})


def other_network(path: Path) -> None:
    save_file(
        {name.removeprefix("body."): value for name, value in network(3, "test_resnet").state_dict().items()}, path
    )


def pickled(path: Path) -> None:
    torch.save(network().state_dict(), path)


def truncated(path: Path) -> None:
    published(path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (other_network, r"weights of another network: .* are missing or of another shape, such as conv_stem"),
        (pickled, "is damaged or no safetensors file"),
        (truncated, "is damaged or no safetensors file"),
    ],
)
def test_files_that_hold_no_weights_of_this_network_are_refused(
    write: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    write(tmp_path / "mine.safetensors")
    with pytest.raises(UserError, match=reason):
        read_published(network(), 3, tmp_path / "mine.safetensors")


def test_a_model_of_another_network_is_refused_by_name(digits: Dataset, tmp_path: Path) -> None:
    save_model(tmp_path / "model.pt", network(10), SETTINGS, digits)
    other = CustomResNetParams(network="custom_resnet", width=4, logit_scale=1.0)
    with pytest.raises(UserError, match=r"holds the network .*test_efficientnet.*params.yaml asks for .*custom_resnet"):
        read_trained(other, tmp_path / "model.pt")


def test_an_unknown_network_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(UserError, match=r"'efficientnetb0', which timm does not know; allowed: .*efficientnet_b0"):
        network(name="efficientnetb0")


@pytest.mark.parametrize(
    ("name", "side_px", "layer", "reason"),
    [
        ("vit_tiny_patch16_224", 64, "stride16", "data.image_px is 64, which this network cannot take: Input height"),
        ("test_vit", 160, "stride16", "gives no maps in this network: choose a convolutional network"),
        ("test_vit", 160, "stride8", r"gradcam.layer is 'stride8'; this network allows stride16"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_before_any_work(
    name: str, side_px: int, layer: str, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        require_fit(network(name=name), side_px, layer)


def test_a_file_that_is_not_there_is_named(params: Params, folder: Path) -> None:
    net = make_network(params.model, ANY_NUMBER, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError, match=r"and weights/mine.safetensors is no file: copy it there"):
        make_start_file(net, params.model, "mine.safetensors")
    Path("models").mkdir()
    Path("weights").mkdir()
    Path("weights/mine.safetensors").symlink_to("../models/model.pt")  # each training would change it
    with pytest.raises(UserError, match=r"is no file"):
        make_start_file(net, params.model, "mine.safetensors")


def test_only_networks_with_published_weights_start_from_these(params: Params, folder: Path) -> None:
    net = make_network(params.model, ANY_NUMBER, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError, match=r"train.start_from is pretrained; allowed for this network"):
        make_start_file(net, params.model, "pretrained")
    make_start_file(net, params.model, "random")
    assert load_file(locations.START) == {}


def test_a_saved_model_of_timm_is_read_with_its_own_colours(digits: Dataset, tmp_path: Path) -> None:
    net = network(10)
    save_model(tmp_path / "model.pt", net, SETTINGS, digits)
    loaded = load_model(tmp_path / "model.pt")
    assert loaded.net.colours == net.own_colours
    assert torch.equal(loaded.net.mean, net.mean)

"""The file of a trained model: whole, damaged, of another kind, malicious."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from image_classifier.data import Dataset
from image_classifier.model.model_file import load_model, save_model
from image_classifier.model.network import Network, make_network
from image_classifier.project.params import CustomResNetParams, ModelParams, ResNet18Params
from image_classifier.system.errors import UserError

MEAN, STD = (0.5, 0.4, 0.2), (0.25, 0.2, 0.1)
SETTINGS = CustomResNetParams(network="custom_resnet", width=4, logit_scale=0.125)


def data_set(image_px: int = 32, num_classes: int = 3) -> Dataset:
    images = np.zeros((num_classes, image_px, image_px, 3), np.uint8)
    labels = np.arange(num_classes)
    return Dataset("some", tuple(f"class {n}" for n in labels), MEAN, STD, images, labels, images, labels)


def network(settings: ModelParams = SETTINGS) -> Network:
    torch.manual_seed(0)
    return make_network(settings, 3, MEAN, STD)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model's file."""
    save_model(tmp_path / "model.pt", network(), SETTINGS, data_set(image_px=64))
    return tmp_path / "model.pt"


@pytest.mark.parametrize("settings", [SETTINGS, ResNet18Params(network="resnet18", zero_init_residual=True)])
def test_a_saved_model_comes_back_in_inference_mode_with_all_it_needs(tmp_path: Path, settings: ModelParams) -> None:
    trained = network(settings)
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    trained(trained.normalize(images))  # moves the statistics of BatchNorm too
    save_model(tmp_path / "model.pt", trained, settings, data_set(image_px=64))
    loaded = load_model(tmp_path / "model.pt")
    assert (loaded.settings, loaded.dataset, loaded.image_px) == (settings, "some", 64)
    assert loaded.classes == ("class 0", "class 1", "class 2")
    x = trained.normalize(images)
    assert torch.equal(loaded.net(loaded.net.normalize(images)), trained.eval()(x))


def test_the_same_model_gives_the_same_bytes_whatever_its_path(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "another name.pt"
    save_model(other, network().to(memory_format=torch.channels_last), SETTINGS, data_set(image_px=64))
    assert other.read_bytes() == path.read_bytes()


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_model(path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    return line


def test_a_missing_model_is_refused_with_both_ways_to_get_it(tmp_path: Path) -> None:
    line = refusal(tmp_path / "model.pt")
    assert line.endswith("is missing: train it with `dvc repro train`, or fetch it with `dvc pull`")


@pytest.mark.parametrize("kept", [0, 1, 100, 50_000, -1])
def test_a_model_that_was_cut_short_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    assert "is damaged or no model" in refusal(path)


@pytest.mark.parametrize("content", [network().state_dict(), {}, [1.0], {"format": "another program's model 7"}])
def test_a_file_of_another_kind_is_refused_by_name(path: Path, content: Any) -> None:
    torch.save(content, path)
    assert "is of another kind" in (line := refusal(path))
    assert "dvc repro train" in line


@pytest.mark.parametrize("network", [None, {"network": "resnet50"}])
def test_an_unknown_network_is_refused(path: Path, network: Any) -> None:
    torch.save(torch.load(path, weights_only=True) | {"network": network}, path)
    assert "does not hold what a model needs" in refusal(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"network": {"network": "custom_resnet", "width": 8, "logit_scale": 0.125}},  # other shapes than the weights
        {"classes": ["one too few", "here"]},
        {"weights": {}},
    ],
)
def test_a_model_that_contradicts_itself_is_refused(path: Path, changes: dict[str, Any]) -> None:
    torch.save(torch.load(path, weights_only=True) | changes, path)
    assert "holds weights that do not fit its network" in refusal(path)


def test_weights_that_diverged_are_refused_with_what_to_change(path: Path) -> None:
    """DVC would not run the training again, since nothing has changed: `dvc repro train` is no remedy."""
    weights = {name: value * torch.nan for name, value in network().state_dict().items()}
    torch.save(torch.load(path, weights_only=True) | {"weights": weights}, path)
    line = refusal(path)
    assert "holds weights that are infinite or no numbers" in line
    assert "lower train.lr_max" in line
    assert "`dvc repro train`" not in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_px", 1_000_000),
        ("image_px", 1),
        ("image_px", "32"),
        ("classes", [0, 1, 2]),
        ("classes", ["red \x1b[31m", "b", "c"]),
        ("classes", "abc"),
        ("dataset", None),
        ("mean", [0.5]),
        ("mean", [0.5, 0.5, float("nan")]),
        ("std", [0.0, 0.2, 0.2]),
        ("std", [float("nan"), 0.2, 0.2]),
    ],
)
def test_a_value_that_no_training_writes_is_refused_by_name(path: Path, key: str, value: Any) -> None:
    torch.save(torch.load(path, weights_only=True) | {key: value}, path)
    line = refusal(path)
    assert f"does not hold what a model needs ({key}" in line
    assert line.isprintable()


def test_a_missing_value_is_named(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    del content["image_px"]
    torch.save(content, path)
    assert "(image_px" in refusal(path)


class Malicious:
    """Runs a command where it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.evidence),)


def pickle_to(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def save_by_torch(path: Path, content: object) -> None:
    torch.save(content, path)


@pytest.mark.parametrize("save", [pickle_to, save_by_torch])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_hidden_in_a_model_is_refused_and_not_run(tmp_path: Path, save: Callable[[Path, object], None]) -> None:
    save(tmp_path / "model.pt", {"weights": Malicious(tmp_path / "was here")})
    refusal(tmp_path / "model.pt")
    assert not (tmp_path / "was here").exists()
    pickle.loads(pickle.dumps(Malicious(tmp_path / "was here")))
    assert (tmp_path / "was here").exists()  # a reader that unpickles everything runs it

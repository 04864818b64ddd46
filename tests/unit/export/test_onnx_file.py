"""The ONNX file against the network that it was made from."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.project import MakeOnce, make_digits
from torch import Tensor

from image_classifier.data import Images
from image_classifier.export import onnx_file
from image_classifier.export.onnx_file import OnnxModel, to_int8, to_onnx
from image_classifier.model.model_file import TrainedModel, load_model
from image_classifier.model.network import Classifier, Network
from image_classifier.project import locations
from image_classifier.project.params import Params
from image_classifier.system.errors import UserError

FACTS = {"classes": json.dumps(["zéro", "one"])}


@pytest.fixture(scope="session")
def model(evaluated: Path) -> TrainedModel:
    return load_model(evaluated / locations.MODEL)


@pytest.fixture(scope="session")
def exported(make_once: MakeOnce, model: TrainedModel) -> bytes:
    """The model as an ONNX file, which takes 10 s."""
    return (make_once("onnx", lambda folder: (folder / "m").write_bytes(to_onnx(model, FACTS))) / "m").read_bytes()


def random_images(count: int, side_px: int = 32) -> Images:
    return np.random.default_rng(0).integers(0, 256, (count, side_px, side_px, 3), dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 7, 600])
def test_raw_images_of_any_number_give_the_probabilities_of_the_network(
    exported: bytes, model: TrainedModel, count: int
) -> None:
    images = random_images(count)
    with torch.inference_mode():
        expected = Classifier(model.net)(torch.tensor(images)).numpy()
    np.testing.assert_allclose(OnnxModel(exported, threads=1).probabilities(images), expected, atol=1e-6)


@pytest.mark.parametrize("images", [random_images(2, 33), random_images(2).astype(np.float32) / 255])
def test_images_of_another_size_or_type_are_refused(exported: bytes, images: Images) -> None:
    with pytest.raises(Exception, match=r"(?i)invalid dimensions|unexpected input data type"):
        OnnxModel(exported, threads=1).probabilities(images)


def test_the_file_names_its_classes_and_passes_onnx_own_check(exported: bytes) -> None:
    content = onnx.load_from_string(exported)
    onnx.checker.check_model(content, full_check=True)
    assert {entry.key: entry.value for entry in content.metadata_props} == FACTS


def test_8_bits_make_a_smaller_file_that_mostly_gives_the_same_class(exported: bytes) -> None:
    digits = make_digits(seed=0)
    images = np.asarray(digits.test_images[:200])
    in_8_bits = to_int8(exported, digits.train_images[:64])
    assert len(in_8_bits) < len(exported)
    same = [OnnxModel(content, threads=1).probabilities(images).argmax(axis=1) for content in (exported, in_8_bits)]
    assert (same[0] == same[1]).mean() > 0.9


def test_a_network_that_cannot_be_exported_is_one_line_that_names_its_file(params: Params) -> None:
    class NoSuchOperator(Network):
        def forward(self, x: Tensor) -> Tensor:
            strange: Tensor = torch.special.airy_ai(x)
            return strange.mean(dim=(2, 3))

    net = NoSuchOperator(params.model)
    with pytest.raises(UserError, match=r"custom_resnet cannot .*airy_ai.*networks/custom_resnet.py") as raised:
        to_onnx(TrainedModel(net, params.model, "digits", ("a", "b", "c"), 32), FACTS)
    assert "\n" not in str(raised.value)


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime is not installed: .*pip install"):
        importlib.reload(onnx_file)

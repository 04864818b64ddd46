import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cifar_resnet.errors import UserError
from cifar_resnet.model import ResNet, ServedModel, load_weights

MEAN, STD = (0.5, 0.4, 0.2), (0.25, 0.2, 0.1)


def network(width: int = 4, logit_scale: float = 0.125) -> ResNet:
    torch.manual_seed(0)
    return ResNet(10, width, logit_scale, MEAN, STD)


def raw_images(number: int) -> Tensor:
    return torch.randint(0, 256, (number, 32, 32, 3), dtype=torch.uint8, generator=torch.manual_seed(1))


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
    layer = network().layer1.eval()
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


def test_the_served_model_turns_raw_images_into_the_softmax_of_the_logits() -> None:
    net, images = network().eval(), raw_images(4)
    probabilities = ServedModel(net)(images)
    exponentials = net(net.normalize(images)).exp()
    torch.testing.assert_close(probabilities, exponentials / exponentials.sum(dim=1, keepdim=True))
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(4))


def test_saved_weights_give_the_same_network_in_inference_mode(tmp_path: Path) -> None:
    trained = network()
    trained(trained.normalize(raw_images(8)))  # moves the statistics of BatchNorm too
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    loaded = load_weights(ResNet(10, 4, 0.125, MEAN, STD), tmp_path / "model.pt")
    x = trained.normalize(raw_images(2))
    assert torch.equal(loaded(x), trained.eval()(x))


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        load_weights(network(), path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    return line


def test_missing_weights_are_refused_with_both_ways_to_get_them(tmp_path: Path) -> None:
    line = refusal(tmp_path / "model.pt")
    assert line.endswith("is missing: train it with `dvc repro train`, or fetch it with `dvc pull`")


@pytest.mark.parametrize("kept", [0, 1, 100, 50_000, -1])
def test_weights_that_were_cut_short_are_refused(tmp_path: Path, kept: int) -> None:
    torch.save(network().state_dict(), tmp_path / "model.pt")
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[:kept])
    assert "does not fit the network of params.yaml" in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [network(width=8).state_dict(), {}, [1.0], {"net": network().state_dict()}])
def test_weights_of_another_network_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    assert "does not fit the network of params.yaml" in refusal(tmp_path / "model.pt")


class Malicious:
    """Runs a command where it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.evidence}'",)


def pickle_to(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content))


def save_by_torch(path: Path, content: object) -> None:
    torch.save(content, path)


@pytest.mark.parametrize("save", [pickle_to, save_by_torch])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_hidden_in_weights_is_refused_and_not_run(tmp_path: Path, save: Callable[[Path, object], None]) -> None:
    save(tmp_path / "model.pt", {"prep.0.weight": Malicious(tmp_path / "was here")})
    refusal(tmp_path / "model.pt")
    assert not (tmp_path / "was here").exists()
    pickle.loads(pickle.dumps(Malicious(tmp_path / "was here")))
    assert (tmp_path / "was here").exists()  # as it does with a careless reader

"""The weights that a training starts from, in a file without code: safetensors.

The file is empty for a training from random weights.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from image_classifier.model.model_file import load_model
from image_classifier.model.network import Network
from image_classifier.project import locations
from image_classifier.project.params import ModelParams
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_bytes

ANY_NUMBER = 2  # of classes: the head is made anew for those of the data set


def make_start_file(net: Network, settings: ModelParams, start_from: str) -> None:
    """Write the weights that `train.start_from` names: published ones, a file in weights/, or none for `random`.

    A UserError if they cannot be fetched or read, or are of another network than `net`, which has ANY_NUMBER classes.
    """
    if start_from == "random":
        write_start(locations.START, {})
        return
    if start_from == "pretrained":
        file = net.published_weights(locations.DATA / "weights.downloads")
    else:
        file = locations.WEIGHTS / start_from
        if file.is_symlink() or not file.is_file():
            raise UserError(
                f"train.start_from is {start_from}, and {file} is no file: copy it there, or choose random or "
                "pretrained"
            )
    if file.suffix == ".pt":
        write_start(locations.START, *read_trained(settings, file))
    else:
        write_start(locations.START, read_published(net, ANY_NUMBER, file))
    print(f"{locations.START}: from {file}")


def require_fit(net: Network, image_px: int, layer: str) -> None:
    """Raise a UserError if the network cannot take images of this size, or the layer gives no maps for Grad-CAM."""
    layers = net.gradcam_layers()
    if layer not in layers:
        raise UserError(f"gradcam.layer is {layer!r}; this network allows {' | '.join(layers) or 'none'}")
    shapes: list[tuple[int, ...]] = []
    layers[layer].register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    try:
        with torch.inference_mode():
            net.eval()(torch.zeros(1, 3, image_px, image_px))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"data.image_px is {image_px}, which this network cannot take: {reason}") from None
    if len(shapes[0]) != 4 or shapes[0][2] != shapes[0][3]:
        raise UserError(
            f"gradcam.layer is {layer}, which gives no maps in this network: choose a convolutional network"
        )


def write_start(path: Path, weights: Mapping[str, Tensor], classes: Sequence[str] = ()) -> None:
    """Write weights by their names in a network's state dict; with the head only if `classes` names its classes."""
    contiguous = {name: value.contiguous() for name, value in weights.items()}
    write_bytes(path, memoryview(save(contiguous, {"classes": json.dumps(list(classes))})))


def load_start(net: Network, path: Path, classes: Sequence[str]) -> None:
    """Give `net` the weights in the file. If the file's head is for other classes, that of `net` becomes zero.

    A random head would send noise through what the others have learnt: Kolesnikov et al. 2019, arXiv:1912.11370.
    """
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dictionary
        knows_classes = json.loads(file.metadata()["classes"]) == list(classes)
    if not knows_classes:
        state = net.state_dict()
        weights |= {name: torch.zeros_like(state[name]) for name in _head(net, len(classes))}
    net.load_state_dict(weights, strict=False)


def read_published(net: Network, num_classes: int, path: Path) -> dict[str, Tensor]:
    """The weights of a safetensors file, but those of the head, by their names in the state dict of `net`.

    In the file they have the names that the network's own library gives them. A UserError if it is damaged, or does not
    have every weight of `net` in its shape.
    """
    try:
        found = load_file(path)
    except (SafetensorError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file ({error}): copy it again, or if it is of "
            "another kind, convert it: such files may hold code, which is never run"
        ) from None
    head = _head(net, num_classes)
    needed = {name: value for name, value in net.state_dict().items() if name not in head and value.ndim}
    weights = {name: found.get(name.removeprefix(net.layers_are_in)) for name in needed}
    wrong = [name for name, value in weights.items() if value is None or value.shape != needed[name].shape]
    if wrong:
        name = wrong[0].removeprefix(net.layers_are_in)
        raise UserError(
            f"{path} holds the weights of another network: {len(wrong)} of {len(needed)} are missing or of "
            f"another shape, such as {name}"
        ) from None
    return {name: value.float() for name, value in weights.items() if value is not None}


def read_trained(settings: ModelParams, path: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The weights of a model of this project, and its classes. A UserError if it is damaged or of another network."""
    trained = load_model(path)
    if trained.settings != settings:
        raise UserError(
            f"{path} holds the network {trained.settings!r}, and params.yaml asks for {settings!r}: make "
            "them equal, or start from another file"
        )
    return trained.net.state_dict(), trained.classes


def _head(net: Network, num_classes: int) -> set[str]:
    """The names of the weights that give the logits: in the last layer those with a row for each class."""
    last = set(net.layers()[-1])
    return {name for name, weight in net.named_parameters() if weight in last and len(weight) == num_classes}

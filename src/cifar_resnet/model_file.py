"""The file of a trained model: the weights, and all that is needed to use them.

It holds a dictionary of plain containers and tensors, so reading it runs no code:

    format     "cifar-resnet model 1"
    network    the settings of `model` in params.yaml, by name
    dataset    name of the data set
    classes    their names, in the order of the logits
    image_px   side of the square images
    mean, std  of the training images, per channel, for pixels in 0..1
    weights    the network's state dict
"""

import io
from dataclasses import dataclass
from pathlib import Path

import torch

from cifar_resnet.data import Dataset
from cifar_resnet.errors import UserError
from cifar_resnet.files import write_bytes
from cifar_resnet.networks import make_network
from cifar_resnet.networks.base import Network
from cifar_resnet.params import ModelParams, parse_model

FORMAT = "cifar-resnet model 1"


@dataclass(frozen=True)
class TrainedModel:
    """A network in inference mode, and what its inputs and outputs mean."""

    net: Network
    settings: ModelParams
    dataset: str
    classes: tuple[str, ...]
    image_px: int


def save_model(path: Path, net: Network, settings: ModelParams, dataset: Dataset) -> None:
    """Write a trained network; the same one gives the same bytes."""
    content = {
        "format": FORMAT,
        "network": settings.model_dump(),
        "dataset": dataset.name,
        "classes": list(dataset.classes),
        "image_px": dataset.image_px,
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "weights": {name: value.cpu().contiguous() for name, value in net.state_dict().items()},
    }
    serialized = io.BytesIO()  # torch would write the file's name into the file
    torch.save(content, serialized)
    write_bytes(path, serialized.getbuffer())


def load_model(path: Path) -> TrainedModel:
    """Read what `save_model` wrote, without unpickling code; a UserError if it is missing or no such model."""
    problem = "is damaged or no model"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.get("format", "unnamed") if isinstance(content, dict) else type(content).__name__
        problem = f"is of another kind, and only {FORMAT!r} can be used here"
        if found != FORMAT:
            raise ValueError(found)
        problem = "does not hold what a model needs"
        settings, classes = parse_model(content["network"]), tuple(content["classes"])
        net = make_network(settings, len(classes), content["mean"], content["std"])
        net.load_state_dict(content["weights"])
        return TrainedModel(net.eval(), settings, content["dataset"], classes, content["image_px"])
    except FileNotFoundError:
        raise UserError(f"{path} is missing: train it with `dvc repro train`, or fetch it with `dvc pull`") from None
    except Exception as error:  # a damaged file may hold anything, and torch.load raise anything
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path} {problem} ({reason}): run `dvc repro train`, or fetch it with `dvc pull`") from None

"""The file of a trained model: the weights, and all that is needed to use them.

It holds a dictionary of plain containers and tensors, so reading it runs no code:

    format     "cifar-resnet model 1"
    network    the settings of `model` in params.yaml, by name
    dataset    name of the data set
    classes    their names, in the order of the logits
    image_px   side of the square images
    mean, std  that images are normalised with, per channel, for pixels in 0..1
    weights    the network's state dict
"""

import io
from dataclasses import dataclass
from pathlib import Path

import torch

from image_classifier.data import Dataset
from image_classifier.model.network import Network, make_network
from image_classifier.project.params import IN_SHORT, ModelParams, parse_model_facts
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_bytes

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
        "mean": list(net.colours[0]),
        "std": list(net.colours[1]),
        "weights": {name: value.cpu().contiguous() for name, value in net.state_dict().items()},
    }
    serialized = io.BytesIO()  # torch would write the file's name into the file
    torch.save(content, serialized)
    write_bytes(path, serialized.getbuffer())


def load_model(path: Path) -> TrainedModel:
    """Read what `save_model` wrote, without unpickling code; a UserError if it is missing or no such model."""
    problem = "is damaged or no model, or holds code, which is never run"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        found = content.get("format", "unnamed") if isinstance(content, dict) else type(content).__name__
        problem = f"is of another kind ({IN_SHORT.repr(found)}), and only {FORMAT!r} can be used here"
        if found != FORMAT:
            raise ValueError(found)
        problem = "does not hold what a model needs"
        facts = parse_model_facts(content)
        problem = "holds weights that do not fit its network"
        net = make_network(facts.network, len(facts.classes), facts.mean, facts.std)
        net.load_state_dict(content["weights"])
    except FileNotFoundError:
        raise UserError(f"{path} is missing: train it with `dvc repro train`, or fetch it with `dvc pull`") from None
    except PermissionError:
        raise
    except Exception as error:  # a damaged file may hold anything, and torch.load raise anything
        reason = f" ({' '.join(str(error).split())[:160]})" if problem.startswith(("does", "holds")) else ""
        raise UserError(f"{path} {problem}{reason}: run `dvc repro train`, or fetch it with `dvc pull`") from None
    if not all(value.isfinite().all() for value in net.state_dict().values()):
        raise UserError(
            f"{path} holds weights that are infinite or no numbers: its training diverged, and would again; lower "
            "train.lr_max, or model.logit_scale if it is above 0.125, then run `dvc repro`"
        )
    return TrainedModel(net.eval(), facts.network, facts.dataset, tuple(facts.classes), facts.image_px)

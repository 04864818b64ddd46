"""The settings in `params.yaml`: one frozen, validated section per stage, plus those that stages share.

There are no defaults here: DVC sees only what stands in `params.yaml`.
"""

from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from image_classifier.system.errors import UserError

Found = Literal["find"]
Auto = Literal["auto"]
LearningRate = Annotated[float, Field(gt=0, le=100)]

DATASETS = tuple(sorted(file.stem for file in (Path(__file__).parent.parent / "datasets").glob("[a-z]*.py")))
MIN_PX, MAX_PX = 8, 512  # smaller images would vanish in the networks, which halve them three times

IN_SHORT = Repr()  # shortens wrong values, which may be pages long, in messages
IN_SHORT.maxstring, IN_SHORT.maxlevel = 100, 2


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataParams(Section):
    dataset: Literal[DATASETS] = Field(description="Data set: a file in datasets/.")  # type: ignore[valid-type]
    image_px: int = Field(ge=MIN_PX, le=MAX_PX, description="Side in pixels of the square images; others are scaled.")
    validation_images: int = Field(ge=0, description="Images held out of the training set; 0 uses none.")
    split_seed: int = Field(ge=0, lt=2**32, description="Seed of the hold-out, and of a test split made here.")
    test_share: float = Field(gt=0, le=0.5, description="Share of the images that becomes the test set of digits, or "
                              "of a folder without train/ and test/.")  # fmt: skip
    folder: str = Field(min_length=1, description="Your own pictures: in it one folder per class.")
    broken_images: Literal["stop", "leave_out"] = Field(description="What to do with pictures that cannot be read.")
    sources: dict[str, Annotated[tuple[str, ...], Field(strict=False)]] = Field(
        description="Where the files of each data set are: URLs, archives or folders, tried in order."
    )


class AugmentParams(Section):
    padding: int = Field(ge=0, le=16, description="Pixels padded on each side before the random crop; 0 for no crop.")
    padding_mode: Literal["mean", "reflect"] = Field(description="What is padded: the mean colour, or a reflection.")
    flip: bool | Literal["alternate"] = Field(
        description="Horizontal flip with probability 0.5, or of each image in every second epoch."
    )
    cutout: int = Field(ge=0, le=32, description="Side in pixels of the square blanked per image; 0 for none.")


class CustomResNetParams(Section):
    gradcam_layers: ClassVar = ("prep", "layer1", "layer2", "layer3")

    network: Literal["custom_resnet"] = Field(description="The assignment's network.")
    width: int = Field(ge=4, le=512, multiple_of=4, description="Channels after the first layer.")
    logit_scale: float = Field(ge=0.001, le=10, description="Factor on the logits.")


class ResNet18Params(Section):
    gradcam_layers: ClassVar = ("layer1", "layer2", "layer3", "layer4")

    network: Literal["resnet18"] = Field(description="torchvision's ResNet-18, with a stem for small images.")
    zero_init_residual: bool = Field(description="Start with every residual branch at 0.")


# One class per file in networks/; each names the layers that Grad-CAM can explain.
ModelParams = CustomResNetParams | ResNet18Params


class LRFindParams(Section):
    start_lr: LearningRate = Field(description="First learning rate of the sweep.")
    end_lr: LearningRate = Field(description="Last learning rate of the sweep.")
    steps: int = Field(ge=20, le=10_000, description="Batches in the sweep.")
    smoothing: float = Field(ge=0, lt=1, description="Weight of the past in the moving average of the loss.")
    stop_factor: float = Field(ge=1.1, description="The sweep stops at this multiple of the best smoothed loss.")
    rule: Literal["valley", "steepest", "minimum/10", "slide", "descent_end"] = Field(
        description="Rule that suggests the highest learning rate."
    )
    seed: int = Field(ge=0, lt=2**32, description="Seed of the sweep.")

    @model_validator(mode="after")
    def _sweep_goes_up(self) -> Self:
        if self.end_lr < 10 * self.start_lr:
            raise ValueError(f"end_lr is {self.end_lr:g}; it must be at least 10 times start_lr, {self.start_lr:g}")
        if (averaged := 1 / (1 - self.smoothing)) > self.steps + 0.5:
            raise ValueError(f"smoothing is {self.smoothing:g}, which averages {averaged:.0f} steps of {self.steps}")
        return self


class TrainParams(Section):
    seed: int = Field(ge=0, lt=2**32, description="Seed of the weights, the order of images and the augmentation.")
    epochs: int = Field(ge=1, le=10_000, description="Epochs of the cycle.")
    peak_epoch: float = Field(gt=0, description="Where the cycle reaches lr_max, in epochs.")
    batch_size: int = Field(ge=2, le=65_536, description="Images per training step.")
    lr_min: Found | LearningRate = Field(description="Learning rate at both ends of the cycle, or find.")
    lr_max: Found | LearningRate = Field(description="Learning rate at the peak of the cycle, or find.")
    optimizer: Literal["sgd", "muon"] = Field(description="SGD, or Muon for the convolutions and SGD for the rest.")
    momentum: float = Field(gt=0, lt=1, description="Nesterov momentum.")
    weight_decay: float = Field(ge=0, le=0.1, description="L2 penalty on all weights; for Muon, outside its momentum.")
    label_smoothing: float = Field(ge=0, le=0.5, description="Probability spread over the other classes.")
    ghost_batch: int = Field(ge=0, description="Images that BatchNorm sees at a time; 0 for the whole batch.")
    early_epochs: int = Field(ge=0, description="First epochs on smaller images, as in the sweep; 0 for none.")
    early_scale: float = Field(ge=0.5, le=1, description="Side of the early epochs' images, as a share of image_px.")

    @model_validator(mode="after")
    def _cycle_is_possible(self) -> Self:
        if self.peak_epoch >= self.epochs:
            raise ValueError(f"peak_epoch is {self.peak_epoch:g}; it must be below epochs, {self.epochs}")
        if self.lr_min != "find" and self.lr_max != "find" and self.lr_min >= self.lr_max:
            raise ValueError(f"lr_min is {self.lr_min:g}; it must be below lr_max, {self.lr_max:g}")
        if self.ghost_batch and not 2 <= self.ghost_batch <= self.batch_size // 2:
            raise ValueError(f"ghost_batch is {self.ghost_batch}; allowed: 0, or 2 to half of batch_size, "
                             f"{self.batch_size // 2}")  # fmt: skip
        return self


class EvaluateParams(Section):
    flip_tta: bool = Field(description="Also report accuracy averaged over each image and its mirror image.")
    calibration_bins: int = Field(ge=2, le=100, description="Bins of the expected calibration error.")
    grid_images: int = Field(ge=1, le=100, description="Pictures in misclassified.png.")


class GradCAMParams(Section):
    method: Literal["gradcam", "gradcam++", "hirescam", "xgradcam", "layercam"] = Field(
        description="Class activation mapping method."
    )
    layer: str = Field(description="Layer of the network whose activations are mapped.")
    images: int = Field(ge=1, le=10_000, description="Largest number of misclassified images in the report.")
    grid_images: int = Field(ge=1, le=50, description="Pictures in gradcam.png.")


class ComputeParams(Section):
    device: Literal["auto", "cpu", "cuda"] = Field(description="Where tensors live.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        description="Number format of convolutions and products."
    )
    compile: Literal["auto", "on", "off"] = Field(description="Use of torch.compile.")
    threads: Auto | Annotated[int, Field(ge=1, le=1024)] = Field(description="Threads per process.")
    processes: int = Field(ge=1, le=1024, description="Data-parallel training processes.")


class RuntimeParams(Section):
    """Settings that never change a result, so no DVC stage depends on them."""

    workers: Auto | Annotated[int, Field(ge=0, le=256)] = Field(description="Loader processes.")
    checkpoint_steps: int = Field(ge=1, description="Training steps between checkpoints.")
    experiment: str = Field(min_length=1, max_length=500, description="MLflow experiment.")
    registered_model: str = Field(
        min_length=1, max_length=256, pattern='^[^/:"]+$', description="MLflow registered model."
    )

    @model_validator(mode="after")
    def _mlflow_takes_names(self) -> Self:
        for name, value in (("experiment", self.experiment), ("registered_model", self.registered_model)):
            if not value.isprintable() or value != value.strip() or value.startswith("."):
                raise ValueError(
                    f"{name} is {value!r}; allowed: visible characters, no dot or space at its start or end"
                )
        return self


class Params(Section):
    """Everything in `params.yaml`."""

    data: DataParams
    augment: AugmentParams
    model: ModelParams = Field(discriminator="network")
    lr_find: LRFindParams
    train: TrainParams
    evaluate: EvaluateParams
    gradcam: GradCAMParams
    compute: ComputeParams
    runtime: RuntimeParams

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        if self.gradcam.layer not in (layers := self.model.gradcam_layers):
            raise ValueError(
                f"gradcam.layer is {self.gradcam.layer!r}; {self.model.network} allows {' | '.join(layers)}"
            )
        if (parts := self.train.ghost_batch) and self.compute.processes > 1:  # processes normalize over the whole batch
            raise ValueError(f"train.ghost_batch is {parts}; allowed with several compute.processes: 0")
        return self


def load_params(path: Path) -> Params:
    """Read and check a params file. A UserError if it is missing or no YAML, or has a line for each broken rule."""
    return parse_params(read_settings(path), name=str(path))


def read_yaml(text: str, name: str) -> Any:
    """Parse YAML 1.2, in which `1e-1` is a number, as for DVC; a UserError if the text is no YAML."""
    try:
        return deepcopy(_parse(text))  # the caller may change it
    except (YAMLError, ValueError, RecursionError) as error:  # values such as 2026-13-45 raise ValueError
        reason = "too many levels" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise UserError(f"{name} is not valid YAML: {reason}") from None


@lru_cache
def _parse(text: str) -> Any:
    """Parse a YAML text once: a stage reads `dvc.lock` four times, and each takes 0.2 s."""
    return YAML(typ="safe", pure=True).load(text)


def read_text(path: Path) -> str:
    """The text of one of the project's YAML files; a UserError if it is missing or not in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing: restore it with `git checkout {path}`") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from None


def read_settings(path: Path) -> Any:
    """What a params file holds, unchecked; a UserError if it is missing or no YAML."""
    return read_yaml(read_text(path), str(path))


def parse_params(content: Any, name: str) -> Params:
    """Check what was read from the params file called `name`; a UserError has a line per broken rule."""
    if not isinstance(content, Mapping):
        raise UserError(
            f"{name} holds {IN_SHORT.repr(content)}; it must hold the sections {', '.join(Params.model_fields)}"
        )
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        lines = {_describe(dict(detail)) for detail in error.errors()}
        raise UserError("\n".join(f"{name}: {line}" for line in sorted(lines))) from None


Share = Annotated[float, Field(ge=0, le=1)]


class ModelFacts(Section):
    """What the file of a trained model says of its network, its classes and their images."""

    network: ModelParams = Field(discriminator="network")
    dataset: str
    classes: list[Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")]] = Field(min_length=2)
    image_px: int = Field(ge=MIN_PX, le=MAX_PX)
    mean: list[Share] = Field(min_length=3, max_length=3)
    std: list[Annotated[Share, Field(gt=0)]] = Field(min_length=3, max_length=3)


def parse_model_facts(content: Mapping[str, Any]) -> ModelFacts:
    """Check the facts in `content`, and ignore the rest of it; a ValueError names the first broken rule."""
    try:
        return ModelFacts.model_validate({name: content[name] for name in ModelFacts.model_fields if name in content})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ValueError(f"{key} is {IN_SHORT.repr(first['input'])}: {first['msg']}") from None


def _describe(detail: dict[str, Any]) -> str:
    """One line for one of pydantic's errors: the key, its value, what is allowed."""
    path, kind = [str(part) for part in detail["loc"]], detail["type"]
    if not path and kind == "value_error":  # sections do not fit together
        return str(detail["ctx"]["error"])
    schema = Params.model_json_schema()
    section = schema["properties"].get(path[0], {}) if path else {}
    if networks := section.get("discriminator", {}).get("mapping"):
        if kind in ("union_tag_invalid", "union_tag_not_found"):
            found = f"is {detail['ctx']['tag']!r}" if kind == "union_tag_invalid" else "is missing"
            return f"{path[0]}.network {found}; allowed: {' | '.join(networks)}"
        section = {"$ref": networks[path[1]] if len(path) > 1 else next(iter(networks.values()))}
        path = [path[0], *path[2:]]
    settings = schema["$defs"][section["$ref"].rpartition("/")[2]]["properties"] if section else {}
    key = ".".join(path[:2])  # deeper parts name the branches of a union
    if kind == "value_error":
        return f"{key}.{detail['ctx']['error']}"
    if kind == "invalid_key":
        return f"{key} is not a setting; names are texts"
    if kind == "extra_forbidden":
        return f"{key} is not a setting; allowed here: {', '.join(settings or schema['properties'])}"
    found = "is missing" if kind == "missing" else f"is {IN_SHORT.repr(detail['input'])}"
    allowed = _in_words(settings[path[1]]) if len(path) > 1 else f"a section with {', '.join(settings)}"
    return f"{key} {found}; allowed: {allowed}"


def _in_words(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_in_words(option) for option in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(option) for option in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text",
            "array": "a list of texts", "object": "for each data set a list of texts"}[schema["type"]]  # fmt: skip
    bounds = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "to below",
              "multipleOf": "in multiples of", "pattern": "matching",
              "minLength": "with a length of at least", "maxLength": "and of at most"}  # fmt: skip
    return " ".join([kind, *(f"{word} {schema[key]}" for key, word in bounds.items() if key in schema)])

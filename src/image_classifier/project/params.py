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
    dataset: Literal[DATASETS]  # type: ignore[valid-type]
    image_px: int = Field(ge=MIN_PX, le=MAX_PX)
    validation_images: int = Field(ge=0)
    split_seed: int = Field(ge=0, lt=2**32)
    test_share: float = Field(gt=0, le=0.5)
    folder: str = Field(min_length=1)
    broken_images: Literal["stop", "leave_out"]


class AugmentParams(Section):
    padding: int = Field(ge=0, le=16)
    padding_mode: Literal["mean", "reflect"]
    flip: bool | Literal["alternate"]
    cutout: int = Field(ge=0, le=32)


class CustomResNetParams(Section):
    gradcam_layers: ClassVar = ("prep", "layer1", "layer2", "layer3")

    network: Literal["custom_resnet"]
    width: int = Field(ge=4, le=512, multiple_of=4)
    logit_scale: float = Field(ge=0.001, le=10)


class ResNet18Params(Section):
    gradcam_layers: ClassVar = ("layer1", "layer2", "layer3", "layer4")

    network: Literal["resnet18"]
    zero_init_residual: bool


class TimmParams(Section):
    gradcam_layers: ClassVar = ("stride2", "stride4", "stride8", "stride16", "stride32")

    network: Literal["timm"]
    name: str = Field(pattern=r"^[\w.]+$")


# One class per file in networks/; each names the layers that Grad-CAM can explain.
ModelParams = CustomResNetParams | ResNet18Params | TimmParams


class LRFindParams(Section):
    start_lr: LearningRate
    end_lr: LearningRate
    steps: int = Field(ge=20, le=10_000)
    smoothing: float = Field(ge=0, lt=1)
    stop_factor: float = Field(ge=1.1)
    rule: Literal["valley", "steepest", "minimum/10", "slide", "descent_end"]
    seed: int = Field(ge=0, lt=2**32)

    @model_validator(mode="after")
    def _sweep_goes_up(self) -> Self:
        if self.end_lr < 10 * self.start_lr:
            raise ValueError(f"end_lr is {self.end_lr:g}; it must be at least 10 times start_lr, {self.start_lr:g}")
        if (averaged := 1 / (1 - self.smoothing)) > self.steps + 0.5:
            raise ValueError(f"smoothing is {self.smoothing:g}, which averages {averaged:.0f} steps of {self.steps}")
        return self


class TrainParams(Section):
    seed: int = Field(ge=0, lt=2**32)
    start_from: str = Field(pattern=r"^[^/]+$")
    epochs: int = Field(ge=1, le=10_000)
    peak_epoch: float = Field(gt=0)
    batch_size: int = Field(ge=2, le=65_536)
    lr_min: Found | LearningRate
    lr_max: Found | LearningRate
    optimizer: Literal["sgd", "muon"]
    layer_decay: float = Field(ge=0.1, le=1)
    momentum: float = Field(gt=0, lt=1)
    weight_decay: float = Field(ge=0, le=0.1)
    label_smoothing: float = Field(ge=0, le=0.5)
    ghost_batch: int = Field(ge=0)
    early_epochs: int = Field(ge=0)
    early_scale: float = Field(ge=0.5, le=1)

    @model_validator(mode="after")
    def _cycle_is_possible(self) -> Self:
        if self.layer_decay < 1 and self.optimizer == "muon":
            raise ValueError(f"layer_decay is {self.layer_decay:g}; allowed with optimizer muon: 1")
        if self.peak_epoch >= self.epochs:
            raise ValueError(f"peak_epoch is {self.peak_epoch:g}; it must be below epochs, {self.epochs}")
        if self.lr_min != "find" and self.lr_max != "find" and self.lr_min >= self.lr_max:
            raise ValueError(f"lr_min is {self.lr_min:g}; it must be below lr_max, {self.lr_max:g}")
        if self.ghost_batch and not 2 <= self.ghost_batch <= self.batch_size // 2:
            raise ValueError(
                f"ghost_batch is {self.ghost_batch}; allowed: 0, or 2 to half of batch_size, {self.batch_size // 2}"
            )
        return self


class EvaluateParams(Section):
    flip_tta: bool
    calibration_bins: int = Field(ge=2, le=100)
    grid_images: int = Field(ge=1, le=100)
    wanted_accuracy: Literal["off"] | Annotated[float, Field(gt=0.5, lt=1)]


class GradCAMParams(Section):
    method: Literal["gradcam", "gradcam++", "hirescam", "xgradcam", "layercam"]
    layer: str
    images: int = Field(ge=1, le=10_000)
    grid_images: int = Field(ge=1, le=50)


class ComputeParams(Section):
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    compile: Literal["auto", "on", "off"]
    threads: Auto | Annotated[int, Field(ge=1, le=1024)]
    processes: int = Field(ge=1, le=1024)


class ExportParams(Section):
    tolerance: float = Field(gt=0, le=1)
    int8_points: float = Field(ge=0, le=100)
    calibration_images: int = Field(ge=1)
    license: str = Field(min_length=1)


class RuntimeParams(Section):
    """Settings that never change a result, so no DVC stage depends on them."""

    workers: Auto | Annotated[int, Field(ge=0, le=256)]
    checkpoint_steps: int = Field(ge=1)
    experiment: str = Field(min_length=1, max_length=500)
    registered_model: str = Field(min_length=1, max_length=256, pattern='^[^/:"]+$')

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
    export: ExportParams
    runtime: RuntimeParams

    @model_validator(mode="after")
    def _sections_fit_together(self) -> Self:
        if (wanted := self.evaluate.wanted_accuracy) != "off":
            from image_classifier.evaluation.unsure import images_needed  # NumPy: 0.1 s

            if (images := self.data.validation_images) < (needed := images_needed(wanted)):
                raise ValueError(
                    f"evaluate.wanted_accuracy is {wanted:g}, which {needed:,} held-out images or more can show, and "
                    f"data.validation_images is {images:,}: raise that, such as to 5000, or lower the accuracy, or set "
                    "it to off"
                )
        if self.gradcam.layer not in (layers := self.model.gradcam_layers):
            raise ValueError(
                f"gradcam.layer is {self.gradcam.layer!r}; {self.model.network} allows {' | '.join(layers)}"
            )
        if (parts := self.train.ghost_batch) and self.compute.processes > 1:  # processes normalize over the whole batch
            raise ValueError(f"train.ghost_batch is {parts}; allowed with several compute.processes: 0")
        # timm's BatchNorms are of its own kinds.
        if self.model.network == "timm" and (parts or self.compute.processes > 1):
            raise ValueError(
                f"train.ghost_batch is {parts} and compute.processes {self.compute.processes}; allowed with the "
                "networks of timm: 0 and 1"
            )
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


KINDS = {"integer": "a whole number", "number": "a number", "boolean": "true or false", "string": "a text"}
BOUNDS = {
    "minimum": "from",
    "exclusiveMinimum": "above",
    "maximum": "to",
    "exclusiveMaximum": "to below",
    "multipleOf": "in multiples of",
    "pattern": "matching",
    "minLength": "with a length of at least",
    "maxLength": "and of at most",
}


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
    bounds = [f"{word} {schema[key]}" for key, word in BOUNDS.items() if key in schema]
    return " ".join([KINDS[schema["type"]], *bounds])

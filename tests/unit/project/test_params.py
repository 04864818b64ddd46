"""params.yaml: the allowed values, and the messages for other values."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.settings import PARAMS, changed

from image_classifier.project.params import Params, load_params
from image_classifier.system.errors import UserError

LEARNING_RATE = "find or a number above 0 to 100"
SEED = "a whole number from 0 to below 4294967296"

BAD_VALUES = [
    ("data.dataset", "mnist", "cifar10 | cifar100 | digits | fashion_mnist | folder | svhn"),
    ("data.dataset", None, "cifar10 | cifar100 | digits | fashion_mnist | folder | svhn"),
    ("data.image_px", 7, "a whole number from 8 to 512"),
    ("data.test_share", 0.6, "a number above 0 to 0.5"),
    ("data.broken_images", "skip", "stop | leave_out"),
    ("data.validation_images", -1, "a whole number from 0"),
    ("data.split_seed", 2**32, SEED),
    ("augment.padding", 17, "a whole number from 0 to 16"),
    ("augment.padding", "4 px", "a whole number from 0 to 16"),
    ("augment.flip", 1, "true or false or alternate"),
    ("augment.flip", "yes", "true or false or alternate"),
    ("augment.padding_mode", "mirror", "mean | reflect"),
    ("train.optimizer", "adam", "sgd | muon"),
    ("train.early_epochs", 1.5, "a whole number from 0"),
    ("train.early_scale", 0.4, "a number from 0.5 to 1"),
    ("augment.cutout", 33, "a whole number from 0 to 32"),
    ("augment.cutout", 8.0, "a whole number from 0 to 32"),
    ("model.width", 63, "a whole number from 4 to 512 in multiples of 4"),
    ("model.width", True, "a whole number from 4 to 512 in multiples of 4"),
    ("model.logit_scale", 0, "a number from 0.001 to 10"),
    ("lr_find.start_lr", -1e-4, "a number above 0 to 100"),
    ("lr_find.end_lr", 101, "a number above 0 to 100"),
    ("lr_find.end_lr", 0.0005, "at least 10 times start_lr, 0.0001"),
    ("lr_find.steps", 19, "a whole number from 20 to 10000"),
    ("lr_find.smoothing", 1, "a number from 0 to below 1"),
    ("lr_find.smoothing", 0.999, "averages 1000 steps of 98"),
    ("lr_find.stop_factor", 1.0, "a number from 1.1"),
    ("lr_find.rule", "steep", "valley | steepest | minimum/10 | slide | descent_end"),
    ("train.seed", -1, SEED),
    ("train.epochs", 0, "a whole number from 1 to 10000"),
    ("train.epochs", 2.5, "a whole number from 1 to 10000"),
    ("train.peak_epoch", 0, "a number above 0"),
    ("train.peak_epoch", 24, "below epochs, 24"),
    ("train.batch_size", 1, "a whole number from 2 to 65536"),
    ("train.lr_min", "auto", LEARNING_RATE),
    ("train.lr_max", 0, LEARNING_RATE),
    ("train.lr_max", float("inf"), LEARNING_RATE),
    ("train.momentum", 1.0, "a number above 0 to below 1"),
    ("train.weight_decay", float("nan"), "a number from 0 to 0.1"),
    ("train.label_smoothing", 0.99, "a number from 0 to 0.5"),
    ("evaluate.flip_tta", "on", "true or false"),
    ("evaluate.calibration_bins", 1, "a whole number from 2 to 100"),
    ("evaluate.grid_images", 101, "a whole number from 1 to 100"),
    ("evaluate.wanted_accuracy", 0.5, "off or a number above 0.5 to below 1"),
    ("gradcam.method", "scorecam", "gradcam | gradcam++ | hirescam | xgradcam | layercam"),
    ("gradcam.layer", "layer4", "prep | layer1 | layer2 | layer3"),
    ("gradcam.images", 0, "a whole number from 1 to 10000"),
    ("compute.device", "gpu", "auto | cpu | cuda"),
    ("compute.precision", "fp8", "auto | fp32 | bf16 | fp16"),
    ("compute.compile", True, "auto | on | off"),
    ("compute.threads", 0, "auto or a whole number from 1 to 1024"),
    ("compute.processes", "two", "a whole number from 1 to 1024"),
    ("export.tolerance", 0, "a number above 0 to 1"),
    ("export.int8_points", -1, "a number from 0 to 100"),
    ("export.calibration_images", 0, "a whole number from 1"),
    ("export.license", "", "a text with a length of at least 1"),
    ("runtime.workers", -1, "auto or a whole number from 0 to 256"),
    ("runtime.experiment", "", "a text with a length of at least 1 and of at most 500"),
    ("runtime.registered_model", "..", "no dot or space at its start"),
    ("runtime.registered_model", "team/resnet", 'a text matching ^[^/:"]+$'),
]


def refusal(params: Path) -> str:
    with pytest.raises(UserError) as error:
        load_params(params)
    return str(error.value)


@pytest.mark.parametrize(("key", "value", "allowed"), BAD_VALUES)
def test_a_bad_value_is_refused_in_one_line_with_key_value_and_what_is_allowed(
    tmp_path: Path, key: str, value: object, allowed: str
) -> None:
    section, name = key.split(".")
    line = refusal(changed(tmp_path, **{section: {name: value}}))
    assert "\n" not in line
    for part in (f"params.yaml: {section}", name, str(value), allowed):
        assert part in line


def test_learning_rates_in_the_wrong_order_are_refused(tmp_path: Path) -> None:
    line = refusal(changed(tmp_path, train={"lr_min": 0.4, "lr_max": 0.1}))
    assert line.endswith("params.yaml: train.lr_min is 0.4; it must be below lr_max, 0.1")


def test_ghost_batches_are_parts_of_a_batch(tmp_path: Path) -> None:
    line = refusal(changed(tmp_path, train={"ghost_batch": 300}))
    assert line.endswith("params.yaml: train.ghost_batch is 300; allowed: 0, or 2 to half of batch_size, 256")


@pytest.mark.parametrize("images", [0, 596])
def test_too_few_held_out_images_for_the_wanted_accuracy_are_refused_at_once(tmp_path: Path, images: int) -> None:
    line = refusal(changed(tmp_path, data={"validation_images": images}, evaluate={"wanted_accuracy": 0.99}))
    assert (
        f"wanted_accuracy is 0.99, which 597 held-out images or more can show, and data.validation_images is {images}"
        in line
    )


def test_ghost_batches_are_refused_with_several_processes(tmp_path: Path) -> None:
    line = refusal(changed(tmp_path, train={"ghost_batch": 32}, compute={"processes": 2}))
    assert line.endswith("params.yaml: train.ghost_batch is 32; allowed with several compute.processes: 0")


def test_each_mistake_has_its_own_line(tmp_path: Path) -> None:
    lines = refusal(changed(tmp_path, train={"epochs": 0, "momentum": 2}, model={"width": 3})).splitlines()
    assert [line.split(": ")[1].split(" is ")[0] for line in lines] == ["model.width", "train.epochs", "train.momentum"]


def test_a_misspelt_setting_is_refused_beside_the_right_ones(tmp_path: Path) -> None:
    line = refusal(changed(tmp_path, augment={"cutuot": 8}))
    assert line.endswith("augment.cutuot is not a setting; allowed here: padding, padding_mode, flip, cutout")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("  epochs: 24\n", "", "train.epochs is missing; allowed: a whole number from 1 to 10000"),
        ("augment:", "augmentation:", "augment is missing; allowed: a section with padding, padding_mode, flip"),
        ("augment:", "augmentation:", "augmentation is not a setting; allowed here: data, augment"),
        ("  epochs: 24\n", "  epochs: 24\n  epochs: 12\n", "found duplicate key"),
        ("  epochs: 24\n", "  epochs: [24\n", "is not valid YAML"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(tmp_path: Path, old: str, new: str, reason: str) -> None:
    text = PARAMS.read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text.replace(old, new), encoding="utf-8")
    assert reason in refusal(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "content", [b"", b"24", b"- train", b"train: 5", b"train: 2026-13-45", "épochs".encode("latin-1")]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    assert "params.yaml" in refusal(tmp_path / "params.yaml")


BOMB = "".join(f"a{level}: &a{level} [*a{level - 1}, *a{level - 1}]\n" for level in range(1, 21))


@pytest.mark.parametrize(
    "text",
    [
        "data: " + "[" * 1000 + "]" * 1000,
        "data: " + "{a: " * 1000 + "1" + "}" * 1000,
        "data: " + "[" * 80 + "]" * 80,
        f"a0: &a0 [x]\n{BOMB}data: *a20",
        f"data: {'x' * 100_000}",
    ],
    ids=["1000 lists", "1000 sections", "80 lists", "a million items by reference", "a long text"],
)
def test_a_file_that_holds_no_settings_is_refused_in_short_lines(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    lines = refusal(tmp_path / "params.yaml").replace(str(tmp_path), "").splitlines()
    assert all(len(line) < 300 for line in lines)


def test_a_missing_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    assert "is missing: restore it with" in refusal(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        ("data", {"dataset": "digits", "validation_images": 700}),
        ("augment", {"padding": 0, "padding_mode": "mean", "flip": False, "cutout": 0}),
        ("train", {"epochs": 1, "peak_epoch": 0.5}),
        ("train", {"lr_min": 0.01, "lr_max": "find"}),
        ("train", {"lr_min": "find", "lr_max": 1}),
        ("compute", {"threads": 4}),
    ],
)
def test_a_good_value_is_taken_as_it_is(tmp_path: Path, section: str, settings: dict[str, Any]) -> None:
    loaded = load_params(changed(tmp_path, **{section: settings})).model_dump(mode="json")
    assert loaded[section].items() >= settings.items()


@pytest.mark.parametrize("spelling", ["1e-1", "1.0E-1", "+.1", "0.1"])
def test_numbers_are_read_as_in_yaml_1_2(tmp_path: Path, spelling: str) -> None:
    text = PARAMS.read_text(encoding="utf-8").replace("lr_max: find", f"lr_max: {spelling}")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    assert load_params(tmp_path / "params.yaml").train.lr_max == 0.1


def test_settings_cannot_be_changed_in_the_code(params: Params) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        params.train.epochs = 12  # type: ignore[misc]

"""The keys of trainings and states: what changes them and what does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from image_classifier.project.definition import Inputs, parse_stages, read_lock, read_project
from image_classifier.project.keys import state_key, training_key
from image_classifier.project.settings import canonical, flat, select
from image_classifier.system.errors import UserError

SETTINGS = {"train.epochs": 5, "train.lr_max": "find"}
INPUTS = Inputs(SETTINGS, {"src/image_classifier/training/loop.py": "a" * 32})


def test_equal_values_give_the_same_key_however_they_are_written() -> None:
    texts = {name: str(value) for name, value in SETTINGS.items()}  # as MLflow keeps them
    assert state_key(texts, "md5") == state_key(SETTINGS | {"train.epochs": 5.0}, "md5") == state_key(SETTINGS, "md5")
    assert canonical({"flip": True, "rate": 5e-4}) == {"flip": "True", "rate": "0.0005"}
    assert canonical({"images": 10**400}) == {"images": f"1{'0' * 400}"}  # above what a float can hold


@pytest.mark.parametrize(
    "other",
    [
        Inputs(SETTINGS | {"train.epochs": 6}, INPUTS.files),
        Inputs(SETTINGS | {"train.new": 0}, INPUTS.files),
        Inputs(SETTINGS, {"src/image_classifier/training/loop.py": "b" * 32}),
    ],
)
def test_another_setting_or_other_code_is_another_training(other: Inputs) -> None:
    assert training_key(other) != training_key(INPUTS)


def test_a_section_and_a_setting_of_it_are_selected_flat_and_what_is_missing_is_left_out() -> None:
    settings = {"train": {"epochs": 5, "seed": 0}, "data": {"dataset": "digits", "split_seed": 0}}
    assert select(settings, ["train", "data.dataset", "model"]) == {
        "train.epochs": 5,
        "train.seed": 0,
        "data.dataset": "digits",
    }
    assert flat({"a": {"b": {"c": 1}}}) == {"a.b.c": 1}


def test_stages_are_read_with_their_options_and_settings_filled_in() -> None:
    text = """
stages:
  train:
    cmd: python -m pipeline.train
    meta: {mlflow: true}
    params: [train]
    deps: ["data/${data.dataset}"]
    outs: [models/model.pt]
    metrics: [reports/metrics.json: {cache: false}]
"""
    stage = parse_stages(text, {"data": {"dataset": "digits"}})["train"]
    assert (stage.deps, stage.outs) == (("data/digits",), ("models/model.pt", "reports/metrics.json"))
    assert stage.published


@pytest.mark.parametrize("folder", ["Photos: 2026", "[old]", "a # b", "*"])
def test_a_path_may_look_like_yaml(folder: str) -> None:
    text = "stages:\n  download:\n    deps:\n      - ${data.folder}\n"
    assert parse_stages(text, {"data": {"folder": folder}})["download"].deps == (folder,)


@pytest.mark.parametrize(("name", "read"), [("dvc.yaml", read_project), ("dvc.lock", read_lock)])
def test_a_file_that_is_not_in_utf_8_is_named(
    name: str, read: Callable[[], object], tiny_params_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_params_file.parent)
    Path(name).write_bytes(b"# caf\xe9\n")
    with pytest.raises(UserError, match=f"{name} is not valid YAML: 'utf-8' codec can't decode"):
        read()

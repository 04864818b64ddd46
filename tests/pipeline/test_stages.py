"""Every stage by its `run()`, on embedded data with a tiny network, and the outputs of the stages."""

import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML
from support.finished_pipeline import defined_stages, run_stages, run_train
from support.project import PROJECT, TINY, enter

from image_classifier.data import load_dataset
from image_classifier.model.model_file import load_model
from image_classifier.outputs.history import read_history
from image_classifier.outputs.rates import read_found_rates
from image_classifier.project import locations
from image_classifier.project.params import CustomResNetParams, EvaluateParams, Params, load_params
from image_classifier.project.recipes import overlay
from image_classifier.system.errors import UserError
from image_classifier.tracking.results import Results
from pipeline import evaluate, gradcam_report, lr_find, train
from pipeline.stage import main

pytestmark = pytest.mark.xdist_group("stages")  # so that they run once

# For each stage, settings in its sections that dvc.yaml does not track for it, with other values than in TINY.
ONLY_FOR_DOWNLOAD = {
    "image_px": 64,
    "test_share": 0.5,
    "folder": "elsewhere",
    "broken_images": "leave_out",
}
UNTRACKED: dict[ModuleType, dict[str, dict[str, Any]]] = {
    lr_find: {
        "data": ONLY_FOR_DOWNLOAD,
        "train": {"seed": 7, "epochs": 5, "peak_epoch": 2.5, "lr_min": 0.001, "lr_max": 9.0},
        "compute": {"compile": "auto", "processes": 2},
    },
    evaluate: {
        "data": ONLY_FOR_DOWNLOAD,
        "compute": {"precision": "bf16", "compile": "auto", "processes": 2},
    },
    gradcam_report: {
        "data": ONLY_FOR_DOWNLOAD,
        "evaluate": {"flip_tta": False, "grid_images": 1, "wanted_accuracy": 0.9},
        "compute": {"precision": "bf16", "compile": "auto", "processes": 2},
    },
}


@pytest.fixture(scope="module", autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Params]:
    """The settings of a project folder in which all stages ran, as the working directory."""
    folder = tmp_path_factory.mktemp("project")
    overlay(PROJECT / "params.yaml", TINY, folder / "params.yaml")
    shutil.copy(PROJECT / "dvc.yaml", folder)
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        Path("mlruns").mkdir()
        shutil.copy(empty_store, "mlruns")
        params = load_params(Path("params.yaml"))
        run_stages(params)
        yield params


def test_download_leaves_the_data_set(settings: Params) -> None:
    dataset = load_dataset(locations.DATA / "digits")
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (1438, 359)


def test_lr_find_leaves_rates_that_its_curve_shows(settings: Params) -> None:
    curve = pd.read_csv(locations.LR_CURVE)
    found = read_found_rates(locations.LR_FOUND)
    assert list(curve.columns) == ["step", "lr", "loss", "smoothed_loss"]
    assert list(curve.step) == list(range(len(curve)))
    assert found.rule == settings.lr_find.rule
    assert found.lr_max in set(curve.lr)
    assert curve.lr.min() <= found.lr_min < found.lr_max


def test_train_leaves_a_row_per_epoch_and_the_figures_of_the_last(settings: Params) -> None:
    history = pd.read_csv(locations.HISTORY)
    assert list(history.columns) == ["epoch", "lr", "train_loss", "train_accuracy", "test_loss", "test_accuracy"]
    assert list(history.epoch) == [1, 2]
    metrics = json.loads(locations.TRAIN_METRICS.read_text())
    found = read_found_rates(locations.LR_FOUND)
    last = read_history(locations.HISTORY)[-1]
    assert metrics == {
        "epochs": 2,
        "lr_min": found.lr_min,
        "lr_max": found.lr_max,
        "train_loss": last.train_loss,
        "train_accuracy": last.train_accuracy,
        "test_loss": last.held_out_loss,
        "test_accuracy": last.held_out_accuracy,
    }


def test_the_model_holds_plain_tensors_on_the_cpu_and_scores_what_train_said(settings: Params) -> None:
    weights = torch.load(locations.MODEL, weights_only=True)["weights"]
    assert all(isinstance(value, torch.Tensor) and value.device.type == "cpu" for value in weights.values())
    dataset = load_dataset(locations.DATA / "digits")
    net = load_model(locations.MODEL).net
    with torch.inference_mode():
        predicted = net(net.normalize(torch.tensor(dataset.test_images))).argmax(dim=1).numpy()
    accuracy = (predicted == dataset.test_labels).mean()
    assert accuracy == json.loads(locations.TRAIN_METRICS.read_text())["test_accuracy"]


def test_a_finished_training_that_is_started_again_ends_at_once(
    settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    before = locations.MODEL.read_bytes()
    run_train()  # as after a kill before DVC had recorded the outputs
    assert "continuing from the checkpoint after 2 epochs and 0 steps" in capsys.readouterr().out
    assert locations.MODEL.read_bytes() == before


def test_a_training_begun_on_more_cores_continues_and_says_that_bits_may_differ(
    settings: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkpoint,) = Path("checkpoints").glob("*/state.pt")
    saved = torch.load(checkpoint, weights_only=True)
    torch.save(saved | {"computed": saved["computed"].replace("1 thread", "8 threads")}, checkpoint)
    run_train()
    said = capsys.readouterr().out
    assert "continuing from the checkpoint after 2 epochs and 0 steps" in said
    assert re.search(
        "it was computed by .* 8 threads, the rest will be by .* 1 thread: the last bits .* may differ", said
    )


def test_evaluate_writes_every_test_image_in_order_with_probabilities_that_sum_to_one() -> None:
    dataset = load_dataset(locations.DATA / "digits")
    table = pd.read_csv(locations.PREDICTIONS, dtype={"true": str, "predicted": str})
    probabilities = table[[f"p_{name}" for name in dataset.classes]].to_numpy()
    assert list(table["index"]) == list(range(359))
    assert list(table.true) == [dataset.classes[label] for label in dataset.test_labels]
    assert list(table.predicted) == [dataset.classes[number] for number in probabilities.argmax(axis=1)]
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(359), abs=1e-5)


def test_all_tables_of_evaluate_agree() -> None:
    names = {"true": str, "predicted": str}
    table = pd.read_csv(locations.PREDICTIONS, dtype=names)
    mistakes = table[table.true != table.predicted]
    metrics = json.loads(locations.TEST_METRICS.read_text())
    assert metrics["accuracy"] == (359 - len(mistakes)) / 359
    assert set(metrics) == {
        "accuracy",
        "loss",
        "top2_accuracy",
        "macro_f1",
        "expected_calibration_error",
        "per_class_accuracy",
        "flip_tta_accuracy",
        "test_images_in_training",
    }

    confusion = pd.read_csv(locations.CONFUSION, index_col="true", dtype={"true": str})
    assert confusion.to_numpy().sum() == 359
    assert np.trace(confusion.to_numpy()) == 359 - len(mistakes)
    for name, accuracy in metrics["per_class_accuracy"].items():
        assert accuracy == pytest.approx(confusion.loc[name, name] / confusion.loc[name].sum())

    pairs = pd.read_csv(locations.CONFUSED_PAIRS, dtype=names)
    assert pairs["count"].sum() == len(mistakes)
    assert pairs["count"].is_monotonic_decreasing
    for _, true, predicted, count, share in pairs.itertuples(name=None):
        assert count == confusion.loc[true, predicted]
        assert share == pytest.approx(count / confusion.loc[true].sum(), abs=1e-4)

    worst = pd.read_csv(locations.MISCLASSIFIED, dtype=names)
    assert sorted(worst["index"]) == list(mistakes["index"])
    assert worst.probability.is_monotonic_decreasing
    assert (worst.true_probability <= worst.probability).all()


@pytest.mark.parametrize(
    "path",
    [
        locations.LR_CURVE_PLOT,
        locations.LEARNING_CURVES,
        locations.CONFUSION_PLOT,
        locations.MISCLASSIFIED_PLOT,
        locations.RELIABILITY_PLOT,
        locations.GRADCAM_PLOT,
    ],
)
def test_the_stages_leave_this_picture(path: Path) -> None:
    with Image.open(path) as picture:
        picture.verify()


def test_gradcam_report_leaves_a_page() -> None:
    page = locations.GRADCAM_PAGE.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")


def test_each_learning_rate_is_found_or_given(settings: Params) -> None:
    found = read_found_rates(locations.LR_FOUND)
    for given in ({}, {"lr_min": 1e-6}, {"lr_max": 7.0}, {"lr_min": 1e-6, "lr_max": 7.0}):
        rates = train.choose_rates(settings.train.model_copy(update=given))
        assert vars(rates) == {"lr_min": found.lr_min, "lr_max": found.lr_max} | given


def test_a_given_rate_on_the_wrong_side_of_the_found_one_is_refused(settings: Params) -> None:
    with pytest.raises(UserError, match=r"train\.lr_min is 99; it must be below train\.lr_max, "):
        train.choose_rates(settings.train.model_copy(update={"lr_min": 99.0}))


def test_a_sweep_without_rates_stops_only_a_training_that_needs_them(
    settings: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(Path.cwd(), tmp_path, dirs_exist_ok=True))
    too_low = settings.lr_find.model_copy(update={"start_lr": 1e-9, "end_lr": 1e-8})
    lr_find.run(settings.data, settings.augment, settings.model, too_low, settings.train, settings.compute)
    for given in ({}, {"lr_min": 0.01}):
        with pytest.raises(
            UserError, match=r"^the loss did not fall between .*; or give train\.lr_min and train\.lr_max"
        ):
            train.choose_rates(settings.train.model_copy(update=given))
    numbers = {"lr_min": 0.01, "lr_max": 0.1}
    assert vars(train.choose_rates(settings.train.model_copy(update=numbers))) == numbers
    evaluate.run(settings.data, settings.evaluate, settings.compute)
    assert {name for name, _ in Results({"lr_find": ()}, {}, has_other_settings=False, data_md5=None).values} == {
        "lr_find/lr",
        "lr_find/loss",
        "lr_find/smoothed_loss",
    }
    locations.LR_FOUND.unlink()  # no file is another case
    with pytest.raises(UserError, match="is missing: run `dvc repro lr_find`"):
        evaluate.run(settings.data, settings.evaluate, settings.compute)


@pytest.mark.parametrize("stage", UNTRACKED, ids=lambda stage: stage.__name__)
def test_settings_that_dvc_does_not_track_for_a_stage_do_not_change_its_outputs(
    stage: ModuleType, settings: Params
) -> None:
    name = stage.__name__.removeprefix("pipeline.")
    tracked = YAML(typ="safe", pure=True).load(PROJECT / "dvc.yaml")["stages"][name]["params"]
    sections = {section: getattr(settings, section) for section in inspect.signature(stage.run).parameters}
    keys = {
        f"{section}.{key}" for section, values in sections.items() if section not in tracked for key in vars(values)
    }
    changed = {f"{section}.{key}" for section, changes in UNTRACKED[stage].items() for key in changes}
    assert changed == keys - set(tracked)

    made = [Path(path) for path in defined_stages()[name].outs if Path(path).parent != locations.INPUTS]
    before = [path.read_bytes() for path in made]
    for section, changes in UNTRACKED[stage].items():
        sections[section] = type(sections[section]).model_validate(sections[section].model_dump() | changes)
    stage.run(**sections)
    assert [path.read_bytes() for path in made] == before


@pytest.fixture
def keep_signal_handlers() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.mark.usefixtures("keep_signal_handlers")
def test_a_stage_gets_the_sections_that_its_run_names(settings: Params) -> None:
    received: dict[str, object] = {}

    def run(model: CustomResNetParams, evaluate: EvaluateParams) -> None:
        received.update(model=model, evaluate=evaluate)

    main(run)
    assert received == {"model": settings.model, "evaluate": settings.evaluate}


@pytest.mark.usefixtures("keep_signal_handlers")
@pytest.mark.parametrize(
    ("error", "exit_message"),
    [
        (UserError("one thing\nand another"), "error: one thing\nerror: and another"),
        (KeyboardInterrupt(), "interrupted: start it again to continue"),
    ],
)
def test_an_error_that_users_can_correct_ends_a_stage_with_lines_of_text(
    error: BaseException, exit_message: str
) -> None:
    def run() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        main(run)
    assert exit_.value.code == exit_message


def test_bad_settings_end_a_stage_before_it_touches_anything(settings: Params, tmp_path: Path) -> None:
    overlay(locations.PARAMS, {"train": {"epochs": 0}}, tmp_path / "params.yaml")
    (tmp_path / "data").mkdir()
    environment = {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "pipeline.download"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.stderr == "error: params.yaml: train.epochs is 0; allowed: a whole number from 1 to 10000\n"
    assert (result.stdout, result.returncode) == ("", 1)
    assert not list((tmp_path / "data").iterdir())

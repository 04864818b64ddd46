"""`dvc repro` and `dvc exp run`, for real."""

import csv
import json
from pathlib import Path

import pytest
from support.real_repro import LOCK, all_runs, dvc, executed, wait_for
from support.settings import change

from image_classifier.project import locations
from image_classifier.tracking.publication import FILES


@pytest.mark.usefixtures("finished")
def test_a_second_repro_does_nothing() -> None:
    assert dvc("repro").splitlines()[-1] == "Data and pipelines are up to date."


@pytest.mark.usefixtures("finished")
def test_settings_that_change_no_result_run_nothing() -> None:
    change(runtime={"workers": 2, "checkpoint_steps": 1, "experiment": "another"})
    assert executed(dvc("repro")) == []


@pytest.mark.usefixtures("finished")
def test_another_gradcam_setting_runs_that_stage_alone() -> None:
    change(gradcam={"layer": "layer3"})
    assert executed(dvc("repro")) == ["gradcam_report"]


@pytest.mark.usefixtures("finished")
def test_an_experiment_with_another_seed_gives_another_model_and_appears_in_every_comparison() -> None:
    before = locations.MODEL.read_bytes()
    output = dvc("exp", "run", "--set-param", "train.seed=1", "--name", "other-seed", "train")
    assert executed(output) == ["train"]
    assert locations.MODEL.read_bytes() != before

    assert json.loads(dvc("params", "diff", "--json")) == {
        "params.yaml": {"train.seed": {"old": 0, "new": 1, "diff": 1}}
    }
    loss = json.loads(locations.TRAIN_METRICS.read_text())["test_loss"]
    shown = json.loads(dvc("metrics", "show", "--json"))[""]["data"]
    assert shown["reports/train/metrics.json"]["data"]["test_loss"] == loss
    rows = csv.DictReader(dvc("exp", "show", "--csv").splitlines())
    (experiment,) = (row for row in rows if row["Experiment"] == "other-seed")
    assert experiment["train.seed"] == "1"
    assert float(experiment["test_loss"]) == pytest.approx(loss)


@pytest.mark.usefixtures("finished")
def test_a_queued_sweep_two_at_a_time_gives_each_experiment_one_run_in_this_store() -> None:
    before = LOCK.read_bytes()
    dvc("exp", "run", "--queue", "--set-param", "train.seed=1,2", "evaluate")
    dvc("queue", "start", "--jobs", "2")
    try:
        wait_for(lambda: not {"Queued", "Running"} & set(dvc("queue", "status").split()))
    finally:
        dvc("queue", "stop", "--kill")
    queued = [run for run in all_runs(Path.cwd()) if "dvc_experiment" in run.data.tags]
    assert sorted(run.data.params["train.seed"] for run in queued) == ["1", "2"]
    assert {run.info.status for run in queued} == {"FINISHED"}
    assert all("evaluate/metrics.json" in run.data.tags[FILES] for run in queued)
    assert {run.data.tags["dvc_experiment"] for run in queued} == set(dvc("exp", "list", "--name-only").split())
    assert LOCK.read_bytes() == before

"""What this project adds to MLflow's pages: the columns of the table of runs, and the machine's load."""

import json
import re
import time
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from support.finished_pipeline import epochs, follow, ran

from image_classifier.project.definition import read_project
from image_classifier.project.params import Params
from image_classifier.tracking import live
from image_classifier.tracking.lookup import rows_of_runs
from image_classifier.tracking.publication import publish
from image_classifier.tracking.run_table import COLUMNS, SHARED_VIEW, page_of_runs
from image_classifier.tracking.store import open_store

LOAD = "system/cpu_utilization_percentage"


def test_the_page_opens_at_the_newest_runs_and_its_columns_exist(
    project: Path, tiny_params: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    publication = publish(read_project(), ran())
    capfd.readouterr()
    page = page_of_runs("without-runs")
    assert capfd.readouterr().err == (
        f"MLflow experiment without-runs has no runs; these are of {tiny_params.runtime.experiment}\n"
    )
    assert page == page_of_runs(tiny_params.runtime.experiment)
    assert not capfd.readouterr().err
    store = open_store(tiny_params.runtime.experiment)
    assert page.startswith(f"#/experiments/{store.experiment_id}/runs?")
    view = json.loads(store.client.get_experiment(store.experiment_id).tags[SHARED_VIEW])
    assert tuple(view["selectedColumns"]) == COLUMNS
    assert publication.run_id
    data = store.client.get_run(publication.run_id).data
    for column in COLUMNS:
        ((kind, name),) = re.findall(r"^(metrics|params)\.`(.+)`$", column)
        assert name in getattr(data, kind)


def test_the_table_shows_the_demos_runs_if_the_project_has_none(project: Path, tiny_params: Params) -> None:
    publish(read_project(), ran())
    rows = rows_of_runs(tiny_params)
    runtime = tiny_params.runtime.model_copy(update={"experiment": "without-runs"})
    assert len(rows) == 2
    assert rows_of_runs(tiny_params.model_copy(update={"runtime": runtime})) == rows


def test_the_machines_load_is_logged_into_the_one_run_of_a_training(
    project: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "SYSTEM_SECONDS", 0.01)
    store = open_store(tiny_params.runtime.experiment)
    with suppress(KeyboardInterrupt), follow() as first:
        assert first.target
        _wait_for_load(store.client, first.target[1])
        raise KeyboardInterrupt
    with follow() as second:  # it was interrupted before its first epoch ended, and starts again
        for epoch in epochs(2):
            second.log_epoch(epoch)
    publish(read_project(), ran())
    publish(read_project())
    (run,) = store.client.search_runs([store.experiment_id])
    assert first.target
    assert second.target
    assert run.info.run_id == first.target[1].info.run_id == second.target[1].info.run_id
    assert {LOAD, "system/system_memory_usage_megabytes", "evaluate/accuracy"} <= run.data.metrics.keys()
    assert "monitor" not in capsys.readouterr().err


def _wait_for_load(client: MlflowClient, run: Run) -> None:
    deadline = time.monotonic() + 30
    while LOAD not in client.get_run(run.info.run_id).data.metrics:
        assert time.monotonic() < deadline
        time.sleep(0.01)

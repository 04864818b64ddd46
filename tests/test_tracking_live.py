import multiprocessing
import os
import signal
import socket
import sqlite3
import sys
import time
from contextlib import suppress
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from mlflow.entities import Run
from support.finished_pipeline import epochs, follow

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.params import Params
from cifar_resnet.project import read_project
from cifar_resnet.tracking.live import LiveRun
from cifar_resnet.tracking.provenance import process_tags
from cifar_resnet.tracking.runs import TRAINING, close_dead_runs
from cifar_resnet.tracking.store import open_store
from pipeline.demo import overlay

fork = multiprocessing.get_context("fork")


def only_run(params: Params) -> Run:
    store = open_store(params.runtime.experiment)
    (run,) = store.client.search_runs([store.experiment_id])
    return run


def curve(params: Params, name: str) -> list[tuple[int, float]]:
    store = open_store(params.runtime.experiment)
    history = store.client.get_metric_history(only_run(params).info.run_id, name)
    return [(metric.step, metric.value) for metric in history]


def test_a_training_can_be_followed_while_it_lasts(project: Path, tiny_params: Params) -> None:
    with follow() as live:
        live.log_epoch(epochs(1)[0])
        run = only_run(tiny_params)
        assert run.info.status == "RUNNING"
        assert run.data.params["train.epochs"] == "2"
        assert run.data.metrics["epoch/train_loss"] == 2.0
        assert run.data.tags.items() >= process_tags().items()
        assert {"torch", "python", "device", TRAINING} <= run.data.tags.keys()
    assert only_run(tiny_params).info.status == "FINISHED"


def test_the_git_commit_and_dvc_experiment_are_noted(
    workspace: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "brave-fox")
    with follow():
        pass
    tags = only_run(tiny_params).data.tags
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert (tags["git_dirty"], tags["dvc_experiment"]) == ("false", "brave-fox")


def test_a_resumed_training_continues_its_run_and_logs_no_step_twice(project: Path, tiny_params: Params) -> None:
    first, second, third = epochs(3)
    with suppress(KeyboardInterrupt), follow() as live:
        live.log_epoch(first)
        live.log_epoch(second)
        raise KeyboardInterrupt
    interrupted = only_run(tiny_params)
    assert interrupted.info.status == "KILLED"
    with follow(first) as live:  # the last checkpoint was older than the last epoch logged
        live.log_epoch(second)
        live.log_epoch(third)
    assert only_run(tiny_params).info.run_id == interrupted.info.run_id
    assert curve(tiny_params, "epoch/test_loss") == [(1, 2.1), (2, 2.1 / 2), (3, 2.1 / 3)]


def test_a_training_killed_in_a_container_continues_its_run_in_another_container(
    project: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = epochs(2)
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "the-container-before")
        killed = LiveRun()
        now = read_project()
        killed.open(now, now.inputs("train"), [])
        killed.log_epoch(first)
    left = only_run(tiny_params)
    assert left.info.status == "RUNNING"
    assert close_dead_runs(open_store(tiny_params.runtime.experiment)) == []  # it may be another machine
    with follow(first) as live:
        live.log_epoch(second)
    assert (only_run(tiny_params).info.run_id, only_run(tiny_params).info.status) == (left.info.run_id, "FINISHED")


def test_a_training_killed_before_its_first_epoch_continues_its_run(project: Path, tiny_params: Params) -> None:
    with suppress(KeyboardInterrupt), follow():
        raise KeyboardInterrupt
    interrupted = only_run(tiny_params)
    with follow() as live:
        live.log_epoch(epochs(1)[0])
    assert only_run(tiny_params).info.run_id == interrupted.info.run_id


def test_a_training_resumed_with_another_setting_of_a_later_stage_shows_that(
    project: Path, tiny_params: Params
) -> None:
    with suppress(KeyboardInterrupt), follow() as live:
        live.log_epoch(epochs(1)[0])
        raise KeyboardInterrupt
    overlay(layout.PARAMS, {"gradcam": {"layer": "layer1"}}, layout.PARAMS)
    with follow(*epochs(1)) as live:
        live.log_epoch(epochs(2)[1])
    assert only_run(tiny_params).data.params["gradcam.layer"] == "layer1"
    assert len(curve(tiny_params, "epoch/test_loss")) == 2


def test_a_training_that_starts_over_replaces_its_unfinished_run(project: Path, tiny_params: Params) -> None:
    def train_and_fail() -> None:
        with follow() as live:
            live.log_epoch(epochs(1)[0])
            raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        train_and_fail()
    failed = only_run(tiny_params)
    assert failed.info.status == "FAILED"
    with follow():
        assert only_run(tiny_params).info.run_id != failed.info.run_id


def train_until_stopped(logged: Event) -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # as every stage does
    with follow() as live:
        live.log_epoch(epochs(1)[0])
        logged.set()
        time.sleep(60)


@pytest.mark.parametrize(
    ("number", "status_left"), [(signal.SIGTERM, "KILLED"), (signal.SIGINT, "KILLED"), (signal.SIGKILL, "RUNNING")]
)
def test_the_run_of_a_killed_training_is_closed_whatever_the_signal(
    number: signal.Signals, status_left: str, project: Path, tiny_params: Params
) -> None:
    logged = fork.Event()
    process = fork.Process(target=train_until_stopped, args=(logged,))
    process.start()
    assert logged.wait(30)
    store = open_store(tiny_params.runtime.experiment)
    assert close_dead_runs(store) == []  # it is alive
    assert process.pid
    os.kill(process.pid, number)
    process.join()
    assert only_run(tiny_params).info.status == status_left
    close_dead_runs(store)
    assert only_run(tiny_params).info.status == "KILLED"


def test_a_store_that_breaks_costs_one_line_and_no_epoch(
    project: Path, tiny_params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    with follow() as live:
        live.log_epoch(epochs(1)[0])
        for table in Path("mlruns").glob("mlflow.db*"):
            table.write_bytes(b"")
        for epoch in epochs(3):
            live.log_epoch(epoch)
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "pipeline.sync" in warning


def test_an_invalid_address_is_refused_before_the_training(
    project: Path, tiny_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    with pytest.raises(UserError, match="MLFLOW_TRACKING_URI"), follow():
        pytest.fail("trained")


def test_a_store_that_failed_and_works_again_shows_how_the_training_ended(
    project: Path, tiny_params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    database = sqlite3.connect("mlruns/mlflow.db", isolation_level=None)
    with follow() as live:
        database.execute(
            "CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
        live.log_epoch(epochs(1)[0])
        database.execute("DROP TRIGGER full")
    assert "database or disk is full" in capsys.readouterr().err
    assert only_run(tiny_params).info.status == "FINISHED"


def test_a_training_with_other_code_has_its_own_run_and_the_first_run_continues(
    project: Path, tiny_params: Params
) -> None:
    first, second, third = epochs(3)
    code = project / "pipeline" / "train.py"
    code.parent.mkdir()
    for text, logged in (("code A", [first, second]), ("code B", [first]), ("code A", [third])):
        code.write_text(text)
        finished = [first, second] if logged == [third] else []
        with suppress(KeyboardInterrupt), follow(*finished) as live:
            for epoch in logged:
                live.log_epoch(epoch)
            raise KeyboardInterrupt
    store = open_store(tiny_params.runtime.experiment)
    runs = store.client.search_runs([store.experiment_id], order_by=["attributes.start_time ASC"])
    assert [len(store.client.get_metric_history(run.info.run_id, "epoch/lr")) for run in runs] == [3, 1]

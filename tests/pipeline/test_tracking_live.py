import multiprocessing
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run
from support.finished_pipeline import epochs, follow, ran

from image_classifier.project import locations
from image_classifier.project.definition import read_project
from image_classifier.project.params import Params
from image_classifier.project.recipes import overlay
from image_classifier.system.errors import UserError
from image_classifier.tracking.live import LiveRun
from image_classifier.tracking.provenance import PID, PID_STARTED, is_dead, process_tags
from image_classifier.tracking.publication import publish
from image_classifier.tracking.runs import TRAINING, close_dead_runs
from image_classifier.tracking.store import open_store

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
    overlay(locations.PARAMS, {"gradcam": {"layer": "layer1"}}, locations.PARAMS)
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


def in_corrected_clock(check: str, seconds: int, tmp_path: Path) -> str:
    """What Python code prints where the kernel says that the machine was booted `seconds` later."""
    kernel = Path("/proc/stat").read_text()
    boot = re.search(r"^btime (\d+)$", kernel, re.MULTILINE)
    assert boot
    (tmp_path / "stat").write_text(kernel.replace(boot[0], f"btime {int(boot[1]) + seconds}"))
    script = 'mount --bind "$1" /proc/stat && exec "$2" -c "$3"'
    words = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(tmp_path / "stat"), sys.executable]
    done = subprocess.run([*words, f"import sys\nsys.path = {sys.path}\n{check}"], capture_output=True, text=True)
    if done.stderr.startswith(("unshare: ", "mount: ")):
        pytest.skip("this user may make no namespaces")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts from the boot")
def test_a_correction_of_the_clock_kills_no_run(project: Path, tmp_path: Path) -> None:
    """As a computer wakes, or gets its time from a server late."""
    tags = process_tags()
    check = f"from image_classifier.tracking.provenance import is_dead\nprint(is_dead({tags}))"
    assert in_corrected_clock(check, 60, tmp_path) == "False"
    before = tags | {PID_STARTED: f"{psutil.Process().create_time():.2f}"}  # as version 1.0 noted it
    assert not is_dead(before)
    assert is_dead(before | {PID_STARTED: "1000000000.00"})
    assert is_dead(tags | {PID_STARTED: f"{tags[PID_STARTED]}0"})  # another process with the same number


def test_a_process_that_is_a_zombie_is_dead(project: Path) -> None:
    tags = fork.SimpleQueue()
    process = fork.Process(target=lambda: tags.put(process_tags()))
    process.start()
    noted = tags.get()
    assert process.pid
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has taken its exit status
    assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
    assert is_dead(noted)
    process.join()
    assert is_dead(noted)


def test_no_run_ends_before_it_started(project: Path, tiny_params: Params) -> None:
    """The clock is set back by an hour while a training runs, and while a process is dead."""
    store = open_store(tiny_params.runtime.experiment)
    in_an_hour = int(1000 * time.time()) + 3_600_000
    for tags in ({}, process_tags() | {PID: "999999999"}):
        run = store.client.create_run(store.experiment_id, in_an_hour, tags=tags)
        if tags:
            close_dead_runs(store)
        else:
            LiveRun((store, run)).close("FINISHED")
        ended = store.client.get_run(run.info.run_id).info
        assert ended.status in ("FINISHED", "KILLED")
        assert ended.end_time == ended.start_time == in_an_hour


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


def hold_database(is_held: Event, seconds: float) -> None:
    database = sqlite3.connect("mlruns/mlflow.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    is_held.set()
    time.sleep(seconds)
    database.execute("ROLLBACK")


def test_a_writer_that_holds_the_database_costs_one_line_and_the_run_is_complete_in_the_end(
    project: Path, tiny_params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """SQLite waits for 20 s, then says that the database is locked."""
    first, second = epochs(2)
    is_held = fork.Event()
    with follow() as live:
        live.log_epoch(first)
        writer = fork.Process(target=hold_database, args=(is_held, 25))
        writer.start()
        assert is_held.wait(30)
        live.log_epoch(second)
        writer.join()
    (warning,) = capsys.readouterr().err.splitlines()
    assert "database is locked" in warning
    assert "pipeline.sync" in warning
    assert curve(tiny_params, "epoch/test_loss") == [(1, 2.1)]
    publish(read_project(), ran())  # as `pipeline.sync` does
    assert curve(tiny_params, "epoch/test_loss") == [(1, 2.1), (2, 1.05)]
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

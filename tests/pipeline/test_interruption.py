"""Real signals to a real `dvc repro`: nothing is lost, nothing is done twice, nothing differs in the end."""

import shutil
import signal
from pathlib import Path

import psutil
import pytest
from support.real_repro import LOCK, all_runs, dvc, executed, running_stage, send, start_repro, wait_for

from image_classifier.project import locations
from image_classifier.project.hashing import file_md5
from image_classifier.project.recipes import overlay

CHECKPOINT = "checkpoints/*/state.pt"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path.with_name(f"{tmp_path.name}.log")


def assert_one_finished_run(project: Path) -> None:
    (run,) = all_runs(project)
    assert run.info.status == "FINISHED"
    assert "evaluate/accuracy" in run.data.metrics


def interrupt(signal_: signal.Signals, target: str, *, when: str, log: Path) -> str:
    """Signal a `dvc repro` once a file like `when` is there; returns what it printed."""
    repro = start_repro(log)
    wait_for(lambda: list(Path.cwd().glob(when)))
    send(signal_, repro, target)
    assert repro.wait() != 0
    return log.read_text()


def test_a_pipeline_interrupted_in_every_stage_ends_as_if_it_had_not_been(
    workspace: Path, finished_project: Path, log: Path
) -> None:
    overlay(
        locations.PARAMS, {"runtime": {"checkpoint_steps": 5, "workers": 2}}, locations.PARAMS
    )  # both change no result

    interrupt(signal.SIGTERM, "stage", when="reports/lr_find/curve.csv", log=log)
    interrupt(signal.SIGKILL, "stage", when=CHECKPOINT, log=log)
    assert [run.info.status for run in all_runs(workspace)] == ["RUNNING"]  # no process is left that could end it
    resumed = interrupt(signal.SIGINT, "both", when="reports/evaluate/metrics.json", log=log)
    assert "continuing from the checkpoint after 0 epochs and 5 steps" in resumed
    interrupt(signal.SIGKILL, "dvc", when="reports/gradcam/gradcam.png", log=log)

    assert executed(dvc("repro")) == ["gradcam_report"]
    assert LOCK.read_bytes() == (finished_project / LOCK).read_bytes()
    assert_one_finished_run(workspace)


def test_a_training_whose_dvc_was_killed_refuses_a_second_one_and_loses_nothing(finished: Path, log: Path) -> None:
    uninterrupted, md5 = LOCK.read_bytes(), file_md5(locations.MODEL)
    for file in (locations.MODEL, Path(".dvc", "cache", "files", "md5", md5[:2], md5[2:])):
        file.unlink()  # train has to run again
    shutil.rmtree("checkpoints")
    overlay(locations.PARAMS, {"runtime": {"checkpoint_steps": 1}}, locations.PARAMS)

    repro = start_repro(log)
    orphan = wait_for(lambda: running_stage(repro))
    wait_for(lambda: list(Path.cwd().glob(CHECKPOINT)))
    repro.kill()
    repro.wait()  # a process that is stopped when its group loses its leader gets a SIGHUP
    orphan.suspend()  # so that it is still there when the second one comes
    with pytest.raises(AssertionError, match="error: another process is training here"):
        dvc("repro")
    orphan.resume()
    psutil.wait_procs([orphan])
    dvc("repro")
    assert LOCK.read_bytes() == uninterrupted
    assert_one_finished_run(finished)

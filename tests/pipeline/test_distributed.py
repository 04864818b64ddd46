"""Training in two processes that torchrun starts, for real."""

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.finished_pipeline import run_download, run_train, write_lock
from support.real_repro import all_runs, wait_for
from support.servers import free_port

from image_classifier.model.start_file import write_start
from image_classifier.outputs.history import read_history
from image_classifier.outputs.rates import FoundRates
from image_classifier.project import locations
from image_classifier.project.recipes import overlay


@pytest.fixture(autouse=True)
def ready_to_train(workspace: Path) -> None:
    """The workspace after the stages before train, with few and small steps: each multiplies rounding errors by ten.

    Muon trains the convolutions and SGD the rest: the processes share the gradients of both.
    """
    overlay(locations.PARAMS, {"train": {"batch_size": 512, "optimizer": "muon"}}, locations.PARAMS)
    run_download()
    write_start(locations.START, {})
    locations.LR_FOUND.parent.mkdir(parents=True)
    FoundRates(0.002, 0.02, "valley", {}).write_json(locations.LR_FOUND)
    write_lock("download", "lr_find")  # as if DVC had run them


def train_in_two_processes() -> psutil.Popen:
    overlay(locations.PARAMS, {"compute": {"processes": 2}, "runtime": {"checkpoint_steps": 2}}, locations.PARAMS)
    command = [*renamed_machine(), sys.executable, "-m", "pipeline.train"]
    return psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def renamed_machine() -> list[str]:
    """The start of a command that runs it on a machine with an unknown name, as in many containers."""
    if subprocess.run(["unshare", "--map-root-user", "--uts", "true"], capture_output=True).returncode:
        return []  # not allowed here
    rename = 'hostname no-such-host.invalid && exec "$0" "$@"'
    return ["unshare", "--map-root-user", "--uts", "sh", "-c", rename]


def worker(training: psutil.Popen, rank: int) -> psutil.Process:
    (found,) = (
        process
        for process in training.children(recursive=True)
        if process.cmdline()[-1] == "pipeline.train" and process.environ().get("RANK") == str(rank)
    )
    return found


def test_two_processes_learn_what_one_does_even_if_one_of_them_was_killed(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "7")  # as clusters set it for any process
    monkeypatch.setenv("WORLD_SIZE", "1")
    run_train()
    alone = read_history(locations.HISTORY)
    (first_checkpoint,) = workspace.glob("checkpoints/*/state.pt")

    training = train_in_two_processes()
    wait_for(lambda: set(workspace.glob("checkpoints/*/state.pt")) - {first_checkpoint})
    processes = training.children(recursive=True)
    worker(training, rank=1).send_signal(signal.SIGKILL)
    _, errors = training.communicate()
    assert training.returncode == 1
    assert errors.splitlines()[-1].startswith("error: one of the 2 training processes failed (torchrun ended with 1): ")
    assert not any(process.is_running() for process in processes)

    training = train_in_two_processes()
    output, errors = training.communicate()
    assert training.returncode == 0, errors
    assert "continuing from the checkpoint after 0 epochs and 2 steps" in output
    assert "FINISHED" in {run.info.status for run in all_runs(workspace)}
    for together, one in zip(read_history(locations.HISTORY), alone, strict=True):
        assert together.train_loss == pytest.approx(one.train_loss, rel=1e-3)
        assert together.held_out_loss == pytest.approx(one.held_out_loss, rel=1e-3)


def test_processes_find_each_other_where_nobody_knows_this_machines_name() -> None:
    """As in many containers, where torchrun alone would ask the network for ever."""
    renamed = ["unshare", "--map-root-user", "--uts", "sh", "-c", 'hostname no-such-name.invalid && exec "$0" "$@"']
    if subprocess.run([*renamed, "true"], capture_output=True).returncode:
        pytest.skip("this user may not give the machine another name")
    start = (
        "import pipeline; from image_classifier.model import distributed; distributed.run_in_processes('platform', 2)"
    )
    done = subprocess.run([*renamed, sys.executable, "-c", start], timeout=120, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2  # one line from each


def test_a_signal_to_the_stage_ends_all_its_processes(workspace: Path) -> None:
    overlay(locations.PARAMS, {"train": {"epochs": 1000}}, locations.PARAMS)
    training = train_in_two_processes()
    wait_for(lambda: list(workspace.glob("checkpoints/*/state.pt")))
    processes = training.children(recursive=True)
    training.send_signal(signal.SIGINT)
    training.wait()
    assert not [process for process in processes if is_alive(process)]


def test_the_command_for_several_machines_trains_once(workspace: Path) -> None:
    """Two launchers on this machine stand for two machines that see one folder."""
    launch = (
        "-m torch.distributed.run --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-id 1 "
        f"--rdzv-endpoint 127.0.0.1:{free_port()} -m pipeline.train"
    )
    command = [sys.executable, *launch.split()]
    machines = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    try:
        said = [machine.communicate(timeout=180)[0].decode() for machine in machines]
    finally:
        for machine in machines:
            machine.terminate()
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert sum("2 processes of 1 thread" in text for text in said) == 1
    assert len(read_history(locations.HISTORY)) == 2


def is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False

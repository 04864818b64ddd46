"""Where a run comes from: commit, DVC experiment, machine, versions."""

import getpass
import os
import platform
import socket
import subprocess
from importlib.metadata import version
from uuid import uuid4

import psutil  # type: ignore[import-untyped]

from cifar_resnet.layout import CHECKPOINTS

INPUTS = ("params.yaml", "dvc.yaml", "src", "pipeline")  # what a result depends on, and Git tracks
COMMIT = "mlflow.source.git.commit"  # MLflow's own name, which its UI shows
DIRTY = "git_dirty"
EXPERIMENT = "dvc_experiment"
BASELINE = "dvc_baseline"
HOST, PID, PID_STARTED = "host", "pid", "pid_started"
WORKSPACE = "workspace"


def git(*arguments: str) -> str | None:
    """What git prints, None if it fails or there is no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def code_tags() -> dict[str, str]:
    """The commit, whether code or settings differ from it, and the DVC experiment that runs, if one does."""
    tags = {}
    if commit := git("rev-parse", "--verify", "HEAD"):
        as_committed = git("status", "--porcelain", "--", *INPUTS) == "" and git("ls-files", "--", INPUTS[0])
        tags = {COMMIT: commit, DIRTY: "false" if as_committed else "true"}
    for tag, variable in ((EXPERIMENT, "DVC_EXP_NAME"), (BASELINE, "DVC_EXP_BASELINE_REV")):
        if value := os.environ.get(variable):
            tags[tag] = value
    return tags


def machine_tags(device: str) -> dict[str, str]:
    """Who runs this, on what and with which libraries; `device` is the setting of that name."""
    import torch  # here, because looking up runs needs none of it

    on_gpu = device != "cpu" and torch.cuda.is_available()
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": "dvc.yaml",
        HOST: socket.gethostname(),
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu ({platform.machine()})",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "dvc", "albumentations")},
    }


def process_tags() -> dict[str, str]:
    """This process, told apart from a later one with the same number, and the folder that it works in."""
    process = psutil.Process()
    return {
        HOST: socket.gethostname(),
        PID: str(process.pid),
        PID_STARTED: f"{process.create_time():.2f}",
        WORKSPACE: workspace_id(),
    }


def workspace_id() -> str:
    """This folder, told apart from copies of it by the inode, and the same in every container that mounts it."""
    path = CHECKPOINTS / "workspace.id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid4().hex)
    return f"{path.read_text()}-{path.stat().st_ino}"


def is_this_process(tags: dict[str, str]) -> bool:
    """Whether a run's tags name this very process."""
    return tags.get(PID) == str(os.getpid()) and tags.get(HOST) == socket.gethostname() and not is_dead(tags)


def is_dead(tags: dict[str, str]) -> bool:
    """Whether a run's tags name a process of this machine that is gone; of other machines nothing is known."""
    if tags.get(HOST) != socket.gethostname() or not {PID, PID_STARTED} <= tags.keys():
        return False
    try:
        started: float = psutil.Process(int(tags[PID])).create_time()
    except psutil.NoSuchProcess:
        return True
    return abs(started - float(tags[PID_STARTED])) > 2  # seconds; the clock may have been set meanwhile


def _user() -> str:
    """The user's name; in a container the user may have only a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())

"""Where a run comes from: commit, DVC experiment, machine, versions, process."""

import getpass
import os
import platform
import socket
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import psutil

from image_classifier.project.definition import LOCK, Project
from image_classifier.project.locations import CHECKPOINTS, PARAMS
from image_classifier.project.params import read_yaml
from image_classifier.project.settings import flat
from image_classifier.system.errors import UserError
from image_classifier.system.git import git

CODE = ("dvc.yaml", "src", "pipeline")
# Tags
COMMIT = "mlflow.source.git.commit"  # MLflow's own name, which its UI shows
DIRTY = "git_dirty"  # whether the code differed from the commit's
CHANGED = "changed_settings"  # the settings that differed from the commit's
RECONSTRUCTED = "reconstructed"  # made from dvc.lock and the files, not by the stages when they ran
EXPERIMENT = "dvc_experiment"
BASELINE = "dvc_baseline"  # the commit that the experiment started from
HOST, PID, PID_STARTED = "host", "mlflow.pipeline.pid", "mlflow.pipeline.pid_started"
WORKSPACE = "mlflow.pipeline.workspace"
MAX_TAG_CHARACTERS = 5000  # MLflow's limit


def code_tags(project: Project) -> dict[str, str]:
    """The commit, how code and settings differ from it, and the running DVC experiment, if there is one."""
    variables = {EXPERIMENT: "DVC_EXP_NAME", BASELINE: "DVC_EXP_BASELINE_REV"}
    tags = {tag: os.environ[variable] for tag, variable in variables.items() if os.environ.get(variable)}
    if commit := git("rev-parse", "--verify", "HEAD"):
        changed = ", ".join(changed_settings(project, commit))[:MAX_TAG_CHARACTERS]
        tags |= {COMMIT: commit, DIRTY: "false" if _status(*CODE) == "" else "true", CHANGED: changed}
    return tags


def changed_settings(project: Project, commit: str) -> list[str]:
    """The tracked settings that differ from a commit's, as NAME=VALUE with the current values."""
    # In a folder that Git ignores, such as the demo's, compare with the settings of the whole project.
    text = git("show", f"{commit}:./{PARAMS}") or git("show", f"{commit}:{PARAMS}") or "{}"
    try:
        committed = flat(read_yaml(text, PARAMS.name))
    except (AttributeError, UserError):  # the committed file is no valid params.yaml
        committed = {}
    return [f"{name}={value}" for name, value in project.tracked.items() if committed.get(name) != value]


def have_same_code(commit: str, other: str) -> bool:
    """Whether two commits have the same code; False if one of them is not in this repository."""
    return _ask("diff", "--quiet", commit, other, "--", *CODE) is not None


def is_code_on_disk(commit: str) -> bool:
    """Whether the files of this folder have a commit's code."""
    return have_same_code(commit, "HEAD") and _status(*CODE) == ""


def _status(*paths: str) -> str | None:
    """Git's list of changes and new files."""
    return _ask("status", "--porcelain", "--", *paths)


def _ask(*arguments: str) -> str | None:
    """Ask Git; a folder that Git ignores, like the demo's, is compared as the project."""
    top: tuple[str, ...] = ()
    if not git("ls-files", "--", PARAMS.name):
        top = ("--no-optional-locks", "--git-dir", git("rev-parse", "--absolute-git-dir") or "", "--work-tree", ".")
    return git(*top, *arguments)


def reconstruction_tags() -> tuple[dict[str, str], int]:
    """Tags for results that no run followed: the commit that recorded dvc.lock; and its time, in ms since 1970."""
    if _status(LOCK.name) == "" and (found := git("log", "-1", "--format=%H %ct", "--", LOCK.name)):
        commit, seconds = found.split()
        return {RECONSTRUCTED: "true", COMMIT: commit}, 1000 * int(seconds)
    return {RECONSTRUCTED: "true"}, int(1000 * LOCK.stat().st_mtime)


def machine_tags(device: str) -> dict[str, str]:
    """The user, the machine and the versions of libraries; `device` is the setting of that name."""
    import torch  # here, because looking up runs does not need it

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have only a number
        user = str(os.getuid())
    on_gpu = device != "cpu" and torch.cuda.is_available()
    return {
        "mlflow.user": user,
        "mlflow.source.name": "dvc.yaml",
        HOST: socket.gethostname(),
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu ({platform.machine()})",
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "dvc", "albumentations")},
    }


def process_tags() -> dict[str, str]:
    """This process and its folder. The start tells the process apart from a later one with the same number."""
    pid = os.getpid()
    return {HOST: socket.gethostname(), PID: str(pid), PID_STARTED: _start(pid) or "", WORKSPACE: workspace_id()}


def workspace_id() -> str:
    """An identifier of this folder: its inode tells it apart from copies, and is the same in all containers."""
    path = CHECKPOINTS / "workspace.id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid4().hex)
    return f"{path.read_text()}-{path.stat().st_ino}"


def is_this_process(tags: dict[str, str]) -> bool:
    """Whether a run's tags name this process."""
    return tags.get(PID) == str(os.getpid()) and tags.get(HOST) == socket.gethostname() and not is_dead(tags)


def is_dead(tags: dict[str, str]) -> bool:
    """Whether a run's tags name a process of this machine that is gone; False for other machines."""
    if tags.get(HOST) != socket.gethostname() or not {PID, PID_STARTED} <= tags.keys():
        return False
    pid, started = int(tags[PID]), tags[PID_STARTED]
    if (start := _start(pid)) is None:
        return True
    with suppress(ValueError, psutil.NoSuchProcess):  # seconds since 1970: on macOS, and in runs of version 1.0
        since_1970: float = psutil.Process(pid).create_time()
        return abs(since_1970 - float(started)) > 2
    return start != started


def _start(pid: int) -> str | None:
    """What tells a process apart from all others with its number; None if it is gone, or a zombie.

    On Linux this is the boot, and the ticks from then on, which no correction of the clock changes.
    """
    try:
        if sys.platform == "linux":
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # after the program's name
            return None if fields[0] in (b"Z", b"X") else f"{boot} {int(fields[19])}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None

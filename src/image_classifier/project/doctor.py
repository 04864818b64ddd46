"""Checks this machine and this folder for what would stop or spoil a run; each check looks at one thing.

Nothing here imports PyTorch or MLflow, so that all checks together take less than a second.
"""

import fcntl
import getpass
import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import tomllib
from configparser import ConfigParser
from contextlib import closing, suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from image_classifier.project.definition import Project
from image_classifier.project.locations import CHECKPOINTS, DATA, MODEL, REPORTS, project_root
from image_classifier.project.params import ComputeParams
from image_classifier.project.store_location import SQLITE, tracking_uri
from image_classifier.system.errors import UserError, masked
from image_classifier.system.git import git

NEEDED_GB = 2  # CIFAR-10's archive, arrays and DVC's copy of them, four checkpoints, the model, an MLflow run: 1.2 GB
PORTS = {"http": 80, "https": 443, "mysql": 3306, "mssql": 1433, "postgresql": 5432}
GIT_REMEDIES = {  # what to do if a command fails
    "--version": "the program `git` is missing: install it",
    "rev-parse --git-dir": "Git ignores the folder of another user: `git config --global --add safe.directory {}`",
    "rev-parse HEAD": "Git has no commit, and experiments need one: `git add -A && git commit -m Start`",
    "var GIT_COMMITTER_IDENT": "Git needs a name for experiments: `git config --global user.name ME`, and user.email",
}


class Finding(NamedTuple):
    """What a check found, with the remedy; an error certainly stops a run or loses its results."""

    level: Literal["ok", "warning", "error"]
    text: str


ok, warning, error = partial(Finding, "ok"), partial(Finding, "warning"), partial(Finding, "error")


def examine(project: Project) -> list[Finding]:
    """Make all checks."""
    checks = (python_and_packages, user_name, git_repository, git_history, unknown_modules, disk_space, store)
    more = (file_locks, links, pictures)
    return [*(check() for check in checks), *(check(project) for check in more), device(project.params.compute)]


def require_lasting_results(project: Project) -> None:
    """Raise a UserError if DVC would refuse the results of a stage, or lose them with an experiment's copy."""
    in_copy = Path.cwd().resolve() != project_root()
    for finding in (links(project), new_files(project), *([git_history()] if in_copy else [])):
        if finding.level != "ok":
            raise UserError(finding.text)


def python_and_packages() -> Finding:
    """Compare versions with pyproject.toml and requirements.txt; what the packages depend on is not checked."""
    asked_file, pins = Path("pyproject.toml"), Path("requirements.txt")
    if not (asked_file.exists() and pins.exists()):
        return warning(f"versions are not compared: `git checkout {asked_file} {pins}`")
    asked = tomllib.loads(asked_file.read_text(encoding="utf-8"))["project"]
    here = ".".join(map(str, sys.version_info[:3]))
    if here not in SpecifierSet(asked["requires-python"]):
        return error(f"Python {here}; {asked['requires-python']} is needed: delete .venv, and `make` uses another")
    lines = (line.partition("#")[0].strip() for line in pins.read_text(encoding="utf-8").splitlines())
    of_any_python = [Requirement(line) for line in lines if line]
    of_this_one = [pin for pin in of_any_python if not pin.marker or pin.marker.evaluate()]
    pinned = {canonicalize_name(pin.name): pin.specifier for pin in of_this_one}
    names = [canonicalize_name(Requirement(line).name) for line in asked["dependencies"]]
    try:
        found = {name: version(name) for name in names}
    except PackageNotFoundError as missing:
        return error(f"{missing.name} is not installed for {sys.executable}: `pip install -r requirements.txt`")
    if others := [f"{name} {found[name]}" for name in found if name not in pinned or found[name] not in pinned[name]]:
        return warning(f"{', '.join(others)}: not the versions of requirements.txt; `pip install -r requirements.txt`")
    return ok(f"Python {here}, packages as in requirements.txt")


def user_name() -> Finding:
    """A container may run as a user id that its system does not know."""
    try:
        return ok(f"user {getpass.getuser()}")
    except (KeyError, OSError):
        return error(f"user id {os.getuid()} has no name here, and DVC asks for it: `export USER=me`")


def git_repository() -> Finding:
    """Whether DVC and the records of runs can use Git."""
    if works_without_git():
        if has_git():
            return warning("DVC is set to ignore the Git repository here: `dvc config --local --unset core.no_scm`")
        return ok("no Git repository: DVC works without one, except for its experiments")
    if not has_git():
        return error(
            "no Git repository here (from a ZIP file, or copied?): `git init && git add -A && git commit -m Start`; or "
            "`dvc config --local core.no_scm true`, to work without one"
        )
    for command in GIT_REMEDIES:
        if git(*command.split()) is None:
            return warning(_git_remedy(command))
    return ok(f"Git commit {git('rev-parse', '--short', 'HEAD')}")


def git_refusal() -> str | None:
    """What to do if there is a Git repository, but Git is missing or refuses it; None if Git answers."""
    needed = ("--version", "rev-parse --git-dir") if has_git() else ()
    return next((_git_remedy(command) for command in needed if git(*command.split()) is None), None)


def _git_remedy(command: str) -> str:
    return GIT_REMEDIES[command].format(_git_folder())


def git_history() -> Finding:
    """DVC cannot push an experiment to a shallow repository: it deletes the results, without a message."""
    if git("-C", str(project_root()), "rev-parse", "--is-shallow-repository") == "true":
        return warning("a shallow clone: `dvc exp run --temp` and `--queue` lose results: `git fetch --unshallow`")
    return ok("no shallow clone")


def unknown_modules() -> Finding:
    """Modules that Git does not know: experiments that run in copies of the project lack them."""
    others = ("ls-files", "--others", "--exclude-standard", "src/*.py", "pipeline/*.py")
    if found := git("-C", str(project_root()), *others):
        names = found.splitlines()  # all modules, before the first commit
        listed = ", ".join(names if len(names) < 4 else [*names[:3], f"{len(names) - 3} more"])
        return warning(f"Git does not know {listed}, so `dvc exp run --temp` and `--queue` lack it: `git add` it")
    return ok("no module that Git does not know")


def links(project: Project) -> Finding:
    """DVC refuses an output outside the Git repository, but only at the end of the stage."""
    folders = {folder for stage in project.stages.values() for out in stage.outs for folder in Path(out).parents}
    for folder in [] if works_without_git() else sorted(folders):
        if folder.is_symlink() and not folder.resolve().is_relative_to(Path.cwd().resolve()):
            return error(
                f"{folder} is a link to {folder.resolve()}, and DVC takes no outputs from outside the project: make it "
                "a folder, and keep DVC's cache there: `dvc cache dir --local FOLDER && dvc config --local cache.type "
                "symlink,copy`, and after a run `dvc checkout --relink`"
            )
    return ok("outputs are inside of the project")


def pictures(project: Project) -> Finding:
    """Whether DVC can hash the folder of pictures, and copy it for experiments."""
    folder = Path(project.params.data.folder)
    if folder.parts[:1] == ("~",):
        return error(f"data.folder is {str(folder)!r}, and DVC does not know ~: write {folder.expanduser()}")
    if not folder.is_dir():
        return error(f"data.folder is {str(folder)!r}, and there is no such folder: make it, or name another one")
    outs = {out: Path(out).resolve() for stage in project.stages.values() for out in stage.outs}
    for out, path in outs.items():
        if path.is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(path):
            return error(f"data.folder is {str(folder)!r}, and a stage writes {out}: name a folder of pictures alone")
    if project.params.data.dataset != "folder":
        return ok("no pictures of your own are used")
    for path in folder.rglob("*"):
        if os.fsencode(path).decode(errors="ignore") != str(path):
            return error(f"{str(path)!r} has a name that is not in UTF-8, which DVC needs: rename it")
    others = git("ls-files", "--others", "--", str(folder)) or ""  # with those that a .gitignore names
    if others and not folder.with_name(f"{folder.name}.dvc").exists():
        return warning(
            f"Git does not have {len(others.splitlines()):,} files in {folder}, so `dvc exp run --temp` and `--queue` "
            f"lack them: `dvc add {folder}`; for `images` after `git rm --cached images/.gitignore`"
        )
    return ok(f"pictures in {folder}")


def new_files(project: Project) -> Finding:
    """After a run as root, this user may not write to some folders, and DVC would fail only after the training."""
    dvc = project_root() / ".dvc"
    made = (CHECKPOINTS, DATA / project.params.data.dataset, MODEL.parent, REPORTS, dvc / "cache")
    inside = (Path(folder) for top in made for folder, _, _ in os.walk(top))
    for folder in (Path.cwd(), DATA, dvc, dvc / "tmp", *inside):  # below tmp, other experiments may be running
        try:
            with suppress(FileNotFoundError):  # not there yet, or removed by another process
                tempfile.TemporaryFile(dir=folder).close()
        except OSError as failed:
            return error(
                f"no file can be made in {folder.resolve()} ({failed.strerror}): make room, or correct the "
                "permissions, as by `sudo chown -R $USER .` after a run by root"
            )
    return ok("files can be made")


def file_locks(project: Project) -> Finding:
    """The locks of DVC, filelock and SQLite, which some network file systems lack."""
    if (found := new_files(project)).level == "error":
        return found
    try:
        with tempfile.TemporaryFile(dir=CHECKPOINTS if CHECKPOINTS.exists() else Path.cwd()) as file:
            for lock in (fcntl.flock, fcntl.lockf):
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as failed:
        return warning(
            f"files cannot be locked here ({failed.strerror}; NFS?): `rm -f .dvc/tmp/*lock && dvc config --local "
            "core.hardlink_lock true`, MLflow's store on a local disk (`export MLFLOW_TRACKING_URI=sqlite:////"
            "FOLDER/mlflow.db`), and one command at a time"
        )
    return ok("files can be locked")


def disk_space() -> Finding:
    """Free space for the project, and for its largest parts, which may be links to other disks."""
    folders = [path for path in (Path.cwd(), project_root() / ".dvc" / "cache", Path("mlruns")) if path.exists()]
    free, folder = min((shutil.disk_usage(path).free / 1e9, path.resolve()) for path in folders)
    if free < NEEDED_GB:
        return warning(f"{free:.1f} GB free at {folder}, and a run may take {NEEDED_GB}: make room, or `dvc cache dir`")
    return ok(f"{free:.0f} GB free at {folder}")


def device(compute: ComputeParams) -> Finding:
    """Compare `compute` with the hardware that Linux reports. Stage lr_find prints what PyTorch uses."""
    gpus, cpu = list(Path("/proc/driver/nvidia/gpus").glob("*")), Path("/proc/cpuinfo")
    if compute.device == "cuda" and cpu.exists() and not gpus:
        return error("compute.device is cuda, and there is no NVIDIA GPU with its driver: set it to auto or cpu")
    on_cpu = not gpus or compute.device == "cpu"
    precision = compute.precision
    if on_cpu and precision in ("bf16", "fp16") and cpu.exists() and f"_{precision}" not in cpu.read_text():
        return warning(f"compute.precision is {precision}, which this CPU has to emulate, slowly: set it to auto")
    return ok(f"{os.cpu_count()} CPU cores, {len(gpus)} NVIDIA GPUs")


def store() -> Finding:
    """Whether the MLflow store can be written to, or its server reached."""
    uri = tracking_uri()
    try:
        if uri.startswith(SQLITE) and (path := Path(uri.removeprefix(SQLITE))).exists():
            with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0.5)) as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("CREATE TABLE written (never)")  # undone; BEGIN also works on a read-only file
        elif (address := urlsplit(uri)).hostname:
            port = address.port or PORTS[address.scheme.partition("+")[0]]
            socket.create_connection((address.hostname, port), timeout=1).close()
    except (OSError, ValueError, sqlite3.Error) as failed:
        return warning(
            f"the MLflow store {masked(uri)} does not answer ({failed}): stages continue without it, and `python -m "
            "pipeline.sync` publishes their results later"
        )
    return ok(f"MLflow store {masked(uri)}")


def has_git() -> bool:
    """Whether this folder is in a Git repository; `git` itself may refuse to use it."""
    return _git_folder() is not None


def _git_folder() -> Path | None:
    return next((folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / ".git").exists()), None)


def works_without_git() -> bool:
    """Whether DVC is set to ignore Git."""
    config = ConfigParser()
    config.read([project_root() / ".dvc" / "config", project_root() / ".dvc" / "config.local"], encoding="utf-8")
    return config.getboolean("core", "no_scm", fallback=False)

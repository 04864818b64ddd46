"""Reads what a run predicted: from disk, from Git and DVC's cache, or from the artifacts of an MLflow run."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from image_classifier.data import Images
from image_classifier.evaluation.predictions import Evaluation, read_predictions
from image_classifier.outputs.history import EpochMetrics, read_history
from image_classifier.project import locations
from image_classifier.project.definition import LOCK, parse_lock, settings_behind
from image_classifier.project.hashing import file_md5
from image_classifier.project.keys import state_key
from image_classifier.project.params import Params
from image_classifier.system.errors import UserError
from image_classifier.system.git import dvc_experiments, git
from image_classifier.tracking.provenance import CODE, COMMIT, DIRTY

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

    from image_classifier.model.network import Network  # PyTorch: 2 s

WORKSPACE = "workspace"
REMOTE = re.compile(r"(?:\w+://)?(?:[^@/]*@)?(\w[\w-]*(?:\.[\w-]+)+)(?::\d+(?=/))?[:/](.+?)(?:\.git)?/?")  # site, path
FILES = (
    locations.PREDICTIONS,
    locations.HISTORY,
    locations.TRAIN_METRICS,
)  # what a comparison reads of a run


@dataclass(frozen=True)
class ComparedRun:
    """A run: its predictions for the test set, and what they depend on."""

    name: str  # as the user gave it
    evaluation: Evaluation
    history: list[EpochMetrics]
    settings: Mapping[str, str]  # all that shape results, by dotted name
    commit: str | None
    edited: bool  # code or settings may differ from that commit
    data_md5: str | None  # of the data set's folder
    model_md5: str | None
    state: str  # the key by which its MLflow run is found


def read_run(word: str, params: Params) -> ComparedRun:
    """The run that `word` means: the workspace, a Git revision, a DVC experiment, or else an MLflow run.

    A UserError if there is no such run, or its predictions cannot be read.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        found = _from_dvc(word, folder) or _from_mlflow(word, params, folder)
        used = json.loads((folder / locations.TRAIN_METRICS).read_text(encoding="utf-8"))
        state = state_key(found["settings"], found["model_md5"] or "")
        settings = {key: str(value) for key, value in found.pop("settings").items()}
        for rate in ("lr_min", "lr_max"):
            if settings.get(f"train.{rate}") == "find":
                settings[f"train.{rate}"] = f"find: {used[rate]:.4g}"
        evaluation, history = read_predictions(folder / locations.PREDICTIONS), read_history(folder / locations.HISTORY)
        return ComparedRun(word, evaluation, history, settings, state=state, **found)


def read_group(name: str, params: Params) -> dict[int, ComparedRun]:
    """The runs of the DVC experiments NAME-seed0 and so on, by seed; raises what `read_run` does."""
    matches = (re.fullmatch(rf"{re.escape(name)}-seed(\d+)", experiment) for experiment in dvc_experiments())
    members = {int(match[1]): match[0] for match in matches if match}
    return {seed: read_run(members[seed], params) for seed in sorted(members)}


def describe_code(first: ComparedRun, other: ComparedRun) -> str:
    """How the code of two runs differs, with the command that shows it."""
    if not (first.commit and other.commit):
        return "The commit of one of them is not known."
    ends = [first.commit[:8], *([] if other.edited else [other.commit[:8]])]
    changed = git("diff", "--name-only", *ends, "--", *CODE)
    if changed is None:
        return f"Commit {first.commit[:8]} or {other.commit[:8]} is not in this clone: `git fetch` may bring it."
    code = ", ".join(CODE)
    if not git("ls-files", "--", *CODE):  # as in the demo's folder
        return f"Git does not have the code ({code}) of this folder, so nobody knows whether it differs."
    if not changed:
        return f"The same code ({code}), in commits {first.commit[:8]} and {other.commit[:8]}."
    commits = git("rev-list", "--count", f"{first.commit}..{other.commit}")
    return (
        f"Files that differ: {len(changed.splitlines())}, `git diff {' '.join(ends)} -- {' '.join(CODE)}`. Commits "
        f"from {first.commit[:8]} to {other.commit[:8]}: {commits}, `git log {first.commit[:8]}..{other.commit[:8]}`."
    )


def code_address(first: ComparedRun, other: ComparedRun) -> str | None:
    """The page of the Git remote's site with the changes between the commits of two runs; None if there is none."""
    remote = REMOTE.fullmatch(git("remote", "get-url", "origin") or "")
    if not (remote and first.commit and other.commit) or first.commit == other.commit:
        return None
    return f"https://{remote[1]}/{remote[2]}/{'-/' * ('gitlab' in remote[1])}compare/{first.commit}...{other.commit}"


def read_net(run: ComparedRun) -> "Network":
    """The network of a run; a UserError if its weights are not in DVC's cache."""
    from image_classifier.model.model_file import load_model  # PyTorch: 2 s

    return load_model(_cached(run.model_md5, "weights")).net


def read_test_images(runs: Sequence[ComparedRun]) -> Images:
    """The test images (N, height, width, 3); a UserError if the data sets of the runs differ or are not cached."""
    if len({run.data_md5 for run in runs}) > 1:
        raise UserError("the data sets of the runs differ")
    listed = json.loads(_cached(runs[0].data_md5, "test images").read_bytes())
    md5 = next(file["md5"] for file in listed if file["relpath"] == "test_images.npy")
    images: Images = np.load(_cached(md5, "test images"), mmap_mode="r", allow_pickle=False)
    return images


def _cached(md5: str | None, what: str) -> Path:
    """The path in DVC's cache of the file with this MD5; for a folder, of the list of its files."""
    from dvc.repo import Repo  # 1 s

    path = Path(Repo().cache.local.oid_to_path(md5)) if md5 else None
    if not (path and path.is_file()):
        raise UserError(f"the {what} are not in DVC's cache: `dvc fetch --all-commits` gets them from a DVC remote")
    return path


def _from_dvc(word: str, folder: Path) -> dict[str, Any] | None:
    """What the workspace or a commit records of a run; None if `word` is no commit. Its files go to `folder`."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo  # 1 s
    from dvc.scm import SCMError

    if git("rev-parse", "--verify", word) and not git("rev-parse", "--verify", f"{word}^{{commit}}"):
        raise UserError(f"{word} is a file or folder in Git, not a commit: give a commit, a branch or an experiment")
    try:
        repo = Repo()
        if word == WORKSPACE:
            return {"commit": git("rev-parse", "HEAD"), "edited": True, **_read_files(word, repo.dvcfs, folder)}
        with repo.switch(word) as commit:  # to this project's folder in the commit, also if it is not Git's top folder
            return {"commit": commit, "edited": False, **_read_files(word, repo.dvcfs, folder)}
    except SCMError:  # no such commit, or no Git
        return None
    except NotDvcRepoError:
        raise _not_recorded(word) from None


def _not_recorded(word: str) -> UserError:
    return UserError(f"{word} has no {LOCK}: run `dvc repro`, and commit {LOCK}")


def _read_files(word: str, files: "DVCFileSystem", folder: Path) -> dict[str, Any]:
    """Copy FILES of a run to `folder`; returns its settings, and the MD5s of its data and weights, from `dvc.lock`."""
    try:
        stages = parse_lock(files.read_text(LOCK.as_posix(), encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        raise _not_recorded(word) from None
    outs = {path: md5 for record in stages.values() for path, md5 in record.outs.items()}
    model = locations.MODEL.as_posix()
    if "evaluate" not in stages or stages["evaluate"].inputs.files.get(model) != outs.get(model):
        raise UserError(f"{word}: stage evaluate has not run since the last training: run `dvc repro`")
    for path in FILES:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get_file(path.as_posix(), str(folder / path))
        except FileNotFoundError:
            if word == WORKSPACE:
                remedy = "is missing: get it with `dvc checkout` or `dvc pull`, or make it with `dvc repro`"
            else:
                remedy = (
                    f"of {word} is not in DVC's cache: run `dvc push` where it was made, then here `dvc fetch "
                    f"--all-commits`, or for an experiment `dvc exp pull REMOTE {word}`"
                )
            raise UserError(f"{path} {remedy}") from None
        if word == WORKSPACE and file_md5(folder / path) != outs[path.as_posix()]:
            raise UserError(f"{path} is not what {LOCK} records: run `dvc repro`, or `dvc checkout` to get it back")
    settings = {name: value for record in stages.values() for name, value in record.inputs.settings.items()}
    settings |= settings_behind("evaluate", stages)  # a later stage may not have run since they changed
    return {
        "settings": settings,
        "data_md5": outs.get((locations.DATA / settings["data.dataset"]).as_posix()),
        "model_md5": outs[model],
    }


def _from_mlflow(word: str, params: Params, folder: Path) -> dict[str, Any]:
    from image_classifier.tracking.lookup import download_run  # 2 s
    from image_classifier.tracking.runs import MODEL

    artifacts = [path.relative_to(locations.REPORTS).as_posix() for path in FILES]
    run = download_run(params, word, artifacts, folder / locations.REPORTS)
    datasets = run.inputs.dataset_inputs if run.inputs else []
    return {
        "settings": run.data.params,
        "commit": run.data.tags.get(COMMIT),
        "edited": run.data.tags.get(DIRTY) == "true",
        "data_md5": f"{datasets[0].dataset.digest}.dir" if datasets else None,
        "model_md5": run.data.tags.get(MODEL),
    }

"""What runs predicted, where it is: on disk, in Git and DVC's cache, or among the artifacts of an MLflow run."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from cifar_resnet import layout
from cifar_resnet.data import Images
from cifar_resnet.errors import UserError
from cifar_resnet.evaluation import Evaluation, read_predictions
from cifar_resnet.git import git
from cifar_resnet.history import EpochMetrics, read_history
from cifar_resnet.params import Params
from cifar_resnet.project import LOCK, file_md5, parse_lock
from cifar_resnet.tracking.provenance import CODE

if TYPE_CHECKING:
    from cifar_resnet.networks.base import Network  # PyTorch: 2 s

WORKSPACE = "workspace"
REMOTE = re.compile(r"(?:\w+://)?(?:[^@/]*@)?(\w[\w-]*(?:\.[\w-]+)+)(?::\d+(?=/))?[:/](.+?)(?:\.git)?/?")  # site, path
FILES = (layout.PREDICTIONS, layout.HISTORY, layout.TRAIN_METRICS)  # that a comparison needs of a run


@dataclass(frozen=True)
class ComparedRun:
    """What one run predicted for the test set, and what that came of."""

    name: str  # as it was asked for
    evaluation: Evaluation
    history: list[EpochMetrics]
    settings: Mapping[str, str]  # all that shape results, by dotted name
    commit: str | None
    edited: bool  # code or settings may differ from that commit
    data_md5: str | None  # of the data set's folder
    model_md5: str | None


def read_run(word: str, params: Params) -> ComparedRun:
    """The run that `word` means: the workspace, a Git revision, a DVC experiment or, if there is none, one in MLflow.

    Raises:
        UserError: there is none, or what it predicted is not at hand.
    """
    with TemporaryDirectory() as folder:
        return _read_from_dvc(word, Path(folder)) or _read_from_mlflow(word, params, Path(folder))


def experiment_names() -> list[str]:
    """The DVC experiments of this project, of every commit."""
    refs = git("for-each-ref", "--format=%(refname)", "refs/exps") or ""
    return [ref.rpartition("/")[2] for ref in refs.splitlines()]


def find_group(name: str) -> dict[int, str]:
    """The DVC experiments NAME-seed0, NAME-seed1 and so on that exist, by seed."""
    named = [re.fullmatch(rf"{re.escape(name)}-seed(\d+)", experiment) for experiment in experiment_names()]
    return {int(match[1]): match[0] for match in sorted(filter(None, named), key=lambda match: int(match[1]))}


def read_group(name: str, params: Params) -> dict[int, ComparedRun]:
    """The runs of a group of seeds, by seed; none if there is no such group.

    Raises:
        UserError: what one predicted is not at hand.
    """
    return {seed: read_run(experiment, params) for seed, experiment in find_group(name).items()}


def describe_code(first: ComparedRun, other: ComparedRun) -> str:
    """How the code of two runs differs, with the command that shows it."""
    if not (first.commit and other.commit):
        return "The commit of one of them is not known."
    ends = [first.commit[:8], *([] if other.edited else [other.commit[:8]])]
    changed = git("diff", "--name-only", *ends, "--", *CODE)
    if changed is None:
        return f"Commit {first.commit[:8]} or {other.commit[:8]} is not in this clone: `git fetch` may bring it."
    code = ", ".join(CODE)
    if not changed:
        return f"The same code ({code}), in commits {first.commit[:8]} and {other.commit[:8]}."
    commits = git("rev-list", "--count", f"{first.commit}..{other.commit}")
    return (
        f"{len(changed.splitlines())} files of code differ: `git diff {' '.join(ends)} -- {' '.join(CODE)}`. Commits "
        f"from {first.commit[:8]} to {other.commit[:8]}: {commits}, `git log {first.commit[:8]}..{other.commit[:8]}`."
    )


def code_address(first: ComparedRun, other: ComparedRun) -> str | None:
    """Where the site of the Git remote shows what changed between the commits of two runs."""
    remote = REMOTE.fullmatch(git("remote", "get-url", "origin") or "")
    if not (remote and first.commit and other.commit) or first.commit == other.commit:
        return None
    return f"https://{remote[1]}/{remote[2]}/{'-/' * ('gitlab' in remote[1])}compare/{first.commit}...{other.commit}"


def read_net(run: ComparedRun) -> "Network":
    """The network of a run.

    Raises:
        UserError: its weights are not in DVC's cache.
    """
    from cifar_resnet.model_file import load_model  # PyTorch: 2 s

    return load_model(_cached(run.model_md5, "weights")).net


def read_test_images(runs: Sequence[ComparedRun]) -> Images:
    """The images (N, height, width, 3) that runs were tested on.

    Raises:
        UserError: they were not tested on the same data set, or it is not in DVC's cache.
    """
    if len({run.data_md5 for run in runs}) > 1:
        raise UserError("the data sets of the runs differ")
    listed = json.loads(_cached(runs[0].data_md5, "test images").read_bytes())
    md5 = next(file["md5"] for file in listed if file["relpath"] == "test_images.npy")
    images: Images = np.load(_cached(md5, "test images"), mmap_mode="r", allow_pickle=False)
    return images


def _cached(md5: str | None, what: str) -> Path:
    """The file, or the list of a folder's files, with this content in DVC's cache."""
    from dvc.repo import Repo  # 1 s

    path = Path(Repo().cache.local.oid_to_path(md5)) if md5 else None
    if not (path and path.is_file()):
        raise UserError(f"the {what} are not in DVC's cache: `dvc fetch --all-commits` gets them from a DVC remote")
    return path


def _read_from_dvc(word: str, folder: Path) -> ComparedRun | None:
    """From the workspace or, by way of `folder`, from a commit; None if `word` means none."""
    from dvc.api import DVCFileSystem  # 1 s
    from dvc.exceptions import NotDvcRepoError
    from dvc.scm import RevError

    here = word == WORKSPACE
    try:
        files = DVCFileSystem(rev=None if here else word)
        stages = parse_lock(files.read_text(LOCK.as_posix()))
    except RevError:
        return None
    except (FileNotFoundError, NotDvcRepoError):
        raise UserError(f"{word} has no {LOCK}: run `dvc repro`, and commit {LOCK}") from None
    outs = {path: md5 for record in stages.values() for path, md5 in record.outs.items()}
    model = layout.MODEL.as_posix()
    if "evaluate" not in stages or stages["evaluate"].inputs.files.get(model) != outs.get(model):
        raise UserError(f"{word}: stage evaluate has not run since the last training: run `dvc repro`")
    for path in FILES:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get_file(path.as_posix(), str(folder / path))
        except FileNotFoundError:
            raise UserError(_missing(path, word)) from None
        if here and file_md5(folder / path) != outs[path.as_posix()]:
            raise UserError(f"{path} is not what {LOCK} records: run `dvc repro`, or `dvc checkout` to get it back")
    settings = {name: value for record in stages.values() for name, value in record.inputs.settings.items()}
    return _assemble(
        word,
        folder,
        settings,
        commit=git("rev-parse", "HEAD") if here else str(files.repo.get_rev()),
        edited=here,
        data_md5=outs.get((layout.DATA / settings["data.dataset"]).as_posix()),
        model_md5=outs[model],
    )


def _missing(path: Path, word: str) -> str:
    if word == WORKSPACE:
        return f"{path} is missing: get it with `dvc checkout` or `dvc pull`, or make it with `dvc repro`"
    return (
        f"{path} of {word} is not in DVC's cache: `dvc fetch --all-commits` gets it from a DVC remote, `dvc exp pull` "
        f"with the remote's name and {word} gets that of an experiment; where it was made, `dvc push` puts it there"
    )


def _read_from_mlflow(word: str, params: Params, folder: Path) -> ComparedRun:
    from cifar_resnet.tracking.artifacts import download_run  # 2 s

    run = download_run(params, word, {path.relative_to(layout.REPORTS).as_posix(): folder / path for path in FILES})
    return _assemble(word, folder, run.settings, run.commit, run.edited, run.data_md5, run.model_md5)


def _assemble(
    name: str, folder: Path, settings: Mapping[str, Any], commit: str | None, edited: bool, data_md5: str | None,
    model_md5: str | None,
) -> ComparedRun:  # fmt: skip
    evaluation = read_predictions(folder / layout.PREDICTIONS)
    used = json.loads((folder / layout.TRAIN_METRICS).read_text(encoding="utf-8"))
    shown = {key: str(value) for key, value in settings.items()}
    for rate in ("lr_min", "lr_max"):
        if shown.get(f"train.{rate}") == "find":
            shown[f"train.{rate}"] = f"find: {used[rate]:.4g}"
    history = read_history(folder / layout.HISTORY)
    return ComparedRun(name, evaluation, history, shown, commit, edited, data_md5, model_md5)

"""From a commit or DVC experiment to its run in MLflow, and back.

A commit leads to its run through what it holds: its `params.yaml` and the MD5 of the weights in its `dvc.lock` are the
state that the run is tagged with. So a commit finds its run whether it was made before or after the training.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mlflow.entities import Run
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.lock import LOCK, parse_lock
from cifar_resnet.params import Params, parse_params
from cifar_resnet.tracking.runs import STATE, all_runs, runs_of_state
from cifar_resnet.tracking.source import BASELINE, COMMIT, DIRTY, EXPERIMENT, git
from cifar_resnet.tracking.state import state_key
from cifar_resnet.tracking.store import open_store, store_errors

EXPERIMENT_REFS = "refs/exps"  # where DVC keeps its experiments in Git, beside others for its own bookkeeping
EXPERIMENT_REF = re.compile(EXPERIMENT_REFS + "/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")  # of its baseline, and its name
MIN_PREFIX = 6  # characters of a run's identifier


@dataclass(frozen=True)
class RunRecord:
    """A run, and what leads from it to the code."""

    name: str
    run_id: str
    status: str
    accuracy: float | None
    started: datetime
    state: str | None
    commit: str | None  # that the process saw
    dirty: bool  # settings or code differed from that commit
    experiment: str | None  # of DVC
    baseline: str | None  # the commit that the experiment started from


def list_runs(params: Params) -> list[RunRecord]:
    """Every run of the MLflow experiment in the settings, newest first.

    Raises:
        UserError: the store fails.
    """
    with store_errors():
        return [_record(run) for run in reversed(all_runs(open_store(params.runtime.experiment)))]


def find_runs(params: Params, word: str) -> list[RunRecord]:
    """The runs that `word` means: a run's name or identifier, a commit (any Git revision) or a DVC experiment.

    Raises:
        UserError: it means none, or the store fails.
    """
    with store_errors():
        store = open_store(params.runtime.experiment)
        runs = [record for record in map(_record, all_runs(store)) if _is_called(record, word)]
        if not runs and (revision := _revision(word)):
            state = _state_at(revision)
            runs = [_record(run) for run in runs_of_state(store, state)] if state else []
            runs = runs or [record for record in map(_record, all_runs(store)) if record.commit == revision]
    if not runs:
        raise UserError(
            f"{word!r} is no run in MLflow experiment {params.runtime.experiment!r}, and no commit or DVC experiment "
            "that has one; `python -m pipeline.sync` publishes the state that is checked out"
        )
    return runs


def recorded_in(run: RunRecord) -> Iterator[str]:
    """The commits and DVC experiments that hold a run's state, newest first, in words."""
    experiments = {commit: name for name, commit in _experiments()}
    for commit in (git("rev-list", "--all", "--", f"./{layout.PARAMS}", f"./{LOCK}") or "").split():
        if run.state and _state_at(commit) == run.state:
            if commit in experiments:
                yield f"DVC experiment {experiments[commit]} ({commit[:8]})"
            else:
                yield f"commit {git('log', '-1', '--format=%h %s', commit)}"


def _record(run: Run) -> RunRecord:
    tags = run.data.tags
    return RunRecord(
        name=run.info.run_name,
        run_id=run.info.run_id,
        status=run.info.status,
        accuracy=run.data.metrics.get("evaluate/accuracy"),
        started=datetime.fromtimestamp(run.info.start_time / 1000).astimezone(),
        state=tags.get(STATE),
        commit=tags.get(COMMIT),
        dirty=tags.get(DIRTY) == "true",
        experiment=tags.get(EXPERIMENT),
        baseline=tags.get(BASELINE),
    )


def _is_called(run: RunRecord, word: str) -> bool:
    is_prefix = len(word) >= MIN_PREFIX and run.run_id.startswith(word)
    return is_prefix or word in (run.name, run.experiment)


def _revision(word: str) -> str | None:
    """The commit that a Git revision or a DVC experiment's name means."""
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}")
    return commit or dict(_experiments()).get(word)


def _experiments() -> Iterator[tuple[str, str]]:
    """Name and commit of each DVC experiment."""
    for line in (git("for-each-ref", "--format=%(refname) %(objectname)", EXPERIMENT_REFS) or "").splitlines():
        ref, commit = line.split()
        if named := EXPERIMENT_REF.fullmatch(ref):
            yield named[1], commit


def _state_at(revision: str) -> str | None:
    """The state that a commit holds, None if its pipeline has not run or its settings are of another version."""
    settings, lock = (git("show", f"{revision}:./{file}") for file in (layout.PARAMS, LOCK))
    if settings is None or lock is None:
        return None
    try:
        outs = parse_lock(lock).get("train", {}).get("outs", [])
        params = parse_params(YAML(typ="safe", pure=True).load(settings), name=revision)
    except (UserError, YAMLError):  # a merge conflict was committed
        return None
    model_md5 = next((out["md5"] for out in outs if out["path"] == layout.MODEL.as_posix()), None)
    return state_key(params, model_md5) if model_md5 else None

"""From a commit or DVC experiment to its run in MLflow, and back.

A commit leads to its run through what it holds: the settings in its `params.yaml` that its `dvc.yaml` names, and the
MD5 of the weights in its `dvc.lock`, are the state that the run is tagged with. So a commit finds its run whether it
was made before or after the training, and whatever settings came later.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from mlflow.entities import Run

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.git import git
from cifar_resnet.params import Params, read_yaml
from cifar_resnet.project import DEFINITION, LOCK, parse_lock, parse_stages, select, state_key
from cifar_resnet.tracking.provenance import BASELINE, CHANGED, COMMIT, DIRTY, EXPERIMENT, RECONSTRUCTED
from cifar_resnet.tracking.runs import MODEL, STATE, all_runs, carry_over, close_dead_runs, runs_of_state
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
    model_md5: str | None  # of its weights
    commit: str | None  # that the process saw; of a reconstructed run, that recorded the results
    dirty: bool  # the code differed from that commit
    changed: str  # settings that differed from that commit, with their values
    reconstructed: bool
    experiment: str | None  # of DVC
    baseline: str | None  # the commit that the experiment started from


def list_runs(params: Params) -> list[RunRecord]:
    """Every run of the MLflow experiment in the settings, newest first.

    Raises:
        UserError: the store fails.
    """
    with store_errors():
        store = open_store(params.runtime.experiment)
        close_dead_runs(store)
        return [_record(run) for run in reversed(all_runs(store))]


def find_runs(params: Params, word: str) -> list[RunRecord]:
    """The runs that `word` means: a run's name or identifier, a commit (any Git revision) or a DVC experiment.

    Raises:
        UserError: it means none, or the store fails.
    """
    with store_errors():
        store = open_store(params.runtime.experiment)
        carry_over(store)
        records = [_record(run) for run in all_runs(store)]
        runs = [record for record in records if _is_called(record, word)]
        if not runs and (revision := find_revision(word)):
            state = state_at(revision)
            runs = [_record(run) for run in runs_of_state(store, state)] if state else []
            runs = runs or [record for record in records if record.commit == revision]
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
        if run.state and state_at(commit) == run.state:
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
        model_md5=tags.get(MODEL),
        commit=tags.get(COMMIT),
        dirty=tags.get(DIRTY) == "true",
        changed=tags.get(CHANGED, ""),
        reconstructed=RECONSTRUCTED in tags,
        experiment=tags.get(EXPERIMENT),
        baseline=tags.get(BASELINE),
    )


def _is_called(run: RunRecord, word: str) -> bool:
    is_prefix = len(word) >= MIN_PREFIX and run.run_id.startswith(word)
    return is_prefix or word in (run.name, run.experiment)


def find_revision(word: str) -> str | None:
    """The commit that a Git revision or a DVC experiment's name means."""
    commit = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}")
    return commit or dict(_experiments()).get(word)


def _experiments() -> Iterator[tuple[str, str]]:
    """Name and commit of each DVC experiment."""
    for line in (git("for-each-ref", "--format=%(refname) %(objectname)", EXPERIMENT_REFS) or "").splitlines():
        ref, commit = line.split()
        if named := EXPERIMENT_REF.fullmatch(ref):
            yield named[1], commit


def state_at(revision: str) -> str | None:
    """The state that a commit holds, None if its pipeline has not run."""
    settings, stages, lock = (git("show", f"{revision}:./{file}") for file in (layout.PARAMS, DEFINITION, LOCK))
    if settings is None or stages is None or lock is None:
        return None
    try:
        content = read_yaml(settings, revision)
        names = [name for stage in parse_stages(stages, content).values() for name in stage.params]
        train = parse_lock(lock).get("train")
    except UserError:  # a merge conflict was committed
        return None
    model_md5 = train.outs.get(layout.MODEL.as_posix()) if train else None
    return state_key(select(content, names), model_md5) if model_md5 else None

"""From a commit or DVC experiment to its run in MLflow, and back.

A commit leads to its run through what it holds: the settings in its `params.yaml` that its `dvc.yaml` names, and the
MD5 of the weights in its `dvc.lock`, are the state that the run is tagged with. So a commit finds its run whether it
was made before or after the training, and whatever settings came later.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.git import dvc_experiments, git
from cifar_resnet.params import Params, read_yaml
from cifar_resnet.project import DEFINITION, LOCK, parse_lock, parse_stages, select, state_key
from cifar_resnet.tracking.provenance import COMMIT, EXPERIMENT
from cifar_resnet.tracking.registry import CHAMPION
from cifar_resnet.tracking.runs import MODEL, STATE, carry_over, close_dead_runs, find
from cifar_resnet.tracking.store import open_store, store_errors


@dataclass(frozen=True)
class RunRecord:
    """A run, and what leads from it to the code and the data."""

    name: str
    run_id: str
    status: str
    started: datetime
    accuracy: float | None  # on the test set
    settings: Mapping[str, str]  # all that shape results, by dotted name
    tags: Mapping[str, str]  # the names of those that lead to the code are in `provenance`
    data_md5: str | None  # of the data set's folder
    model_md5: str | None  # of the weights


@store_errors()
def list_runs(params: Params) -> list[RunRecord]:
    """Every run of the MLflow experiment in the settings, newest first; a UserError if the store fails."""
    store = open_store(params.runtime.experiment)
    close_dead_runs(store)
    return [_record(run) for run in reversed(find(store))]


@store_errors()
def find_runs(params: Params, word: str) -> list[RunRecord]:
    """The runs that `word` means: a run's name or identifier, a commit (any Git revision) or a DVC experiment.

    A UserError if it means none, or the store fails.
    """
    store = open_store(params.runtime.experiment)
    carry_over(store)
    records = [_record(run) for run in find(store)]
    runs = [run for run in records if word in (run.run_id, run.name, run.tags.get(EXPERIMENT))]
    revision = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}")
    if not runs and (revision := revision or dvc_experiments().get(word)):
        state = _state_at(revision)
        runs = [run for run in records if state and run.tags.get(STATE) == state]
        runs = runs or [run for run in records if run.tags.get(COMMIT) == revision]
    if not runs:
        raise UserError(
            f"{word!r} is not a run in MLflow experiment {params.runtime.experiment!r}, nor a commit or DVC experiment "
            "with a run; `python -m pipeline.sync` publishes the state that is checked out"
        )
    return runs


@store_errors()
def download_run(params: Params, word: str, artifacts: Iterable[str], folder: Path) -> RunRecord:
    """Copy artifacts of the run that `word` means, a name, an identifier or `champion`, into `folder`.

    A UserError if it means no run or several, the run lacks an artifact, or the store fails.
    """
    client = open_store(params.runtime.experiment).client
    if word == CHAMPION:
        name = params.runtime.registered_model
        try:
            run_id = str(client.get_model_version_by_alias(name, CHAMPION).run_id)
        except MlflowException:
            raise UserError(f"no model of {name} in MLflow is {CHAMPION} yet: `dvc repro` makes one") from None
    else:
        run_id, *others = (run.run_id for run in find_runs(params, word))
        if others:
            either = " or ".join([run_id, *others])
            raise UserError(f"{word} means {1 + len(others)} runs: give the identifier of one, {either}")
    run = _record(client.get_run(run_id))
    for artifact in artifacts:
        path = folder / artifact
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            Path(client.download_artifacts(run_id, artifact, str(path.parent))).replace(path)
        except (MlflowException, OSError):
            raise UserError(
                f"run {run.name} has no {artifact}: check out its commit, then `python -m pipeline.sync` adds it"
            ) from None
    return run


def recorded_in(run: RunRecord) -> Iterator[str]:
    """The commits and DVC experiments that hold a run's state, newest first, in words."""
    experiments = {commit: name for name, commit in dvc_experiments().items()}
    state = run.tags.get(STATE)
    for commit in (git("rev-list", "--all", "--", f"./{layout.PARAMS}", f"./{LOCK}") or "").split():
        if state and _state_at(commit) == state:
            if commit in experiments:
                yield f"DVC experiment {experiments[commit]} ({commit[:8]})"
            else:
                yield f"commit {git('log', '-1', '--format=%h %s', commit)}"


def _record(run: Run) -> RunRecord:
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return RunRecord(
        name=run.info.run_name,
        run_id=run.info.run_id,
        status=run.info.status,
        started=datetime.fromtimestamp(run.info.start_time / 1000).astimezone(),
        accuracy=run.data.metrics.get("evaluate/accuracy"),
        settings=run.data.params,
        tags=run.data.tags,
        data_md5=f"{inputs[0].dataset.digest}.dir" if inputs else None,
        model_md5=run.data.tags.get(MODEL),
    )


def _state_at(revision: str) -> str | None:
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

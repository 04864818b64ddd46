"""From a commit or DVC experiment to its run in MLflow, and back.

A commit holds a state: the settings in `params.yaml` that its `dvc.yaml` names, and the MD5 of the weights in its
`dvc.lock`. The run is tagged with this state. So the run of a commit is found whether the commit was made before or
after the training, and later changes of settings do not matter.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from image_classifier.project import locations
from image_classifier.project.definition import DEFINITION, LOCK, parse_lock, parse_stages
from image_classifier.project.keys import state_key
from image_classifier.project.params import Params, read_yaml
from image_classifier.project.settings import select
from image_classifier.system.errors import UserError
from image_classifier.system.git import dvc_experiments, git
from image_classifier.tracking.champion import CHAMPION
from image_classifier.tracking.provenance import BASELINE, CHANGED, COMMIT, DIRTY, EXPERIMENT, RECONSTRUCTED
from image_classifier.tracking.runs import MODEL, STATE, close_dead_runs, find
from image_classifier.tracking.store import open_store, store_errors


@store_errors()
def rows_of_runs(params: Params) -> list[tuple[str, ...]]:
    """A header, and a row for every run of the MLflow experiment in the settings: newest first, same weights together.

    If this experiment has no runs, they are those of another one, as in `Store.with_runs`.
    A UserError if the store fails.
    """
    store = open_store(params.runtime.experiment).with_runs()
    close_dead_runs(store)
    groups: dict[str, list[Run]] = {}
    for run in reversed(find(store)):
        groups.setdefault(run.data.tags.get(MODEL, run.info.run_id), []).append(run)
    rows: list[tuple[str, ...]] = [("RUN", "STATUS", "ACCURACY", "COMMIT", "EXPERIMENT", "STARTED")]
    for first, *others in groups.values():
        rows += [_row(first), *(_row(other, prefix="  same weights: ") for other in others)]
    return rows


@store_errors()
def find_runs(params: Params, word: str) -> list[Run]:
    """The runs that `word` names: by a run's name or identifier, a commit (any Git revision) or a DVC experiment.

    A UserError if there is no such run, or the store fails.
    """
    store = open_store(params.runtime.experiment).with_runs()
    known = find(store)
    runs = [run for run in known if word in (run.info.run_id, run.info.run_name, run.data.tags.get(EXPERIMENT))]
    revision = git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}")
    if not runs and (revision := revision or dvc_experiments().get(word)):
        state = _state_at(revision)
        runs = [run for run in known if state and run.data.tags.get(STATE) == state]
        runs = runs or [run for run in known if run.data.tags.get(COMMIT) == revision]
    if not runs:
        raise UserError(
            f"{word!r} is not a run in MLflow experiment {params.runtime.experiment!r}, nor a commit or DVC experiment "
            "with a run; `python -m pipeline.sync` publishes the state that is checked out"
        )
    return runs


@store_errors()
def download_run(params: Params, word: str, artifacts: Iterable[str], folder: Path) -> Run:
    """Copy artifacts of the run that `word` names into `folder`. `word` is as in `find_runs`, or `champion`.

    A UserError if it names no run or several, the run lacks an artifact, or the store fails.
    """
    client = open_store(params.runtime.experiment).client
    if word == CHAMPION:
        name = params.runtime.registered_model
        try:
            run_id = str(client.get_model_version_by_alias(name, CHAMPION).run_id)
        except MlflowException:
            raise UserError(f"no model of {name} in MLflow is {CHAMPION} yet: `dvc repro` makes one") from None
    else:
        run_id, *others = (run.info.run_id for run in find_runs(params, word))
        if others:
            either = " or ".join([run_id, *others])
            raise UserError(f"{word} means {1 + len(others)} runs: give the identifier of one, {either}")
    run = client.get_run(run_id)
    for artifact in artifacts:
        path = folder / artifact
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            Path(client.download_artifacts(run_id, artifact, str(path.parent))).replace(path)
        except (MlflowException, OSError):
            name = run.info.run_name
            raise UserError(
                f"run {name} has no {artifact}: check out its commit, then `python -m pipeline.sync` adds it"
            ) from None
    return run


def describe_run(run: Run) -> Iterator[tuple[str, str]]:
    """What is known about a run, each fact with its label."""
    tags = run.data.tags
    yield "run", run.info.run_name
    yield "identifier", run.info.run_id
    yield "status", f"{run.info.status}, started {_started(run)}"
    if accuracy := _accuracy(run):
        yield "accuracy", accuracy
    if commit := tags.get(COMMIT):
        label = "rebuilt from" if RECONSTRUCTED in tags else "ran on"
        yield label, f"commit {commit[:8]}{' with uncommitted code' * (tags.get(DIRTY) == 'true')}"
    if changed := tags.get(CHANGED):
        yield "changed", changed
    if experiment := tags.get(EXPERIMENT):
        yield "ran as", f"DVC experiment {experiment} on {tags.get(BASELINE, '?')[:8]}"
    for place in _recorded_in(run):
        yield "recorded in", place


def _recorded_in(run: Run) -> Iterator[str]:
    """The commits and DVC experiments that hold a run's state, newest first, in words."""
    experiments = {commit: name for name, commit in dvc_experiments().items()}
    state = run.data.tags.get(STATE)
    for commit in (git("rev-list", "--all", "--", f"./{locations.PARAMS}", f"./{LOCK}") or "").split():
        if state and _state_at(commit) == state:
            if commit in experiments:
                yield f"DVC experiment {experiments[commit]} ({commit[:8]})"
            else:
                yield f"commit {git('log', '-1', '--format=%h %s', commit)}"


def _row(run: Run, prefix: str = "") -> tuple[str, ...]:
    tags = run.data.tags
    commit = tags.get(COMMIT, "")[:8] + "*" * (tags.get(DIRTY) == "true")
    status, experiment = run.info.status, tags.get(EXPERIMENT, "")
    return prefix + run.info.run_name, status, _accuracy(run), commit, experiment, _started(run)


def _accuracy(run: Run) -> str:
    accuracy = run.data.metrics.get("evaluate/accuracy")
    return "" if accuracy is None else f"{accuracy:.2%}"


def _started(run: Run) -> str:
    return f"{datetime.fromtimestamp(run.info.start_time / 1000):%Y-%m-%d %H:%M}"


def _state_at(revision: str) -> str | None:
    """The state that a commit holds; None if its pipeline has not run."""
    settings, stages, lock = (git("show", f"{revision}:./{file}") for file in (locations.PARAMS, DEFINITION, LOCK))
    if settings is None or stages is None or lock is None:
        return None
    try:
        content = read_yaml(settings, revision)
        names = [name for stage in parse_stages(stages, content).values() for name in stage.params]
        tracked = select(content, names)
        train = parse_lock(lock).get("train")
    except (UserError, AttributeError):  # the commit has a merge conflict, or no settings
        return None
    model_md5 = train.outs.get(locations.MODEL.as_posix()) if train else None
    return state_key(tracked, model_md5) if model_md5 else None

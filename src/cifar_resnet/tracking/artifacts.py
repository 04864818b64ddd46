"""What a run in MLflow keeps of its results, for others to read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from cifar_resnet.errors import UserError
from cifar_resnet.params import Params
from cifar_resnet.tracking.lookup import find_runs
from cifar_resnet.tracking.provenance import COMMIT, DIRTY
from cifar_resnet.tracking.registry import CHAMPION
from cifar_resnet.tracking.runs import MODEL
from cifar_resnet.tracking.store import Store, open_store, store_errors


@dataclass(frozen=True)
class StoredRun:
    """A run, and what it came of."""

    settings: Mapping[str, str]
    commit: str | None
    edited: bool
    data_md5: str | None
    model_md5: str | None


def download_run(params: Params, word: str, files: Mapping[str, Path]) -> StoredRun:
    """Copy artifacts of the run that `word` means, a name, an identifier or `champion`, to `files`.

    Raises:
        UserError: it means no run or several, the run lacks an artifact, or the store fails.
    """
    with store_errors():
        store = open_store(params.runtime.experiment)
        run = store.client.get_run(_champion(store, params) if word == CHAMPION else _identifier(params, word))
        for artifact, path in files.items():
            _download(store, run, artifact, path)
    tags, inputs = run.data.tags, run.inputs.dataset_inputs if run.inputs else []
    return StoredRun(
        run.data.params,
        commit=tags.get(COMMIT),
        edited=tags.get(DIRTY) == "true",
        data_md5=f"{inputs[0].dataset.digest}.dir" if inputs else None,
        model_md5=tags.get(MODEL),
    )


def _champion(store: Store, params: Params) -> str:
    try:
        version = store.client.get_model_version_by_alias(params.runtime.registered_model, CHAMPION)
    except MlflowException:
        raise UserError(
            f"no model of {params.runtime.registered_model} in {store.uri} is {CHAMPION} yet: `dvc repro` makes one"
        ) from None
    return str(version.run_id)


def _identifier(params: Params, word: str) -> str:
    found = find_runs(params, word)
    if len(found) > 1:
        raise UserError(
            f"{word} means {len(found)} runs: give the identifier of one, {' or '.join(r.run_id for r in found)}"
        )
    return found[0].run_id


def _download(store: Store, run: Run, artifact: str, path: Path) -> None:
    with TemporaryDirectory() as folder:
        try:
            stored = Path(store.client.download_artifacts(run.info.run_id, artifact, folder))
        except (MlflowException, OSError):
            raise UserError(
                f"run {run.info.run_name} has no {artifact}: check its state out, and `python -m pipeline.sync` adds it"
            ) from None
        path.parent.mkdir(parents=True, exist_ok=True)
        stored.replace(path)

"""The model among MLflow's models: logged once for the same weights, registered, and the best one named champion."""

from collections.abc import Iterator

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from cifar_resnet.params import Params
from cifar_resnet.tracking.runs import MODEL_MD5, linked_models
from cifar_resnet.tracking.store import Store

CHAMPION = "champion"
RULE = f"`{CHAMPION}` is the version with the highest test accuracy on its data set; of equals, the oldest."


def find_model(store: Store, model_md5: str) -> LoggedModel | None:
    """The model that was logged for these weights; one that a killed process left incomplete is removed."""
    found = store.client.search_logged_models([store.experiment_id], f"tags.{MODEL_MD5} = '{model_md5}'")
    complete = [model for model in found if model.status == LoggedModelStatus.READY]
    for model in found:
        if model not in complete:
            store.client.delete_logged_model(model.model_id)
    return complete[0] if complete else None


def has_files(store: Store, model: LoggedModel) -> bool:
    """Whether the artifacts of a logged model are there; somebody may have deleted them."""
    try:
        return bool(store.client.list_logged_model_artifacts(model.model_id))
    except (MlflowException, OSError):
        return False


def register_model(store: Store, run: Run, params: Params, model: LoggedModel, accuracy: float | None) -> Iterator[str]:
    """Link a logged model to its run, register it, and let the best version be champion; yields what was done."""
    client, name = store.client, params.runtime.registered_model
    if model.model_id not in linked_models(run):
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    try:
        client.create_registered_model(name, description=RULE)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    yield from _remove_orphans(store, name)
    source = f"models:/{model.model_id}"
    version = next((version for version in _versions(store, name) if version.source == source), None)
    if version is None:
        version = client.create_model_version(
            name,
            source,
            run.info.run_id,
            {"dataset": params.data.dataset},
            await_creation_for=0,  # it is there at once
            model_id=model.model_id,
        )
        yield f"registered the model as {name} version {version.version}"
    if accuracy is not None and version.tags.get("accuracy") != str(accuracy):
        client.set_model_version_tag(name, version.version, "accuracy", str(accuracy))
        client.update_model_version(
            name, version.version, f"{accuracy:.2%} test accuracy on {params.data.dataset}. {RULE}"
        )
    yield from _elect(store, name, params.data.dataset)


def _elect(store: Store, name: str, dataset: str) -> Iterator[str]:
    """Move the alias to the best version, unless it is at a model of another data set, whose accuracy says nothing."""
    versions = _versions(store, name)
    rated = [(accuracy, version) for version in versions if (accuracy := _accuracy(version, dataset)) is not None]
    held = store.client.get_registered_model(name).aliases.get(CHAMPION)  # searches leave aliases out
    holder = next((version for version in versions if str(version.version) == str(held)), None)
    if not rated or (holder and holder.tags.get("dataset") != dataset):
        return
    accuracy, best = max(rated, key=lambda rating: (rating[0], -int(rating[1].version)))
    if holder is None or holder.version != best.version:
        store.client.set_registered_model_alias(name, CHAMPION, best.version)
        before = f"before: version {holder.version}" if holder else "the first"
        yield f"{CHAMPION} of {name} is now version {best.version}, {accuracy:.2%} ({before})"


def _remove_orphans(store: Store, name: str) -> Iterator[str]:
    """Remove the versions of ours whose logged model was deleted: they cannot be served."""
    for version in _versions(store, name):
        if "dataset" in version.tags and _is_deleted(store, version.source or ""):
            store.client.delete_model_version(name, version.version)
            yield f"removed version {version.version} of {name}, whose model was deleted"


def _is_deleted(store: Store, source: str) -> bool:
    """Whether a version's source names a logged model, of whatever experiment, that is no more."""
    if not source.startswith("models:/"):
        return False
    try:
        store.client.get_logged_model(source.removeprefix("models:/"))
    except MlflowException as error:
        return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")
    return False


def _accuracy(version: ModelVersion, dataset: str) -> float | None:
    """What this project noted of a version; None for another data set, or a version registered by hand."""
    if version.tags.get("dataset") != dataset:
        return None
    try:
        accuracy = float(version.tags["accuracy"])
    except (KeyError, ValueError):
        return None
    return accuracy if 0 <= accuracy <= 1 else None


def _versions(store: Store, name: str) -> list[ModelVersion]:
    return list(store.client.search_model_versions(f'name="{name}"'))

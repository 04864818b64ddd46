"""The model in MLflow: logged once for the same weights, and registered."""

from collections.abc import Iterator, Mapping

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException

from image_classifier.project import locations
from image_classifier.project.hashing import text_md5
from image_classifier.project.params import Params
from image_classifier.tracking.champion import DATASET, RULE, versions_of
from image_classifier.tracking.notes import DESCRIBED, is_own
from image_classifier.tracking.runs import MODEL_MD5, linked_models
from image_classifier.tracking.store import Store

MAX_CARD = 4500  # characters; MLflow allows 5,000 in a description, and a registered model's begins with RULE


def find_model(store: Store, model_md5: str) -> LoggedModel | None:
    """The model that was logged for these weights; models that a killed process left incomplete are removed."""
    found = store.client.search_logged_models([store.experiment_id], f"tags.{MODEL_MD5} = '{model_md5}'")
    complete = [model for model in found if model.status == LoggedModelStatus.READY]
    for model in found:
        if model not in complete:
            store.client.delete_logged_model(model.model_id)
    return complete[0] if complete else None


def has_files(store: Store, model: LoggedModel) -> bool:
    """Whether the artifacts of a logged model exist; somebody may have deleted them."""
    try:
        return bool(store.client.list_logged_model_artifacts(model.model_id))
    except (MlflowException, OSError):
        return False


def register_model(
    store: Store, run: Run, params: Params, model: LoggedModel, facts: Mapping[str, str], card: str | None
) -> Iterator[str]:
    """Link a logged model to its run, register it, and note its card and `facts` as tags; yields what was done."""
    client, name = store.client, params.runtime.registered_model
    if model.model_id not in linked_models(run):
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    try:
        client.create_registered_model(name, {DESCRIBED: text_md5(RULE)}, RULE)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for orphan in versions_of(store, name):
        if DATASET in orphan.tags and _is_deleted(store, orphan.source or ""):  # it cannot be served
            client.delete_model_version(name, orphan.version)
            yield f"removed version {orphan.version} of {name}, whose model was deleted"
    source = f"models:/{model.model_id}"
    version = next((version for version in versions_of(store, name) if version.source == source), None)
    if version is None:
        tags = {DATASET: params.data.dataset, **facts}
        version = client.create_model_version(  # it exists at once, so there is nothing to wait for
            name, source, run.info.run_id, tags, await_creation_for=0, model_id=model.model_id
        )
        yield f"registered the model as {name} version {version.version}"
    for key, value in facts.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)
            yield f"set tag {key} of version {version.version}"
    if card and len(card) > MAX_CARD:
        start = card[:MAX_CARD].rpartition("\n")[0]
        card = f"{start}\n\nThe whole card is the run's artifact `{locations.MODEL_CARD.name}`."
    if card and is_own(version.description, version.tags.get(DESCRIBED), version.description == card):
        if version.description != card:
            client.update_model_version(name, version.version, card)
            yield f"described version {version.version} by its model card"
        if version.tags.get(DESCRIBED) != text_md5(card):
            client.set_model_version_tag(name, version.version, DESCRIBED, text_md5(card))


def _is_deleted(store: Store, source: str) -> bool:
    """Whether a version's source names a logged model, of any experiment, that no longer exists."""
    if not source.startswith("models:/"):
        return False
    try:
        store.client.get_logged_model(source.removeprefix("models:/"))
    except MlflowException as error:
        return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")
    return False

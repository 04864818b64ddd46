"""The model in MLflow: logged once for the same weights and registered; the best version is named champion."""

import csv
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from cifar_resnet import layout
from cifar_resnet.params import Params
from cifar_resnet.statistics import PairedCounts, judged, p_text
from cifar_resnet.tracking.runs import MODEL_MD5, linked_models
from cifar_resnet.tracking.store import Store

CHAMPION = "champion"
TEST, VALIDATION = "accuracy", "validation_accuracy"  # tags of a version
DATASET, CLASSES = "dataset", "classes"  # tags of a version, for people: the name in params.yaml, and the class names
DATA = "data_md5"  # tag of a version: MD5 of the data set's folder, so of its images, labels and classes
CHOSEN = "chosen"  # tag of a version that was made champion: the reason
RULE = (
    f"Of two versions on the same data (tag `{DATA}`), the one with the higher validation accuracy is `{CHAMPION}`. If "
    "one was trained without held-out images, test accuracy decides. If they are equal, the older one is. Versions on "
    "different data are not compared."
)
MAX_CLASSES = 1000  # characters
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
        client.create_registered_model(name, description=RULE)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for orphan in _versions(store, name):
        if DATASET in orphan.tags and _is_deleted(store, orphan.source or ""):  # it cannot be served
            client.delete_model_version(name, orphan.version)
            yield f"removed version {orphan.version} of {name}, whose model was deleted"
    source = f"models:/{model.model_id}"
    version = next((version for version in _versions(store, name) if version.source == source), None)
    if version is None:
        tags = {DATASET: params.data.dataset}
        version = client.create_model_version(  # it exists at once, so there is nothing to wait for
            name, source, run.info.run_id, tags, await_creation_for=0, model_id=model.model_id
        )
        yield f"registered the model as {name} version {version.version}"
    for key, value in facts.items():
        if version.tags.get(key) != value:
            client.set_model_version_tag(name, version.version, key, value)
    if card and len(card) > MAX_CARD:
        start = card[:MAX_CARD].rpartition("\n")[0]
        card = f"{start}\n\nThe whole card is the run's artifact `{layout.MODEL_CARD.name}`."
    if card and version.description != card:
        client.update_model_version(name, version.version, card)
        yield f"described version {version.version} by its model card"


def rated_facts(metrics: Mapping[str, Any], validation: float | None, data_md5: str | None) -> dict[str, str]:
    """What a version's tags say of an evaluated model: its accuracies, and on which data they were measured."""
    facts = {TEST: str(metrics["accuracy"])} | ({VALIDATION: str(validation)} if validation is not None else {})
    classes = textwrap.shorten(", ".join(metrics["per_class_accuracy"]), MAX_CLASSES, placeholder=" …")
    return facts | {CLASSES: classes} | ({DATA: data_md5} if data_md5 else {})


def elect_champion(store: Store, params: Params, data_md5: str | None) -> tuple[list[str], str | None]:
    """Move the alias to the best version on these data, unless a version on other data has it.

    The card of the best version describes the registered model too.

    Returns what was done; and if the champion is of other data, a line that says so, with the remedy.
    """
    client, name = store.client, params.runtime.registered_model
    versions = sorted(_versions(store, name), key=lambda version: int(version.version))
    measured = [version for version in versions if _figure(version, TEST) is not None]
    rated = [version for version in measured if data_md5 and _data_md5(store, version) == data_md5]
    if not rated:
        return [], None
    registered = client.get_registered_model(name)
    held = str(registered.aliases.get(CHAMPION))  # searches leave aliases out
    holder = next((version for version in versions if str(version.version) == held), None)
    best, actions = reduce(_better, rated), []
    if holder and (held_md5 := _data_md5(store, holder)) != data_md5:
        then, now = _data_in_words(holder, held_md5), _data_in_words(best, data_md5)
        return [], (
            f"{CHAMPION} of {name} stays version {held}, whose data are {then}; here they are {now}, and the best on "
            f"them is version {best.version}, {_figure(best, TEST):.2%}. Models on different data are not compared: "
            f"set another runtime.registered_model, or give version {best.version} the alias in MLflow's UI"
        )
    if holder is None or holder.version != best.version:
        chosen = _reason(store, holder, best) if holder else "the first"
        client.set_registered_model_alias(name, CHAMPION, best.version)
        client.set_model_version_tag(name, best.version, CHOSEN, chosen)
        actions.append(f"{CHAMPION} of {name} is now version {best.version}, {_figure(best, TEST):.2%} ({chosen})")
    card = f"{RULE} Now it is version {best.version}:\n\n{best.description}" if best.description else RULE
    if registered.description != card:
        client.update_registered_model(name, card)
    return actions, None


def _data_md5(store: Store, version: ModelVersion) -> str | None:
    """The MD5 of the data of a version; of one registered before its tags said so, as its run notes it."""
    if DATA in version.tags or DATASET not in version.tags:
        return version.tags.get(DATA)
    try:
        run = store.client.get_run(version.run_id or "")
    except MlflowException:  # it was deleted for good
        return None
    datasets = run.inputs.dataset_inputs if run.inputs else []
    return str(datasets[0].dataset.digest) if datasets else None


def _data_in_words(version: ModelVersion, data_md5: str | None) -> str:
    """The data of a version as people know them: name, start of the MD5, classes."""
    classes = textwrap.shorten(version.tags.get(CLASSES, ""), 60, placeholder=" …")
    known = [version.tags.get(DATASET), data_md5 and data_md5[:8], classes and f"({classes})"]
    return " ".join(filter(None, known)) or "unknown"


def _better(one: ModelVersion, other: ModelVersion) -> ModelVersion:
    figure = _deciding(one, other)
    return other if (_figure(other, figure) or 0) > (_figure(one, figure) or 0) else one


def _deciding(one: ModelVersion, other: ModelVersion) -> str:
    return TEST if None in (_figure(one, VALIDATION), _figure(other, VALIDATION)) else VALIDATION


def _reason(store: Store, holder: ModelVersion, best: ModelVersion) -> str:
    """Why `best` replaces `holder`; if test accuracy decided, also whether the difference is more than chance."""
    before = f"before: version {holder.version}"
    if _deciding(holder, best) == VALIDATION:
        return f"{before}; chosen by validation accuracy"
    one, other = _answers(store, holder), _answers(store, best)
    if not (one and other and [true for true, _ in one] == [true for true, _ in other]):
        lead = "whether its lead is more than chance is unknown: the two runs have no predictions of the same images"
    else:
        rights = (np.array([true == predicted for true, predicted in answers]) for answers in (one, other))
        p_value = PairedCounts.of(*rights).p_value()
        lead = f"its lead is {judged(p_value)} (McNemar's exact test: {p_text(p_value)})"
    return f"{before}; chosen on the test set, so its accuracy there is optimistic; {lead}"


def _answers(store: Store, version: ModelVersion) -> list[tuple[str, str]] | None:
    """True and predicted class of each test image, if the version's run has them."""
    artifact = layout.PREDICTIONS.relative_to(layout.REPORTS).as_posix()
    with TemporaryDirectory() as folder:
        try:
            path = store.client.download_artifacts(version.run_id or "", artifact, folder)
        except (MlflowException, OSError):
            return None
        with Path(path).open(encoding="utf-8", newline="") as file:
            return [(row["true"], row["predicted"]) for row in csv.DictReader(file)]


def _is_deleted(store: Store, source: str) -> bool:
    """Whether a version's source names a logged model, of any experiment, that no longer exists."""
    if not source.startswith("models:/"):
        return False
    try:
        store.client.get_logged_model(source.removeprefix("models:/"))
    except MlflowException as error:
        return bool(error.error_code == "RESOURCE_DOES_NOT_EXIST")
    return False


def _figure(version: ModelVersion, name: str) -> float | None:
    """An accuracy that this project noted in a version's tags; None if the version was registered by hand."""
    with suppress(KeyError, ValueError):
        if 0 <= (figure := float(version.tags[name])) <= 1:
            return figure
    return None


def _versions(store: Store, name: str) -> list[ModelVersion]:
    return list(store.client.search_model_versions(f'name="{name}"'))

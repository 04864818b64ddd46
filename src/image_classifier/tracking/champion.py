"""Which version of the registered model is `champion`: the best on the same data, unless a person chose another."""

import csv
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from image_classifier.evaluation.statistics import PairedCounts, judged, p_text
from image_classifier.project import locations
from image_classifier.project.hashing import text_md5
from image_classifier.project.params import Params
from image_classifier.tracking.notes import DESCRIBED, is_own
from image_classifier.tracking.store import Store

CHAMPION = "champion"
CHALLENGER = "challenger"  # the best version, if a person made another one champion
TEST, VALIDATION = "accuracy", "validation_accuracy"  # tags of a version
DATASET, CLASSES = "dataset", "classes"  # tags of a version, for people: the name in params.yaml, and the class names
DATA = "data_md5"  # tag of a version: MD5 of the data set's folder, so of its images, labels and classes
CHOSEN = "chosen"  # tag of a version that was made champion: the reason
PROMOTED = "promoted"  # tag of a version that a person made champion by `pipeline.promote`: the reason
ELECTED = "mlflow.pipeline.champion"  # tag of the registered model: the version that this project chose last
RULE = (
    f"Of two versions on the same data (tag `{DATA}`), the one with the higher validation accuracy is `{CHAMPION}`. If "
    "one was trained without held-out images, test accuracy decides. If they are equal, the older one is. Versions on "
    "different data are not compared. A version to which somebody moves the alias keeps it."
)
EARLIER_RULE = re.compile(  # as it was before descriptions were noted
    r"Of two versions on the same data[^\n]+(of equals, the older one|the older one is|are not compared)\."
)
MAX_CLASSES = 1000  # characters


def rated_facts(metrics: Mapping[str, Any], validation: float | None, data_md5: str | None) -> dict[str, str]:
    """What a version's tags say of an evaluated model: its accuracies, and on which data they were measured."""
    facts = {TEST: str(metrics["accuracy"])} | ({VALIDATION: str(validation)} if validation is not None else {})
    classes = textwrap.shorten(", ".join(metrics["per_class_accuracy"]), MAX_CLASSES, placeholder=" …")
    return facts | {CLASSES: classes} | ({DATA: data_md5} if data_md5 else {})


def elect_champion(store: Store, params: Params, data_md5: str | None) -> tuple[list[str], str | None]:
    """Give the alias to the best version on these data, unless it is at a version on other data, or one of people's.

    People chose a version if this project did not, and it is not the best on its data.

    Returns what was done; and if another version than the best stays champion, a line that says why, with the remedy.
    """
    client, name = store.client, params.runtime.registered_model
    versions = sorted(versions_of(store, name), key=lambda version: int(version.version))
    best = _best(store, versions, data_md5)
    if best is None:
        return [], None
    registered = client.get_registered_model(name)  # searches leave aliases out
    held, elected = str(registered.aliases.get(CHAMPION)), _elected(registered, versions)
    holder = next((version for version in versions if str(version.version) == held), None)
    held_md5 = data_md5_of(store, holder) if holder else data_md5
    best_there = best if held_md5 == data_md5 else _best(store, versions, held_md5)
    challenger = None
    best_in_words = f"version {best.version}, {_figure(best, TEST):.2%}"
    actions, note = [], None
    if holder and held_md5 != data_md5:
        note = (
            f"{CHAMPION} of {name} stays version {held}, whose data are {_data_in_words(holder, held_md5)}; here they "
            f"are {_data_in_words(best, data_md5)}, and the best on them is {best_in_words}. Models on different data "
            f"are not compared: set another runtime.registered_model, or give version {best.version} the alias in "
            "MLflow's UI"
        )
    elif holder and held not in (elected, str(best.version)):
        note = (
            f"{CHAMPION} of {name} stays version {held}, to which somebody moved the alias; the best is "
            f"{best_in_words}, the {CHALLENGER}. Remove the alias in MLflow's UI, and the best version gets it"
        )
        challenger = best
    elif held != str(best.version):
        chosen = _reason(store, holder, best) if holder else "the first"
        client.set_registered_model_alias(name, CHAMPION, best.version)
        client.set_model_version_tag(name, best.version, CHOSEN, chosen)
        actions.append(f"{CHAMPION} of {name} is now {best_in_words} ({chosen})")
        holder, held = best, str(best.version)
    actions += _name_challenger(store, registered, challenger, held)
    if best_there and held == str(best_there.version) != elected:
        client.set_registered_model_tag(name, ELECTED, held)
    if holder and held_md5 == data_md5:
        actions += _describe(store, registered, holder, versions)
    return actions, note


def _name_challenger(
    store: Store, registered: RegisteredModel, challenger: ModelVersion | None, champion: str
) -> Iterator[str]:
    """Give the alias to the version that would be champion by the rule, and take it from one that has become so."""
    name, held = registered.name, str(registered.aliases.get(CHALLENGER))
    if challenger and held != str(challenger.version):
        store.client.set_registered_model_alias(name, CHALLENGER, challenger.version)
        yield f"{CHALLENGER} of {name} is now version {challenger.version}"
    elif held == champion:
        store.client.delete_registered_model_alias(name, CHALLENGER)
        yield f"{name} has no {CHALLENGER} any more: version {held} is {CHAMPION}"


def _best(store: Store, versions: Sequence[ModelVersion], data_md5: str | None) -> ModelVersion | None:
    """The best of the versions whose accuracy on these data is known."""
    measured = [version for version in versions if _figure(version, TEST) is not None]
    rated = [version for version in measured if data_md5 and data_md5_of(store, version) == data_md5]
    return reduce(_better, rated) if rated else None


def _elected(registered: RegisteredModel, versions: Sequence[ModelVersion]) -> str | None:
    """The version that this project chose last; in a store from before that was noted, the newest it ever chose."""
    chosen = [str(version.version) for version in versions if CHOSEN in version.tags]
    return registered.tags.get(ELECTED) or (chosen[-1] if chosen else None)


def _describe(
    store: Store, registered: RegisteredModel, champion: ModelVersion, versions: Sequence[ModelVersion]
) -> Iterator[str]:
    """Describe the registered model by its rule and the champion's card, unless a person described it."""
    client, name, shown = store.client, registered.name, registered.description or ""
    text = f"{RULE} Now it is version {champion.version}:\n\n{champion.description}" if champion.description else RULE
    cards = [f" Now it is version {version.version}:\n\n{version.description}" for version in versions]
    looks_own = any(EARLIER_RULE.fullmatch(shown.removesuffix(card)) for card in cards)
    if not is_own(shown, registered.tags.get(DESCRIBED), looks_own):
        return
    if shown != text:
        client.update_registered_model(name, text)
        yield f"described {name} by its champion's model card" if champion.description else f"described {name}"
    if registered.tags.get(DESCRIBED) != text_md5(text):
        client.set_registered_model_tag(name, DESCRIBED, text_md5(text))


def data_md5_of(store: Store, version: ModelVersion) -> str | None:
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
    artifact = locations.PREDICTIONS.relative_to(locations.REPORTS).as_posix()
    with TemporaryDirectory() as folder:
        try:
            path = store.client.download_artifacts(version.run_id or "", artifact, folder)
        except (MlflowException, OSError):
            return None
        with Path(path).open(encoding="utf-8", newline="") as file:
            return [(row["true"], row["predicted"]) for row in csv.DictReader(file)]


def _figure(version: ModelVersion, name: str) -> float | None:
    """An accuracy that this project noted in a version's tags; None if the version was registered by hand."""
    with suppress(KeyError, ValueError):
        if 0 <= (figure := float(version.tags[name])) <= 1:
            return figure
    return None


def versions_of(store: Store, name: str) -> list[ModelVersion]:
    """All versions of a registered model."""
    return list(store.client.search_model_versions(f'name="{name}"'))

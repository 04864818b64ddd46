"""A person's choice of the champion."""

from collections.abc import Iterator

from image_classifier.project.params import Params
from image_classifier.system.errors import UserError
from image_classifier.tracking.champion import CHAMPION, PROMOTED, data_md5_of, elect_champion, versions_of
from image_classifier.tracking.lookup import find_runs
from image_classifier.tracking.runs import linked_models
from image_classifier.tracking.store import open_store, store_errors


@store_errors()
def promote(params: Params, word: str, reason: str) -> Iterator[str]:
    """Make the model of the run that `word` names champion, and note the reason in its version; yields what was done.

    `word` is as in `find_runs`. A UserError if it names no run, no registered model or several, or the store fails.
    """
    name = params.runtime.registered_model
    sources = {f"models:/{model}" for run in find_runs(params, word) for model in linked_models(run)}
    with (store := open_store(params.runtime.experiment)).lock:
        versions = [version for version in versions_of(store, name) if version.source in sources]
        if len(versions) != 1:
            found = f"{len(versions)} versions of {name}" if versions else f"no version of {name}"
            remedy = "give the identifier of one run" if versions else "`python -m pipeline.sync` registers its model"
            raise UserError(f"{word} has {found}: {remedy}")
        [version] = versions
        store.client.set_registered_model_alias(name, CHAMPION, version.version)
        store.client.set_model_version_tag(name, version.version, PROMOTED, reason)
        yield f"{CHAMPION} of {name} is now version {version.version} ({reason})"
        actions, note = elect_champion(store, params, data_md5_of(store, version))
        yield from actions
        yield from filter(None, [note])

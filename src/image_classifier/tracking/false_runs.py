"""Finds runs whose settings did not make their results. Before version 2.0, `dvc repro --single-item` published such.

What really ran is known from DVC's run cache, which has a record of every stage that ran here, and from `dvc.lock`.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from image_classifier.project import locations
from image_classifier.project.definition import Record, parse_cached, read_lock
from image_classifier.project.settings import canonical
from image_classifier.tracking.provenance import WORKSPACE, workspace_id
from image_classifier.tracking.runs import MODEL, STATE, find, set_tags
from image_classifier.tracking.store import Store

CHECKED = "mlflow.pipeline.checked"  # tag of a published run: its settings are those of its results
Makers = Callable[[str, str], list[Record]]  # gives the records that have an output, by its path and MD5


def remove_false_runs(store: Store) -> Iterator[str]:
    """Delete the false ones of the runs that were not checked before; yields what was done, in words."""
    unchecked = [run for run in find(store, f"tags.`{STATE}` LIKE '%'") if CHECKED not in run.data.tags]
    if not unchecked:
        return
    makers = _find_makers()
    for run in unchecked:
        trainings = makers(locations.MODEL.as_posix(), run.data.tags.get(MODEL, ""))
        shown = canonical(run.data.params)
        differences = [_difference(training, shown, makers) for training in trainings]
        if differences and all(differences):
            says = f"{run.info.run_name}, which says {differences[0]} for its results"
            if run.data.tags.get(WORKSPACE) == workspace_id():
                store.client.delete_run(run.info.run_id)
                yield f"removed {says}"
            else:  # another folder with this store may have trained the same weights with those settings
                yield f"not removed, since it may be of another folder: {says}"
        elif differences:
            set_tags(store, run, {CHECKED: "true"})


def _find_makers() -> Makers:
    """What `Makers` says, for the records of `dvc.lock` and of DVC's run cache."""
    from dvc.repo import Repo  # 1 s, and only runs that were not checked yet need it

    recorded = [*read_lock().values()]
    cached = [file.read_bytes() for file in Path(Repo(locations.project_root()).stage_cache.cache_dir).glob("*/*/*")]

    @cache
    def makers(path: str, md5: str) -> list[Record]:
        found = (parse_cached(content) for content in cached if md5.encode() in content)  # parsing all took 50 ms each
        return [record for record in [*recorded, *filter(None, found)] if record.outs.get(path) == md5]

    return makers


def _difference(record: Record, shown: Mapping[str, str], makers: Makers) -> str | None:
    """The first setting of a stage, or of one before it, that a run shows with another value; None if there is none."""
    ran_with: Mapping[str, Any] = record.inputs.settings
    for name, value in canonical(ran_with).items():
        if shown.get(name) != value:
            return f"{name} {shown.get(name, 'not set')} instead of {ran_with[name]}"
    for dependency in record.inputs.files.items():
        differences = [_difference(before, shown, makers) for before in makers(*dependency)]
        if differences and all(differences):
            return differences[0]
    return None

"""The commit that a run names: its code made all results that the run shows, or the run says that it did not."""

import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from mlflow.entities import Run

from image_classifier.project.definition import LOCK, Project, read_lock
from image_classifier.project.doctor import git_refusal
from image_classifier.project.hashing import path_md5
from image_classifier.tracking.provenance import (
    CHANGED,
    CODE,
    COMMIT,
    DIRTY,
    code_tags,
    have_same_code,
    is_code_on_disk,
    reconstruction_tags,
)
from image_classifier.tracking.runs import set_tags
from image_classifier.tracking.store import Store


def note_commit(
    store: Store, run: Run, project: Project, shown: Collection[str], completed: Collection[str]
) -> Iterator[str]:
    """Correct or add the commit of a run; yields what was done. Without an answer from Git, it warns.

    `shown` are the stages whose results the run shows. A stage that has just `completed` ran with the code on disk.
    """
    noted = run.data.tags.get(COMMIT)
    if (refusal := git_refusal()) and not noted:
        _warn(f"MLflow run {run.info.run_name} has no commit. {refusal}")
    if refusal:
        return
    if completed:
        tags = _tags_of_code(project, noted, _is_code_of(project, shown, completed))
        if set_tags(store, run, tags):
            named = tags.get(COMMIT, noted or "")[:8]
            if tags[DIRTY] == "true":
                yield f"noted that not all results were made by the code of commit {named}"
            else:
                yield f"noted commit {named}, whose code made all results of the run"
    elif DIRTY not in run.data.tags:  # reconstructed from the files
        tags, _ = reconstruction_tags()
        if commit := noted or tags.get(COMMIT):
            is_its_code = _is_code_of(project, shown, completed) and is_code_on_disk(commit)
            set_tags(store, run, tags | {COMMIT: commit, DIRTY: "false" if is_its_code else "true"})
            but = "" if is_its_code else "; whether its code made all results of the run is not known"
            if not noted or but:
                yield f"noted commit {commit[:8]}, which recorded {LOCK}{but}"
        elif code_tags(project):
            _warn(f"MLflow run {run.info.run_name} has no commit. Commit {LOCK}")


def _tags_of_code(project: Project, noted: str | None, is_code_of_all: bool) -> dict[str, str]:
    """The tags of the commit `noted` if it has the code that made all results, else of the last one if that has."""
    seen = {name: value for name, value in code_tags(project).items() if name in (COMMIT, DIRTY, CHANGED)}
    if not seen:  # no repository, or no commit yet
        return {}
    is_committed = is_code_of_all and seen[DIRTY] == "false"
    if noted and (not is_committed or have_same_code(noted, seen[COMMIT])):
        return {DIRTY: "false" if is_committed else "true"}
    return seen | {DIRTY: "false" if is_committed else "true"}


def _is_code_of(project: Project, shown: Collection[str], completed: Collection[str]) -> bool:
    """Whether the code on disk is what made all results that are shown, and the data."""
    for name, record in read_lock().items():
        if name not in project.stages:  # DVC keeps the record of a stage that was removed
            continue
        is_published = project.stages[name].published
        if name not in completed and (name in shown or not is_published):
            for path, md5 in record.inputs.files.items():
                if Path(path).parts[0] in CODE and not (Path(path).exists() and path_md5(Path(path)) == md5):
                    return False
    return True


def _warn(text: str) -> None:
    print(f"warning: {text}; then `python -m pipeline.sync` adds it", file=sys.stderr)

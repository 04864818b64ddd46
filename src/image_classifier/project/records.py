"""Keeps `dvc.lock` true. DVC hashes a stage's inputs after the stage, and they may have changed since it read them.

So a stage compares its inputs at its end with those at its start, and fails if they differ. It also writes what it ran
with to `reports/inputs/STAGE.json`, one of its outputs, so this note is stored, fetched and restored with the others. A
record in `dvc.lock` that contradicts it (inputs edited before DVC hashed them, or `dvc commit`) is removed by the next
stage or `pipeline.sync`, also from DVC's run cache.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ruamel.yaml import YAML

from image_classifier.project.definition import (
    DEFINITION,
    LOCK,
    Inputs,
    Project,
    Stage,
    parse_cached,
    parse_record,
    read_lock,
    read_project,
)
from image_classifier.project.hashing import file_md5, is_code, path_md5
from image_classifier.project.locations import INPUTS
from image_classifier.project.settings import changed_setting
from image_classifier.system.errors import UserError
from image_classifier.system.files import replacing, write_json


def require_as_imported(inputs: Inputs, imported: Mapping[str, str]) -> None:
    """Refuse to run if a module on disk is not the one that this process imported. `imported` has MD5s by path."""
    for path, md5 in inputs.code.items():
        if imported.get(str(Path(path).resolve()), md5) != md5:
            raise UserError(f"{path} was changed while this process started: start it again")


def changed_since(stage: str, before: Inputs) -> str | None:
    """The first input that differs from what the stage read, in words; None if there is none."""
    try:
        return before.difference(read_project().inputs(stage))
    except UserError as error:  # params.yaml is being edited
        return str(error)


def require_unchanged(stage: str, before: Inputs) -> None:
    """End the stage as failed if an input has changed, so that DVC records nothing."""
    if change := changed_since(stage, before):
        raise UserError(
            f"changed while {stage} ran: {change}. DVC would record the change for results made without it, so {stage} "
            f"fails. Undo the change, and `dvc repro` continues from the last checkpoint; or keep it, and `dvc repro` "
            f"runs {stage} with it. (`dvc exp run --temp` runs in a copy: you may edit while it runs.)"
        )
    require_not_rewritten(stage, before)


def require_not_rewritten(stage: str, before: Inputs) -> None:
    """End the stage as failed if a file that it reads while it runs was written to, even if that was undone."""
    if file := before.rewritten():
        raise UserError(
            f"{file} was written to while {stage} ran, which may have read what was there for a time: {stage} fails. "
            "Run `dvc repro` again; a training continues from its last checkpoint before the change"
        )


def write_inputs(stage: Stage, inputs: Inputs) -> None:
    """Write what the stage ran with, as one of its outputs; a UserError if `dvc.yaml` does not list it."""
    path = INPUTS / f"{stage.name}.json"
    if path.as_posix() not in stage.outs:
        raise UserError(f"{DEFINITION}: stage {stage.name} must have {path} among its outs: its record depends on it")
    write_json(path, {"settings": dict(inputs.settings), "files": dict(inputs.files)})


def stages_of_other_code(project: Project) -> list[str]:
    """The stages that `dvc.lock` records with other code than is on disk; `dvc repro` would run them again.

    A setting can choose another file, such as a network's, so where settings differ, the files that are in both count.
    """
    found = []
    for name, record in read_lock().items():
        if name not in project.stages:  # DVC keeps the record of a stage that was removed
            continue
        recorded = {path: md5 for path, md5 in record.inputs.files.items() if is_code(path)}
        code = [path for path in project.stages[name].deps if is_code(path) and Path(path).exists()]
        on_disk = {path: path_md5(Path(path)) for path in code}
        if changed_setting(record.inputs.settings, project.settings_of(name)):
            chosen = recorded.keys() ^ on_disk.keys()
            recorded, on_disk = ({path: files[path] for path in files.keys() - chosen} for files in (recorded, on_disk))
        if recorded != on_disk:
            found.append(name)
    return found


def remove_false_records() -> list[str]:
    """Compare the records of the stages with what they ran with; returns what was removed, in words."""
    removed = []
    for stage, record in read_lock().items():
        path = INPUTS / f"{stage}.json"
        if not path.exists() or record.outs.get(path.as_posix()) != file_md5(path):
            continue  # the outputs on disk are not those of this record
        ran_with = Inputs(**json.loads(path.read_text(encoding="utf-8")))
        if change := ran_with.difference(record.inputs, LOCK):
            _remove(stage)
            removed.append(f"removed from {LOCK}: {stage}, recorded with a change that it did not run with ({change})")
    return removed


def _remove(stage: str) -> None:
    """Remove a stage's record from `dvc.lock`, and from DVC's run cache, where it would be found again."""
    yaml = YAML()
    content = yaml.load(LOCK)
    false = parse_record(content["stages"].pop(stage))
    with replacing(LOCK) as new:
        yaml.dump(content, new)
    from dvc.repo import Repo  # 1 s, in this rare case only

    for file in Path(Repo().stage_cache.cache_dir).glob("*/*/*"):
        if parse_cached(file.read_bytes()) == false:
            file.unlink()
            with suppress(OSError):  # it is not empty
                file.parent.rmdir()  # an empty folder makes DVC 3.67 end with a TypeError

"""Keeps `dvc.lock` true. DVC hashes a stage's inputs after the stage, and they may have changed since it read them.

So a stage compares its inputs at its end with those at its start, and fails if they differ. A later change, before DVC
hashes, is found by the next stage or `pipeline.sync`: each stage leaves a receipt, and a record that contradicts its
receipt is removed from `dvc.lock` and from DVC's run cache.
"""

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ruamel.yaml import YAML

from cifar_resnet.errors import UserError
from cifar_resnet.files import replacing, write_json
from cifar_resnet.layout import CHECKPOINTS
from cifar_resnet.params import read_settings
from cifar_resnet.project import LOCK, Inputs, Stage, path_md5, read_lock, read_project

RECEIPTS = CHECKPOINTS / "receipts"


def require_older(inputs: Inputs, started_ns: int) -> None:
    """Refuse to run if a module changed after `started_ns` (ns since 1970): this process may have the old version."""
    for path in inputs.files:
        stat = Path(path).stat()
        if path.endswith(".py") and max(stat.st_mtime_ns, stat.st_ctime_ns) > started_ns:
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


def write_receipt(stage: Stage, inputs: Inputs) -> None:
    """Note the stage's inputs and outputs, and what `dvc.lock` says of the stage before DVC records them."""
    outs = {path: path_md5(Path(path)) for path in stage.outs if Path(path).exists()}
    recorded = read_lock().get(stage.name)
    receipt = {"inputs": asdict(inputs), "outs": outs, "recorded_before": asdict(recorded) if recorded else None}
    write_json(RECEIPTS / f"{stage.name}.json", receipt)


def remove_false_records() -> list[str]:
    """Compare the records that DVC made since the last call with the receipts; returns what was removed, in words."""
    removed = []
    for path in sorted(RECEIPTS.glob("*.json")):
        receipt = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        recorded = read_lock().get(path.stem)
        if not recorded or asdict(recorded) == receipt["recorded_before"] or recorded.outs != receipt["outs"]:
            continue  # the record and the receipt are of different runs
        if change := Inputs(**receipt["inputs"]).difference(recorded.inputs):
            _remove(path.stem)
            removed.append(f"removed from {LOCK}: {path.stem}, recorded with a change made after it ran ({change})")
    return removed


def _remove(stage: str) -> None:
    """Remove a stage's record from `dvc.lock`, and from DVC's run cache, where it would be found again."""
    yaml = YAML()
    content = yaml.load(LOCK)
    false = content["stages"].pop(stage)
    with replacing(LOCK) as new:
        yaml.dump(content, new)
    from dvc.repo import Repo  # 1 s, in this rare case only

    for file in Path(Repo().stage_cache.cache_dir).glob("*/*/*"):
        try:
            cached = read_settings(file)
        except UserError:  # a damaged file, which DVC skips, too
            continue
        if isinstance(cached, dict) and all(cached.get(kind) == false.get(kind) for kind in ("cmd", "params", "deps")):
            file.unlink()
            with suppress(OSError):  # it is not empty
                file.parent.rmdir()  # an empty folder makes DVC 3.67 end with a TypeError

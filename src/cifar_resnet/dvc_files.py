"""What depends on what, as `dvc.yaml` defines it, and what has run, as `dvc.lock` records it.

Nothing else knows: publication, checkpoints, run identities, tests and benchmarks ask here.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cifar_resnet import layout
from cifar_resnet.errors import UserError

DEFINITION = Path("dvc.yaml")
LOCK = Path("dvc.lock")


@dataclass(frozen=True)
class Stage:
    """A stage as `dvc.yaml` defines it."""

    name: str
    params: tuple[str, ...]  # sections and settings of params.yaml, by dotted name
    deps: tuple[str, ...]
    outs: tuple[str, ...]  # metrics among them
    published: bool  # `meta: {mlflow: true}`: an MLflow run shows its outputs


@dataclass(frozen=True)
class Inputs:
    """What the outputs of a stage depend on: settings by dotted name, and the MD5 of each dependency by path."""

    settings: Mapping[str, Any]
    files: Mapping[str, str]

    def difference(self, now: "Inputs") -> str | None:
        """The first input that has another value now, in words; None if they are equal."""
        changed_files = sorted(path for path, _ in self.files.items() ^ now.files.items())
        return changed_setting(self.settings, now.settings) or next(iter(changed_files), None)


@dataclass(frozen=True)
class Record:
    """A stage as it ran."""

    inputs: Inputs
    outs: Mapping[str, str]  # path: MD5


def read_yaml(text: str, name: str) -> Any:
    """The content of a YAML 1.2 text, in which `1e-1` is a number, as it is for DVC; a UserError if it is no YAML."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, RecursionError) as error:
        reason = "too many levels" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise UserError(f"{name} is not valid YAML: {reason}") from None


def parse_stages(text: str, settings: Mapping[str, Any]) -> dict[str, Stage]:
    """The stages that the text of a `dvc.yaml` defines; `settings` fill its `${section.setting}`.

    Raises:
        UserError: it is not what DVC reads.
    """
    text = re.sub(r"\$\{([\w.]+)\}", lambda match: str(get_setting(settings, match[1])), text)
    try:
        return {
            name: Stage(
                name,
                tuple(entry.get("params", ())),
                _paths(entry.get("deps", ())),
                _paths([*entry.get("outs", ()), *entry.get("metrics", ())]),
                bool(entry.get("meta", {}).get("mlflow")),
            )
            for name, entry in read_yaml(text, DEFINITION.name)["stages"].items()
        }
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{DEFINITION} defines no stages: restore it with `git checkout {DEFINITION}`") from None


def _paths(entries: Iterable[str | Mapping[str, Any]]) -> tuple[str, ...]:
    """Paths of outputs, some of which have options."""
    return tuple(entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)


def read_lock() -> dict[str, Record]:
    """What `dvc.lock` records of the stages that have run; nothing if there is none. Raises what `parse_lock` does."""
    return parse_lock(LOCK.read_text(encoding="utf-8")) if LOCK.is_file() else {}


def parse_lock(text: str) -> dict[str, Record]:
    """What the text of a `dvc.lock` records.

    Raises:
        UserError: it is not what DVC writes.
    """
    try:
        stages = (YAML(typ="safe", pure=True).load(text) or {}).get("stages", {})
        return {name: _record(entry) for name, entry in stages.items()}
    except (YAMLError, AttributeError, KeyError, TypeError):
        raise UserError(f"{LOCK} is broken (a merge conflict?): repair it, or `git checkout {LOCK}`") from None


def _record(entry: Mapping[str, Any]) -> Record:
    settings = flat(entry.get("params", {}).get(layout.PARAMS.as_posix(), {}))
    deps, outs = ({file["path"]: file["md5"] for file in entry.get(kind, ())} for kind in ("deps", "outs"))
    return Record(Inputs(settings, deps), outs)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def select(settings: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Those sections and settings that are named, flat, by dotted name; what does not exist is left out."""
    return flat({name: value for name in names if (value := get_setting(settings, name)) is not None})


def get_setting(settings: Any, name: str) -> Any:
    """The setting or section at a dotted name, None if there is none."""
    for part in name.split("."):
        settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings


def changed_setting(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting that has another value now, is new or is gone, in words."""
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            return f"{name} {then.get(name, 'not set')}, {layout.PARAMS} has {now.get(name, 'no such setting')}"
    return None

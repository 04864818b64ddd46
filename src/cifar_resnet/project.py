"""Reads `params.yaml`, `dvc.yaml` and `dvc.lock`: what each stage depends on, what has run, and the keys of both.

Publication, checkpoints, tests and benchmarks ask this module instead of reading the files.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.params import Params, parse_params, read_settings, read_text, read_yaml

DEFINITION = Path("dvc.yaml")
LOCK = Path("dvc.lock")
IGNORED = Path(".dvcignore")
SETTING = re.compile(r"\$\{([\w.]+)\}")  # in a path
FileState = tuple[int, int, int]  # inode, bytes, time of the last change in ns


@dataclass(frozen=True)
class Stage:
    """A stage as `dvc.yaml` defines it."""

    name: str
    params: tuple[str, ...]  # sections and settings of params.yaml, by dotted name
    deps: tuple[str, ...]
    outs: tuple[str, ...]  # with metrics
    published: bool  # `meta: {mlflow: true}`: an MLflow run shows its outputs


@dataclass(frozen=True)
class Inputs:
    """What the outputs of a stage depend on: settings by dotted name, and the MD5 of each dependency by path."""

    settings: Mapping[str, Any]
    files: Mapping[str, str]
    # The files of data, models and tables, each as the file system knew it just before its MD5 was taken.
    looked_at: Mapping[Path, "FileState"] = field(default_factory=dict, compare=False)

    def difference(self, now: "Inputs") -> str | None:
        """The first input that has another value in `now`, in words; None if all are equal."""
        changed_files = (path for path, _ in self.files.items() ^ now.files.items())
        return changed_setting(self.settings, now.settings) or min(changed_files, default=None)

    def rewritten(self) -> str | None:
        """The first file that was written to since it was looked at, even if it has its old content again.

        Stages read images from disk while they run, so they may have read what was there in between.
        """
        for path, before in self.looked_at.items():
            if not path.exists() or file_state(path) != before:
                return str(path)
        data = {path: md5 for path, md5 in self.files.items() if not is_code(path)}
        return next((path for path, md5 in data.items() if path_md5(Path(path)) != md5), None)


@dataclass(frozen=True)
class Record:
    """A stage as it ran."""

    inputs: Inputs
    outs: Mapping[str, str]  # path: MD5


@dataclass(frozen=True)
class Project:
    """The settings, checked (`params`) and as the file has them (`settings`), and the stages."""

    params: Params
    settings: Mapping[str, Any]
    stages: Mapping[str, Stage]

    @property
    def tracked(self) -> dict[str, Any]:
        """Every setting that a stage depends on, by dotted name: the settings that shape results."""
        return select(self.settings, [name for stage in self.stages.values() for name in stage.params])

    def settings_of(self, stage: str) -> dict[str, Any]:
        """The settings that a stage depends on, by dotted name."""
        return select(self.settings, self.stages[stage].params)

    def inputs(self, stage: str) -> Inputs:
        """What a stage depends on, with its files as they are now."""
        paths = [path for path in self.stages[stage].deps if Path(path).exists()]
        looked_at = {file: file_state(file) for path in paths if not is_code(path) for file in files_in(Path(path))}
        return Inputs(self.settings_of(stage), {path: path_md5(Path(path)) for path in paths}, looked_at)


def read_project(recipe: Mapping[str, Mapping[str, Any]] | None = None) -> Project:
    """Read and check `params.yaml`, with a recipe over it, and `dvc.yaml`; a UserError has a line per broken rule."""
    settings, name = read_settings(layout.PARAMS), layout.PARAMS.name
    if recipe:
        parse_params(settings, name)
        settings = overlaid(settings, recipe)
        name += " with the recipe"
    params = parse_params(settings, name)
    return Project(params, settings, parse_stages(read_text(DEFINITION), settings))


def overlaid(settings: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings with changes, by section; a section that names another network is replaced as a whole."""
    result = dict(settings)
    for section, new in changes.items():
        old = settings.get(section, {})
        is_other_network = "network" in new and new["network"] != old.get("network")
        result[section] = {**({} if is_other_network else old), **new}
    return result


def parse_stages(text: str, settings: Mapping[str, Any]) -> dict[str, Stage]:
    """The stages in the text of a `dvc.yaml`; `settings` fill in `${section.setting}`. A UserError if it has none."""
    values = flat(settings)

    def paths(entries: Iterable[str | Mapping[str, Any]]) -> tuple[str, ...]:
        texts = (entry if isinstance(entry, str) else next(iter(entry)) for entry in entries)  # some have options
        return tuple(re.sub(SETTING, lambda match: str(values.get(match[1])), text) for text in texts)

    try:
        return {
            name: Stage(
                name,
                tuple(entry.get("params", ())),
                paths(entry.get("deps", ())),
                paths([*entry.get("outs", ()), *entry.get("metrics", ())]),
                bool(entry.get("meta", {}).get("mlflow")),
            )
            for name, entry in read_yaml(text, DEFINITION.name)["stages"].items()
        }
    except (AttributeError, KeyError, TypeError):
        raise UserError(f"{DEFINITION} defines no stages: restore it with `git checkout {DEFINITION}`") from None


def read_lock() -> dict[str, Record]:
    """What `dvc.lock` records of the stages that have run; empty without the file. Raises what `parse_lock` does."""
    return parse_lock(read_text(LOCK)) if LOCK.is_file() else {}


def parse_lock(text: str) -> dict[str, Record]:
    """What the text of a `dvc.lock` records; a UserError if it is not what DVC writes."""
    try:
        stages = (read_yaml(text, LOCK.name) or {}).get("stages", {})
        return {name: parse_record(entry) for name, entry in stages.items()}
    except (UserError, AttributeError, KeyError, TypeError):
        raise UserError(f"{LOCK} is broken (a merge conflict?): repair it, or `git checkout {LOCK}`") from None


def settings_behind(stage: str, records: Mapping[str, Record]) -> dict[str, Any]:
    """The recorded settings of a stage and of the stages before it, by dotted name: they shaped its outputs."""
    inputs = records[stage].inputs
    settings: dict[str, Any] = {}
    for name, record in records.items():
        if record.outs.keys() & inputs.files.keys():
            settings |= settings_behind(name, records)
    return {**settings, **inputs.settings}


def parse_record(entry: Mapping[str, Any]) -> Record:
    """A stage's entry in `dvc.lock` or in DVC's run cache; a KeyError or TypeError if it is none."""
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
    """The named sections and settings, flat, by dotted name; names that do not exist are left out."""
    chosen = tuple(f"{name}." for name in names)
    return {name: value for name, value in flat(settings).items() if f"{name}.".startswith(chosen)}


def changed_setting(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first setting that has another value now, is new or is gone, in words."""
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            return f"{name} {then.get(name, 'not set')}, {layout.PARAMS} has {now.get(name, 'no such setting')}"
    return None


def state_key(settings: Mapping[str, Any], model_md5: str) -> str:
    """Identifies a finished state: all settings that any stage depends on, by dotted name, and the weights."""
    return _digest({"settings": canonical(settings), "model": model_md5})


def training_key(inputs: Inputs) -> str:
    """Identifies a training, finished or not, by the inputs of stage `train`."""
    return _digest({"settings": canonical(inputs.settings), "files": dict(inputs.files)})


def canonical(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as texts, the same for equal values such as 5, 5.0 and "5.0": MLflow keeps only texts."""
    texts = {name: str(value) for name, value in settings.items()}
    for name, value in settings.items():
        if not isinstance(value, bool):
            with suppress(TypeError, ValueError, OverflowError):
                texts[name] = repr(float(value))
    return texts


def path_md5(path: Path) -> str:
    """The MD5 that DVC gives a file or a folder.

    For a folder, it is the MD5 of a list with the path and the MD5 of each file. Ignored files are not listed.
    """
    if not path.is_dir():
        return file_md5(path)
    listed = [{"md5": file_md5(path / name), "relpath": name} for name in files_for_dvc(path)]
    return f"{text_md5(json.dumps(listed, sort_keys=True))}.dir"


def files_for_dvc(folder: Path) -> list[str]:
    """The files that DVC sees in a folder, by their path in it, sorted.

    In the project it ignores what its own patterns and .dvcignore name; files outside the project are never ignored.
    """
    patterns = IGNORED.read_text(encoding="utf-8").splitlines() if IGNORED.exists() else []
    where = Path(os.path.relpath(folder))
    ignored = GitIgnoreSpec.from_lines([] if where.parts[:1] == ("..",) else [".git", ".hg/", ".dvc/", *patterns])
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return [name for name in names if not ignored.match_file(where / name)]


def is_code(path: str) -> bool:
    """Whether a dependency is code of this project, which a process reads once, when it starts."""
    return path.startswith(("src/", "pipeline/"))


def files_in(path: Path) -> list[Path]:
    """A file itself, or the files that DVC sees in a folder."""
    return [path / name for name in files_for_dvc(path)] if path.is_dir() else [path]


def file_state(path: Path) -> FileState:
    """What changes if somebody writes to a file."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def file_md5(path: Path) -> str:
    """The MD5 of a file's content; the file is read again only after a change."""
    return _file_md5(path.absolute(), *file_state(path), path.stat().st_ctime_ns)


@cache
def _file_md5(path: Path, *state: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def text_md5(text: str) -> str:
    """The MD5 of a text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

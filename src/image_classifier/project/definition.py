"""Reads `params.yaml`, `dvc.yaml` and `dvc.lock`: what each stage depends on, and what has run.

Publication, checkpoints, tests and benchmarks ask this module instead of reading the files.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from image_classifier.project import locations
from image_classifier.project.hashing import FileState, file_md5, file_state, files_in, is_code, path_md5
from image_classifier.project.params import Params, parse_params, read_settings, read_text, read_yaml
from image_classifier.project.settings import changed_setting, flat, overlaid, select
from image_classifier.system.errors import UserError

DEFINITION = Path("dvc.yaml")
LOCK = Path("dvc.lock")
SETTING = re.compile(r"\$\{([\w.]+)\}")  # in a path


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
    # All files but modules, which a process reads once, each as the file system knew it just before its MD5 was taken.
    looked_at: Mapping[Path, FileState] = field(default_factory=dict, compare=False)
    code: Mapping[str, str] = field(default_factory=dict, compare=False)  # MD5 of each file in the dependencies on code

    def difference(self, now: "Inputs", source: Path = locations.PARAMS) -> str | None:
        """The first input that has another value in `now`, in words; None if all are equal.

        `source` is the file that holds the settings of `now`.
        """
        changed = min((path for path, _ in self.files.items() ^ now.files.items()), default=None)
        inside = (file for file, _ in self.code.items() ^ now.code.items() if file.startswith(f"{changed}/"))
        file = min(inside, default=changed) if self.code and now.code else changed
        return changed_setting(self.settings, now.settings, source) or file

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
        files = [(path, file) for path in paths for file in files_in(Path(path))]
        looked_at = {file: file_state(file) for path, file in files if not (is_code(path) and file.suffix == ".py")}
        code = {file.as_posix(): file_md5(file) for path, file in files if is_code(path)}
        return Inputs(self.settings_of(stage), {path: path_md5(Path(path)) for path in paths}, looked_at, code)


def read_project(recipe: Mapping[str, Mapping[str, Any]] | None = None) -> Project:
    """Read and check `params.yaml`, with a recipe over it, and `dvc.yaml`; a UserError has a line per broken rule."""
    settings, name = read_settings(locations.PARAMS), locations.PARAMS.name
    if recipe:
        parse_params(settings, name)
        settings = overlaid(settings, recipe)
        name += " with the recipe"
    params = parse_params(settings, name)
    return Project(params, settings, parse_stages(read_text(DEFINITION), settings))


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


def parse_cached(content: bytes) -> Record | None:
    """The record in a file of DVC's run cache; None if it is damaged: DVC skips it, too."""
    try:
        return parse_record(read_yaml(content.decode(), "DVC's run cache"))
    except (UserError, AttributeError, KeyError, TypeError, UnicodeDecodeError):
        return None


def parse_record(entry: Mapping[str, Any]) -> Record:
    """A stage's entry in `dvc.lock` or in DVC's run cache; a KeyError or TypeError if it is none."""
    settings = flat(entry.get("params", {}).get(locations.PARAMS.as_posix(), {}))
    deps, outs = ({file["path"]: file["md5"] for file in entry.get(kind, ())} for kind in ("deps", "outs"))
    return Record(Inputs(settings, deps), outs)

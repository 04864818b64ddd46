"""What DVC noted of the stages that have run: `dvc.lock`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cifar_resnet import layout
from cifar_resnet.errors import UserError
from cifar_resnet.params import Params

LOCK = Path("dvc.lock")


def read_lock() -> dict[str, Any]:
    """The stages in `dvc.lock`, empty if there is none.

    Raises:
        UserError: it is broken.
    """
    return parse_lock(LOCK.read_text(encoding="utf-8")) if LOCK.is_file() else {}


def parse_lock(text: str) -> dict[str, Any]:
    """The stages in the text of a `dvc.lock`.

    Raises:
        UserError: it is not what DVC writes.
    """
    try:
        content = YAML(typ="safe", pure=True).load(text) or {}
        return dict(content.get("stages", {}))
    except (YAMLError, AttributeError, TypeError):
        raise UserError("dvc.lock is broken (a merge conflict?): mend it, or `git checkout dvc.lock`") from None


def changed_setting(entry: Mapping[str, Any], params: Params) -> str | None:
    """The first setting that a stage's entry has another value of, in words."""
    now = params.model_dump(mode="json")
    for path, then in locked_settings(entry).items():
        if (current := _setting(now, path)) != then:
            return f"{path} {then}, params.yaml has {current}"
    return None


def locked_settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a stage has run with, by dotted name."""
    settings: dict[str, Any] = {}
    for name, value in entry.get("params", {}).get(layout.PARAMS.as_posix(), {}).items():
        section = value if isinstance(value, dict) else {None: value}  # a section, or one setting
        settings |= {name if key is None else f"{name}.{key}": each for key, each in section.items()}
    return settings


def _setting(settings: Any, path: str) -> Any:
    """The value at a dotted path, None if there is none."""
    for part in path.split("."):
        settings = settings.get(part) if isinstance(settings, dict) else None
    return settings

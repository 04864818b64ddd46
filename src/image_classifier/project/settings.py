"""Settings by section and by dotted name, and what differs between two sets of them."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from image_classifier.project import locations


def overlaid(settings: Mapping[str, Any], changes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings with changes, by section; a section that names another network is replaced as a whole."""
    result = dict(settings)
    for section, new in changes.items():
        old = settings.get(section, {})
        result[section] = {**({} if names_other_network(old, new) else old), **new}
    return result


def names_other_network(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a section changes to another network, which has none of the old one's settings."""
    return "network" in new and new["network"] != old.get("network")


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


def changed_setting(then: Mapping[str, Any], now: Mapping[str, Any], source: Path = locations.PARAMS) -> str | None:
    """The first setting that has another value now, is new or is gone, in words; `source` holds the values of now."""
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) != now.get(name):
            return f"{name} {then.get(name, 'not set')}, {source} has {now.get(name, 'no such setting')}"
    return None


def canonical(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as texts, the same for equal values such as 5, 5.0 and "5.0": MLflow keeps only texts."""
    texts = {name: str(value) for name, value in settings.items()}
    for name, value in settings.items():
        if not isinstance(value, bool):
            with suppress(TypeError, ValueError, OverflowError):
                texts[name] = repr(float(value))
    return texts

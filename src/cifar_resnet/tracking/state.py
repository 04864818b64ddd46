"""What identifies a run: the settings that shape results, and the weights that came of them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from cifar_resnet.params import Params

TRAINING_SECTIONS = ("data", "augment", "model", "lr_find", "train", "compute")


def result_params(params: Params) -> dict[str, dict[str, Any]]:
    """The settings that shape results: not `runtime`, and not where the data came from, as its checksum is known."""
    return params.model_dump(mode="json", exclude={"runtime": True, "data": {"sources"}})


def flat_params(params: Params) -> dict[str, str]:
    """Those settings under dotted names, as MLflow keeps them."""
    sections = result_params(params).items()
    return {f"{section}.{key}": str(value) for section, values in sections for key, value in values.items()}


def state_key(params: Params, model_md5: str) -> str:
    """Identifies a finished state of the pipeline."""
    return _digest({"params": result_params(params), "model": model_md5})


def training_key(params: Params) -> str:
    """Identifies a training whose weights do not exist yet."""
    shaping = result_params(params)
    return _digest({section: shaping[section] for section in TRAINING_SECTIONS})


def file_md5(path: Path) -> str:
    """The MD5 that DVC gives a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def text_md5(text: str) -> str:
    """The MD5 of a text."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _digest(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()

"""Keys of trainings and of finished states: equal keys mean equal inputs."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from image_classifier.project.definition import Inputs
from image_classifier.project.settings import canonical


def state_key(settings: Mapping[str, Any], model_md5: str) -> str:
    """Identifies a finished state: all settings that any stage depends on, by dotted name, and the weights."""
    return _digest({"settings": canonical(settings), "model": model_md5})


def training_key(inputs: Inputs) -> str:
    """Identifies a training, finished or not, by the inputs of stage `train`."""
    return _digest({"settings": canonical(inputs.settings), "files": dict(inputs.files)})


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()

"""docs/extending.md, followed word for word in a copy of the project."""

import json
import re
from pathlib import Path

from ruamel.yaml import YAML
from support.project import PROJECT
from support.real_repro import STAGES, all_runs, dvc, executed

from image_classifier.project import locations
from image_classifier.project.recipes import overlay

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
# A step names its file in backquotes, and a block with the file's text or with a difference follows.
STEPS = re.findall(
    r"^\d\. [^`]*`([\w/.]+)`(?:(?!```|^\d\.).)*```(python|diff)\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL
)


def apply(name: str, kind: str, block: str) -> None:
    if kind == "python":
        Path(name).write_text(block, encoding="utf-8")
        return
    lines = block.splitlines(keepends=True)
    before, after = ("".join(line[1:] for line in lines if line[0] == sign).rstrip("\n") for sign in "-+")
    text = Path(name).read_text(encoding="utf-8")
    assert before in text, f"{name} no longer has what the page replaces: {before}"
    Path(name).write_text(text.replace(before, after, 1), encoding="utf-8")


def test_a_data_set_a_network_and_a_stage_of_ones_own_work_as_the_page_says(workspace: Path) -> None:
    for name, kind, block in STEPS:
        apply(name, kind, block)
    chosen = YAML(typ="safe").load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[-1])
    settings = YAML().load(locations.PARAMS)
    settings["model"] = chosen.pop("model")
    YAML().dump(settings, locations.PARAMS)
    overlay(locations.PARAMS, {**chosen, "train": {"batch_size": 32, "lr_min": 0.01, "lr_max": 0.2}}, locations.PARAMS)

    assert executed(dvc("repro")) == [*STAGES[:-1], "hardest_class", STAGES[-1]]
    assert json.loads(locations.TEST_METRICS.read_text(encoding="utf-8"))["accuracy"] > 0.9
    assert json.loads(Path("reports/hardest_class.json").read_text(encoding="utf-8"))["class"] in ("upright", "level")
    (run,) = all_runs(workspace)
    assert run.data.params["model.network"] == "one_layer"
    assert "hardest_class.json" in run.data.tags["mlflow.pipeline.files"]
    assert executed(dvc("repro")) == []

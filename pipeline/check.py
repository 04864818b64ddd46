"""`python -m pipeline.check`: is params.yaml valid, and does anything on this machine prevent a run?

With --write-schema, write the schema that editors check params.yaml with.
"""

import json
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path

from image_classifier.project import locations
from image_classifier.project.definition import LOCK, Project
from image_classifier.project.doctor import examine, has_git, works_without_git
from image_classifier.project.params import Params
from image_classifier.project.recipes import comment_of, read_with_comments
from image_classifier.project.records import stages_of_other_code
from image_classifier.system.errors import UserError
from image_classifier.system.files import write_text
from pipeline.stage import main

SCHEMA = Path("params.schema.json")


def run(project: Project) -> None:
    """Say that params.yaml is valid, since `project` was made from it, and what may stop a run.

    A UserError if something will stop a run.
    """
    print(f"{locations.PARAMS} is valid")
    if not has_git() and not works_without_git():
        subprocess.run([sys.executable, "-m", "dvc", "config", "--local", "core.no_scm", "true"])  # prints why it fails
        if works_without_git():
            print("no Git repository here: DVC was set to work without one, in .dvc/config.local")
    if stages := stages_of_other_code(project):
        print(f"{LOCK} was made by other code: {', '.join(stages)}; `dvc repro` runs what that changes")
    findings = examine(project)
    for finding in findings:
        if finding.level == "warning":
            print(f"warning: {finding.text}", file=sys.stderr)
    if errors := [finding.text for finding in findings if finding.level == "error"]:
        raise UserError("\n".join(errors))


def write_schema() -> None:
    """Write the JSON schema of params.yaml."""
    write_text(SCHEMA, schema_text())
    print(f"wrote {SCHEMA}")


def schema_text() -> str:
    """The JSON schema of params.yaml, generated from the models; the comments of params.yaml describe the settings."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
    for section, settings in read_with_comments(locations.PARAMS).items():
        models = schema["properties"][section].get("oneOf", [schema["properties"][section]])
        for model in models:
            properties = schema["$defs"][Path(model["$ref"]).name]["properties"]
            for name in settings.keys() & properties.keys():
                if comment := comment_of(settings, name):
                    properties[name]["description"] = comment
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m pipeline.check", description=__doc__)
    parser.add_argument("--write-schema", action="store_true", help=f"write {SCHEMA} instead")
    main(write_schema if parser.parse_args().write_schema else run)

"""`python -m pipeline.doctor`: find what would stop a run or lose its results; one line each, with the remedy."""

import sys

from image_classifier.project.definition import Project
from image_classifier.project.doctor import Finding, examine
from image_classifier.system.errors import UserError
from pipeline.stage import main
from pipeline.ui import free_port


def run(project: Project) -> None:
    """Print all findings; the exit status is 1 if there is an error among them."""
    findings = [*examine(project), ui_port()]
    for finding in findings:
        print(f"{finding.level + ':':<9}{finding.text}")
    sys.stdout.flush()
    sys.exit(any(finding.level == "error" for finding in findings))


def ui_port() -> Finding:
    """Whether `make ui` could be started."""
    try:
        return Finding("ok", f"port {free_port()} is free for `make ui`")
    except UserError as used:
        return Finding("warning", str(used))


if __name__ == "__main__":
    main(run, __doc__)

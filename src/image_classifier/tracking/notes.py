"""What people write in MLflow stays: this project replaces only names and descriptions that it wrote itself.

A name that it gave ends with the key of a state or a training. Beside a description, a tag notes the MD5 of what was
written last. An empty description is filled again.
"""

import re
from collections.abc import Iterable

from mlflow.entities import Run

from image_classifier.project.hashing import text_md5
from image_classifier.tracking.provenance import EXPERIMENT
from image_classifier.tracking.store import Store

DESCRIPTION = "mlflow.note.content"  # MLflow's own tag of a run
DESCRIBED = "mlflow.pipeline.described"  # tag of a run, version or registered model: MD5 of the description
NAME = re.compile(r"\w+-\d+ep-seed\d+(-\d+\.\d\d)?(-training)?-[0-9a-f]{8}")
RUN_DESCRIPTION = re.compile(  # as it was written before the tag existed
    r"(\*\*[\w.]+% test accuracy\*\*, loss [\w.]+\.\n\n)?Data set \w+, epochs: \d+, seed: \d+\."
    r"(\n\nMistakes, the most confident first: artifact `evaluate/misclassified\.csv`\.)?"
    r"(\n\nWhere the network looked: artifact `gradcam/index\.html`\.)?"
    r"(\n\nThe weights are those of run \S+ \(\w+\)\.)?"
)


def is_own(shown: str | None, noted: str | None, looks_own: bool) -> bool:
    """Whether this project may replace a description: it is empty or as `noted`; without a note, if it `looks_own`."""
    return not shown or (text_md5(shown) == noted if noted else looks_own)


def has_own_name(run: Run) -> bool:
    """Whether nobody renamed a run."""
    name = str(run.info.run_name).removeprefix(f"{run.data.tags.get(EXPERIMENT)}-")
    return bool(NAME.fullmatch(name))


def has_own_description(run: Run) -> bool:
    """Whether nobody described a run."""
    shown = run.data.tags.get(DESCRIPTION, "")
    return is_own(shown, run.data.tags.get(DESCRIBED), bool(RUN_DESCRIPTION.fullmatch(shown)))


def hand_over(store: Store, removed: Iterable[Run], kept: Run) -> Run:
    """Give the run that is kept what people wrote about runs that are removed; returns it as it is then."""
    for run in removed:
        if has_own_name(kept) and not has_own_name(run):
            store.client.update_run(kept.info.run_id, name=run.info.run_name)
        if has_own_description(kept) and not has_own_description(run):
            store.client.set_tag(kept.info.run_id, DESCRIPTION, run.data.tags[DESCRIPTION])
        kept = store.client.get_run(kept.info.run_id)
    return kept

"""The page of a comparison: which images a run fixes and breaks, and where both networks looked, in one HTML file."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from image_classifier.compare.comparison import Comparison, accuracy_cells, changed_settings, points
from image_classifier.compare.sources import ComparedRun, code_address, describe_code, read_net, read_test_images
from image_classifier.evaluation.predictions import first_of_each
from image_classifier.evaluation.statistics import judged
from image_classifier.model.compute import prepare_compute
from image_classifier.project.params import Params
from image_classifier.report.gradcam import activation_maps
from image_classifier.report.pages import heat_sheet, image_sheet, render_page, sheet_columns
from image_classifier.report.svg import NUM_BARS, reliability_charts, training_charts
from image_classifier.system.errors import UserError


def render_comparison(comparison: Comparison, params: Params) -> str:
    """The page as HTML. `params.gradcam` sets how maps are made and how many images there are, a third per outcome."""
    runs, num_bins = (comparison.first, comparison.other), params.evaluate.calibration_bins
    one, other = (run.evaluation for run in runs)
    outcomes, cells = comparison.outcomes(), np.column_stack([one.labels, one.predicted, other.predicted]).tolist()
    number = params.gradcam.images // len(outcomes)
    shown = {name: first_of_each(images, one.labels[images], number) for name, images in outcomes.items()}
    counts = Counter((name, *cells[image]) for name, images in outcomes.items() for image in images)
    changes = comparison.class_changes()
    most_changed = sorted(changes, key=lambda each: -abs(each[1].difference))[:NUM_BARS]

    def facts(outcome: str, true: int, *predicted: int) -> dict[str, Any]:  # the gallery filters images by these
        return {"show": outcome, "true": one.classes[true], "predicted": [one.classes[each] for each in predicted]}

    return render_page(
        "compare.html.j2",
        comparison=comparison,
        images=[(name, index, cells[index]) for name, indices in shown.items() for index in indices.tolist()],
        counts=[[facts(*kind), count] for kind, count in counts.items()],
        totals={name: len(images) for name, images in outcomes.items()},
        facts=facts,
        judged=judged(comparison.p_value),
        points=points,
        class_changes=[each for each in changes if each in most_changed],
        table=[(run.name, *accuracy_cells(run), run.evaluation.metrics(num_bins)) for run in runs],
        training=training_charts({run.name: run.history for run in runs}),
        confidence=reliability_charts({run.name: run.evaluation for run in runs}, num_bins),
        settings=changed_settings(runs),
        code=describe_code(*runs),
        address=code_address(*runs),
        gradcam=params.gradcam,
        columns=sheet_columns(sum(map(len, shown.values()))),
        **_pictures(runs, np.concatenate(list(shown.values())), params),
    )


def _pictures(runs: Sequence[ComparedRun], shown: NDArray[np.int64], params: Params) -> dict[str, Any]:
    """The sheets of pictures, notes that tell why one is missing, and the side of an image in pixels."""
    try:
        images = read_test_images(runs)[shown]
    except UserError as error:
        return {"sheets": {}, "notes": [f"Without images: {error}"], "image_px": 32}
    sheets, notes, compute = {"images": image_sheet(images)}, [], prepare_compute(params.compute)
    for side, run in zip(("first", "other"), runs, strict=True):
        try:
            net, classes = compute.place(read_net(run)), run.evaluation.predicted[shown]
            sheets[side] = heat_sheet(activation_maps(net, images, classes, params.gradcam))
        except UserError as error:
            notes.append(f"Without maps of {run.name}: {error}")
    return {"sheets": sheets, "notes": notes, "image_px": images.shape[1]}

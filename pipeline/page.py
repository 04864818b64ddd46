"""`make page`: the exported model as a web page that needs no server of its own, in `export/page`.

Any static server can show the folder, such as GitHub Pages. The model runs in the browser, and pictures go nowhere.
`python -m pipeline.export` comes first.
"""

import json

import numpy as np

from image_classifier.data import load_dataset
from image_classifier.export.page import RUNTIME, write_page
from image_classifier.project import locations
from image_classifier.project.hashing import file_md5
from image_classifier.serving.prediction import model_folder
from image_classifier.system.errors import UserError
from pipeline.stage import main

NUM_EXAMPLES = 8


def run() -> None:
    """Write the folder for the model of this project, or else of the demo.

    A UserError if the model was not exported since its training, or the browser's runtime is missing.
    """
    project = model_folder()
    exported = project / locations.EXPORT / "float32"
    try:
        model, proof = (exported / "model.onnx").read_bytes(), json.loads((exported / "proof.json").read_bytes())
    except FileNotFoundError:
        raise UserError(f"{exported} has no export: run `python -m pipeline.export`, then `make page` again") from None
    if proof["weights_md5"] != file_md5(project / locations.MODEL):
        raise UserError(f"{exported} is of other weights: run `python -m pipeline.export`, then `make page` again")
    if missing := [name for name in RUNTIME if not (locations.WEB_RUNTIME / name).exists()]:
        raise UserError(f"{locations.WEB_RUNTIME / missing[0]} is missing: `make page` gets it")
    unsure_up_to = None if proof["unsure_up_to"] == "none" else float(proof["unsure_up_to"])
    facts = {
        "classes": json.loads(proof["classes"]),
        "unsure_up_to": unsure_up_to,
        **{name: proof[name] for name in ("dataset", "weights_md5", "license")},
    }
    dataset = load_dataset(project / locations.DATA / proof["dataset"])
    shown = np.linspace(0, len(dataset.test_labels) - 1, NUM_EXAMPLES).astype(int)
    names = [dataset.classes[label] for label in dataset.test_labels[shown]]
    folder = project / locations.EXPORT / "page"
    write_page(folder, model, facts, dataset.test_images[shown], names, locations.WEB_RUNTIME)
    print(f"wrote {folder}; to look at it: `python -m http.server -b 127.0.0.1 -d {folder} 8001`")


if __name__ == "__main__":
    main(run, __doc__)

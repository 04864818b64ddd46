"""Where the pipeline keeps its files, relative to the project root (the working directory of every stage)."""

import os
from pathlib import Path

PARAMS = Path("params.yaml")
DATA = Path("data")  # one folder per data set below it

REPORTS = Path("reports")
LR_CURVE = REPORTS / "lr_find" / "curve.csv"
LR_FOUND = REPORTS / "lr_find" / "lr_find.json"

WEIGHTS = Path("weights")  # files of one's own to start a training from
START = Path("models") / "start.safetensors"
MODEL = Path("models") / "model.pt"
HISTORY = REPORTS / "train" / "history.csv"
TRAIN_METRICS = REPORTS / "train" / "metrics.json"

EVALUATION = REPORTS / "evaluate"
TEST_METRICS = EVALUATION / "metrics.json"
PREDICTIONS = EVALUATION / "predictions.csv"
CONFUSION = EVALUATION / "confusion_matrix.csv"
CONFUSION_PLOT = EVALUATION / "confusion_matrix.png"
CONFUSED_PAIRS = EVALUATION / "confused_pairs.csv"
MISCLASSIFIED = EVALUATION / "misclassified.csv"
MISCLASSIFIED_PLOT = EVALUATION / "misclassified.png"
RELIABILITY_PLOT = EVALUATION / "reliability.png"
LR_CURVE_PLOT = EVALUATION / "lr_curve.png"
LEARNING_CURVES = EVALUATION / "learning_curves.png"

GRADCAM_PAGE = REPORTS / "gradcam" / "index.html"
GRADCAM_PLOT = REPORTS / "gradcam" / "gradcam.png"
MODEL_CARD = REPORTS / "model_card.md"
INPUTS = REPORTS / "inputs"  # for each stage, what it ran with: STAGE.json
COMPARISONS = REPORTS / "compare"

EXPORT = Path("export")  # a folder for each number format, float32 and int8, and one for the page
WEB_RUNTIME = Path("build") / "onnxruntime-web"  # where `make page` puts it

DEMO = Path("build") / "demo"  # a project of its own, which `make demo` makes
CHECKPOINTS = Path("checkpoints")  # outside every DVC output: DVC deletes outputs before a stage runs


def project_root() -> Path:
    """The project's folder; in a DVC experiment's temporary copy, the folder of the main project."""
    if root := os.environ.get("DVC_ROOT"):  # set by DVC for stages
        return Path(root).resolve()
    here = Path.cwd().resolve()
    folders = (here, *here.parents)  # unlike pathlib, os.path raises no error for a folder that this user may not read
    return next((folder for folder in folders if os.path.isdir(folder / ".dvc")), here)  # noqa: PTH112

"""What is measured: each method runs a process or a few, and gives figures as JSON has them."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML

from benchmarks.stopwatch import Observation, observe
from benchmarks.workspace import PROJECT, Settings, Size, environment, make_workspace
from image_classifier.data import Dataset
from image_classifier.model.compute import native_precisions
from image_classifier.project import locations
from pipeline.demo import RECIPE, prepare_project

PLAIN = "the notebooks' loop"
TUNED = "an experienced user's loop"
LIGHTNING_TUNED = "PyTorch Lightning, tuned"
OURS = "this project"
OURS_FP32 = "this project, fp32"
OURS_PROCESSES = "this project, 2 processes"

VARIANTS: Mapping[str, Settings] = {
    OURS: {},  # params.yaml as it stands
    OURS_FP32: {"compute": {"precision": "fp32"}},
    OURS_PROCESSES: {"compute": {"processes": 2}},
}
PEERS: Mapping[str, str] = {  # modules in benchmarks.peers
    PLAIN: "plain",
    TUNED: "tuned",
    "PyTorch Lightning": "lightning_peer",
    LIGHTNING_TUNED: "lightning_peer",
    "fastai": "fastai_peer",
    "PyTorch-Ignite": "ignite_peer",
}
CONTENDERS = (OURS, TUNED, OURS_FP32, PLAIN, *list(PEERS)[2:], OURS_PROCESSES)
# glibc keeps what is freed, as the product has it do; and Lightning's module takes bf16-mixed and channels_last.
TUNING = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40), "TUNED": "1"}

STAGES = ("download", "lr_find", "train", "evaluate", "gradcam_report")
NO_OP_REPEATS = 5

# What `train` prints after the first step of an epoch, after its last, and after the evaluation; the peers do likewise.
FIRST_STEP, LAST_STEP, EVALUATED = "EPOCH:", "Loss=", "Test set:"

Figures = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """A folder for everything that the measured processes read and write, and the images to train on."""

    folder: Path
    dataset: Dataset

    def contender(self, name: str, size: Size) -> Figures:
        """One epoch of the same training by the product or a peer: seconds of a step and of the whole epoch.

        The first step is slower, by what is set up in it; in the epoch it counts as another like the rest.
        """
        workspace = self._workspace(size, VARIANTS.get(name, {}))
        if name in VARIANTS:
            command = ["-m", "pipeline.train"]
        else:
            task = (workspace / locations.DATA / "cifar10", size.width, size.batch_size, size.epochs)
            command = ["-m", f"benchmarks.peers.{PEERS[name]}", *map(str, task)]
        tuning = TUNING if name in (TUNED, LIGHTNING_TUNED) else {}
        seen = self._python(workspace, command, until=EVALUATED, **tuning)
        first, last, evaluated = (seen.times(line)[0] for line in (FIRST_STEP, LAST_STEP, EVALUATED))
        step = (last - first) / (size.steps - 1)
        if name in VARIANTS:
            compute = seen.rest("training on ").partition(":")[0]
        else:
            has_bf16 = "bf16" in native_precisions(torch.device("cpu"))
            compute = f"cpu, {'bf16' if tuning and has_bf16 else 'fp32'}"
        return {
            "step": asdict(step),
            "epoch": asdict(evaluated - first + step),
            "peak_bytes": seen.peak_bytes,
            "compute": compute,
        }

    def peak_memory(self, size: Size) -> int:
        """Bytes that stage `train` has in memory at most, in its first steps; later ones need no more."""
        return self._python(self._workspace(size, {}), ["-m", "pipeline.train"], until=LAST_STEP).peak_bytes

    def growth(self, size: Size) -> Figures:
        """CPU seconds from the first step of a whole stage `train` to the end of each epoch; what is done once."""
        seen = self._python(self._workspace(size, {}), ["-m", "pipeline.train"])
        first, evaluated = seen.times(FIRST_STEP)[0], seen.times(EVALUATED)
        images = [size.num_images * number - size.batch_size for number in range(1, size.epochs + 1)]
        return {
            "images": images,
            "cpu": [(times - first).cpu for times in evaluated],
            "start": asdict(first),
            "finish": asdict(seen.total - evaluated[-1]),
        }

    def overhead(self, size: Size) -> Figures:
        """What the stage adds to its steps; see the probe."""
        return self._probe("overhead", self._workspace(size, {}))

    def input_pipeline(self, size: Size) -> Figures:
        """Images per CPU second; see the probe."""
        return self._probe("input_pipeline", self._workspace(size, {}), str(locations.DATA / "cifar10"))

    def products(self, side: int) -> Figures:
        """The machine's rate of matrix products; see the probe."""
        return self._probe("products", self.folder, str(side))

    def start_up(self) -> Figures:
        """For each stage, from the start of Python to where its work begins."""
        commands = {stage: ["-c", f"import pipeline.{stage}"] for stage in STAGES}
        return {stage: asdict(self._python(PROJECT, command).total) for stage, command in commands.items()}

    def no_op(self) -> list[Figures]:
        """`dvc repro` with nothing to do, after one that ran all stages on scikit-learn's digits."""
        folder, recipe = self.folder / "digits", self.folder / "recipe.yaml"
        settings = YAML(typ="safe", pure=True).load(PROJECT / RECIPE)
        settings["train"].update(epochs=1, peak_epoch=0.5)
        YAML().dump(settings, recipe)
        prepare_project(folder, recipe)
        repro = ["-m", "dvc", "repro"]
        self._python(folder, repro)
        return [asdict(self._python(folder, repro).total) for _ in range(NO_OP_REPEATS)]

    def _workspace(self, size: Size, settings: Settings) -> Path:
        """A new workspace, in place of the last one: no checkpoint or output of an earlier training is there."""
        shutil.rmtree(self.folder / "workspace", ignore_errors=True)
        return make_workspace(self.folder / "workspace", self.dataset, size, settings)

    def _probe(self, name: str, folder: Path, *arguments: str) -> Figures:
        seen = self._python(folder, ["-m", f"benchmarks.probes.{name}", *arguments])
        figures: Figures = json.loads(seen.lines[-1][0])
        return figures

    def _python(self, folder: Path, arguments: list[str], until: str | None = None, **variables: str) -> Observation:
        variables = {**environment(self.folder / "mlflow.db"), **variables}
        return observe([sys.executable, *arguments], folder, variables, until)

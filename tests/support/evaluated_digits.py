"""A project in which a small network has been trained for a moment on digits, and evaluated by the real stage."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import torch
from support.project import PROJECT, TINY, make_digits

from image_classifier.data import Dataset, save_dataset
from image_classifier.model.compute import prepare_compute
from image_classifier.model.model_file import save_model
from image_classifier.model.network import Network, make_network
from image_classifier.outputs.history import EpochMetrics, write_history
from image_classifier.outputs.rates import FoundRates, LRSweep
from image_classifier.project import locations
from image_classifier.project.params import Params, load_params
from image_classifier.project.recipes import overlay
from pipeline import evaluate


def write_project(folder: Path) -> None:
    """Fill `folder` with the outputs of the stages before the report."""
    with chdir(folder):
        overlay(PROJECT / locations.PARAMS, TINY, locations.PARAMS)
        shutil.copy(PROJECT / "dvc.yaml", folder)
        params = load_params(locations.PARAMS)
        prepare_compute(params.compute)
        dataset = make_digits(seed=0)
        save_dataset(dataset, locations.DATA / "digits")
        for path in (locations.MODEL, locations.HISTORY):
            path.parent.mkdir(parents=True, exist_ok=True)
        save_model(locations.MODEL, train_a_moment(dataset, params), params.model, dataset)
        history = [EpochMetrics(n, 0.1 / n, 2 / n, 1 - 0.5 / n, 2.1 / n, 1 - 0.6 / n, "test") for n in (1, 2, 3)]
        write_history(locations.HISTORY, history)
        used = {"epochs": 3, "lr_min": 0.01234567, "lr_max": 0.4}
        locations.TRAIN_METRICS.write_text(json.dumps(used), encoding="utf-8")
        LRSweep((0.001, 0.01, 0.1), (2.3, 2.0, 1.5), (2.3, 2.2, 2.0)).write_csv(locations.LR_CURVE)
        FoundRates(0.001, 0.1, "valley", {"valley": 0.1}).write_json(locations.LR_FOUND)
        evaluate.run(params.data, params.evaluate, params.compute)


def train_a_moment(dataset: Dataset, params: Params, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    net = make_network(params.model, len(dataset.classes), dataset.mean, dataset.std)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for start in [*range(0, 1024, 128)] * 3:  # to two thirds right: mistakes of every kind
        images = torch.tensor(dataset.train_images[start : start + 128])
        labels = torch.tensor(dataset.train_labels[start : start + 128])
        loss = torch.nn.functional.cross_entropy(net(net.normalize(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()

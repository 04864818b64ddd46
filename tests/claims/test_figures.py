"""Every figure of the README and the docs is what the committed file that it cites gives.

`CITED` has, for each page, pieces of its text with the figures computed. A figure that no piece holds must be in
`GIVEN`: settings, examples, bounds that other tests hold, and figures of other people.
"""

import csv
import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML
from support.project import PROJECT
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import screen
from benchmarks.measurements import OURS, PLAIN, TUNED
from benchmarks.recipe import EPOCHS, WIDTH
from benchmarks.recipe import RESULTS as LADDER
from benchmarks.table import as_markdown
from image_classifier.evaluation.predictions import Evaluation
from image_classifier.evaluation.statistics import PairedCounts, SeedSample, p_text, wilson_interval
from image_classifier.evaluation.unsure import at_threshold, find_threshold
from image_classifier.model.network import make_network
from image_classifier.project.params import load_params, read_settings
from image_classifier.project.recipes import read_recipe
from image_classifier.training.loop import one_cycle
from image_classifier.training.lr_range import RULES
from image_classifier.training.optimizers import make_optimizers

RESULTS = PROJECT / "results"
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted(PROJECT.glob("docs/*.md")))]
Floats = NDArray[np.float64]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def about(run: str) -> dict[str, object]:
    content: dict[str, object] = YAML(typ="safe", pure=True).load(RESULTS / run / "about.yaml")
    return content


def minutes(run: str, key: str = "minutes") -> float:
    return float(str(about(run)[key]))


def metric(run: str, key: str) -> float:
    return float(json.loads((RESULTS / run / "evaluate" / "metrics.json").read_text(encoding="utf-8"))[key])


def accuracy(run: str, key: str = "accuracy") -> str:
    return f"{metric(run, key):.2%}".replace("%", " %")


def history(run: str) -> dict[int, dict[str, float]]:
    rows = table(RESULTS / run / "train" / "history.csv")
    return {int(row["epoch"]): {name: float(value) for name, value in row.items()} for row in rows}


def rates(run: str, epochs: int, peak_epoch: float) -> tuple[float, float]:
    """LRMIN and LRMAX of a finished training: its history has the rate of the last of 98 batches of each epoch."""
    rows = history(run)
    risen = [one_cycle(e - 1 / 98, epochs=epochs, peak_epoch=peak_epoch, lr_min=0, lr_max=1) for e in rows]
    equations = np.array([[1 - share, share] for share in risen])
    (lowest, highest), rest, *_ = np.linalg.lstsq(equations, np.array([row["lr"] for row in rows.values()]))
    assert rest < 1e-20, f"{run} did not run on this cycle"
    return float(lowest), float(highest)


def curve(run: str) -> tuple[Floats, Floats]:
    """Learning rates and smoothed losses of a sweep."""
    rows = table(RESULTS / run / "lr_find" / "curve.csv")
    return np.array([float(row["lr"]) for row in rows]), np.array([float(row["smoothed_loss"]) for row in rows])


def suggested(rule: str, run: str, trimmed: bool = False) -> float:
    lrs, losses = curve(run)
    kept = slice(len(lrs) // 10, -5) if trimmed else slice(None)  # fastai's cut
    return RULES[rule](lrs[kept], losses[kept])


def spread(values: list[float]) -> float:
    return max(values) / min(values)


def first_five_percent(run: str) -> float:
    """How LRMIN was read until commit a5840b4."""
    lrs, losses = curve(run)
    end = losses.argmin()
    top = losses[: end + 1].argmax()
    fallen = losses[top] - 0.05 * (losses[top] - losses[end])
    return float(lrs[top + np.argmax(losses[top : end + 1] <= fallen)])


HERE = ["intel-24-epochs", "intel-sweep-seed1", "intel-sweep-seed2"]
AMD = ["amd-24-epochs", "amd-sweep-seed1", "amd-sweep-seed2"]
SEVEN = [*HERE, *AMD, "intel-sweep-seed3"]
TRAINED = [1, 2, 3, 5, 8, 10, 13, 16, 18, 20, 22, 23, 24]  # epochs that the page shows


def rule_row(label: str, rule: str) -> str:
    here, amd = ([suggested(rule, run) for run in runs] for runs in (HERE, AMD))
    cells = [*map(two_digits, here), f"{spread(here):.2f}", *map(two_digits, amd), f"{spread([*here, *amd]):.2f}"]
    return f"| {label} | {' | '.join(cells)} |"


def two_digits(value: float) -> str:
    return f"{value:#.2g}"


def ladder(variant: str) -> list[float]:
    """Validation accuracies of what `python -m benchmarks.recipe` trained, by seed, in percent."""
    rows = [row for row in table(LADDER) if row["variant"] == variant]
    return [100 * float(row["validation_accuracy"]) for row in rows if int(row["epoch"]) == EPOCHS]


def gain(variant: str) -> SeedSample:
    """Of a variant over the default rule's rate with nothing changed, seed by seed."""
    return SeedSample.of([value - base for value, base in zip(ladder(variant), ladder("descent_end"), strict=True)])


def ladder_row(variant: str) -> str:
    return f"{trained(variant)} | {gain(variant).mean:+.2f} | {gain(variant).interval:+.2f} |"


def trained(variant: str) -> str:
    return f"{', '.join(f'{value:.1f}' for value in ladder(variant))} | {np.mean(ladder(variant)):.2f}"


def rule_row_trained(rule: str) -> str:
    [rate] = {row["lr_max"] for row in table(LADDER) if row["variant"] == rule}
    return f"`{rule}` | {rate} | {ladder_row(rule)}"


@cache
def operations(px: int = 32, width: int = 64) -> tuple[int, float]:
    """Parameters of the network, and GFLOP of a training step for an image: three times a forward pass."""
    model = load_params(PROJECT / "params.yaml").model.model_copy(update={"width": width})
    net = make_network(model, 10, (0.5,) * 3, (0.2,) * 3)
    with FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 3, px, px))
    return sum(p.numel() for p in net.parameters()), 3 * counter.get_total_flops() / 1e9


@cache
def muon_step() -> float:
    """GFLOP of Muon's part of a step, which does not depend on the images."""
    net = make_network(load_params(PROJECT / "params.yaml").model, 10, (0.5,) * 3, (0.2,) * 3)
    net.to(memory_format=torch.channels_last)
    _, muon = make_optimizers(net, load_params(PROJECT / "params.yaml").train.model_copy(update={"optimizer": "muon"}))
    net(torch.zeros(2, 3, 32, 32)).sum().backward()
    with FlopCounterMode(display=False) as counter:
        muon.step()
    return float(counter.get_total_flops()) / 1e9


def petaflop(name: str, **changed: int) -> float:
    """What a recipe, its section `train` changed, computes: sweep, training, and Muon."""
    settings = read_settings(PROJECT / "params.yaml")
    for section, changes in read_recipe(name).items():
        settings[section].update(changes)
    settings["train"].update(changed)
    train, small = settings["train"], round(settings["train"]["early_scale"] * 32)
    of_image = {px: operations(px)[1] / 1e6 for px in (32, small)}
    sweep = settings["lr_find"]["steps"]
    early, late = train["early_epochs"], train["epochs"] - train["early_epochs"]
    images = (early * 50_000 + sweep * train["batch_size"]) * of_image[small] + late * 50_000 * of_image[32]
    return float(images + (sweep + train["epochs"] * 98) * muon_step() / 1e6)


def accuracies(name: str) -> list[float]:
    """Those of a recipe's seeds, in percent."""
    runs = sorted(path.relative_to(RESULTS).as_posix() for path in (RESULTS / f"{name}-seeds").glob("seed*"))
    return [100 * metric(run, "accuracy") for run in runs]


def seeds(name: str) -> SeedSample:
    return SeedSample.of(accuracies(name))


def many_seeds(run: str) -> list[float]:
    """Test accuracies after the last epoch of what `python -m benchmarks.many_seeds` trained, by seed, in percent."""
    rows = table(RESULTS / run / "history.csv")
    last = max(int(row["epoch"]) for row in rows)
    return [100 * float(row["test_accuracy"]) for row in rows if int(row["epoch"]) == last]


def many_seeds_row(name: str, epochs: int) -> str:
    run = f"h200-{name}-seeds"
    figures = f"{np.mean(many_seeds(run)):.2f} %, mean of {len(many_seeds(run))} seeds | {epochs}"
    code = f"`{about(run)['commit']}`, [files](results/{run})"
    return f"| {figures} | {minutes(run):.0f} min for all | | NVIDIA H200 | {code}"


def time_row(run: str, percent: int, sweep_steps: int = 0) -> str:
    """When a training first reached so much of the test set, or that it never did."""
    rows = table(RESULTS / run / "time.csv")
    reached = next((row for row in rows if 100 * float(row["test_accuracy"]) >= percent), None)
    last = reached or rows[-1]
    never = "" if reached else f" (not reached, {100 * float(last['test_accuracy']):.2f} %)"
    images = int(last["epoch"]) * 50_000 + sweep_steps * 512
    times = f"{float(last['cpu_minutes']):.0f} | {float(last['minutes']):.0f}"
    return f"| {percent} %{never} | {last['epoch']} | {images * operations()[1] / 1e6:.1f} | {times} |"


def in_words(sample: SeedSample) -> str:
    return f"standard deviation {sample.standard_deviation:.2f}, 95 % interval {sample.interval:.2f}"


def screen_row(factor: str) -> str:
    effect, interval = screen.effects(table(screen.RESULTS))[factor]
    return f"| {effect:+.2f} | {interval:+.2f} |"


def seeds_row(name: str) -> str:
    """A recipe, by the records of its seeds."""
    sample = seeds(name)
    return (
        f"| [{name}](../recipes/{name}.yaml) | {petaflop(name):.2f} | "
        f"{', '.join(f'{value:.2f}' for value in accuracies(name))} | "
        f"**{sample.mean:.2f}** | {sample.standard_deviation:.2f} | {sample.interval.low:.2f} to "
        f"{sample.interval.high:.2f} | {minutes(f'{name}-seeds'):.0f} | {minutes(f'{name}-seeds', 'cpu_minutes'):.0f} |"
    )


SCREENED = {  # the cells of each factor's row: the recipe's level, the other
    "padding": "4 | 2",
    "weight_decay": "0.0005 | 0.002",
    "peak_epoch": "2 | 3",
    "lr_max": "0.22, found | 0.15",
    "momentum": "0.6 | 0.8",
    "ema_decay": "0 | 0.99",
    "cutout": "0 | 8",
    "epochs": "12, 6 | 13, 8",
    "lr_min": "0.008, found | 0.001",
    "label_smoothing": "0.2 | 0.1",
}


def recipe() -> list[str]:
    h200, fast94 = (SeedSample.of(many_seeds(f"h200-{name}-seeds")) for name in ("default", "fast94"))
    times = {
        name: f"{minutes(f'{name}-seeds', 'cpu_minutes'):.0f} | {minutes(f'{name}-seeds'):.0f}"
        for name in ("fast90", "fast94")
    }
    each = [f"{accuracy:.2f}" for accuracy in many_seeds("h200-default-seeds")]
    ours, xeon, amd, fast = "default-seeds/seed0", "intel-24-epochs", "amd-24-epochs", "intel-7-epochs"
    of_all, error = "default-seeds", "expected_calibration_error"
    _, gigaflop = operations()
    lowest = [float(lrs[losses.argmin()]) for lrs, losses in map(curve, [*HERE, *AMD])]
    six = {rule: spread([suggested(rule, run, trimmed=True) for run in [*HERE, *AMD]]) for rule in RULES}
    start, end = (spread([suggested(rule, run) for run in SEVEN]) for rule in ("descent_start", "descent_end"))
    found = json.loads((RESULTS / ours / "lr_find" / "lr_find.json").read_text(encoding="utf-8"))
    epochs = {epoch: 100 * row["test_accuracy"] for epoch, row in history(ours).items()}
    fast_rates, amd_rates = (rates(run, 7, 1.5) for run in (fast, "amd-7-epochs"))
    return [
        f"**{accuracy(ours)}** of the 10,000 test images are right, and {accuracy(ours, 'flip_tta_accuracy')} if each",
        f"took {minutes(of_all):.0f} minutes and {minutes(of_all, 'cpu_minutes'):.0f} CPU minutes",
        f"| test accuracy, % | {' | '.join(f'{epochs[n]:.2f}' for n in TRAINED)} |",
        f"`{about(xeon)['commit']}` gave **{accuracy(xeon)}** on the Xeon, in {minutes(xeon):.0f} minutes and "
        f"{minutes(xeon, 'cpu_minutes'):.0f} CPU minutes",
        f"`{about(amd)['commit']}` gave **{accuracy(amd)}** on the AMD, in {minutes(amd):.0f} minutes",
        f"The reference run found {found['lr_min']:.4f} and {found['lr_max']:.2f}.",
        f"0.2, the expected calibration error of [ten epochs](../results/amd-10-epochs-muon/evaluate/metrics.json) is "
        f"{metric('amd-10-epochs-muon', error):.2f}",
        f"(../results/{ours}/evaluate/metrics.json) {metric(ours, error):.2f}.",
        f"a tenth costs {-gain('minimum/10').mean:.0f} points",
        f"which is {EPOCHS * 45_000 * operations(width=WIDTH)[1] / 1e6:.2f} PFLOP",
        f"save {2 / 3 * (1 - operations(24)[1] / gigaflop):.2f} of the operations",
        rule_row("`descent_start`, for LRMIN", "descent_start"),
        rule_row("**`descent_end`**", "descent_end"),
        *(rule_row(f"`{rule}`", rule) for rule in ("minimum/10", "valley", "slide", "steepest")),
        f"with seed 3, gave {suggested('descent_start', SEVEN[-1]):.4f} and {suggested('descent_end', SEVEN[-1]):.2f}.",
        f"the spread of `descent_start` is {start:.2f} and that of `descent_end` {end:.2f}.",
        f"are {six['valley']:.2f} (`valley`), {six['slide']:.2f} (`slide`) and {six['steepest']:.2f} (`steepest`)",
        f"a factor of {spread([first_five_percent(run) for run in HERE]):.2f} over the three seeds on the Xeon and of "
        f"{spread([first_five_percent(run) for run in AMD]):.2f} on the AMD",
        f"| `descent_end` | {suggested('descent_end', xeon):.2f} | {trained('descent_end')} | | |",
        f"(`descent_end` at {suggested('descent_end', xeon):.2f}, above)",
        *(rule_row_trained(rule) for rule in ("minimum/10", "valley", "slide", "steepest")),
        *(f"`{part}` | {ladder_row(part)}" for part in {row["variant"] for row in table(LADDER)} - set(RULES)),
        f"and {suggested('descent_end', xeon):.2f} is near the 0.4 of Page's",
        f"at {sorted(lowest)[0]:.3f} instead of {sorted(lowest)[1]:.2f} to {max(lowest):.2f}.",
        f"reached **{accuracy(fast)}** on the Xeon ({accuracy(fast, 'flip_tta_accuracy')} averaged with mirror images) "
        f"in {minutes(fast):.0f} minutes and {minutes(fast, 'cpu_minutes'):.0f} CPU minutes",
        f"rates were {fast_rates[0]:.4f} and {fast_rates[1]:.2f}.",
        f"at {amd_rates[1]:.3f}, it reached **{accuracy('amd-7-epochs')}** in {minutes('amd-7-epochs'):.0f} minutes",
        f"at {gigaflop:.2f} GFLOP an image of 32 px (three times the {gigaflop / 3:.2f} of a forward pass: "
        f"{1000 * gigaflop / 6:.0f} million multiplications",
        f"The reference run is {(24 * 50_000 + 98 * 512) * gigaflop / 1e6:.1f} PFLOP",
        f"{7 * 50_000 * gigaflop / 1e6:.2f} PFLOP without its sweep",
        f"It adds {muon_step():.0f} GFLOP to the {512 * gigaflop:,.0f} of a step",
        f"at 24 px the network computes {operations(24)[1] / gigaflop:.2f} times as much",
        seeds_row("fast90"),
        seeds_row("fast94"),
        f"took {minutes('h200-default-seeds'):.0f} minutes and gave a mean of **{h200.mean:.2f} %**, {in_words(h200)}",
        f"{', '.join(each[:-1])} and {each[-1]}.",
        *(f"| Page's recipe {time_row('timed-page', percent)}" for percent in (90, 94)),
        *(f"| `make repro`, seed 1 {time_row('timed-default', percent, sweep_steps=98)}" for percent in (90, 94)),
        f"| `make repro RECIPE=fast90` | 90 % | 3 | {petaflop('fast90'):.2f} | {times['fast90']} |",
        f"| `make repro RECIPE=fast94` | 94 % | 12 | {petaflop('fast94'):.2f} | {times['fast94']} |",
        f"a mean of **{fast94.mean:.2f} %**, {in_words(fast94)}",
        f"four of them on smaller images, and {petaflop('fast94', epochs=10, early_epochs=4):.2f} PFLOP",
        f"in {len(table(screen.RESULTS))} trainings",
        *(f"` | {cells} {screen_row(factor)}" for factor, cells in SCREENED.items()),
        f"**{accuracy('amd-10-epochs-muon')}** in {minutes('amd-10-epochs-muon'):.0f} minutes and "
        f"{minutes('amd-10-epochs-muon', 'cpu_minutes'):.0f} CPU minutes",
        f"ended at {accuracy('amd-11-epochs-muon')} on the AMD",
        f"ten without it at {accuracy('amd-10-epochs-muon')}",
        f"gave {accuracy('amd-7-epochs-averaged')} ([records](../results/amd-7-epochs-averaged/about.yaml)) instead of "
        f"{accuracy('amd-7-epochs')}.",
    ]


def readme() -> list[str]:
    ours, xeon = "default-seeds", "intel-24-epochs"
    parameters, _ = operations()
    speeds = json.loads((PROJECT / "benchmarks" / "results.json").read_text(encoding="utf-8"))["figures"]["contenders"]

    def row(run: str, epochs: int) -> str:
        figures = f"| {epochs} | {minutes(run):.0f} min | {minutes(run, 'cpu_minutes'):.0f} min | "
        return f"{figures}{processor(run)} | `{about(run)['commit']}`, [files](results/{run})"

    printed = (RESULTS / "demo-seeds" / "printed.txt").read_text(encoding="utf-8")
    mean, _, low, high = re.findall(r"\d+\.\d+", printed.partition(": ")[2])[:4]
    demo = f"{60 * minutes('intel-demo'):.0f} s | {60 * minutes('intel-demo', 'cpu_minutes'):.0f} s"
    return [
        f"The report of the reference run: {accuracy(f'{ours}/seed0')} right",
        f"{parameters:,} parameters",
        f"| `make repro` | {accuracy(f'{ours}/seed0')} {row(ours, 24)}",
        *(many_seeds_row(name, epochs) for name, epochs in (("default", 24), ("fast94", 12))),
        f"| {accuracy(xeon)} {row(xeon, 24)}",
        f"| {accuracy('amd-24-epochs')} {row('amd-24-epochs', 24)}",
        *(
            f"| {seeds(name).mean:.2f} %, mean of {len(accuracies(name))} seeds {row(f'{name}-seeds', epochs)}"
            for name, epochs in (("fast90", 3), ("fast94", 12))
        ),
        f"| {accuracy('intel-1-epoch')} {row('intel-1-epoch', 1)}",
        f"| {accuracy('intel-demo')} | 8 | {demo} | {processor('intel-demo')} | `{about('intel-demo')['commit']}`",
        f"the first reaches {accuracy(f'{ours}/seed0', 'flip_tta_accuracy')}.",
        f"a training step takes {speeds[OURS]['step_cpu_ratio'][TUNED]:.2f} times the CPU time of the loop",
        f"an epoch with its evaluation takes {speeds[OURS]['epoch_cpu_ratio'][TUNED]:.2f} times",
        f"in float32, a step takes {speeds[OURS]['step_cpu_ratio'][PLAIN]:.2f} times",
        f"a mean of {mean} % over five seeds of the demo, 95 % interval {low} to {high}",
    ]


def processor(run: str) -> str:
    return "Intel Xeon" if "Intel Xeon" in str(about(run)["machine"]) else "AMD Zen 5"


def export_page() -> list[str]:
    """The table of the proof, and what 8 bits cost."""
    proof = json.loads((RESULTS / "narrow" / "export" / "proof.json").read_text(encoding="utf-8"))
    forms = list(proof["forms"].values())
    outcomes = ("both_right", "only_trained_right", "only_exported_right", "neither_right")
    counts = PairedCounts(*(proof[outcome] for outcome in outcomes))
    assert [forms[0]["right"], forms[2]["right"]] == [counts.first_right, counts.second_right]
    interval, (_, source, exported) = counts.difference_interval(), forms
    return [
        "| accuracy | " + " | ".join(f"{form['right'] / counts.total:.2%}" for form in forms) + " |",
        "| largest difference of a probability | | "
        + " | ".join(f"{form['largest_difference']:.1g}" for form in forms[1:])
        + " |",
        "| images with another class | | " + " | ".join(str(form["other_classes"]) for form in forms[1:]) + " |",
        "| time for one image | " + " | ".join(f"{form['milliseconds']:.2f} ms" for form in forms) + " |",
        "| size of the file | " + " | ".join(f"{form['bytes'] / 1e6:.2f} MB" for form in forms) + " |",
        f"{100 * counts.difference:.2f} points more right, 95 % interval {100 * interval.low:+.2f} to "
        f"{100 * interval.high:+.2f} ({p_text(counts.p_value())})",
        f"its file is {source['bytes'] / exported['bytes']:.1f}x smaller, and one image takes "
        f"{source['milliseconds'] / exported['milliseconds']:.1f}x less time",
    ]


def unsure_page() -> list[str]:
    """A row for each wanted accuracy, found on the held-out images and checked on the test images."""
    held_out, test = (
        Evaluation(
            ("right", "wrong"),
            np.array([row["right"] == "0" for row in rows], dtype=np.int64),
            np.array([[float(row["confidence"]), 0] for row in rows]),
        )
        for images in ("held out", "test")
        for rows in [[row for row in table(RESULTS / "narrow" / "evaluate" / "unsure.csv") if row["images"] == images]]
    )
    pieces = [f"{test.accuracy:.2%} of all"]
    for wanted in (0.9, 0.95, 0.99):
        threshold = find_threshold(held_out, wanted)
        assert threshold is not None
        found = at_threshold(test, threshold)
        answered = round(found["answered"] * len(test.labels))
        interval = wilson_interval(round(found["accuracy"] * answered), answered)
        pieces.append(
            f"| {wanted:.0%} | {threshold:.4f} | {found['answered']:.1%} | {found['accuracy']:.2%} "
            f"({100 * interval.low:.2f} to {100 * interval.high:.2f}) |"
        )
    return pieces


def networks_page() -> list[str]:
    """The accuracy of recipe few-pictures, one seed each."""
    rows = {row["photos_per_class"]: row for row in table(RESULTS / "few-pictures.csv")}
    accuracy = {count: f"**{100 * float(row['accuracy']):.2f} %**" for count, row in rows.items()}
    return [
        f"{accuracy['50']} with 50 photos per class to train on, in {rows['50']['cpu_minutes']} CPU minutes",
        f"{accuracy['10']} with 10, in {rows['10']['cpu_minutes']} (n = 1",
    ]


CITED = {
    "README.md": readme,
    "docs/networks.md": networks_page,
    "docs/recipe.md": recipe,
    "docs/export.md": export_page,
    "docs/using-the-model.md": unsure_page,
}

ARXIV = {"1705.08741", "2404.00498"}
GIVEN = {
    "README.md": {"88.07", "94.0", "0.125", "1.0", "0.0", "2404.00498"},
    "docs/architecture.md": {"5.0"},
    "docs/networks.md": {"0.8", "1805.08974"},
    "docs/recipe.md": {"70.74", "81.64", "88.07", "0.4", "1.4", "0.99", "0.1", "0.6", "1.5", *ARXIV},
    "docs/reliability.md": {"0.99", "8.0"},
    "docs/what-happens-when.md": {"0.1"},
    "docs/using-the-model.md": {"1705.08500", "0.93", "0.3", "0.9", "1.2", "1.4"},
}


def measured_maps() -> set[str]:
    """What docs/tracking.md cites."""
    page = (PROJECT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    return figures_in(re.findall(r"^## What the maps show$(.*?)^## ", page, re.DOTALL | re.MULTILINE)[0])


@pytest.mark.parametrize("page", CITED)
def test_a_figure_is_what_the_file_it_cites_gives(page: str) -> None:
    text = in_one_line(page)
    assert not [piece for piece in CITED[page]() if piece not in text]


@pytest.mark.parametrize("page", PAGES)
def test_no_figure_is_without_a_file(page: str) -> None:
    text = in_one_line(page)
    for piece in CITED[page]() if page in CITED else []:
        text = text.replace(piece, "")
    given = measured_maps() if page == "docs/tracking.md" else GIVEN.get(page, set())
    assert figures_in(text) <= given


def test_the_table_of_speeds_is_that_of_the_committed_measurement() -> None:
    page = (PROJECT / "benchmarks" / "results.md").read_text(encoding="utf-8")
    measured = json.loads((PROJECT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    assert as_markdown(measured["about"], measured["figures"]) == page


def test_the_seeds_on_the_page_are_those_that_the_command_printed() -> None:
    printed = (RESULTS / "demo-seeds" / "printed.txt").read_text(encoding="utf-8")
    assert f"```text\n{printed}```" in (PROJECT / "docs" / "comparing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("run", sorted(path.parent.name for path in RESULTS.glob("*/about.yaml")))
def test_each_record_says_what_was_run_and_where(run: str) -> None:
    keys = ["title", "commit", "changed", "machine", "precision", "python", "torch", "minutes", "cpu_minutes", "note"]
    assert list(about(run)) == keys
    assert any(path.name != "about.yaml" for path in (RESULTS / run).rglob("*.*"))


def in_one_line(page: str) -> str:
    """The text of a page without code and versions."""
    text = (PROJECT / page).read_text(encoding="utf-8")
    text = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return " ".join(re.sub(r"(Python|PyTorch|version)\s+[\d.]+( to [\d.]+)?", "", text).split())


def figures_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w.])\d+\.\d+(?![.\w])", text))

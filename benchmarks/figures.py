"""From samples to figures: medians over the rounds, of seconds and of ratios within a round."""

from collections.abc import Mapping, Sequence
from itertools import product
from operator import truediv
from statistics import median
from typing import Any

import numpy as np

from benchmarks.measurements import OURS, OURS_FP32, PLAIN, TUNED

Samples = Mapping[str, Any]

# A training on CIFAR-10 as params.yaml has it, for what its parts come to.
EPOCHS = 24
STEPS = 98
CHECKPOINTS = 2  # an epoch: after 50 steps, and at its end
TEST_IMAGES = 10_000


def summarize(rounds: Sequence[Samples], parts: Samples, batch_size: int) -> dict[str, Any]:
    """All figures, from the rounds of the comparison and from what was measured once."""
    laps = {name: [each["contenders"][name] for each in rounds] for name in rounds[0]["contenders"]}
    products = [each["products"] for each in rounds]
    return {
        "num_rounds": len(rounds),
        "contenders": {name: _contender(own, laps, batch_size) for name, own in laps.items()},
        "products": {
            "flops_per_second": {
                kind: median(each["flops_per_second"][kind] for each in products)
                for kind in products[0]["flops_per_second"]
            },
            "share_fp32": _share(laps[OURS_FP32], products, "float32", batch_size),
            "share_fp32_of_onednn": _share(laps[OURS_FP32], products, "float32, oneDNN", batch_size),
            "share_default_of_bf16": _share(laps[OURS], products, "bfloat16", batch_size),
        },
        "overhead": _overhead(parts["overhead"], parts["growth"]),
        "input_images_per_cpu_second": parts["input_pipeline"],
        "no_op": _medians(parts["no_op"]),
        "start_up": {stage: _medians([each["start_up"][stage] for each in rounds]) for stage in rounds[0]["start_up"]},
        "peak_memory": _memory(parts["memory"]),
        "growth": _growth(parts["growth"]),
    }


def _contender(own: Sequence[Samples], laps: Mapping[str, Sequence[Samples]], batch_size: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"compute": own[0].get("compute", "cpu, fp32")}
    for span, clock in product(("step", "epoch"), ("cpu", "wall")):
        seconds = [lap[span][clock] for lap in own]
        figures[f"{span}_{clock}_seconds"] = median(seconds)
        figures[f"{span}_{clock}_ratio"] = {
            base: median(map(truediv, seconds, [lap[span][clock] for lap in laps[base]]))
            for base in (TUNED, PLAIN)
            if base in laps
        }
    figures["images_per_second"] = batch_size / figures["step_wall_seconds"]
    figures["peak_bytes"] = median(lap["peak_bytes"] for lap in own)
    return figures


def _share(laps: Sequence[Samples], products: Sequence[Samples], kind: str, batch_size: int) -> float:
    """The operations a second of a training step, as a share of those of a matrix product."""
    shares = [
        rates["flops_per_image"] * batch_size / lap["step"]["wall"] / rates["flops_per_second"][kind]
        for lap, rates in zip(laps, products, strict=True)
    ]
    return float(median(shares))


def _overhead(probe: Samples, growth: Sequence[Samples]) -> dict[str, float]:
    """What a whole stage costs beside its bare steps, as shares of those."""
    steps = EPOCHS * STEPS * probe["bare_step"]
    once = median(sample["start"]["cpu"] + sample["finish"]["cpu"] for sample in growth)
    shares = {
        "data_and_loop": probe["loop_over_bare"] - 1,
        "checkpoints": EPOCHS * CHECKPOINTS * probe["checkpoint"] / steps,
        "logging": EPOCHS * probe["logging"] / steps,
        "start_and_finish": once / steps,
    }
    evaluation = EPOCHS * TEST_IMAGES * probe["evaluated_image"] / steps
    return {**shares, "all_but_evaluation": sum(shares.values()), "evaluation": evaluation}


def _memory(peaks: Mapping[str, int]) -> dict[str, Any]:
    """A straight line through the peaks: so much at rest, so much for every image of the batch."""
    sizes = [int(size) for size in peaks]
    per_image, at_rest = np.polyfit(sizes, list(peaks.values()), 1)
    return {"bytes": dict(peaks), "bytes_per_image": float(per_image), "bytes_at_rest": float(at_rest)}


def _growth(samples: Sequence[Samples]) -> dict[str, Any]:
    """A straight line through CPU seconds against images times epochs, and how far the samples are from it."""
    images, seconds = (np.concatenate([sample[key] for sample in samples]) for key in ("images", "cpu"))
    per_image, at_none = np.polyfit(images, seconds, 1)
    straight = per_image * images + at_none
    correlation = np.corrcoef(images, seconds)[0, 1]
    return {
        "cpu_seconds_per_image": float(per_image),
        "r_squared": float(correlation**2),
        "largest_deviation": float(np.abs(seconds / straight - 1)[images >= np.median(images)].max()),
    }


def _medians(samples: Sequence[Samples]) -> dict[str, float]:
    return {clock: median(sample[clock] for sample in samples) for clock in ("wall", "cpu")}

"""The figures as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

Figures = Mapping[str, Any]


def as_markdown(about: Figures, figures: Figures) -> str:
    """All figures, with what they hold for."""
    return (
        "\n\n".join(
            [
                _introduction(about, figures),
                _comparison(figures["contenders"]),
                _parts(about, figures),
            ]
        )
        + "\n"
    )


def _introduction(about: Figures, figures: Figures) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    size = about["training"]
    return (
        f"Measured by `make bench` of commit {about['commit']} on {about['cores']} cores ({about['cpu']}), "
        f"Python {about['python']}, {packages}; "
        f"batch {size['batch_size']}, {about['images']}; rounds in which all took turns: {figures['num_rounds']}."
    )


def _comparison(contenders: Figures) -> str:
    bases = next(iter(contenders.values()))["step_cpu_ratio"]
    rows = [
        [
            f"{name} ({each['compute']})",
            f"{each['step_cpu_seconds']:.2f}",
            f"{each['images_per_second']:.0f}",
            f"{each['peak_bytes'] / 1e9:.1f}",
            *(
                f"{each[f'{span}_{clock}_ratio'][base]:.2f}"
                for base in bases
                for span in ("step", "epoch")
                for clock in ("cpu", "wall")
            ),
        ]
        for name, each in contenders.items()
    ]
    header = ["training", "CPU s a step", "images/s", "peak GB"]
    columns = ("step: CPU x", "step: time x", "epoch: CPU x", "epoch: time x")
    return _table([*header, *(f"{column} {base}" for base in bases for column in columns)], rows)


def _parts(about: Figures, figures: Figures) -> str:
    products, overhead, memory, growth = (figures[key] for key in ("products", "overhead", "peak_memory", "growth"))
    rates = products["flops_per_second"]
    rows = [
        ["float32 step, of the rate of `torch.mm` (" + _giga(rates["float32"]) + ")", f"{products['share_fp32']:.2f}"],
        [
            "float32 step, of the same product by oneDNN (" + _giga(rates["float32, oneDNN"]) + ")",
            f"{products['share_fp32_of_onednn']:.2f}",
        ],
        [
            "default step, of the rate of `torch.mm` in bfloat16 (" + _giga(rates["bfloat16"]) + ")",
            f"{products['share_default_of_bf16']:.2f}",
        ],
        *(
            [f"stage `train` beside its bare steps: {name.replace('_', ' ')}", f"{share:.2%}"]
            for name, share in overhead.items()
        ),
        *(
            [f"input, images per CPU second: {name}", f"{rate:,.0f}"]
            for name, rate in figures["input_images_per_cpu_second"].items()
        ),
        ["`dvc repro` with nothing to do", _seconds(figures["no_op"])],
        *([f"start of stage `{stage}`", _seconds(times)] for stage, times in figures["start_up"].items()),
        *([f"peak memory of `train`, batch {size}", f"{peak / 1e9:.2f} GB"] for size, peak in memory["bytes"].items()),
        [
            "peak memory, straight line",
            f"{memory['bytes_at_rest'] / 1e9:.2f} GB + {memory['bytes_per_image'] / 1e6:.2f} MB an image",
        ],
        ["CPU time against images x epochs: R² of a straight line", f"{growth['r_squared']:.5f}"],
        ["... largest deviation from it", f"{growth['largest_deviation']:.1%}"],
    ]
    return _table(["part", "measured"], rows)


def _table(header: list[str], rows: Iterable[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _giga(rate: float) -> str:
    return f"{rate / 1e9:.0f} GFLOP/s"


def _seconds(times: Figures) -> str:
    return f"{times['wall']:.1f} s ({times['cpu']:.1f} CPU s)"

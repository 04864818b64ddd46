"""`make app`: a page on this machine that says what a photo shows, and where the network saw it."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from markupsafe import Markup

from image_classifier.data import Images, load_dataset
from image_classifier.evaluation.predictions import read_predictions
from image_classifier.model.model_file import TrainedModel
from image_classifier.plots.style import percent
from image_classifier.project import locations
from image_classifier.project.params import ComputeParams, GradCAMParams
from image_classifier.report.gradcam import METHODS
from image_classifier.serving.prediction import load_predictor
from image_classifier.sources.image_decoding import decode_image
from pipeline.stage import main

BAR = Markup('<tr><th>{}</th><td><meter value="{}"></meter></td><td>{}</td></tr>')
UPLOADS = TemporaryDirectory(prefix="cifar-resnet-app-")  # removed when this process ends
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": UPLOADS.name, "HF_HUB_OFFLINE": "1"}
# Where `make app` installs Gradio, which asks for an older Pillow than this project's.
sys.path.append(str(Path(__file__).resolve().parent.parent / "build" / "app"))
if __name__ == "__main__":  # before Gradio is imported: --help works without it
    ArgumentParser("python -m pipeline.app", description=__doc__).parse_args()
try:
    import gradio as gr
except ModuleNotFoundError as error:
    sys.exit(f"error: {error.name} is not installed: `make app` installs it below build, and opens the page")


def run(compute: ComputeParams, gradcam: GradCAMParams) -> None:
    """Serve the page, for the model of this project or else of the demo, until Ctrl-C."""
    predictor = load_predictor(compute)
    folder, model = predictor.folder, predictor.model

    def explain(path: str | None, method: str, layer: str, opacity: float) -> tuple[str | None, Images | None]:
        if path is None:
            return None, None
        try:
            images = decode_image(Path(path), model.image_px)[np.newaxis]
        except ValueError as error:
            raise gr.Error(f"The file {error}", print_exception=False) from None
        probabilities = predictor.probabilities(images)
        [best] = predictor.best(probabilities, top=5)
        lead = "Unsure. The best guess:" if predictor.is_unsure(best) else ""
        rows = (BAR.format(name, value, percent(value)) for name, value in best)
        chosen = gradcam.model_copy(update={"method": method, "layer": layer})
        (overlay,) = predictor.explain(images, probabilities, chosen, opacity)
        return f"{lead}<table>{Markup().join(rows)}</table>", overlay

    plain = {"format": "png", "buttons": []}  # one of the buttons would share the picture
    layers = [*model.net.gradcam_layers()]
    with gr.Blocks(title="A picture in, a name out") as page:
        gr.Markdown(f"# {model.dataset}\nBy `{folder / locations.MODEL}`. Pictures never leave this machine.")
        with gr.Row():
            photo = gr.Image(label="Photo", sources=["upload", "clipboard"], **plain)
            photo.preprocess = lambda file: file and file.path  # decoded here, with errors that name the remedy
            heat = gr.Image(label="What the network sees, and where", interactive=False, elem_id="heat", **plain)
            with gr.Column():
                bars = gr.HTML(elem_classes="bars")
                method = gr.Dropdown([*METHODS], value=gradcam.method, label="Method")
                layer = gr.Radio(layers, value=gradcam.layer if gradcam.layer in layers else layers[0], label="Layer")
                opacity = gr.Slider(0, 1, 0.8, label="Opacity of the map")
        for title, pairs in test_pictures(folder, model):
            gr.Gallery(pairs, label=title, allow_preview=False, **plain).select(_choose, outputs=photo)
        inputs = [photo, method, layer, opacity]
        gr.on([changed.change for changed in inputs], explain, inputs, [bars, heat])
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])  # fetches no fonts
    _, address, _ = page.launch(
        server_name="127.0.0.1",
        share=False,
        ssr_mode=False,
        footer_links=[],
        quiet=True,
        prevent_thread_lock=True,
        theme=theme,
        css_paths=Path(__file__).with_suffix(".css"),
    )
    print(f"the page is on {address} (Ctrl-C ends it)", flush=True)
    page.block_thread()


def _choose(picked: gr.SelectData) -> str:
    return str(picked.value["image"]["path"])


def test_pictures(folder: Path, model: TrainedModel) -> Iterator[tuple[str, list[tuple[Images, str]]]]:
    """Test images of the project in `folder`, with captions: one of each class, and the most confident mistakes."""
    if (folder / locations.DATA / model.dataset).exists():
        dataset, names = load_dataset(folder / locations.DATA / model.dataset), np.array(model.classes)
        images, labels = dataset.test_images, dataset.test_labels
        firsts = np.unique(labels, return_index=True)[1]
        yield "Examples", list(zip(images[firsts], names[labels[firsts]], strict=True))
        tested = read_predictions(folder / locations.PREDICTIONS) if (folder / locations.PREDICTIONS).exists() else None
        if tested and tested.classes == model.classes:
            wrong = tested.misclassified[:20]
            captions = map("{} taken for {}".format, names[labels[wrong]], names[tested.predicted[wrong]])
            yield "The most confident mistakes", list(zip(images[wrong], captions, strict=True))


if __name__ == "__main__":
    main(run)

"""What every page shares: how its template is filled, and sheets of small pictures."""

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from image_classifier.data import Images
from image_classifier.plots.style import PALETTE, percent
from image_classifier.report.gradcam import Maps, heat_levels, heat_palette

Pictures = TypeVar("Pictures", Images, Maps)

TEMPLATES = Path(__file__).parent / "templates"
LEAST_COLUMNS = 32  # pictures side by side in a sheet; as many as rows if there are more than 32 rows
LARGEST_PX = 128  # side of a picture in a sheet; with 10,000 pictures, a sheet has 12,800 px, and WebP allows 16,383


def template_environment(escape: Callable[[Any], str] | None = None) -> Environment:
    """What fills the templates. Variables are text: escaped for HTML, or by `escape` for another language."""
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=escape is None,  # noqa: S701  # `escape` takes its place
        finalize=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render_page(template: str, **variables: Any) -> str:
    """Fill a template; returns HTML. Variables are text, never markup. `page.css` and `page.js` can be included.

    `variables` include `columns`, the number of pictures side by side in the sheets, from `sheet_columns`.
    """
    environment = template_environment()
    environment.filters |= {"percent": percent, "number": "{:,}".format, "code": _with_code, "tile_px": _tile_px}
    colours = [f"rgb({red} {green} {blue} / {alpha / 255:.2f})" for red, green, blue, alpha in heat_palette().tolist()]
    return environment.get_template(template).render(palette=PALETTE, heat_colours=colours, **variables)


def image_sheet(images: Images) -> str:
    """A sprite sheet as a data URL; if no image is reduced, lossless: 1.7 kB for one of CIFAR-10; PNG takes 2.2."""
    is_reduced = images.shape[1] > LARGEST_PX
    return _data_url(Image.fromarray(_tile(_reduced(images))), "webp", lossless=not is_reduced, quality=80)


def heat_sheet(maps: Maps) -> str:
    """A sprite sheet as a data URL, in the colours of heat; transparent where a map is 0."""
    sheet = Image.fromarray(_tile(heat_levels(_reduced(maps))))
    palette = heat_palette()
    sheet.putpalette(palette[:, :3].tobytes())
    return _data_url(sheet, "png", optimize=True, transparency=palette[:, 3].tobytes())


def sheet_columns(num_pictures: int) -> int:
    """Pictures side by side in a sheet."""
    return max(LEAST_COLUMNS, math.ceil(math.sqrt(num_pictures)))


def _reduced(pictures: Pictures) -> Pictures:
    """Pictures (N, H, H, ...) scaled down to `LARGEST_PX`, or as they are if they are not larger."""
    if pictures.shape[1] <= LARGEST_PX or not len(pictures):
        return pictures
    side = (LARGEST_PX, LARGEST_PX)
    return np.stack([np.asarray(Image.fromarray(one).resize(side, Image.Resampling.BILINEAR)) for one in pictures])


def _tile_px(image_px: int) -> dict[str, int]:
    """Side of an image on a wide and a narrow page: if it fits, a whole multiple of `image_px`, which is sharp."""
    image_px = min(image_px, LARGEST_PX)
    wide, narrow = image_px * max(1, round(96 / image_px)), image_px * (83 // image_px)
    return {"wide": wide, "narrow": narrow or 83}


def _with_code(text: str) -> Markup:
    """HTML of a text, in which `this` is code."""
    parts = enumerate(text.split("`"))
    return Markup("").join(Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in parts)


def _tile(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (N, height, width, ...) in rows of `sheet_columns`, at least one row; unused places are 0."""
    columns = sheet_columns(len(pictures))
    rows = max(1, math.ceil(len(pictures) / columns))
    height, width, *channels = pictures.shape[1:]
    sheet = np.zeros((rows * columns, height, width, *channels), np.uint8)
    sheet[: len(pictures)] = pictures
    sheet = sheet.reshape(rows, columns, height, width, *channels).swapaxes(1, 2)
    return sheet.reshape(rows * height, columns * width, *channels)


def _data_url(image: Image.Image, kind: str, **options: Any) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"

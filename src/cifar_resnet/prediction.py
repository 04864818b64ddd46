"""Any image files as the network wants them, and what it says of them."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from cifar_resnet.augment import IMAGE_SIZE_PX
from cifar_resnet.data import Images
from cifar_resnet.errors import UserError


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, the best first."""

    path: Path
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        ranked = zip(self.classes, self.probabilities, strict=True)
        return {
            "image": str(self.path),
            "predictions": [{"class": name, "probability": round(value, 6)} for name, value in ranked],
        }

    def as_row(self) -> tuple[str, ...]:
        ranked = zip(self.classes, self.probabilities, strict=True)
        return (str(self.path), *(f"{name} {value:.1%}" for name, value in ranked))


def top_predictions(
    paths: Iterable[Path], probabilities: NDArray[np.float64], classes: tuple[str, ...], top: int
) -> list[Prediction]:
    """The `top` classes of each image, from probabilities (N, classes)."""
    predictions = []
    for path, row in zip(paths, probabilities, strict=True):
        best = np.argsort(-row, kind="stable")[:top]
        predictions.append(Prediction(path, tuple(classes[number] for number in best), tuple(row[best].tolist())))
    return predictions


def find_images(paths: Iterable[Path]) -> list[Path]:
    """The given files, and the image files in the given folders by name.

    Raises:
        UserError: a path does not exist, or a folder holds no image file.
    """
    found = []
    for path in paths:
        if path.is_dir():
            formats = readable_formats()
            suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in formats}
            inside = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in suffixes)
            if not inside:
                raise UserError(f"{path} holds no image file: give a folder with PNG, JPEG or other pictures in it")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UserError(f"{path} does not exist: give image files, or folders of them")
    return found


def readable_formats() -> list[str]:
    """Those that Pillow reads by itself: for PostScript it would start another program on the file."""
    Image.init()  # fills Image.OPEN
    return [name for name in Image.OPEN if name != "EPS"]


def read_images(paths: Iterable[Path]) -> Images:
    """Image files of any size and mode as uint8 (N, 32, 32, 3).

    Raises:
        UserError: a file is no readable image, or has too many pixels.
    """
    return np.stack([_read_image(path) for path in paths])


def _read_image(path: Path) -> Images:
    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(path, formats=readable_formats()) as image,
        ):
            if image.mode in ("I", "F"):
                raise UserError(f"{path} has 32 bits a pixel, of unknown range: save it with 8 or 16 first")
            return _fit(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"{path} has more than {Image.MAX_IMAGE_PIXELS:,} pixels: scale it down first") from None
    except UnidentifiedImageError:
        raise UserError(
            f"{path} is no image that can be read here: give a PNG, JPEG, WebP, GIF, BMP or TIFF file"
        ) from None
    except (OSError, SyntaxError, ValueError) as error:  # what decoders raise for damaged files
        raise UserError(f"{path} cannot be read ({error}): is it complete?") from None


def _fit(image: Image.Image) -> Images:
    """Upright, in RGB and 32 x 32 px: the whole image, whatever its proportions, as CIFAR-10's own were made.

    An image that has this form already keeps every pixel. What is transparent becomes white.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # 16 bits of grey, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    small = image.convert("RGB").resize((IMAGE_SIZE_PX, IMAGE_SIZE_PX), Image.Resampling.LANCZOS)
    return np.asarray(small)

"""Image files of any kind, found and read as square RGB images."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from cifar_resnet.data import Images
from cifar_resnet.errors import UserError

# Pillow knows 40 more, most of them no pictures of things (weather maps, video), and for one it starts another program.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
LONGEST_NAME = 200  # characters of a path in a message or table

# What makes a photo upright again, by the orientation that the camera noted (EXIF 2.3, section 4.6.4).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def printable(path: Path) -> str:
    """A path for people: line breaks, escape codes and broken characters are escaped, and what is very long is cut."""
    shown = str(path)
    if len(shown) > LONGEST_NAME:
        shown = f"{shown[: LONGEST_NAME // 2]}…{shown[-LONGEST_NAME // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def find_images(folder: Path) -> list[Path]:
    """The image files in a folder and the folders in it, by name; no hidden ones.

    Raises:
        OSError: a folder cannot be listed.
    """

    def stop(error: OSError) -> None:
        raise error

    Image.init()  # fills the table of suffixes
    suffixes = tuple(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)
    found = []
    for place, folders, files in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = (name for name in files if not name.startswith(".") and name.lower().endswith(suffixes))
        found += [Path(place, name) for name in names]
    return sorted(found)


def allowed_formats() -> str:
    """The formats that can be read, in words."""
    return f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"


def read_image(path: Path, side_px: int) -> Images:
    """An image file of any size and mode as uint8 (side_px, side_px, 3).

    Raises:
        UserError: the file is no readable image, or has too many pixels.
    """
    name = printable(path)
    try:
        if not path.is_file():  # a pipe would be waited for, and a device has no end
            raise UserError(f"{name} is no regular file, or links to none: give a {allowed_formats()} file")
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(path, formats=FORMATS) as image,
        ):
            if image.mode in ("I", "F"):
                raise UserError(f"{name} has 32 bits a pixel, of unknown range: save it with 8 or 16 first")
            return _fit(image, side_px)
    except UserError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise UserError(f"{name} has more than {Image.MAX_IMAGE_PIXELS:,} pixels: scale it down first") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is no image that can be read here: give a {allowed_formats()} file") from None
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror or error}): is it complete?") from None
    except Exception as error:  # decoders raise errors of many types for damaged files
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{name} cannot be read ({reason}): is it complete?") from None


def _fit(image: Image.Image, side_px: int) -> Images:
    """Upright, square and in RGB: the whole image, whatever its proportions, as CIFAR-10's own were made.

    An image that has this form already keeps every pixel. What is transparent becomes white.
    """
    image.load()
    if turn := _turn_upright(image):
        image = image.transpose(turn)
    if image.mode.startswith("I;16"):  # 16 bits of grey, which convert() would clip at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    small = image.convert("RGB").resize((side_px, side_px), Image.Resampling.LANCZOS)
    return np.asarray(small)


def _turn_upright(image: Image.Image) -> Image.Transpose | None:
    """What the camera noted; nothing if its notes cannot be read, which viewers overlook too."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # errors of many types, as of the decoders
        return None

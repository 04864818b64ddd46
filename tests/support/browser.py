"""Chromium, and what its pages show."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image
from playwright._impl._api_structures import Clip
from playwright.sync_api import Locator, Page

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no `chromium` on the PATH to open pages with")
ARGUMENTS = [
    "--no-sandbox",  # root, as in a container, has no sandbox
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def is_local(url: str) -> bool:
    return url.startswith(("file:", "data:"))


def shown(page: Page) -> list[int]:
    """The numbers of the test images that the gallery shows, in its order."""
    numbers: list[int] = page.locator(".mistake:visible").evaluate_all("all => all.map(one => +one.dataset.index)")
    return numbers


def pixels(tile: Locator, side: int = 96) -> np.ndarray:
    """The pixels of a tile on the screen (side, side, 3)."""
    tile.scroll_into_view_if_needed()
    box = tile.bounding_box()
    assert box
    clip: Clip = {"x": round(box["x"]), "y": round(box["y"]), "width": side, "height": side}
    return np.asarray(Image.open(io.BytesIO(tile.page.screenshot(clip=clip))).convert("RGB"))


def assert_shows(tile: Locator, image: np.ndarray, side: int = 96) -> None:
    """Make sure that a tile shows an image (H, W, 3) enlarged to `side` without blur."""
    times, inside = side // len(image), side - 8  # the corners are round
    exact = image.repeat(times, axis=0).repeat(times, axis=1)[4:-4, 4:-4]
    for _ in range(50):  # on a busy machine the page may still be moving at first
        seen = pixels(tile, side)
        # A tile that starts at half a pixel is painted one pixel before or after it.
        if any(np.array_equal(seen[y : y + inside, x : x + inside], exact) for y in (3, 4, 5) for x in (3, 4, 5)):
            return
        tile.page.wait_for_timeout(100)
    np.testing.assert_array_equal(seen[4:-4, 4:-4], exact)

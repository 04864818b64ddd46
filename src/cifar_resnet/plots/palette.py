"""The colours of pages and plots: the same thing has the same colour everywhere, on a light and on a dark ground."""

from typing import NamedTuple


class Colour(NamedTuple):
    light: str
    dark: str


# The five hues are Okabe and Ito's, https://jfly.uni-koeln.de/color/, which every colour vision tells apart; orange and
# purple are darkened, so that each has a contrast of 3 or more with its ground.
PALETTE = {
    "page": Colour("#fbfaf8", "#16171a"),
    "surface": Colour("#ffffff", "#1e2024"),
    "line": Colour("#e4e1db", "#33363c"),
    "ink": Colour("#1f2328", "#e6e6e3"),
    "quiet": Colour("#62666c", "#9da1a8"),
    "right": Colour("#0072b2", "#5ab4e6"),
    "wrong": Colour("#d55e00", "#f0904a"),
    "train": Colour("#009e73", "#3cc79d"),
    "held-out": Colour("#b0568f", "#dd97c4"),  # the test or validation images
    "rate": Colour("#a87800", "#e6b040"),  # learning rates
}

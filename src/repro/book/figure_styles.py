"""How methods look: the same colour, marker and dashes for a method in every figure of the book."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import seaborn as sns

from repro.book.errors import BadInput

__all__ = ["PALETTE", "Style", "colours", "styles"]

PALETTE: tuple[str, ...] = tuple(sns.color_palette("colorblind").as_hex())
MARKERS = "osD^vPX<>*"
DASHES = (
    "-",
    "--",
    "-.",
    ":",
    (0, (5, 1)),
    (0, (3, 1, 1, 1)),
    (0, (1, 1)),
    (0, (7, 2)),
    (0, (4, 4)),
    (0, (2, 2)),
)

# Which place in the palette a method has, wherever it is drawn. A chapter with new methods adds them here.
PLACES = {"plain": 0, "swn": 1, "ewn": 2}


@dataclass(frozen=True)
class Style:
    """How a method is drawn: colour, marker and dashes, so that colour is never the only difference."""

    colour: str
    marker: str
    dashes: Any

    @property
    def line(self) -> dict[str, Any]:
        """Keyword arguments for ``Axes.plot``."""
        return {"color": self.colour, "marker": self.marker, "linestyle": self.dashes}


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name: known methods always have theirs, others take free places in the order given.

    Raises ``BadInput`` for more names than the palette has colours.
    """
    wanted = list(dict.fromkeys(names))
    if len(wanted) > len(PALETTE):
        raise BadInput(
            f"{len(wanted)} names, but the palette has {len(PALETTE)} colours that can be told apart"
        )
    known = {name: PLACES[name] for name in wanted if name in PLACES}
    # places of methods that are not drawn here come last, so that a stranger does not look like one of them
    free = [place for place in range(len(PALETTE)) if place not in PLACES.values()]
    free += [place for place in PLACES.values() if place not in known.values()]
    strangers = [name for name in wanted if name not in PLACES]
    places = known | dict(zip(strangers, free, strict=False))
    return {
        name: Style(PALETTE[places[name]], MARKERS[places[name]], DASHES[places[name]]) for name in wanted
    }


def colours(names: Iterable[str]) -> dict[str, str]:
    """The colour of each name, as for seaborn's ``palette=``; see ``styles``."""
    return {name: style.colour for name, style in styles(names).items()}

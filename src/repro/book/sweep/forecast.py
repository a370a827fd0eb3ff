"""What a sweep will cost, from what runs of the chapter have cost before."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from repro.book.layout import PROFILES, Book
from repro.book.sweep.grid import Point
from repro.book.sweep.progress import duration

__all__ = ["expected", "past_seconds"]


def past_seconds(book: Book, chapter: str) -> dict[str, list[float]]:
    """Seconds of the chapter's past runs, by profile: from the cache, other sweeps, the committed results."""
    found: dict[str, list[float]] = defaultdict(list)
    for profile, seconds in (*_cached(book, chapter), *_swept(book, chapter), *_committed(book, chapter)):
        found[profile].append(seconds)
    return dict(found)


def expected(points: Sequence[Point], past: Mapping[str, Sequence[float]], workers: int) -> str:
    r"""One line about the time that all points take: $\sum_i \mathrm{median}(s_{p_i}) / w$.

    $s_p$ are the seconds of past runs of profile $p$, $w$ the number of workers.
    """
    profiles = Counter(str(point.resolved["profile"]) for point in points)
    unknown = [profile for profile in profiles if not past.get(profile)]
    if unknown:
        return f"expected cost: unknown, as no past run of profile {', '.join(unknown)} was found"
    seconds = sum(n * median(past[profile]) for profile, n in profiles.items())
    typical = ", ".join(f"{median(past[profile]):.1f} s a run ({profile})" for profile in profiles)
    return (
        f"expected cost: {duration(seconds)} of computing, {duration(seconds / workers)} with {workers} "
        f"worker{'s' * (workers > 1)}, at {typical}, the median of past runs"
    )


def _json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping; empty for one that is broken, as a forecast is not the place to complain."""
    try:
        content = json.loads(
            path.read_bytes().partition(b"\n")[2] if path.suffix == ".run" else path.read_bytes()
        )
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _cached(book: Book, chapter: str) -> Iterator[tuple[str, float]]:
    for path in (book.cache_dir / "cache").glob("*.run"):
        about = _json(path).get("metadata", {}).get("repro", {})
        if about.get("chapter") == chapter:
            yield about["profile"], about["run"]["seconds"]


def _swept(book: Book, chapter: str) -> Iterator[tuple[str, float]]:
    for folder in (book.build_dir / "sweeps").glob("*/"):
        if _json(folder / "sweep.json").get("chapter") != chapter:
            continue
        for path in (folder / "runs").glob("*.json"):
            run = _json(path).get("run", {})
            if run.get("status") == "done":
                yield run["values"]["profile"], run["seconds"]


def _committed(book: Book, chapter: str) -> Iterator[tuple[str, float]]:
    for profile in PROFILES:
        seconds = _json(book.results_file(chapter, profile)).get("run", {}).get("seconds")
        if seconds is not None:
            yield profile, seconds

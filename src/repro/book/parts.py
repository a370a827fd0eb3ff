"""The parts of a long run, kept one by one, so that a run which was stopped goes on where it was.

A chapter says once, after its parameters, ``experiments = parts.kept(experiments, settings)``. In the profiles that
take hours each experiment's result is then written to ``.repro/parts`` as soon as it is there, under a key that covers
the library, the versions of the packages, the data files and the arguments; the same call in a later run reads it back.
They go when the run has ended well.
"""

from __future__ import annotations

import inspect
import io
import pickle
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import repro
from repro.book import _cache
from repro.book._cache import data_files, run_key, versions
from repro.book._files import hash_of_files, sha256
from repro.book.layout import Book

_LONG = ("full", "paper")


@cache
def _made_with() -> dict[str, Any]:
    library = Path(repro.__file__).parent
    files = hash_of_files(library, sorted(p for p in library.rglob("*.*") if p.suffix != ".pyc"))
    return {"library": files, "versions": versions(), "data": data_files()}


def _hash(value: object) -> str:
    """Equal values have equal hashes, networks among them: ``torch.save`` writes the same bytes for both."""
    import torch

    written = io.BytesIO()
    torch.save(value, written)
    return sha256(written.getvalue())


def kept(experiments: ModuleType, settings: Any, folder: Path | None = None) -> Any:
    """The functions of a module, each of which reads a result that is kept, or makes it and keeps it.

    ``settings`` are the run's, of which the profile decides: the short ones get the module itself. ``folder`` is where
    results are kept (default: in the book's ``.repro/parts``). A result is what a function returns and nothing else, so
    the functions may have no other effects; arguments and results must be such as ``pickle`` can write.
    """
    if settings.profile not in _LONG:
        return experiments
    own = inspect.getmembers(experiments, inspect.isfunction)
    place = folder or _place(Book.find(), experiments.__name__.split(".")[-2])
    return SimpleNamespace(**{name: _kept(function, place) for name, function in own})


def beside(function: Callable[..., Any], calls: Sequence[Mapping[str, Any]], settings: Any) -> list[Any]:
    """What a function of an experiment returns for each of several sets of arguments, in their order.

    The profiles that take hours run as many calls beside each other as there are cores, each in a process with one
    thread, unless there is a GPU; the short ones run them one by one.
    """
    import torch
    from joblib import Parallel, delayed

    alone = settings.profile not in _LONG or torch.cuda.is_available()
    found: list[Any] = Parallel(n_jobs=1 if alone else -1)(
        delayed(_in_a_process)(function, call) for call in calls
    )
    return found


def _in_a_process(function: Callable[..., Any], call: Mapping[str, Any]) -> Any:
    from repro.learn.seeding import reproducible

    reproducible(threads=1)
    return function(**call)


def forget(book: Book, chapter: str) -> None:
    """Remove the parts of a chapter whose run is finished and kept as a whole."""
    shutil.rmtree(_place(book, chapter.replace("-", "_")), ignore_errors=True)


def _place(book: Book, paper: str) -> Path:
    return book.cache_dir / "parts" / paper


def _kept(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    @wraps(function)
    def read_or_made(*args: Any, **given: Any) -> Any:
        called = {
            "function": f"{function.__module__}.{function.__qualname__}",
            "arguments": _hash((args, given)),
        }
        key = run_key(_made_with() | called)
        if (found := _cache.kept(folder, key)) is not None:
            return pickle.loads(found)
        made = function(*args, **given)
        _cache.keep(folder, key, pickle.dumps(made))
        return made

    return read_or_made

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
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from repro.book import _files
from repro.book._environment import data_files, versions, whole_library
from repro.book.layout import Book

_LONG = ("full", "paper")


def _hash(value: object) -> str:
    """Equal values have equal hashes, networks among them: ``torch.save`` writes the same bytes for both."""
    import torch

    written = io.BytesIO()
    torch.save(value, written)
    return _files.sha256(written.getvalue())


def kept(experiments: ModuleType, settings: Any, folder: Path | None = None) -> Any:
    """The functions of a module, each of which reads a result that is kept, or makes it and keeps it.

    ``settings`` are the run's, of which the profile decides: the short ones get the module itself. ``folder`` is where
    results are kept (default: in the book's ``.repro/parts``). A result is what a function returns and nothing else, so
    the functions may have no other effects; arguments and results must be such as ``pickle`` can write.
    """
    if settings.profile not in _LONG:
        return experiments
    place = folder or Book.find().parts(experiments.__name__.split(".")[-2])
    made_with = {"library": whole_library(), "versions": versions(), "data": data_files()}
    own = inspect.getmembers(experiments, inspect.isfunction)
    return SimpleNamespace(**{name: _kept(function, place, made_with) for name, function in own})


def beside(function: Callable[..., Any], calls: Sequence[Mapping[str, Any]], settings: Any) -> list[Any]:
    """What a function of an experiment returns for each of several sets of arguments, in their order.

    The profiles that take hours run as many calls beside each other as there are cores, each in a process with one
    thread, unless there is a GPU; the short ones run them one by one.
    """
    import torch
    from joblib import Parallel, delayed

    alone = settings.profile not in _LONG or torch.cuda.is_available()
    return list(Parallel(n_jobs=1 if alone else -1)(delayed(_on_its_own)(function, call) for call in calls))


def _on_its_own(function: Callable[..., Any], call: Mapping[str, Any]) -> Any:
    from repro.learn.seeding import reproducible

    reproducible(threads=1)
    return function(**call)


def _kept(function: Callable[..., Any], folder: Path, made_with: dict[str, Any]) -> Callable[..., Any]:
    @wraps(function)
    def read_or_made(*args: Any, **given: Any) -> Any:
        called = f"{function.__module__}.{function.__qualname__}"
        key = _files.hash_of(made_with | {"function": called, "arguments": _hash((args, given))})
        if (found := _files.kept(folder, key)) is not None:
            return pickle.loads(found)
        made = function(*args, **given)
        _files.keep(folder, key, pickle.dumps(made))
        return made

    return read_or_made

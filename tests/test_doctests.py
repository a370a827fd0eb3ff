"""The examples in the docstrings of the science, which are the first thing on their pages, run as they stand."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import repro

MODULES = [
    module.name
    for module in pkgutil.walk_packages(repro.__path__, "repro.")
    if module.name.split(".")[1] in ("learn", "prune", "papers", "series", "base", "head_to_head")
]
FIRST = {"repro.learn", "repro.prune", "repro.series"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_run_as_they_stand(name):
    found = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert found.failed == 0
    assert found.attempted or name not in FIRST

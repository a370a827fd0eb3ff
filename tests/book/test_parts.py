"""A long run that is stopped goes on where it was: each finished experiment is read back, and never a wrong one."""

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from repro.book import parts
from repro.learn import Ensemble, perceptron

CODE = """
calls = []
def square(x, times=1):
    calls.append(x)
    return times * x**2
def weights(ensemble):
    calls.append("weights")
    return [p.detach() for p in ensemble.parameters.values()]
"""


@pytest.fixture
def module():
    made = ModuleType("made_up")
    exec(CODE, made.__dict__)
    return made


def kept(module, folder, profile="full"):
    return parts.kept(module, SimpleNamespace(profile=profile), folder)


def test_a_short_run_keeps_nothing(module, tmp_path):
    assert kept(module, tmp_path, "quick") is module


def test_the_same_call_is_made_once_and_another_one_anew(module, tmp_path):
    x = np.arange(3.0)
    for _ in range(2):
        assert (kept(module, tmp_path).square(x) == x**2).all()
    assert len(module.calls) == 1
    kept(module, tmp_path).square(x, times=2)
    kept(module, tmp_path).square(x + 1)
    assert len(module.calls) == 3


def test_networks_as_arguments_are_known_again(module, tmp_path):
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        ensemble = Ensemble([perceptron([4, 3, 2]) for _ in range(2)])
        found.append((kept(module, tmp_path).weights(ensemble), len(module.calls)))
    (first, *_), (again, *_), _ = found
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert [calls for _, calls in found] == [1, 1, 2]


def test_another_process_finds_it(tmp_path):
    program = f"""
from types import ModuleType, SimpleNamespace
from pathlib import Path
from repro.book import parts
module = ModuleType("made_up")
exec({CODE!r}, module.__dict__)
print(parts.kept(module, SimpleNamespace(profile="full"), Path({str(tmp_path)!r})).square(3), len(module.calls))
"""
    told = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True) for _ in range(2)]
    assert [each.stdout.split() for each in told] == [["9", "1"], ["9", "0"]]


def test_calls_beside_each_other_give_what_calls_one_by_one_do_and_are_kept(module, tmp_path):
    calls = [{"x": 2}, {"x": 3, "times": 2}]
    for profile in ("quick", "full"):
        square = kept(module, tmp_path, profile).square
        assert parts.beside(square, calls, SimpleNamespace(profile=profile)) == [4, 18]
    before = len(module.calls)
    assert kept(module, tmp_path).square(x=2) == 4
    assert len(module.calls) == before

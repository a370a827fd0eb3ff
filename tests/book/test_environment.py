"""Runs in the home of a person with strong opinions: the same bits, and the same key, as in an empty one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import running_book

import repro
from repro.book import runner
from repro.book._environment import key_parts, sealed

PROBE = """import os, sys, time, warnings
import matplotlib, numpy as np, torch
import repro
print(torch.tensor(0.1).dtype, float(torch.tensor(0.1)), np.mean([1.0, 2.0]))
print(repro.__file__, sorted(name for name in globals() if "hostile" in name), "sitecustomize" in sys.modules)
print(sys.flags.optimize, sys.warnoptions, os.environ["LC_ALL"], time.tzname)
print(matplotlib.rcParams["lines.linewidth"], matplotlib.get_backend())
mark = str"""
PATCH = "import torch, numpy\ntorch.set_default_dtype(torch.float64)\nnumpy.mean = len\nhostile_startup = 1\n"
FILES = {
    ".ipython/profile_default/startup/00-mine.py": PATCH,
    ".ipython/profile_default/ipython_config.py": "c.InteractiveShellApp.exec_lines = ['hostile_lines = 1']",
    ".ipython/profile_default/ipython_kernel_config.py": "c.IPKernelApp.exec_lines = ['hostile_kernel = 1']",
    ".jupyter/jupyter_config.py": "raise SystemExit('a configuration of mine')",
    ".config/matplotlib/matplotlibrc": "lines.linewidth: 7\n",
    ".startup.py": "hostile_python = 1\n",
    "lib/repro/__init__.py": "raise ImportError('another library of this name')\n",
    "lib/sitecustomize.py": "",
}


VARIABLES = {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "MPLBACKEND": "svg", "REPRO_PROGRESS": "1"}
VARIABLES |= {"LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Kolkata"}


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    home = tmp_path / "home"
    for name, content in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    own = {"HOME": home, "PYTHONSTARTUP": home / ".startup.py", "PYTHONPATH": home / "lib"}
    for name, value in (VARIABLES | own).items():
        monkeypatch.setenv(name, str(value))
    return home


@pytest.fixture
def book(tmp_path):
    return running_book.make(tmp_path / "book", running_book.PARAMETERS, PROBE, running_book.LEDGER)


def outputs(run):
    return [cell.get("outputs") for cell in json.loads(run.notebook.read_text())["cells"]]


def test_a_hostile_home_changes_no_bit_and_no_key(book, hostile):
    with pytest.MonkeyPatch.context() as clean:
        for name in ("PYTHONSTARTUP", "PYTHONPATH", *VARIABLES):
            clean.delenv(name)
        clean.setenv("HOME", str(hostile.parent / "empty"))
        before = outputs(runner.run(book, "toy"))
    told = (text for cell in before for output in cell or () for text in output.get("text", ""))
    assert "".join(told).splitlines() == [
        "torch.float32 0.10000000149011612 1.5",
        f"{repro.__file__} [] {'sitecustomize' in sys.modules}",
        "0 [] C.UTF-8 ('UTC', 'UTC')",
        "1.5 module://matplotlib_inline.backend_inline",
    ]
    assert outputs(runner.run(book, "toy", use_cache=False)) == before
    assert runner.run(book, "toy").cached


def test_what_cannot_be_shut_out_belongs_to_the_key(book, monkeypatch):
    def key():
        return key_parts({"cells": []}, {}, None, {})

    before = key()
    for name, value in (("OMP_NUM_THREADS", "7"), ("EDITOR", "ed")):  # ours in any case; no matter
        monkeypatch.setenv(name, value)
    assert key() == before
    for name, value in (("OPENBLAS_CORETYPE", "Prescott"), ("ATEN_CPU_CAPABILITY", "default")):
        monkeypatch.setenv(name, value)
        assert sealed(book, book.root)[name] == value
        assert key() != before
        before = key()


def test_a_hook_in_the_user_s_packages_is_not_run(book, tmp_path, monkeypatch):
    # a virtual environment has no packages of the user's: the interpreter that it was made with does
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYTHONUSERBASE", raising=False)
    program = [sys._base_executable, "-c"]
    place = subprocess.check_output([*program, "import site; print(site.getusersitepackages())"], text=True)
    hook = Path(place.strip(), "usercustomize.py")
    hook.parent.mkdir(parents=True)
    hook.write_text("")
    program.append("import sys; print('usercustomize' in sys.modules)")
    assert subprocess.check_output(program, text=True).strip() == "True"
    found = subprocess.check_output(program, text=True, env=sealed(book, tmp_path))
    assert found.strip() == "False"

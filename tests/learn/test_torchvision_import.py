"""torchvision imports beside a CPU-only PyTorch, whatever PyTorch this machine has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# what torchvision does on import: it describes an operator that its compiled library should have declared
STAND_IN = """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold):
    return dets
"""


def run(code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    insert = f"import sys; sys.path.insert(0, {str(folder)!r})\n" if folder else ""
    return subprocess.run([sys.executable, "-c", insert + code], capture_output=True, text=True, check=False)


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(STAND_IN)
    return tmp_path


def test_missing_operators_are_declared(stand_in: Path) -> None:
    plain = run("import torchvision", stand_in)
    assert "operator torchvision::nms does not exist" in plain.stderr  # control: the fault is there
    code = "from repro.learn._torchvision import torchvision_module as m; print(m().__file__)"
    mended = run(code, stand_in)
    assert mended.returncode == 0, mended.stderr
    assert str(stand_in) in mended.stdout


def test_the_real_torchvision_imports() -> None:
    code = (
        "from repro.learn._torchvision import torchvision_module as m; "
        "print(m('torchvision.datasets').CIFAR10.__name__, m('torchvision.models').resnet18.__name__)"
    )
    done = run(code)
    assert (done.returncode, done.stdout.split()) == (0, ["CIFAR10", "resnet18"]), done.stderr


def test_other_faults_are_not_hidden(stand_in: Path) -> None:
    (stand_in / "torchvision" / "__init__.py").write_text("raise RuntimeError('something else')")
    done = run("from repro.learn._torchvision import torchvision_module as m; m()", stand_in)
    assert done.returncode != 0
    assert "something else" in done.stderr


def test_importing_the_library_does_not_import_torchvision() -> None:
    done = run("import sys, repro.learn; print('torchvision' in sys.modules)")
    assert done.stdout.strip() == "False", done.stderr

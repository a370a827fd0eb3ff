"""The direction of imports between the parts of the library, as pyproject.toml states it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_import_contracts_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "0 broken" in found.stdout


def test_a_forbidden_import_is_caught(tmp_path):
    """The contracts are not vacuous: an import against the grain in a copy of the library breaks one."""
    shutil.copytree(ROOT / "src" / "repro", tmp_path / "repro")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "repro" / "learn" / "upwards.py").write_text("import repro.prune\n")
    lint = Path(sys.executable).with_name("lint-imports")
    own = {"PYTHONPATH": str(tmp_path)}
    found = subprocess.run([lint], cwd=tmp_path, capture_output=True, text=True, env=own)
    assert found.returncode != 0
    assert "BROKEN" in found.stdout

"""The ground the book stands on: environments that agree, tools of the right kind, addresses set once."""

import re
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA_NAMES = {"pytorch-cpu": "torch"}
PYTHONS = ("3.11", "3.12", "3.13")


def project(*extras, python="3.11"):
    """What pyproject.toml asks for under one Python, by name; an extra brings those that it names along."""
    lines = PROJECT["dependencies"] + [r for extra in extras for r in PROJECT["optional-dependencies"][extra]]
    environment = default_environment() | {"python_version": python}
    found = [Requirement(line) for line in lines]
    named = [extra for r in found if r.name == PROJECT["name"] for extra in r.extras]
    more = project(*named, python=python) if named else {}
    return more | {
        canonicalize_name(r.name): r
        for r in found
        if r.name != PROJECT["name"] and (r.marker is None or r.marker.evaluate(environment))
    }


def pins(name, python="3.11"):
    """The pins of a constraints file under one Python, by name."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text("utf-8").splitlines()]
    environment = default_environment() | {"python_version": python}
    found = map(Requirement, filter(None, lines))
    return {canonicalize_name(r.name): r for r in found if r.marker is None or r.marker.evaluate(environment)}


def pinned(requirement):
    (only,) = requirement.specifier
    assert only.operator == "==", f"not a pin: {requirement}"
    return Version(only.version)


def conda():
    return yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))


# --- environments agree -------------------------------------------------------------------------------------


def test_conda_environment_asks_for_what_pyproject_asks_for():
    *packages, by_pip = conda()["dependencies"]
    asked = [Requirement(line) for line in [*packages, *by_pip["pip"]] if not re.match(r"python=|pip$", line)]
    names = {canonicalize_name(CONDA_NAMES.get(r.name, r.name)): str(r.specifier) for r in asked}
    wanted = {name: str(r.specifier) for name, r in project("book").items()}
    assert names == wanted


def test_conda_environment_is_one_that_binder_can_read():
    environment = conda()
    assert environment["channels"] == ["conda-forge"]
    assert "python=3.11" in environment["dependencies"], "Binder reads Python's version only as python=X.Y"
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert "-e ." not in text, "it would switch off Binder's cached layer; postBuild installs the package"
    # Binder would look there alone
    assert not any((ROOT / folder).exists() for folder in ("binder", ".binder"))


@pytest.mark.parametrize("python", PYTHONS)
def test_tested_versions_are_allowed_ones(python):
    tested = pins("constraints.txt", python)
    for name, requirement in project("book", "test", python=python).items():
        assert name in tested, f"constraints.txt pins no version of {requirement.name}"
        assert pinned(tested[name]) in requirement.specifier, f"{tested[name]} against {requirement}"


@pytest.mark.parametrize("python", PYTHONS)
def test_oldest_versions_are_the_lower_bounds(python):
    oldest = pins("constraints-oldest.txt", python)
    asked = project("book", python=python).items()
    wanted = {n: Version(s.version) for n, r in asked for s in r.specifier if s.operator == ">="}
    found = {n: pinned(r) for n, r in oldest.items()}
    for untried in ("torch", "torchvision"):  # the oldest builds without CUDA that were at hand
        assert found.pop(untried) >= wanted.pop(untried)
    assert found == wanted


def test_python_bound_is_the_one_the_makefile_checks():
    assert PROJECT["requires-python"] == ">=3.11"
    assert "sys.version_info < (3, 11)" in (ROOT / "Makefile").read_text(encoding="utf-8")


# --- tools of the right kind --------------------------------------------------------------------------------


def test_one_command_runs_all_checks_and_what_the_forge_reads_is_yaml():
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    wanted = ("make lint", "make book", "make test", ".venv/bin/repro check")
    assert [line for line in steps if line in wanted] == list(wanted)
    assert any("set -e" in line for line in steps)
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"], path
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "title", "authors"} <= set(citation)


# --- addresses and words ------------------------------------------------------------------------------------


def configuration():
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def test_repository_address_is_the_same_everywhere():
    address = configuration()["repository"]["url"]
    owner_and_name = urlsplit(address).path.strip("/")
    chapters = [path.relative_to(ROOT).as_posix() for path in (ROOT / "book" / "chapters").glob("*.ipynb")]
    for name in ("README.md", "CONTRIBUTING.md", "book/index.md", "book/reading-guide.md", *chapters):
        text = (ROOT / name).read_text(encoding="utf-8")
        for found in re.findall(r"github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?(?=[/\s)\"'#]|$)", text):
            assert found == owner_and_name, f"{name} names {found}"
        for found in re.findall(r"mybinder\.org/v2/gh/([\w.-]+/[\w.-]+)/", text):
            assert found == owner_and_name, f"{name} sends Binder to {found}"


def test_readme_names_targets_that_make_alone_lists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True).stdout
    code = " ".join(re.findall(r"`[^`]+`|```.*?```", readme, re.DOTALL))
    named = set(re.findall(r"\bmake ([a-z-]+)", code))
    assert {"book", "test"} <= named
    for target in named:
        assert f"make {target} " in listed, f"README names make {target}"


def test_readme_pictures_and_links_lead_to_files():
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{name} links to {target}"

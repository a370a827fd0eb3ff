"""What a plain installation has, without an extra: the packages of the science, and one clear line for the rest."""

import importlib
import subprocess
import sys
from importlib import metadata, resources

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_ground import PROJECT, project

import repro

# asked for where pages are rendered, each in a line of its own
OF_THE_BUILD = {"jupyter-book", "sphinx-exercise", "django-static-mathjax"}
MODULES = metadata.packages_distributions()


def closure(*names):
    """Distributions that these bring along, themselves included, without extras."""
    found = set()
    waiting = [canonicalize_name(name) for name in names]
    while waiting:
        if (name := waiting.pop()) in found:
            continue
        found.add(name)
        needs = map(Requirement, metadata.requires(name) or ())
        needed = (r.name for r in needs if not r.marker or r.marker.evaluate({"extra": ""}))
        waiting += map(canonicalize_name, needed)
    return found


def without_extras(code):
    """Run code in a process that finds no module but the library's and those of the core's packages."""
    core = closure(*project())
    blocked = [
        module
        for module, distributions in MODULES.items()
        if module != "repro" and not core & {canonicalize_name(name) for name in distributions}
    ]
    assert {"sklearn", "matplotlib", "typer", "yaml", "torchvision", "statsmodels"} <= set(blocked)
    start = f"""
import sys
class WithoutExtras:
    finders = sys.meta_path
    @classmethod
    def find_spec(cls, name, *where):
        if name.partition(".")[0] not in {blocked}:
            return next((spec for f in cls.finders if (spec := f.find_spec(name, *where))), None)
sys.meta_path = [WithoutExtras]
"""
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=False)


def test_without_extras_the_science_works_and_what_needs_one_asks_for_it_in_one_line():
    done = without_extras("""
from importlib import import_module
from pkgutil import walk_packages
import numpy as np, torch
from functools import partial
for part in ("base", "learn", "prune", "series"):
    module = import_module(f"repro.{part}")
    for found in walk_packages(getattr(module, "__path__", []), f"repro.{part}."):
        import_module(found.name)
from repro import learn, prune
from repro.base import t_interval
from repro.series import granger_test, lyapunov_rosenstein
x = np.random.default_rng(0).standard_normal((2, 300))
assert granger_test(x[:1], x[1:], 1).status == 0
assert (lyapunov_rosenstein(x, emb_dim=2, trajectory_len=3).status == 0).all()
images, labels = torch.randn(64, 8), torch.arange(64) % 2
data = learn.Dataset(*[images, labels] * 3, n_classes=2, name="own")
model = learn.perceptron((8, 4, 2))
mask = prune.select(prune.magnitude(model), sparsity=0.5)
learn.train(model, data, optimizer=partial(torch.optim.SGD, lr=0.1), n_epochs=1, batch_size=32, after_step=[mask])
assert prune.costs(model, (8,), mask).multiply_adds_kept == mask.n_kept == 20
assert t_interval([1, 0]).estimate == 0.5
def tried(code):
    try:
        exec(code)
    except ModuleNotFoundError as error:
        print(error)
tried("learn.load('digits')")
tried("learn.load('mnist5k')")
tried("import repro.papers.granger_causal_sgd")
tried("from repro.book import claims")
""")
    assert done.stdout.splitlines() == [
        "sklearn is missing: pip install 'repro[papers]'",
        "mlxtend is missing: pip install 'repro[papers]'",
        "celer is missing: pip install 'repro[papers]'",
        "ipykernel is missing: pip install 'repro[book]'",  # filelock, the first, comes with PyTorch
    ], done.stderr[-2000:]
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("lacking", ["typer", "pydantic"])
def test_the_command_line_without_its_packages_says_what_to_install(lacking):
    code = f"import sys; sys.modules[{lacking!r}] = None; sys.argv[1:] = ['claims']; from repro.__main__ import main; "
    done = subprocess.run([sys.executable, "-c", code + "main()"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"repro: the command line needs {lacking}: pip install 'repro[book]'\n"


@pytest.mark.parametrize(("extra", "part"), [("papers", "repro.papers"), ("book", "repro.book")])
def test_a_part_asks_for_every_package_of_its_extra(extra, part, monkeypatch):
    package = importlib.import_module(part)
    # setuptools is there for nolds; what another extra brings is for that one to ask for
    others = project("papers") if extra == "book" else project()
    for name in project(extra).keys() - others.keys() - OF_THE_BUILD - {"setuptools"}:
        modules = [m for m, distributions in MODULES.items() if name in map(canonicalize_name, distributions)]
        told = rf"^({'|'.join(modules)}) is missing: .*\[{extra}\]"
        with monkeypatch.context() as patch:
            for module in modules:
                patch.setitem(sys.modules, module, None)
            with pytest.raises(ModuleNotFoundError, match=told):
                importlib.reload(package)


def test_python_m_repro_is_the_command_of_a_typed_library(tmp_path):
    assert resources.files("repro").joinpath("py.typed").is_file()
    assert metadata.version("repro") == PROJECT["version"]
    command = [sys.executable, "-m", "repro", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"repro {repro.__version__}\n"

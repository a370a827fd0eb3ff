"""``import torchvision`` works after ``import repro``, whatever PyTorch this machine has."""

import subprocess
import sys

import pytest

# what torchvision does on import: it describes operators that its compiled library should have declared
DESCRIPTIONS = """
import torch
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
@torch.library.register_fake("torchvision::qnms")
def qnms(dets, scores, iou_threshold):
    return dets
"""
# the compiled library of a pair that fits
DECLARATIONS = """
import torch
library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
COUNTED = "print('run')\n"
IMPORT = "import repro, torchvision; print(torchvision.__file__)"


def run(code, folder=None):
    insert = f"import sys; sys.path.insert(0, {str(folder)!r})\n" if folder else ""
    return subprocess.run([sys.executable, "-c", insert + code], capture_output=True, text=True, check=False)


@pytest.fixture
def stand_in(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(COUNTED + DESCRIPTIONS)
    return tmp_path


def test_missing_operators_are_declared(stand_in):
    fault = "try:\n    import torchvision\nexcept RuntimeError as error:\n    print(error)\n"
    done = run(f"{fault}{IMPORT}\nimport torchvision", stand_in)
    assert done.returncode == 0, done.stderr
    first, said, *mended = done.stdout.splitlines()
    assert (first, said) == ("run", "operator torchvision::nms does not exist")  # control: the fault is there
    assert mended == ["run", "run", str(stand_in / "torchvision" / "__init__.py")]


def test_the_real_torchvision_imports_in_any_cell_and_only_where_it_is_asked_for():
    done = run(
        "import sys, repro\n"
        "print('torch' in sys.modules)\n"
        "from repro.learn import seeding\n"
        "print('torchvision' in sys.modules)\n"
        "import torchvision\n"
        "from torchvision import datasets, models\n"
        "from torchvision.transforms import v2\n"
        "print(models.resnet18(num_classes=10).fc.out_features, datasets.MNIST.__name__, v2.Resize.__name__)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "False", "10", "MNIST", "Resize"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [(DECLARATIONS + DESCRIPTIONS, ""), ("raise RuntimeError('else')", "RuntimeError: else")],
)
def test_a_pair_that_fits_is_left_alone_and_other_faults_are_not_hidden(stand_in, content, fault):
    place = stand_in / "torchvision" / "__init__.py"
    place.write_text(COUNTED + content)
    done = run(IMPORT, stand_in)
    assert (done.stderr.splitlines() or [""])[-1] == fault
    assert done.stdout.split() == ["run", *[str(place)][: not fault]]

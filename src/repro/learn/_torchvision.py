"""The one place that imports torchvision.

torchvision's wheel is built for CUDA. Beside a CPU-only PyTorch its compiled operators don't load, and the
import dies on ``operator torchvision::nms does not exist``, although data sets and models need none of them.
Declaring the schemas of the missing operators first lets the import through.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

__all__ = ["torchvision_module"]

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")
_libraries: list[torch.library.Library] = []  # a declaration lives as long as its library object


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SCHEMA)
    _libraries.append(library)


def torchvision_module(name: str = "torchvision") -> ModuleType:
    """Import torchvision or one of its modules, declaring its operators only if the import needs it.

    Args:
        name: ``"torchvision"`` or, say, ``"torchvision.datasets"``.

    Returns:
        The imported module.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision fails to import for another reason.
    """
    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    _declare_operators()
    return importlib.import_module(name)

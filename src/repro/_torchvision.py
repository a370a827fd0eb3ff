"""Make ``import torchvision`` work beside a PyTorch without CUDA, in any cell or script that has imported ``repro``.

torchvision's wheel is built for CUDA. Beside a CPU-only PyTorch its compiled operators don't load, and the import
dies on ``operator torchvision::nms does not exist``, although models, transforms and data sets need none of them.
Declaring the schemas of the missing operators lets the import through, and only that fault is mended: a torchvision
that imports is left alone. The operators stay missing; torchvision says so where one is called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[object] = []  # a declaration lives as long as its library object


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SCHEMA)
    _kept.append(library)


def _with_second_try(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def tried(module: ModuleType) -> None:
        try:
            return execute(module)
        except RuntimeError as error:
            if "operator torchvision::nms does not exist" not in str(error):
                raise
        _declare_operators()
        return execute(module)

    return tried


class _Finder:
    """Finds torchvision where Python would, and nothing else."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "torchvision" else None
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module = _with_second_try(spec.loader.exec_module)  # type: ignore[method-assign,assignment]
        return spec


sys.meta_path.insert(0, _Finder)

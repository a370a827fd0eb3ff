"""The core of the library needs PyTorch, NumPy, SciPy, pandas and tqdm; what more a part needs comes with an extra."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["require"]


def require(extra: str, *modules: str) -> None:
    """Raise ``ModuleNotFoundError`` if one of these modules is missing: one line that names the extra to install."""
    for name in modules:
        if sys.modules.get(name) is None and find_spec(name) is None:
            raise ModuleNotFoundError(f"{name} is missing: pip install 'repro[{extra}]'", name=name)

"""How far two sets of weights agree, and how far they would by chance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

_Set = Tensor | NDArray[np.bool_]


def jaccard(a: _Set, b: _Set) -> float:
    r"""Return $|A\cap B|/|A\cup B|$ of two sets, given as bool vectors ``(n,)`` of members; 1 for two empty ones.

    Raises:
        ValueError: vectors of other types or lengths.
    """
    if not str(a.dtype).endswith("bool") or not str(b.dtype).endswith("bool") or a.shape != b.shape:
        both = f"{a.dtype} {tuple(a.shape)} and {b.dtype} {tuple(b.shape)}"
        raise ValueError(f"two sets are bool vectors of one length, got {both}")
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def expected_jaccard(n_first: int, n_second: int, n: int) -> float:
    r"""Return the mean Jaccard index of independent random sets of sizes k and m out of n.

    $E\,\frac{H}{k+m-H}$ with H hypergeometric, from the ratios of neighboring probabilities,
    $\frac{P(h+1)}{P(h)} = \frac{(k-h)(m-h)}{(h+1)(n-k-m+h+1)}$: SciPy's takes 20 microseconds a value, and there are
    tens of thousands of values. 1 for two empty sets.
    """
    if n_first + n_second == 0:
        return 1.0
    h = np.arange(max(0, n_first + n_second - n), min(n_first, n_second) + 1)
    now = h[:-1]
    ratios = (n_first - now) * (n_second - now) / ((now + 1) * (n - n_first - n_second + now + 1))
    logs = np.concatenate([[0.0], np.log(ratios).cumsum()])
    probabilities = np.exp(logs - logs.max())
    return float((probabilities * h / (n_first + n_second - h)).sum() / probabilities.sum())


def agreement(a: _Set, b: _Set) -> dict[str, float]:
    """Compare two masks ``(p,)``: jaccard and chance of what they keep, and the same, named removed, of the rest."""
    found = {}
    for prefix, first, second in (("", a, b), ("removed_", ~a, ~b)):
        found[f"{prefix}jaccard"] = jaccard(first, second)
        found[f"{prefix}chance"] = expected_jaccard(int(first.sum()), int(second.sum()), len(first))
    return found

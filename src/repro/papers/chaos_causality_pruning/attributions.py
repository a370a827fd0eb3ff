"""Exact Shapley values of many small networks at once, and how far two rankings of features agree (claim C9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

__all__ = ["MOST_FEATURES", "RankAgreement", "mean_absolute_shapley", "rank_agreement", "shapley_values"]

Predict = Callable[[Tensor], Tensor]

# 65,536 coalitions; each is one more forward pass of every example
MOST_FEATURES = 16

# rows a forward pass: some tens of megabytes for 200 networks with hidden layers of eight
_ROWS = 8192


@dataclass(frozen=True)
class RankAgreement:
    """Rank correlations in [-1, 1]: Spearman's rho and Kendall's tau-b."""

    spearman: float
    kendall: float


@torch.inference_mode()
def shapley_values(predict: Predict, background: Tensor, x: Tensor) -> Tensor:
    r"""Compute exact Shapley values of the inputs, against one background example.

    $$\phi_i=\sum_{S\not\ni i}\frac{|S|!\,(n-|S|-1)!}{n!}\bigl(f(x_{S\cup i})-f(x_S)\bigr),$$

    where $x_S$ has the example's values in S and the background's elsewhere. All $2^n$ coalitions are evaluated:
    no sampling error. Not SHAP values against a *distribution* of backgrounds, nor the linear approximations
    (kernel, gradient, deep) that libraries offer for many features.

    Args:
        predict: takes float64 examples ``(m, features)``, returns the outputs of R networks ``(R, m, classes)``.
        background: the example that stands for absent features, ``(features,)``, such as the training mean.
        x: examples to explain, ``(m, features)``.

    Returns:
        ``(R, m, classes, features)``, float64, in the unit of the outputs; over features they add up to
        $f(x)-f(\text{background})$.

    Raises:
        ValueError: shapes that do not fit, no example, or more than ``MOST_FEATURES`` features.

    Source: L. S. Shapley (1953); S. M. Lundberg and S.-I. Lee (2017), eq. 4.
    """
    if x.ndim != 2 or not x.numel() or background.shape != x.shape[1:]:
        raise ValueError(
            "give examples (m, features), at least one, and a background (features,); "
            f"got {tuple(x.shape)} and {tuple(background.shape)}"
        )
    n_examples, n = x.shape
    if n > MOST_FEATURES:
        raise ValueError(
            f"exact Shapley values take 2^features passes: at most {MOST_FEATURES} features; got {n}"
        )
    x, background = x.to(torch.float64), background.to(torch.float64)
    present = (torch.arange(2**n)[:, None] >> torch.arange(n)) % 2 == 1
    total: Tensor | None = None
    at_once = max(1, _ROWS // n_examples)
    for chosen, weights in zip(
        present.split(at_once), _coalition_weights(present).split(at_once), strict=True
    ):
        rows = torch.where(chosen[:, None], x, background).reshape(-1, n)
        outputs = predict(rows)
        if outputs.ndim != 3 or outputs.shape[1] != len(rows):
            raise ValueError(
                f"predict must return (R, m, classes) for {len(rows)} examples; got {tuple(outputs.shape)}"
            )
        by_coalition = outputs.to(torch.float64).reshape(len(outputs), len(chosen), -1)
        part = weights.T @ by_coalition
        total = part if total is None else total + part
    assert total is not None
    n_networks = len(total)
    return total.reshape(n_networks, n, n_examples, -1).permute(0, 2, 3, 1)


def _coalition_weights(present: Tensor) -> Tensor:
    """Factor of each coalition's output in the value of each feature, ``(2^n, n)``."""
    n = present.shape[1]
    of_size = [factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)]
    size = present.sum(1, keepdim=True)
    with_it = torch.tensor([0.0, *of_size], dtype=torch.float64)[size]
    without_it = torch.tensor([*of_size, 0.0], dtype=torch.float64)[size]
    return torch.where(present, with_it, -without_it)


def mean_absolute_shapley(predict: Predict, background: Tensor, x: Tensor) -> NDArray[np.float64]:
    r"""Measure each feature's importance, the mean of $|\phi_i|$ over examples and classes.

    Args:
        predict: as for ``shapley_values``.
        background: ``(features,)``.
        x: ``(m, features)``.

    Returns:
        ``(R, features)``, 0 and up, in the unit of the outputs; exactly 0 for a feature that no output depends on,
        so that such features tie.

    Raises:
        ValueError: as for ``shapley_values``.
    """
    mean = shapley_values(predict, background, x).abs().mean((1, 2))
    with torch.inference_mode():
        scale = predict(x.to(torch.float64)).abs().amax((1, 2))[:, None]
    # else the features that pruning cut off would be ranked by rounding errors
    return torch.where(mean > 1e-12 * scale, mean, 0.0).numpy()


def rank_agreement(a: ArrayLike, b: ArrayLike) -> RankAgreement:
    r"""Compare two rankings of the same features by Spearman's $\rho$ and Kendall's $\tau_b$.

    Args:
        a: importance of each feature, ``(features,)``.
        b: the same features' importance elsewhere.

    Returns:
        Both correlations; NaN where all values of ``a`` or of ``b`` are equal, which ranks nothing.

    Raises:
        ValueError: different lengths, fewer than two features, or a value that is not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or len(first) < 2:
        raise ValueError(
            f"give two lists of one length, two features or more; got {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError(f"importances must be finite; got {first.tolist()} and {second.tolist()}")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return RankAgreement(float("nan"), float("nan"))
    return RankAgreement(
        float(stats.spearmanr(first, second).statistic), float(stats.kendalltau(first, second).statistic)
    )

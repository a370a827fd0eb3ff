"""What can be checked exactly: how nudges grow, Shapley values, power laws of spectra."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from repro.papers.chaos_causality_pruning.perceptrons import Examples, Perceptrons, descend

_Array = NDArray[np.float64]

# Of an initial parameter: small enough for a linear response, large enough for ten digits of it.
_NUDGE = 1e-6

# --- exponents ------------------------------------------------------------------------------------------------


def growth(initial: Perceptrons, train: Examples, **how: Any) -> tuple[_Array, _Array]:
    r"""Return how far a small nudge of the start has grown after each epoch, in a random and in the worst direction.

    Training maps initial parameters $\theta_0$ to $\theta_k$. Its Jacobian $J_k=\partial\theta_k/\partial\theta_0$ is
    found from twins, one for each weight and bias, that start $10^{-6}$ further and see the same examples in the same
    order. A nudge grows by $\lVert J_k\rVert_F/\sqrt n$ in a random direction (root mean square) and by the largest
    singular value of $J_k$ in the worst. In a chaotic system the logarithms rise in proportion to k, until the twins
    are as far apart as strangers; their slope is the largest Lyapunov exponent that ``repro.series.lyapunov`` estimates
    from one series.

    Args:
        initial: R networks, with n weights and biases each.
        train: examples of S splits.
        how: for ``descend``.

    Returns:
        Two arrays ``(R, n_epochs + 1)`` in e-folds, starting with 0: random and worst.
    """
    sizes = [t[0].numel() for t in initial.tensors]
    n, n_networks = sum(sizes), len(initial)
    # a network, its n twins, the next network, ...
    both = initial.pick(np.repeat(np.arange(n_networks), n + 1))
    first = 1
    for tensor, size in zip(both.tensors, sizes, strict=True):
        twins = tensor.view(n_networks, n + 1, size)[:, first : first + size]
        twins += _NUDGE * torch.eye(size, dtype=torch.float64)
        first += size
    random, worst = [np.zeros(n_networks)], [np.zeros(n_networks)]

    def note(_: int) -> None:
        flat = torch.cat([t.view(n_networks, n + 1, -1) for t in both.tensors], dim=2)
        jacobian = (flat[:, 1:] - flat[:, :1]) / _NUDGE
        random.append((jacobian.square().sum((1, 2)) / n).sqrt().log().numpy())
        worst.append(torch.linalg.matrix_norm(jacobian, 2).log().numpy())

    descend(both, train, after_epoch=note, **how)
    return np.stack(random, axis=1), np.stack(worst, axis=1)


# --- rankings of features -------------------------------------------------------------------------------------

# 65,536 coalitions; each is one more forward pass of every example
_MOST_FEATURES = 16

# rows a forward pass: some tens of megabytes for 200 networks with hidden layers of eight
_ROWS = 8192


@torch.inference_mode()
def _shapley_values(predict: Callable[[Tensor], Tensor], background: Tensor, x: Tensor) -> Tensor:
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
        ValueError: more than 16 features.

    Source: L. S. Shapley (1953); S. M. Lundberg and S.-I. Lee (2017), eq. 4.
    """
    n_examples, n = x.shape
    if n > _MOST_FEATURES:
        raise ValueError(f"exact Shapley values: at most {_MOST_FEATURES} features; got {n}")
    x, background = x.double(), background.double()
    present = (torch.arange(2**n)[:, None] >> torch.arange(n)) % 2 == 1
    # the factor of each coalition's output in the value of each feature: plus with it, minus without it
    of_size = [factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)]
    size = present.sum(1, keepdim=True)
    with_it = torch.tensor([0.0, *of_size], dtype=torch.float64)[size]
    without_it = torch.tensor([*of_size, 0.0], dtype=torch.float64)[size]
    weights = torch.where(present, with_it, -without_it)
    total = torch.zeros((), dtype=torch.float64)
    at_once = max(1, _ROWS // n_examples)
    for chosen, factors in zip(present.split(at_once), weights.split(at_once), strict=True):
        outputs = predict(torch.where(chosen[:, None], x, background).reshape(-1, n)).double()
        total = total + factors.T @ outputs.reshape(len(outputs), len(chosen), -1)
    return total.reshape(len(total), n, n_examples, -1).permute(0, 2, 3, 1)


def mean_absolute_shapley(predict: Callable[[Tensor], Tensor], background: Tensor, x: Tensor) -> _Array:
    r"""Measure each feature's importance, the mean of $|\phi_i|$ over examples and classes.

    Args:
        predict, background, x: as for ``_shapley_values``.

    Returns:
        ``(R, features)``, 0 and up, in the unit of the outputs; exactly 0 for a feature that no output depends on,
        so that such features tie.
    """
    mean = _shapley_values(predict, background, x).abs().mean((1, 2))
    with torch.inference_mode():
        scale = predict(x.double()).abs().amax((1, 2))[:, None]
    # else the features that pruning cut off would be ranked by rounding errors
    return torch.where(mean > 1e-12 * scale, mean, 0.0).numpy()


# --- spectra of layers ----------------------------------------------------------------------------------------


class PowerLaw(NamedTuple):
    r"""A density $p(\lambda)\propto\lambda^{-\alpha}$ fitted to the values at and above a threshold.

    Attributes:
        alpha: exponent, above 1.
        x_min: threshold, one of the values.
        n_tail: number of values at and above it.
        ks: Kolmogorov-Smirnov distance of these values from the law, in (0, 1).
    """

    alpha: float
    x_min: float
    n_tail: int
    ks: float

    @classmethod
    def fitted(cls, eigenvalues: ArrayLike) -> Self:
        r"""Fit a continuous power law to the upper tail of a spectrum by maximum likelihood.

        $$\hat\alpha=1+n\Big/\sum_{\lambda_i\ge x_{\min}}\ln\frac{\lambda_i}{x_{\min}},$$

        with $x_{\min}$ the value, of all but the largest, for which the tail's Kolmogorov-Smirnov distance from the
        fitted law is least. It always returns an exponent: that is no evidence for a power law. Few values give a
        broad distribution of exponents.

        Args:
            eigenvalues: 0 and up; zeros (directions that the layer does not use) are left out.

        Raises:
            ValueError: fewer than two different values above 0.

        Source: A. Clauset, C. R. Shalizi, M. E. J. Newman (2009), eq. 3.1 and section 3.3.
        """
        values = np.sort(np.asarray(eigenvalues, dtype=np.float64))
        values = values[values > 0]
        logs = np.log(values)
        left, right = np.searchsorted(logs, logs), np.searchsorted(logs, logs, side="right")
        if left.max(initial=0) == 0:
            raise ValueError(f"a power law needs two different eigenvalues above 0; got {values.tolist()}")
        fits = []
        for start in np.unique(left)[:-1]:
            above = logs[start:] - logs[start]
            n = len(above)
            slope = n / above.sum()
            law = -np.expm1(-slope * above)
            # the steps of the empirical distribution, just below and at each value
            below, at = (left[start:] - start) / n, (right[start:] - start) / n
            ks = max((at - law).max(), (law - below).max())
            fits.append(cls(1 + float(slope), float(values[start]), n, float(ks)))
        return min(fits, key=lambda fit: fit.ks)

    @classmethod
    def of_layer(cls, weight: ArrayLike) -> Self:
        r"""Fit one to the eigenvalues of $W^\top W/N$, N the larger side of the matrix, that are not numerically zero.

        Args:
            weight: a layer's weights, ``(outputs, inputs)``; which side is which makes no difference.

        Raises:
            ValueError: fewer than two different eigenvalues above 0.

        Source: C. H. Martin and M. W. Mahoney (2021), the empirical spectral density of WeightWatcher.
        """
        matrix = np.asarray(weight, dtype=np.float64)
        singular = np.linalg.svd(matrix, compute_uv=False)
        negligible = singular[0] * max(matrix.shape) * np.finfo(np.float64).eps
        return cls.fitted(singular[singular > negligible] ** 2 / max(matrix.shape))

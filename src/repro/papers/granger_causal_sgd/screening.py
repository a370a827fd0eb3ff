"""Two numbers a weight that need no regression: how its squared changes go with the loss, and how large they are."""

from __future__ import annotations

from torch import Tensor

from repro.papers.granger_causal_sgd._pairs import check_pair, check_x

__all__ = ["covariance", "energy"]


def covariance(x: Tensor, y: Tensor) -> Tensor:
    r"""Return $c_k = \frac1T \sum_t y_t\,x_{t,k}$.

    Thresholding $|c_k|$ at $\alpha$ is what TG_LASSO does to features this small (see ``tg_lasso``). Not to be
    confused with a covariance about the means: the regression that it stands for has no intercept.

    Args:
        x: squared weight changes ``(..., T, p)``.
        y: loss changes ``(..., T)``.

    Returns:
        ``(..., p)``.

    Raises:
        ValueError: shapes that do not fit, no rows, values that are not finite.
        TypeError: not floating-point.
    """
    check_pair(x, y)
    mean: Tensor = (y.unsqueeze(-2) @ x).squeeze(-2) / x.shape[-2]
    return mean


def energy(x: Tensor) -> Tensor:
    r"""Return $\bar x_k = \frac1T \sum_t x_{t,k}$: how much each weight moved, whatever the loss did.

    Args:
        x: squared weight changes ``(..., T, p)``.

    Returns:
        ``(..., p)``.

    Raises:
        ValueError: no rows or columns, values that are not finite.
        TypeError: not floating-point.
    """
    check_x(x)
    return x.mean(dim=-2)

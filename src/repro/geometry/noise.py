r"""How much a loss rises when noise is put on the weights of S networks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from repro.geometry._copies import check_data, check_names, classes, copied, stacked_mask
from repro.learn import Ensemble, evaluate
from repro.learn._losses import Loss

__all__ = ["noise_sensitivity"]


@torch.no_grad()
def noise_sensitivity(
    model: Ensemble | nn.Module,
    x: Tensor,
    y: Tensor,
    sigmas: Sequence[float],
    *,
    relative: bool = False,
    kept: Mapping[str, Tensor] | None = None,
    n_draws: int = 10,
    seed: int = 0,
    loss: str | Loss = "cross_entropy",
    per_member: bool = False,
) -> Tensor:
    r"""Mean rise of the loss under Gaussian noise on the weights, $\mathbb E\,L(\theta+\varepsilon)-L(\theta)$.

    $\varepsilon_k\sim N(0,\sigma^2)$, or $N(0,\sigma^2\theta_k^2)$ with ``relative``. For small absolute noise it is
    $\frac12\sigma^2\operatorname{tr}H$. Each draw is used with both signs, which takes the slope out of the mean. The
    same draws serve all networks, strengths and masks, so that differences between them are not differences of draws.

    Args:
        model: an ``Ensemble`` of S, or one module; left as it is.
        x, y, loss, per_member: as in ``curvature.Hessian``.
        sigmas: strengths, 0 or above: in units of the weights, or without unit with ``relative``.
        relative: whether the noise is in proportion to each weight.
        kept: parameter name to bool; only these parameters are disturbed, and only where kept. None for all.
        n_draws: of the noise, each used twice.
        seed: of the noise.

    Returns:
        ``(S, len(sigmas))``, float64.

    Raises:
        ValueError: no examples, no strengths, a negative one, unknown names, masks that do not fit, a loss that is
            not finite without noise.
    """
    if not len(sigmas) or any(not 0 <= sigma < float("inf") for sigma in sigmas):
        raise ValueError(f"sigmas must be 0 or above and finite, at least one; got {list(sigmas)!r}")
    if isinstance(n_draws, bool) or not isinstance(n_draws, int) or n_draws < 1:
        raise ValueError(f"n_draws must be a whole number, 1 or above; got {n_draws!r}")
    shown = copied(model, torch.float64)
    check_data(x, y, len(shown), per_member)
    check_names(kept or (), shown.parameters, "network's")
    names = list(shown.parameters) if kept is None else list(kept)
    still = {name: shown.parameters[name].detach().clone() for name in names}
    scale = {
        name: stacked_mask(name, kept, weight) * (weight.abs() if relative else 1.0)
        for name, weight in still.items()
    }

    def losses() -> Tensor:
        return evaluate(shown, x.double(), classes(y), loss=loss, per_member=per_member)[0]

    start = losses()
    if not bool(start.isfinite().all()):
        bad = int((~start.isfinite()).nonzero()[0])
        raise ValueError(f"the loss of network {bad} is {start[bad].item()} even without noise")
    generator = torch.Generator().manual_seed(seed)
    rise = start.new_zeros(len(shown), len(sigmas))
    for _ in range(n_draws):
        draws = {
            name: torch.randn(weight.shape[1:], generator=generator, dtype=torch.float64).to(weight.device)
            for name, weight in still.items()
        }
        for (j, sigma), sign in product(enumerate(sigmas), (1, -1)):
            for name, weight in still.items():
                shown.parameters[name].copy_(weight + sign * sigma * scale[name] * draws[name])
            rise[:, j] += (losses() - start) / 2
    return rise / n_draws

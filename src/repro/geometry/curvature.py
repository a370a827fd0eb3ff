r"""Curvature of a loss at S networks at once: Hessian-vector products, largest eigenvalues, trace, noise.

Everything works on the Hessian of each network's mean loss over chosen parameters, all of them or only weights that
a mask keeps. No matrix is ever formed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from repro.learn import Ensemble, evaluate
from repro.learn._losses import Loss, loss_function

__all__ = ["Eigenvalues", "Hessian", "eigenvalues", "noise_sensitivity", "trace"]


class Hessian:
    r"""$H_{kl}=\partial^2L/\partial\theta_k\partial\theta_l$ of the mean loss of each of S networks.

    Args:
        model: an ``Ensemble`` of S, or one module.
        x: inputs ``(n, ...)``, or ``(S, n, ...)`` with ``per_member``.
        y: classes ``(n,)`` or ``(S, n)``.
        loss: as in ``learn.train``.
        parameters: names of the parameters; None for all that are trained.
        kept: parameter name to bool ``(*shape)`` or ``(S, *shape)``; rows and columns of the others are zero.
        per_member: whether each network has data of its own.
        dtype: of the products; float32 halves their cost and keeps about 6 digits.

    Raises:
        ValueError: no examples, unknown names, masks that do not fit or keep nothing, a loss that is not finite.

    Attributes:
        n: coordinates of one network, pruned ones included.
        n_kept: ``(S,)``, how many of them are not pruned.
    """

    def __init__(
        self,
        model: Ensemble | nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        loss: str | Loss = "cross_entropy",
        parameters: Sequence[str] | None = None,
        kept: Mapping[str, Tensor] | None = None,
        per_member: bool = False,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        ensemble = model if isinstance(model, Ensemble) else Ensemble([model])
        if not y.shape[-1]:
            raise ValueError("there are no examples to take the loss of")
        trained = [name for name, p in ensemble.parameters.items() if p.requires_grad]
        names = trained if parameters is None else list(parameters)
        if unknown := [name for name in names if name not in trained]:
            raise ValueError(f"no trained parameter is called {unknown[0]!r}; there are {', '.join(trained)}")
        self._ensemble, self._function = ensemble, loss_function(loss)
        self._x, self._y, self._per_member = x.to(dtype), y, per_member
        self._fixed = {name: p.detach().to(dtype) for name, p in ensemble.parameters.items()}
        self._names = names
        self._sizes = [self._fixed[name][0].numel() for name in names]
        self.n = sum(self._sizes)
        size = len(ensemble)
        self.kept = torch.cat([_whole(name, kept, self._fixed[name]) for name in names], dim=1)
        self.n_kept = self.kept.sum(dim=1)
        if bool((self.n_kept == 0).any()):
            bad = int((self.n_kept == 0).nonzero()[0])
            raise ValueError(f"nothing is kept of network {bad}; there is no Hessian to take")
        points = [self._fixed[name].clone().requires_grad_() for name in names]
        means = self._losses(self._fixed | dict(zip(names, points, strict=True)))
        if not bool(means.isfinite().all()):
            bad = int((~means.isfinite()).nonzero()[0])
            raise ValueError(
                f"the loss of network {bad} is {means[bad].item()}; a Hessian needs a finite one"
            )
        gradients = torch.autograd.grad(means.sum(), points, create_graph=True)
        self._points, self._gradients, self.size = points, gradients, size

    def matvec(self, v: Tensor) -> Tensor:
        """Return Hv for each network, float64.

        Args:
            v: ``(S, n)``.

        Returns:
            ``(S, n)``; zero at pruned coordinates, whatever v has there.

        Raises:
            ValueError: another shape.
        """
        if v.shape != (self.size, self.n):
            raise ValueError(f"v must be {(self.size, self.n)}, got {tuple(v.shape)}")
        masked = (v * self.kept).to(self._points[0].dtype)
        parts = [
            part.view_as(point)
            for part, point in zip(masked.split(self._sizes, 1), self._points, strict=True)
        ]
        columns = torch.autograd.grad(
            self._gradients, self._points, parts, retain_graph=True, materialize_grads=True
        )
        flat = torch.cat([column.flatten(1) for column in columns], dim=1)
        return flat.double() * self.kept

    def _losses(self, parameters: Mapping[str, Tensor]) -> Tensor:
        outputs = self._ensemble(self._x, per_member=self._per_member, parameters=parameters)
        targets = self._y.expand(outputs.shape[:2]).reshape(-1)
        losses = self._function(outputs.reshape(-1, outputs.shape[-1]), targets)
        return losses.view(outputs.shape[:2]).mean(dim=1)


@dataclass(frozen=True)
class Eigenvalues:
    """The n algebraically largest eigenvalues of S Hessians, largest first.

    Attributes:
        values: ``(S, n)``, float64.
        residuals: ``(S, n)``, norms of $Hv-\\lambda v$: an eigenvalue lies within this of each value.
        n_products: Hessian-vector products that it took.
    """

    values: Tensor
    residuals: Tensor
    n_products: int


@torch.no_grad()
def eigenvalues(
    hessian: Hessian, n: int = 1, *, tolerance: float = 1e-3, max_products: int = 200, seed: int = 0
) -> Eigenvalues:
    r"""Find the algebraically largest eigenvalues by Lanczos' method with full reorthogonalization.

    All networks take the same number of steps: until every residual is below ``tolerance`` times the network's
    largest eigenvalue in size. Not to be confused with the power method, which finds the eigenvalue of largest size
    and can return a negative one.

    Args:
        hessian: of S networks.
        n: how many, at most what each network keeps.
        tolerance: relative.
        max_products: where it stops all the same; see ``residuals``.
        seed: of the first vectors.

    Raises:
        ValueError: n out of range.

    Source: Golub & Van Loan, Matrix Computations, section 10.3.
    """
    most = int(hessian.n_kept.min())
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
        raise ValueError(f"n must lie between 1 and the {most} coordinates that are kept, got {n!r}")
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(hessian.size, hessian.n, generator=generator, dtype=torch.float64) * hessian.kept
    v = v / v.norm(dim=1, keepdim=True)
    basis = v[:, None]
    diagonal, beside = [], []
    for k in range(1, min(max_products, most) + 1):
        w = hessian.matvec(basis[:, -1])
        diagonal.append((w * basis[:, -1]).sum(dim=1))
        for _ in range(2):
            w = w - torch.einsum("skn,sk->sn", basis, torch.einsum("skn,sn->sk", basis, w))
        length = w.norm(dim=1)
        beside.append(length)
        tridiagonal = torch.diag_embed(torch.stack(diagonal, 1))
        if k > 1:
            off = torch.stack(beside[:-1], 1)
            tridiagonal = tridiagonal + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
        values, vectors = torch.linalg.eigh(tridiagonal)
        found = min(n, k)
        residuals = (length[:, None] * vectors[:, -1].abs())[:, -found:].flip(1)
        scale = values.abs().amax(dim=1, keepdim=True)
        done = k >= n and bool((residuals <= tolerance * scale).all())
        if done or k == min(max_products, most):
            return Eigenvalues(values[:, -found:].flip(1), residuals, k)
        # an invariant subspace is complete: go on with a fresh direction, to which nothing couples
        lost = length <= 1e-12 * scale[:, 0].clamp(min=1e-300)
        if bool(lost.any()):
            fresh = torch.randn(w.shape, generator=generator, dtype=torch.float64) * hessian.kept
            for _ in range(2):
                fresh = fresh - torch.einsum("skn,sk->sn", basis, torch.einsum("skn,sn->sk", basis, fresh))
            w = torch.where(lost[:, None], fresh, w)
            beside[-1] = torch.where(lost, 0.0, length)
            length = w.norm(dim=1)
        basis = torch.cat([basis, (w / length.clamp(min=1e-300)[:, None])[:, None]], dim=1)
    raise AssertionError("unreachable")


@torch.no_grad()
def trace(hessian: Hessian, *, n_probes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""Estimate the traces, $\frac1m\sum_i z_i^\top Hz_i$ with random signs $z_i$.

    Args:
        hessian: of S networks.
        n_probes: m, at least 2.
        seed: of the signs.

    Returns:
        Estimates and their standard errors, ``(S,)`` each.

    Raises:
        ValueError: fewer than two probes.

    Source: Hutchinson (1990).
    """
    if isinstance(n_probes, bool) or not isinstance(n_probes, int) or n_probes < 2:
        raise ValueError(f"n_probes must be a whole number, 2 or above; got {n_probes!r}")
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(n_probes):
        z = torch.randint(0, 2, (hessian.size, hessian.n), generator=generator).double() * 2 - 1
        found.append((z * hessian.matvec(z)).sum(dim=1))
    values = torch.stack(found)
    return values.mean(dim=0), values.std(dim=0) / math.sqrt(n_probes)


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
    same draws serve all networks, strengths and masks.

    Args:
        model: an ``Ensemble`` of S, or one module.
        x, y, loss, per_member: as in ``Hessian``.
        sigmas: strengths, 0 or above.
        relative: whether the noise is in proportion to each weight.
        kept: parameter name to bool; only these parameters are disturbed, and only where kept. None for all.
        n_draws: of the noise, each used twice.
        seed: of the noise.

    Returns:
        ``(S, len(sigmas))``, float64.

    Raises:
        ValueError: no strengths, a negative one, masks that do not fit.
    """
    ensemble = model if isinstance(model, Ensemble) else Ensemble([model])
    if not len(sigmas) or any(not 0 <= sigma < float("inf") for sigma in sigmas):
        raise ValueError(f"sigmas must be 0 or above and finite, at least one; got {list(sigmas)!r}")
    if isinstance(n_draws, bool) or not isinstance(n_draws, int) or n_draws < 1:
        raise ValueError(f"n_draws must be a whole number, 1 or above; got {n_draws!r}")
    names = list(ensemble.parameters) if kept is None else list(kept)
    shown = Ensemble(list(ensemble))
    generator = torch.Generator().manual_seed(seed)
    start = evaluate(ensemble, x, y, loss=loss, per_member=per_member)[0]
    rise = torch.zeros(len(ensemble), len(sigmas), dtype=torch.float64)
    for _ in range(n_draws):
        draws = {n: torch.randn(ensemble.parameters[n].shape[1:], generator=generator) for n in names}
        for (j, sigma), sign in product(enumerate(sigmas), (1, -1)):
            for name in names:
                weight = ensemble.parameters[name]
                mask = _whole(name, kept, weight).view_as(weight)
                noise = sign * sigma * draws[name].to(weight) * (weight.abs() if relative else 1.0)
                shown.parameters[name].copy_(weight + noise * mask)
            rise[:, j] += (evaluate(shown, x, y, loss=loss, per_member=per_member)[0] - start).cpu() / 2
    return rise / n_draws


def _whole(name: str, kept: Mapping[str, Tensor] | None, parameter: Tensor) -> Tensor:
    """The mask of a stacked parameter, ``(S, numbers of one network)``."""
    if kept is None or name not in kept:
        return torch.ones(parameter.shape, dtype=torch.bool).flatten(1)
    mask = kept[name]
    if mask.dtype != torch.bool or mask.shape not in (parameter.shape, parameter.shape[1:]):
        raise ValueError(
            f"the mask of {name!r} must be bool of shape {tuple(parameter.shape[1:])} or "
            f"{tuple(parameter.shape)}; got {mask.dtype} {tuple(mask.shape)}"
        )
    return mask.expand(parameter.shape).flatten(1)

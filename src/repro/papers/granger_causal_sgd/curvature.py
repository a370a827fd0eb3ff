r"""How flat the minima of S networks are, all at once: largest eigenvalues of the Hessian, noise on the weights.

Everything works on the Hessian of each network's mean loss over chosen parameters, all of them or only weights that
a mask keeps. No matrix is ever formed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from repro.learn import Ensemble, evaluate
from repro.learn.training import Loss, cross_entropy

__all__ = ["Hessian", "noise_sensitivity"]

_MOST_PRODUCTS = 200
_DRAWS = 10  # of noise, each used with both signs
#: How small, relative to the largest eigenvalue in size, a new direction must be for the old ones to be invariant.
_NOTHING_NEW = 1e-12


class Hessian:
    r"""$H_{kl}=\partial^2L/\partial\theta_k\partial\theta_l$ of the mean loss of each of S networks.

    Taken in evaluation mode and float64, at the parameters that the networks have now.

    Args:
        ensemble: of S networks; left as it is.
        x: inputs ``(S, n, ...)``, of each network its own.
        y: classes ``(S, n)``.
        kept: parameter name to bool ``(S, *shape)``; rows and columns of what is not kept are zero, and parameters
            that are not named are held fixed. None for all that are trained.
        loss: from outputs ``(m, k)`` and classes ``(m,)`` to losses ``(m,)``.

    Raises:
        ValueError: a mask that keeps nothing of a network, a loss that is not finite.

    Attributes:
        n: coordinates of one network, pruned ones included.
        kept: ``(S, n)``, bool.
        n_kept: ``(S,)``, how many are not pruned.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        x: Tensor,
        y: Tensor,
        kept: Mapping[str, Tensor] | None = None,
        *,
        loss: Loss = cross_entropy,
    ) -> None:
        copy = _exact(ensemble)
        if kept is None:
            kept = {
                name: torch.ones_like(p, dtype=torch.bool)
                for name, p in copy.parameters.items()
                if p.requires_grad
            }
        self._points = [copy.parameters[name] for name in kept]
        self._sizes = [point[0].numel() for point in self._points]
        self.n = sum(self._sizes)
        self.kept = torch.cat([mask.flatten(1) for mask in kept.values()], dim=1).to(self._points[0].device)
        self.n_kept = self.kept.sum(dim=1)
        if not bool(self.n_kept.all()):
            raise ValueError(
                f"nothing is kept of network {int(self.n_kept.argmin())}; there is no Hessian to take"
            )
        outputs = copy(x.double(), per_member=True)
        means = loss(outputs.flatten(0, 1), y.flatten()).view(y.shape).mean(dim=1)
        _check_finite(means)
        self._gradients = torch.autograd.grad(means.sum(), self._points, create_graph=True)

    def matvec(self, v: Tensor) -> Tensor:
        """Return Hv for each network, float64.

        Args:
            v: ``(S, n)``.

        Returns:
            ``(S, n)``; zero at pruned coordinates, whatever v has there.
        """
        columns = (v * self.kept).double().split(self._sizes, dim=1)
        parts = [part.view_as(point) for part, point in zip(columns, self._points, strict=True)]
        products = torch.autograd.grad(
            self._gradients, self._points, parts, retain_graph=True, materialize_grads=True
        )
        return torch.cat([each.flatten(1) for each in products], dim=1) * self.kept

    @torch.no_grad()
    def eigenvalues(self, n: int = 1, *, tolerance: float = 1e-4) -> tuple[Tensor, Tensor]:
        r"""Find the n algebraically largest eigenvalues by Lanczos' method with full reorthogonalization.

        Each step adds a direction $q_{k+1}$ to an orthonormal basis Q of the Krylov space of a random vector;
        eigenvalues of the tridiagonal $Q^\top HQ$ are the estimates, and $\|Hv-\lambda v\|=\beta_k|s_k|$ with s its
        eigenvector. All networks take the same number of steps, 200 at most (then with a warning), until every residual
        is at most ``tolerance`` times the network's largest eigenvalue. The residual bounds the error; the error itself
        is about its square over the gap to the next eigenvalue.

        Not to be confused with the power method, which finds the eigenvalue of largest size and can return a negative
        one. Eigenvalues that are exactly equal may be counted once, unless n asks for all: n beyond the number of
        positive ones is not to be trusted where dead units make many zeros.

        Args:
            n: how many, at most what each network keeps.
            tolerance: relative, above 0. Of two neighbours closer than the residuals one can be missed: for twenty
                eigenvalues of a trained network 1e-3 is too coarse.

        Returns:
            Values, largest first, and residuals, both ``(S, n)``.

        Raises:
            ValueError: n out of range.

        Source: Golub & Van Loan, Matrix Computations, section 10.3.
        """
        if not 1 <= n <= (most := int(self.n_kept.min())):
            raise ValueError(f"n must lie between 1 and the {most} coordinates that are kept, got {n!r}")
        generator = torch.Generator().manual_seed(0)

        def draw() -> Tensor:
            v = torch.randn(self.kept.shape, generator=generator, dtype=torch.float64)
            return v.to(self.kept.device) * self.kept

        first = draw()
        most = max(n, _MOST_PRODUCTS)
        room = first.new_empty(len(first), most, self.n)  # the system hands it out as it is written to
        room[:, 0] = first / first.norm(dim=1, keepdim=True)
        diagonal: list[Tensor] = []
        beside: list[Tensor] = []
        bottom = first.new_zeros(len(first))
        for k in range(1, most + 1):
            basis, last = room[:, :k], room[:, k - 1]
            w = self.matvec(last)
            # a network without directions left goes on with empty ones, below all of its eigenvalues
            spent = k >= self.n_kept
            diagonal.append(torch.where(k > self.n_kept, bottom, (w * last).sum(dim=1)))
            w = _orthogonal(w, basis)
            length = w.norm(dim=1)
            found, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside))
            values = found[:, -n:].flip(1)
            residuals = (length[:, None] * vectors[:, -1].abs())[:, -n:].flip(1)
            size, bottom = found.abs().amax(dim=1), found[:, 0]
            # an eigenvalue of zero would ask for a residual of zero
            bound = tolerance * torch.maximum(values[:, 0].abs(), 1e-6 * size)
            if k == most or (k >= n and bool((residuals <= bound[:, None]).all())):
                break
            lost = (length <= _NOTHING_NEW * size) | spent
            if bool(lost.any()):  # the basis spans an invariant space: nothing couples to any other direction
                w = torch.where(lost[:, None], _orthogonal(draw(), basis), w).masked_fill(spent[:, None], 0.0)
                length = torch.where(lost, 0.0, length)
            beside.append(length)
            room[:, k] = w / w.norm(dim=1, keepdim=True).clamp(min=1e-300)
        worst = float((residuals / values[:, :1].abs()).max())
        if k == most and worst > tolerance:
            warnings.warn(
                f"stopped at {k} products with residuals up to {worst:.1g} of the largest eigenvalue; asked for "
                f"{tolerance:g}",
                RuntimeWarning,
                stacklevel=3,
            )
        return values, residuals


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """What is left of w ``(S, n)`` beside the rows of an orthonormal basis ``(S, k, n)``."""
    for _ in range(2):  # once leaves rounding errors that bring found eigenvalues back as copies
        along = torch.bmm(basis, w.unsqueeze(2))
        w = torch.baddbmm(w.unsqueeze(1), along.transpose(1, 2), basis, alpha=-1.0).squeeze(1)
    return w


def _tridiagonal(diagonal: list[Tensor], beside: list[Tensor]) -> Tensor:
    matrix = torch.diag_embed(torch.stack(diagonal, dim=1))
    if not beside:
        return matrix
    off = torch.stack(beside, dim=1)
    return matrix + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)


@torch.no_grad()
def noise_sensitivity(
    ensemble: Ensemble,
    x: Tensor,
    y: Tensor,
    sigma: float,
    kept: Mapping[str, Tensor] | None = None,
    *,
    loss: Loss = cross_entropy,
) -> Tensor:
    r"""Mean rise of the loss under Gaussian noise on the weights, $\mathbb E\,L(\theta+\varepsilon)-L(\theta)$.

    $\varepsilon_k\sim N(0,\sigma^2\theta_k^2)$, in proportion to each weight. For little noise the rise is
    $\frac12\sigma^2\sum_kH_{kk}\theta_k^2$. Each of 10 draws is used with both signs, which takes the slope out of the
    mean. The same draws serve all networks and strengths: what differs between them is no difference of draws.

    Args:
        ensemble, x, y, loss: as in ``Hessian``.
        sigma: strength, 0 or above, without unit.
        kept: parameter name to bool ``(S, *shape)``; only these parameters are disturbed, and only where kept. None for
            all.

    Returns:
        ``(S,)``, float64.

    Raises:
        ValueError: a loss that is not finite without noise.
    """
    shown = _exact(ensemble)
    still = {name: shown.parameters[name].detach().clone() for name in kept or shown.parameters}
    scale = {name: weight.abs() * (kept[name] if kept else 1) for name, weight in still.items()}

    def losses() -> Tensor:
        return evaluate(shown, x.double(), y, loss=loss, per_member=True)[0]

    start = losses()
    _check_finite(start)
    generator = torch.Generator().manual_seed(0)
    rise = torch.zeros_like(start)
    for _ in range(_DRAWS):
        draws = {
            name: torch.randn(weight.shape[1:], generator=generator, dtype=torch.float64).to(weight.device)
            for name, weight in still.items()
        }
        for sign in (1, -1):
            for name, weight in still.items():
                shown.parameters[name].copy_(weight + sign * sigma * scale[name] * draws[name])
            rise += (losses() - start) / 2
    return rise / _DRAWS


def _exact(ensemble: Ensemble) -> Ensemble:
    """A copy in float64 and evaluation mode."""
    return Ensemble([member.double() for member in ensemble]).eval()


def _check_finite(losses: Tensor) -> None:
    if not bool(losses.isfinite().all()):
        bad = int((~losses.isfinite()).nonzero()[0])
        raise ValueError(f"the loss of network {bad} is {losses[bad].item()}; it must be finite")

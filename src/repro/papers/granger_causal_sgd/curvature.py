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
from repro.learn.training import _Loss, cross_entropy

_MOST_PRODUCTS = 200
_TOLERANCE = 1e-3
#: Networks whose graph is in memory at once. A small graph stays in the processor's cache: 5 at once take a seventh
#: less time than 20, and 300 MB less.
_AT_ONCE = 5
_DRAWS = 10  # of noise, each used with both signs
#: How small, relative to the largest eigenvalue in size, a new direction must be for the old ones to be invariant.
_NOTHING_NEW = 1e-12


@torch.no_grad()
def largest_eigenvalues(
    ensemble: Ensemble, x: Tensor, y: Tensor, kept: Mapping[str, Tensor], *, loss: _Loss = cross_entropy
) -> Tensor:
    r"""Find the algebraically largest eigenvalue of $\nabla^2L$ for S networks, each with its mean loss L.

    In evaluation mode and float64, by Lanczos' method with full reorthogonalization. Each step adds a direction
    $q_{k+1}$ to an orthonormal basis Q of the Krylov space of a random vector; eigenvalues of the tridiagonal
    $Q^\top\nabla^2L\,Q$ are the estimates, and $\|\nabla^2L\,v-\lambda v\|=\beta_k|s_k|$ with s its eigenvector.
    Networks go in groups, one after the other, for the graph of all at once would fill the memory; those of a group
    take the same number of steps, 200 at most (then with a warning), until every residual is at most a thousandth of
    the network's eigenvalue. The residual bounds the error; the error itself is about its square over the gap to the
    next eigenvalue.

    Not to be confused with the power method, which finds the eigenvalue of largest size and can return a negative one.

    Args:
        ensemble: of S networks; left as it is.
        x: inputs ``(S, n, ...)``, of each network its own.
        y: classes ``(S, n)``.
        kept: parameter name to bool ``(S, *shape)``; rows and columns of what is not kept are zero, and parameters
            that are not named are held fixed.
        loss: from outputs ``(m, k)`` and classes ``(m,)`` to losses ``(m,)``.

    Returns:
        ``(S,)``, float64.

    Raises:
        ValueError: a mask that keeps nothing of a network, a loss that is not finite.

    Source: Golub & Van Loan, Matrix Computations, section 10.3.
    """
    n_kept = torch.stack([mask.flatten(1).sum(dim=1) for mask in kept.values()]).sum(dim=0)
    if not bool(n_kept.all()):
        raise ValueError(f"nothing is kept of network {int(n_kept.argmin())}; there is no Hessian to take")
    _check_finite(evaluate(_exact(ensemble), x.double(), y, loss=loss, per_member=True)[0])
    members, found = list(ensemble), []
    for begin in range(0, len(members), _AT_ONCE):
        some = slice(begin, begin + _AT_ONCE)
        masks = {name: entries[some] for name, entries in kept.items()}
        hessian = _Hessian(Ensemble(members[some]), x[some], y[some], masks, loss)
        found.append(_largest(hessian))
    return torch.cat(found)


class _Hessian:
    """Products with the Hessians of a group of networks, ``(S, n)`` to ``(S, n)``, zero at what is not kept."""

    def __init__(
        self, ensemble: Ensemble, x: Tensor, y: Tensor, kept: Mapping[str, Tensor], loss: _Loss
    ) -> None:
        copy = _exact(ensemble)
        self._points = [copy.parameters[name] for name in kept]
        self.kept = torch.cat([mask.flatten(1) for mask in kept.values()], dim=1).to(self._points[0].device)
        with torch.enable_grad():
            outputs = copy(x.double(), per_member=True)
            total = loss(outputs.flatten(0, 1), y.flatten()).view(y.shape).mean(dim=1).sum()
            self._gradients = torch.autograd.grad(total, self._points, create_graph=True)

    def __call__(self, v: Tensor) -> Tensor:
        columns = (v * self.kept).split([point[0].numel() for point in self._points], dim=1)
        parts = [part.view_as(point) for part, point in zip(columns, self._points, strict=True)]
        products = torch.autograd.grad(
            self._gradients, self._points, parts, retain_graph=True, materialize_grads=True
        )
        return torch.cat([each.flatten(1) for each in products], dim=1) * self.kept


def _largest(hessian: _Hessian) -> Tensor:
    """Lanczos' method for a group of networks at once."""
    kept, generator = hessian.kept, torch.Generator().manual_seed(0)
    n_kept = kept.sum(dim=1)

    def draw() -> Tensor:
        return torch.randn(kept.shape, generator=generator, dtype=torch.float64).to(kept.device) * kept

    first = draw()
    room = first.new_empty(len(first), _MOST_PRODUCTS, first.shape[1])  # given out as it is written to
    room[:, 0] = first / first.norm(dim=1, keepdim=True)
    matrix = first.new_zeros(len(first), _MOST_PRODUCTS, _MOST_PRODUCTS)  # tridiagonal
    bottom = first.new_zeros(len(first))
    for k in range(1, _MOST_PRODUCTS + 1):
        basis, last = room[:, :k], room[:, k - 1]
        w = hessian(last)
        # a network without directions left goes on with empty ones, below all of its eigenvalues
        spent = k >= n_kept
        matrix[:, k - 1, k - 1] = torch.where(k > n_kept, bottom, (w * last).sum(dim=1))
        w = _orthogonal(w, basis)
        length = w.norm(dim=1)
        found, vectors = torch.linalg.eigh(matrix[:, :k, :k])
        values, bottom, size = found[:, -1], found[:, 0], found.abs().amax(dim=1)
        residuals = length * vectors[:, -1, -1].abs()
        # an eigenvalue of zero would ask for a residual of zero
        bound = _TOLERANCE * torch.maximum(values.abs(), 1e-6 * size)
        if k == _MOST_PRODUCTS or bool((residuals <= bound).all()):
            break
        lost = (length <= _NOTHING_NEW * size) | spent
        if bool(lost.any()):  # the basis spans an invariant space: nothing couples to any other direction
            w = torch.where(lost[:, None], _orthogonal(draw(), basis), w).masked_fill(spent[:, None], 0.0)
            length = torch.where(lost, 0.0, length)
        matrix[:, k - 1, k] = matrix[:, k, k - 1] = length
        room[:, k] = w / w.norm(dim=1, keepdim=True).clamp(min=1e-300)
    worst = float((residuals / values.abs()).max())
    if k == _MOST_PRODUCTS and worst > _TOLERANCE:
        told = f"residuals up to {worst:.1g} of the largest eigenvalue; {_TOLERANCE:g} were wanted"
        warnings.warn(f"stopped at {k} products with {told}", RuntimeWarning, stacklevel=3)
    return values


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """What is left of w ``(S, n)`` beside the rows of an orthonormal basis ``(S, k, n)``."""
    for _ in range(2):  # once leaves rounding errors that bring found eigenvalues back as copies
        along = torch.bmm(basis, w.unsqueeze(2))
        w = torch.baddbmm(w.unsqueeze(1), along.transpose(1, 2), basis, alpha=-1.0).squeeze(1)
    return w


@torch.no_grad()
def noise_sensitivity(
    ensemble: Ensemble,
    x: Tensor,
    y: Tensor,
    sigma: float,
    kept: Mapping[str, Tensor],
    *,
    loss: _Loss = cross_entropy,
) -> Tensor:
    r"""Mean rise of the loss under Gaussian noise on the weights, $\mathbb E\,L(\theta+\varepsilon)-L(\theta)$.

    $\varepsilon_k\sim N(0,\sigma^2\theta_k^2)$, in proportion to each weight. For little noise the rise is
    $\frac12\sigma^2\sum_kH_{kk}\theta_k^2$. Each of 10 draws is used with both signs, which takes the slope out of the
    mean. The same draws serve all networks and strengths: what differs between them is no difference of draws.

    Args:
        ensemble, x, y, loss: as in ``largest_eigenvalues``.
        sigma: strength, 0 or above, without unit.
        kept: parameter name to bool ``(S, *shape)``; only these parameters are disturbed, and only where kept.

    Returns:
        ``(S,)``, float64.

    Raises:
        ValueError: a loss that is not finite without noise.
    """
    shown = _exact(ensemble)
    still = {name: shown.parameters[name].detach().clone() for name in kept}
    scale = {name: weight.abs() * kept[name] for name, weight in still.items()}

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

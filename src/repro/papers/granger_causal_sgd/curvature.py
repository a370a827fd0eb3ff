r"""How flat the minima of S networks are, all at once: largest eigenvalues of the Hessian, noise on the weights.

Everything works on the Hessian of each network's mean loss over chosen parameters, all of them or only weights that
a mask keeps. No matrix is ever formed.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.base import whole
from repro.learn import Ensemble, evaluate

__all__ = ["Hessian", "eigenvalues", "noise_sensitivity"]

_Loss = Callable[[Tensor, Tensor], Tensor]
_cross_entropy: _Loss = partial(functional.cross_entropy, reduction="none")

_MOST_PRODUCTS = 200
_DRAWS = 10  # of noise, each used with both signs
#: How small, relative to the largest eigenvalue in size, a new direction must be for the old ones to be invariant.
_NOTHING_NEW = 1e-12


class Hessian:
    r"""$H_{kl}=\partial^2L/\partial\theta_k\partial\theta_l$ of the mean loss of each of S networks.

    Taken in evaluation mode and float64, at the parameters that the networks have now.

    Args:
        model: an ``Ensemble`` of S, or one module; left as it is.
        x: inputs ``(n, ...)``, or ``(S, n, ...)`` with ``per_member``.
        y: classes ``(n,)``, or ``(S, n)`` with ``per_member``, of any whole type.
        loss: from outputs ``(m, k)`` and classes ``(m,)`` to losses ``(m,)``.
        parameters: names of the parameters; None for all that are trained.
        kept: parameter name to bool ``(*shape)`` or ``(S, *shape)``; rows and columns of the others are zero.
        per_member: whether each network has data of its own.

    Raises:
        ValueError: no examples, unknown names, masks that do not fit or keep nothing, a loss that is not finite.

    Attributes:
        n: coordinates of one network, pruned ones included.
        kept: ``(S, n)``, bool.
        n_kept: ``(S,)``, how many are not pruned.
        size: S.
    """

    def __init__(
        self,
        model: Ensemble | nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        loss: _Loss = _cross_entropy,
        parameters: Sequence[str] | None = None,
        kept: Mapping[str, Tensor] | None = None,
        per_member: bool = False,
    ) -> None:
        ensemble = _copied(model)
        self.size = len(ensemble)
        _check_data(x, y, self.size, per_member)
        trained = [name for name, p in ensemble.parameters.items() if p.requires_grad]
        names = trained if parameters is None else list(parameters)
        _check_names(names, trained, "trained")
        _check_names(kept or (), names, "chosen")
        self._points = [ensemble.parameters[name] for name in names]
        self._sizes = [point[0].numel() for point in self._points]
        self.n = sum(self._sizes)
        self.kept = torch.cat(
            [_mask(name, kept, ensemble.parameters[name]).flatten(1) for name in names], dim=1
        )
        self.n_kept = self.kept.sum(dim=1)
        if bool((self.n_kept == 0).any()):
            bad = int((self.n_kept == 0).nonzero()[0])
            raise ValueError(f"nothing is kept of network {bad}; there is no Hessian to take")
        outputs = ensemble(x.double(), per_member=per_member)
        targets = _classes(y).expand(outputs.shape[:2]).reshape(-1)
        means = loss(outputs.flatten(0, 1), targets).view(outputs.shape[:2]).mean(dim=1)
        _check_finite(means)
        self._gradients = torch.autograd.grad(means.sum(), self._points, create_graph=True)

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
        columns = (v * self.kept).double().split(self._sizes, dim=1)
        parts = [part.view_as(point) for part, point in zip(columns, self._points, strict=True)]
        products = torch.autograd.grad(
            self._gradients, self._points, parts, retain_graph=True, materialize_grads=True
        )
        return torch.cat([each.flatten(1) for each in products], dim=1) * self.kept


@torch.no_grad()
def eigenvalues(hessian: Hessian, n: int = 1, *, tolerance: float = 1e-4) -> tuple[Tensor, Tensor]:
    r"""Find the n algebraically largest eigenvalues by Lanczos' method with full reorthogonalization.

    Each step adds a direction $q_{k+1}$ to an orthonormal basis Q of the Krylov space of a random vector; eigenvalues
    of the tridiagonal $Q^\top HQ$ are the estimates, and $\|Hv-\lambda v\|=\beta_k|s_k|$ with s its eigenvector. All
    networks take the same number of steps, 200 at most (then with a warning), until every residual is at most
    ``tolerance`` times the network's largest eigenvalue. The residual bounds the error; the error itself is about its
    square over the gap to the next eigenvalue.

    Not to be confused with the power method, which finds the eigenvalue of largest size and can return a negative one.
    Eigenvalues that are exactly equal may be counted once, unless n asks for all: n beyond the number of positive ones
    is not to be trusted where dead units make many zeros.

    Args:
        hessian: of S networks.
        n: how many, at most what each network keeps.
        tolerance: relative, above 0. Of two neighbours closer than the residuals one can be missed: for twenty
            eigenvalues of a trained network 1e-3 is too coarse.

    Returns:
        Values, largest first, and residuals, both ``(S, n)``.

    Raises:
        ValueError: n or the tolerance out of range.

    Source: Golub & Van Loan, Matrix Computations, section 10.3.
    """
    if whole("n", n) > (most := int(hessian.n_kept.min())):
        raise ValueError(f"n must lie between 1 and the {most} coordinates that are kept, got {n!r}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance!r}")
    generator = torch.Generator().manual_seed(0)

    def draw() -> Tensor:
        v = torch.randn(hessian.kept.shape, generator=generator, dtype=torch.float64)
        return v.to(hessian.kept.device) * hessian.kept

    first = draw()
    most = max(n, _MOST_PRODUCTS)
    room = first.new_empty(len(first), most, hessian.n)  # the system hands it out as it is written to
    room[:, 0] = first / first.norm(dim=1, keepdim=True)
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    bottom = first.new_zeros(len(first))
    for k in range(1, most + 1):
        basis, last = room[:, :k], room[:, k - 1]
        w = hessian.matvec(last)
        # a network without directions left goes on with empty ones, below all of its eigenvalues
        spent = k >= hessian.n_kept
        diagonal.append(torch.where(k > hessian.n_kept, bottom, (w * last).sum(dim=1)))
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
    model: Ensemble | nn.Module,
    x: Tensor,
    y: Tensor,
    sigma: float,
    *,
    kept: Mapping[str, Tensor] | None = None,
    loss: _Loss = _cross_entropy,
    per_member: bool = False,
) -> Tensor:
    r"""Mean rise of the loss under Gaussian noise on the weights, $\mathbb E\,L(\theta+\varepsilon)-L(\theta)$.

    $\varepsilon_k\sim N(0,\sigma^2\theta_k^2)$, in proportion to each weight. For little noise the rise is
    $\frac12\sigma^2\sum_kH_{kk}\theta_k^2$. Each of 10 draws is used with both signs, which takes the slope out of the
    mean. The same draws serve all networks and strengths: what differs between them is no difference of draws.

    Args:
        model, x, y, loss, per_member: as in ``Hessian``.
        sigma: strength, 0 or above, without unit.
        kept: parameter name to bool; only these parameters are disturbed, and only where kept. None for all.

    Returns:
        ``(S,)``, float64.

    Raises:
        ValueError: no examples, a negative strength, unknown names, masks that do not fit, a loss that is not finite
            without noise.
    """
    if not 0 <= sigma < math.inf:
        raise ValueError(f"sigma must be 0 or above and finite; got {sigma!r}")
    shown = _copied(model)
    _check_data(x, y, len(shown), per_member)
    _check_names(kept or (), shown.parameters, "network's")
    names = list(shown.parameters) if kept is None else list(kept)
    still = {name: shown.parameters[name].detach().clone() for name in names}
    scale = {name: _mask(name, kept, weight) * weight.abs() for name, weight in still.items()}

    def losses() -> Tensor:
        return evaluate(shown, x.double(), _classes(y), loss=loss, per_member=per_member)[0]

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


def _copied(model: Ensemble | nn.Module) -> Ensemble:
    """A copy in float64 and evaluation mode; a single module becomes an ensemble of one."""
    if not isinstance(model, (Ensemble, nn.Module)):
        raise TypeError(f"expected a torch module or an Ensemble, got a {type(model).__name__}")
    members = list(model) if isinstance(model, Ensemble) else [_without_draws(copy.deepcopy(model).eval())]
    return Ensemble([member.double() for member in members]).eval()


def _without_draws(module: nn.Module) -> nn.Module:
    """The same function in evaluation mode, without the layers of torch that draw random numbers in training."""
    for name, layer in list(module._modules.items()):  # one layer may stand in two places
        if layer is None:
            continue
        if type(layer).__module__ == nn.Dropout.__module__:
            setattr(module, name, nn.Identity())
        elif type(layer) is nn.RReLU:
            setattr(module, name, nn.LeakyReLU((layer.lower + layer.upper) / 2))
        else:
            _without_draws(layer)
    return module


def _classes(y: Tensor) -> Tensor:
    """Classes of whatever whole type as int64, which the losses need; other targets as they are."""
    return y if y.is_floating_point() else y.long()


def _check_data(x: Tensor, y: Tensor, size: int, per_member: bool) -> None:
    """Refuse data without examples, or with another number of inputs than classes."""
    leading = (size,) if per_member else ()
    n = y.shape[-1] if y.ndim else 0
    if n == 0:
        raise ValueError("there are no examples to take the loss of")
    if x.shape[: len(leading) + 1] != (*leading, n) or y.shape not in ((n,), (*leading, n)):
        raise ValueError(
            f"inputs must be {'(S, n, ...)' if per_member else '(n, ...)'} and classes (n,)"
            f"{' or (S, n)' if per_member else ''} with S = {size} networks; "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )


def _check_names(names: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse names of parameters that are not among the known ones."""
    known = list(known)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no {what} parameter is called {unknown[0]!r}; there are {', '.join(known)}")


def _mask(name: str, kept: Mapping[str, Tensor] | None, parameter: Tensor) -> Tensor:
    """The mask of a stacked parameter ``(S, *shape)``, in that shape; True throughout where ``kept`` names none."""
    if kept is None or name not in kept:
        return torch.ones_like(parameter, dtype=torch.bool)
    mask = kept[name]
    if mask.dtype != torch.bool or mask.shape not in (parameter.shape, parameter.shape[1:]):
        raise ValueError(
            f"the mask of {name!r} must be bool of shape {tuple(parameter.shape[1:])} or "
            f"{tuple(parameter.shape)}; got {mask.dtype} {tuple(mask.shape)}"
        )
    return mask.to(parameter.device).expand(parameter.shape)


def _check_finite(losses: Tensor) -> None:
    if not bool(losses.isfinite().all()):
        bad = int((~losses.isfinite()).nonzero()[0])
        raise ValueError(f"the loss of network {bad} is {losses[bad].item()}; it must be finite")

r"""Curvature of a loss at S networks at once: Hessian-vector products, largest eigenvalues, trace.

Everything works on the Hessian of each network's mean loss over chosen parameters, all of them or only weights that
a mask keeps. No matrix is ever formed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.geometry._copies import check_data, check_names, classes, copied, stacked_mask
from repro.geometry._lanczos import lanczos_largest
from repro.learn import Ensemble
from repro.learn._losses import Loss, loss_function

__all__ = ["Eigenvalues", "Hessian", "eigenvalues", "trace"]


class Hessian:
    r"""$H_{kl}=\partial^2L/\partial\theta_k\partial\theta_l$ of the mean loss of each of S networks.

    Taken in evaluation mode, at the parameters that the networks have now.

    Args:
        model: an ``Ensemble`` of S, or one module; left as it is.
        x: inputs ``(n, ...)``, or ``(S, n, ...)`` with ``per_member``.
        y: classes ``(n,)``, or ``(S, n)`` with ``per_member``, of any whole type.
        loss: as in ``learn.train``.
        parameters: names of the parameters; None for all that are trained.
        kept: parameter name to bool ``(*shape)`` or ``(S, *shape)``; rows and columns of the others are zero.
        per_member: whether each network has data of its own.
        batch_size: examples at a time, which bounds the memory; None for all at once, which is faster.
        dtype: of the products; float32 halves their cost and leaves about five digits.

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
        loss: str | Loss = "cross_entropy",
        parameters: Sequence[str] | None = None,
        kept: Mapping[str, Tensor] | None = None,
        per_member: bool = False,
        batch_size: int | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self._ensemble, self._function = copied(model, dtype), loss_function(loss)
        self.size = len(self._ensemble)
        check_data(x, y, self.size, per_member)
        if batch_size is not None and (isinstance(batch_size, bool) or batch_size < 1):
            raise ValueError(f"batch_size must be a whole number, 1 or above, or None; got {batch_size!r}")
        trained = [name for name, p in self._ensemble.parameters.items() if p.requires_grad]
        names = trained if parameters is None else list(parameters)
        check_names(names, trained, "trained")
        check_names(kept or (), names, "chosen")
        self._points = {name: self._ensemble.parameters[name] for name in names}
        self._sizes = [point[0].numel() for point in self._points.values()]
        self.n = sum(self._sizes)
        masks = [stacked_mask(name, kept, point).flatten(1) for name, point in self._points.items()]
        self.kept = torch.cat(masks, dim=1) if masks else torch.empty(self.size, 0, dtype=torch.bool)
        self.n_kept = self.kept.sum(dim=1)
        if bool((self.n_kept == 0).any()):
            bad = int((self.n_kept == 0).nonzero()[0])
            raise ValueError(f"nothing is kept of network {bad}; there is no Hessian to take")
        self._x, self._y, self._per_member = x.to(dtype), classes(y), per_member
        self._batch_size = batch_size or y.shape[-1]
        self._graph: Sequence[Tensor] | None = None
        if self._batch_size >= y.shape[-1]:
            means = self._share(slice(None))
            self._graph = self._gradients(means)
        else:
            with torch.no_grad():
                means = torch.stack([self._share(rows) for rows in self._batches()]).sum(dim=0)
        if not bool(means.isfinite().all()):
            bad = int((~means.isfinite()).nonzero()[0])
            raise ValueError(
                f"the loss of network {bad} is {means[bad].item()}; a Hessian needs a finite one"
            )

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
        points = list(self._points.values())
        columns = (v * self.kept).to(points[0].dtype).split(self._sizes, dim=1)
        parts = [part.view_as(point) for part, point in zip(columns, points, strict=True)]
        total = torch.zeros_like(self.kept, dtype=torch.float64)
        for gradients in self._all_gradients():
            products = torch.autograd.grad(
                gradients, points, parts, retain_graph=self._graph is not None, materialize_grads=True
            )
            total += torch.cat([each.flatten(1) for each in products], dim=1)
        return total * self.kept

    def _all_gradients(self) -> Iterator[Sequence[Tensor]]:
        """Gradients that can be differentiated again, of one batch after the other."""
        if self._graph is not None:
            yield self._graph
        else:
            for rows in self._batches():
                with torch.enable_grad():
                    gradients = self._gradients(self._share(rows))
                yield gradients

    def _gradients(self, losses: Tensor) -> Sequence[Tensor]:
        return torch.autograd.grad(losses.sum(), list(self._points.values()), create_graph=True)

    def _batches(self) -> Iterator[slice]:
        for begin in range(0, self._y.shape[-1], self._batch_size):
            yield slice(begin, begin + self._batch_size)

    def _share(self, rows: slice) -> Tensor:
        """What these examples add to the mean losses, ``(S,)``."""
        x = self._x[:, rows] if self._per_member else self._x[rows]
        outputs = self._ensemble(x, per_member=self._per_member)
        targets = self._y[..., rows].expand(outputs.shape[:2]).reshape(-1)
        losses = self._function(outputs.reshape(-1, outputs.shape[-1]), targets)
        return losses.view(outputs.shape[:2]).sum(dim=1) / self._y.shape[-1]


@dataclass(frozen=True)
class Eigenvalues:
    r"""The n algebraically largest eigenvalues of S Hessians, largest first.

    Attributes:
        values: ``(S, n)``, float64.
        residuals: ``(S, n)``, norms of $Hv-\lambda v$: an eigenvalue lies within this of each value.
        n_products: Hessian-vector products that it took.
    """

    values: Tensor
    residuals: Tensor
    n_products: int


@torch.no_grad()
def eigenvalues(
    hessian: Hessian, n: int = 1, *, tolerance: float = 1e-4, max_products: int = 200, seed: int = 0
) -> Eigenvalues:
    r"""Find the algebraically largest eigenvalues by Lanczos' method with full reorthogonalization.

    All networks take the same number of steps: until every residual is at most ``tolerance`` times the network's
    largest eigenvalue. The residual bounds the error; the error itself is about its square over the gap to the next
    eigenvalue. Not to be confused with the power method, which finds the eigenvalue of largest size and can return
    a negative one. Eigenvalues that are exactly equal may be counted once, unless n asks for all: n beyond the
    number of positive ones is not to be trusted where dead units make many zeros.

    Args:
        hessian: of S networks.
        n: how many, at most what each network keeps.
        tolerance: relative, above 0. Of two neighbours closer than the residuals one can be missed: for twenty
            eigenvalues of a trained network 1e-3 is too coarse.
        max_products: where it stops all the same, with a warning; n or above.
        seed: of the first vectors.

    Raises:
        ValueError: n, the tolerance or max_products out of range.

    Source: Golub & Van Loan, Matrix Computations, section 10.3.
    """
    most = int(hessian.n_kept.min())
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= most:
        raise ValueError(f"n must lie between 1 and the {most} coordinates that are kept, got {n!r}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance!r}")
    if max_products < n:
        raise ValueError(f"{n} eigenvalues need as many products at least; got max_products={max_products!r}")
    values, residuals, n_products = lanczos_largest(
        hessian.matvec,
        hessian.kept,
        n,
        tolerance=tolerance,
        max_products=max_products,
        generator=torch.Generator().manual_seed(seed),
    )
    worst = float((residuals / values[:, :1].abs()).max())
    if n_products == max_products and worst > tolerance:
        warnings.warn(
            f"stopped at {max_products} products with residuals up to {worst:.1g} of the largest eigenvalue; "
            f"asked for {tolerance:g}",
            RuntimeWarning,
            stacklevel=2,
        )
    return Eigenvalues(values, residuals, n_products)


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
        z = torch.randint(0, 2, hessian.kept.shape, generator=generator).to(hessian.kept.device) * 2.0 - 1
        found.append((z * hessian.matvec(z)).sum(dim=1))
    values = torch.stack(found)
    return values.mean(dim=0), values.std(dim=0) / math.sqrt(n_probes)

"""Training dense and pruned networks to two stops: after as many epochs, and at one training loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from repro.learn import Ensemble, TrainingDivergedError, evaluate, train
from repro.papers.granger_causal_sgd.settings import Start
from repro.prune import Mask

__all__ = ["Masks", "Stopped", "train_to_stops"]

Masks = Mapping[str, Mapping[float, Mask]]
"""Arm to sparsity to the masks ``(S, *shape)`` of S networks."""

_STOPPINGS = ("epochs", "loss")


@dataclass(frozen=True)
class Stopped:
    r"""Dense and pruned networks, each trained from $\theta_0$ and looked at twice on its way.

    Attributes:
        start: where they come from.
        arms: (arm, sparsity) of each block of S networks; the first is ``("dense", 0.0)``.
        mask: of all networks, ``(len(arms) * S, *shape)``.
        networks: by stopping: after as many ``"epochs"``, and at the end of the first epoch with the training
            ``"loss"`` at or below the target.
        epochs: by stopping, the epoch that each network is taken from, ``(len(arms) * S,)``.
        reached: whether each network came down to the target loss; if not, ``networks["loss"]`` has its last
            state.
    """

    start: Start
    arms: tuple[tuple[str, float], ...]
    mask: Mask
    networks: Mapping[str, Ensemble]
    epochs: Mapping[str, Tensor]
    reached: Tensor

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """Return inputs and classes of ``"train"``, ``"validation"`` or ``"test"``, one of each a network."""
        return _part(self.start, len(self.arms), name)

    def labels(self) -> pd.DataFrame:
        """Return seed, arm and sparsity, one row a network."""
        rows = [(seed, arm, sparsity) for arm, sparsity in self.arms for seed in self.start.seeds]
        return pd.DataFrame(rows, columns=["seed", "arm", "sparsity"])


def train_to_stops(
    start: Start,
    masks: Masks,
    *,
    n_epochs: int | None = None,
    target_loss: float = 0.05,
    max_epochs: int = 60,
    device: str = "auto",
) -> Stopped:
    r"""Train dense and pruned networks from $\theta_0 \odot m$, all as one, and keep each at its two stops.

    Curvature falls as the training loss does, so networks are compared both after equal epochs and at equal
    loss. Adam with the setting's rate and batch size; a network's batches are those of its seed, whatever its
    arm.

    Args:
        start: networks at $\theta_0$, S of them.
        masks: by arm and sparsity; entries ``(S, *shape)``, each network pruned to the sparsity it is filed
            under.
        n_epochs: of the stop by epochs; None for the setting's.
        target_loss: mean cross-entropy on the whole training part for the stop by loss, looked at after each
            epoch.
        max_epochs: where a network that does not reach it stops.
        device: as in ``learn.train``.

    Raises:
        ValueError: no masks, a mask that does not fit, an arm called dense, or numbers out of range.
        TrainingDivergedError: a loss is not finite; names seed and arm.
    """
    n_epochs = start.setting.tune_epochs if n_epochs is None else n_epochs
    _check_stops(n_epochs, target_loss, max_epochs)
    arms, mask = _all_masks(start, masks)
    ensemble = start.copy(len(arms))
    mask.apply(ensemble)
    x, y = _part(start, len(arms), "train")
    n_batches = -(-y.shape[1] // start.setting.batch_size)
    watch = _Stops(x, y, n_batches, n_epochs, target_loss, max_epochs)
    history = train(
        ensemble,
        start.datasets * len(arms),
        optimizer=start.setting.adam(),
        n_epochs=max(n_epochs, max_epochs),
        batch_size=start.setting.batch_size,
        after_step=[mask, watch],
        evaluate_every=max(n_epochs, max_epochs),
        seed=list(start.seeds) * len(arms),
        device=device,
        progress=False,
    )
    if history.diverged:
        first, (epoch, _) = min(history.diverged.items(), key=lambda item: item[1])
        (arm, sparsity), seed = arms[first // len(start.seeds)], start.seeds[first % len(start.seeds)]
        raise TrainingDivergedError(
            f"the loss of arm {arm!r} at sparsity {sparsity}, seed {seed}, is not finite from epoch {epoch} on; "
            "a smaller learning rate may help"
        )
    networks = {name: Ensemble(list(ensemble)) for name in _STOPPINGS}
    for name in _STOPPINGS:
        networks[name].load_state_dict(watch.states[name])
    return Stopped(start, arms, mask, networks, watch.epochs, watch.reached.cpu())


class _Stops:
    """Keeps, as a hook of the training loop, the state of each network at its two stops."""

    def __init__(
        self, x: Tensor, y: Tensor, n_batches: int, n_epochs: int, target_loss: float, max_epochs: int
    ) -> None:
        self._x, self._y, self._n_batches = x, y, n_batches
        self._n_epochs, self._target_loss, self._max_epochs = n_epochs, target_loss, max_epochs
        self.reached = torch.zeros(len(y), dtype=torch.bool)
        self.states: dict[str, dict[str, Tensor]] = {}
        self.epochs = {
            "epochs": torch.full((len(y),), n_epochs),
            "loss": torch.full((len(y),), max_epochs),
        }

    def __call__(self, ensemble: Ensemble, step: int) -> None:
        epoch, left = divmod(step, self._n_batches)
        if left:
            return
        if epoch == self._n_epochs:
            self.states["epochs"] = ensemble.state_dict()
        if epoch > self._max_epochs or self.reached.all():
            return
        device = next(iter(ensemble.parameters.values())).device
        self._x, self._y = self._x.to(device), self._y.to(device)
        low = evaluate(ensemble, self._x, self._y, per_member=True)[0].cpu() <= self._target_loss
        now = ensemble.state_dict()
        kept = self.states.setdefault("loss", now)
        for name, tensor in now.items():
            kept[name] = _per_network(self.reached, kept[name], tensor)
        self.epochs["loss"][low & ~self.reached] = epoch
        self.reached |= low


def _per_network(first: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Pick ``a`` for the networks where ``first``, else ``b``."""
    return torch.where(first.to(a.device).view(-1, *[1] * (a.ndim - 1)), a, b)


def _part(start: Start, times: int, name: str) -> tuple[Tensor, Tensor]:
    x, y = (torch.stack([getattr(d, f"{v}_{name}") for d in start.datasets * times]) for v in "xy")
    return x, y


def _all_masks(start: Start, masks: Masks) -> tuple[tuple[tuple[str, float], ...], Mask]:
    """Put the dense mask and all others one after the other, with what each block of S is."""
    chosen = {(arm, sparsity): mask for arm, some in masks.items() for sparsity, mask in some.items()}
    if not chosen:
        raise ValueError("at least one mask is needed to compare dense networks with, got none")
    dense = start.dense()
    shapes = {name: tuple(kept.shape) for name, kept in dense.items()}
    for (arm, sparsity), mask in chosen.items():
        if arm == "dense":
            raise ValueError("an arm may not be called 'dense'; the dense networks are added unasked")
        if (got := {name: tuple(kept.shape) for name, kept in mask.items()}) != shapes:
            raise ValueError(f"the mask of arm {arm!r} at {sparsity} has shapes {got}; expected {shapes}")
        flat = torch.cat([kept.flatten(1) for kept in mask.values()], dim=1)
        n_kept, n = flat.sum(dim=1), flat.shape[1]
        if bool((n_kept == 0).any()):
            raise ValueError(f"the mask of arm {arm!r} at {sparsity} keeps no weight of some network")
        if bool(((n - n_kept - sparsity * n).abs() > 1).any()):
            found = (1 - n_kept / n).tolist()
            raise ValueError(f"the mask of arm {arm!r} is filed under sparsity {sparsity} but has {found}")
    blocks = [dense, *chosen.values()]
    return (("dense", 0.0), *chosen), Mask({n: torch.cat([block[n] for block in blocks]) for n in shapes})


def _check_stops(n_epochs: int, target_loss: float, max_epochs: int) -> None:
    for name, value in (("n_epochs", n_epochs), ("max_epochs", max_epochs)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number, 1 or above; got {value!r}")
    if not target_loss > 0:
        raise ValueError(f"target_loss must be above 0, got {target_loss}")

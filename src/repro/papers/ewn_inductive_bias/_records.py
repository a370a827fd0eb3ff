"""What a descent found, and how it is collected while members come and go."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from repro.papers.ewn_inductive_bias._proposals import Problem
from repro.papers.ewn_inductive_bias._running import Running
from repro.papers.ewn_inductive_bias.parametrizations import effective_weights, lengths

__all__ = ["Descent", "Log"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Descent:
    r"""What ``descend`` found, for S members.

    Attributes:
        targets: the loss levels $z=-\log\mathcal L$, rising.
        start: parameters at the start, name -> ``(S, ...)``.
        checkpoints: target -> parameters at the first step (or epoch) with $z$ beyond it; NaN rows for
            members that never got there.
        final: parameters at each member's end.
        z: $z$ at the end, ``(S,)``.
        n_attempts: steps (or epochs) tried, ``(S,)``; what the authors' logs call steps.
        n_accepted: steps kept, ``(S,)``.
        attempts_to: ``(S, n_targets)``, attempts needed for each target; NaN if never reached.
        seconds_to: the same in seconds of the whole ensemble's time.
        status: for each member ``"reached"``, ``"max_steps"``, ``"stuck"`` (no progress within the patience),
            ``"stalled"`` (the step size vanished) or ``"flat"`` (the gradient is exactly zero).
        history: one row a member and recorded step: member, step, z, step_size.
        lengths: layer -> ``(n_records, S, out)``, neuron lengths at the recorded steps (the distinct values
            of ``history.step``), NaN after a member's end; empty unless asked for.
        methods: layer -> parametrisation.
    """

    targets: tuple[float, ...]
    start: dict[str, Tensor]
    checkpoints: dict[float, dict[str, Tensor]]
    final: dict[str, Tensor]
    z: Array
    n_attempts: NDArray[np.int64]
    n_accepted: NDArray[np.int64]
    attempts_to: Array
    seconds_to: Array
    status: tuple[str, ...]
    history: pd.DataFrame
    lengths: dict[str, Array]
    methods: dict[str, str]

    def weights(self, target: float | None = None) -> dict[str, Tensor]:
        """Effective weights by layer, ``(S, out, ...)``, at a target; at the start for None."""
        return effective_weights(self.start if target is None else self._at(target), self.methods)

    def final_weights(self) -> dict[str, Tensor]:
        """Effective weights by layer at each member's end, reached or not, ``(S, out, ...)``."""
        return effective_weights(self.final, self.methods)

    def reached(self, target: float) -> NDArray[np.bool_]:
        """Which members reached a target, ``(S,)``."""
        self._at(target)
        return np.isfinite(self.attempts_to[:, self.targets.index(target)])

    def _at(self, target: float) -> dict[str, Tensor]:
        if target not in self.checkpoints:
            raise ValueError(
                f"no checkpoint at z = {target}: targets were {', '.join(f'{t:g}' for t in self.targets)}"
            )
        return self.checkpoints[target]

    def summary(self) -> pd.DataFrame:
        """One row a member: member, status, z, n_attempts, n_accepted."""
        return pd.DataFrame(
            {
                "member": np.arange(len(self.z)),
                "status": self.status,
                "z": self.z,
                "n_attempts": self.n_attempts,
                "n_accepted": self.n_accepted,
            }
        )


class Log:
    """Collects what a ``Descent`` holds."""

    def __init__(
        self,
        problem: Problem,
        flat: Tensor,
        targets: tuple[float, ...],
        methods: dict[str, str],
        lengths: bool,
    ) -> None:
        size = len(flat)
        self.problem, self.targets, self.methods, self.with_lengths = problem, targets, methods, lengths
        self.start, self.final = flat.cpu().clone(), torch.full_like(flat, torch.nan, device="cpu")
        self.saved = {target: self.final.clone() for target in targets}
        self.attempts_to, self.seconds_to = np.full((2, size, len(targets)), np.nan)
        self.z, self.status = np.full(size, np.nan), [""] * size
        self.n_attempts, self.n_accepted = np.zeros((2, size), dtype=np.int64)
        self.history: list[pd.DataFrame] = []
        self.lengths: list[dict[str, Array]] = []
        self.began = time.perf_counter()

    def checkpoints(self, crossed: list[tuple[int, int]], members: Running, flat: Tensor, step: int) -> None:
        for i, j in crossed:
            member = members.ids[i]
            self.saved[self.targets[j]][member] = flat[i].cpu()
            self.attempts_to[member, j] = step
            self.seconds_to[member, j] = time.perf_counter() - self.began

    def record(self, members: Running, flat: Tensor, step: int) -> None:
        now = {"member": members.ids, "step": step, "z": -members.log_loss, "step_size": members.k}
        self.history.append(pd.DataFrame(now))
        if self.with_lengths:
            everyone = torch.full_like(self.start, torch.nan)
            everyone[torch.from_numpy(members.ids)] = flat.cpu()
            weights = effective_weights(self._named(everyone), self.methods)
            self.lengths.append({n: lengths(w, batched=True).double().numpy() for n, w in weights.items()})

    def ends(self, endings: list[str], members: Running, flat: Tensor, step: int) -> None:
        for i, ending in enumerate(endings):
            if ending:
                member = members.ids[i]
                self.status[member], self.z[member] = ending, -members.log_loss[i]
                self.n_attempts[member], self.n_accepted[member] = step, members.n_accepted[i]
                self.final[member] = flat[i].cpu()

    def _named(self, flat: Tensor) -> dict[str, Tensor]:
        return {n: p.detach().cpu().clone() for n, p in self.problem.named(flat).items()}

    def result(self) -> Descent:
        return Descent(
            targets=self.targets,
            start=self._named(self.start),
            checkpoints={target: self._named(flat) for target, flat in self.saved.items()},
            final=self._named(self.final),
            z=self.z,
            n_attempts=self.n_attempts,
            n_accepted=self.n_accepted,
            attempts_to=self.attempts_to,
            seconds_to=self.seconds_to,
            status=tuple(self.status),
            history=pd.concat(self.history, ignore_index=True),
            lengths={n: np.stack([at[n] for at in self.lengths]) for n in self.methods if self.lengths},
            methods=self.methods,
        )

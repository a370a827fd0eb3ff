"""A small start, and gradient descent on it by hand: one network in float64, one step at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repro.learn import Dataset, Ensemble, perceptron
from repro.learn.seeding import streams
from repro.papers.granger_causal_sgd.settings import Setting, Start

#: 90 examples for training: four batches of 20 and one of 10.
IRIS = Setting(
    "iris", partial(perceptron, (4, 8, 3)), pretrain_epochs=3, logging_epochs=4, tune_epochs=3, rate=0.02,
    batch_size=20,
)  # fmt: skip
SEEDS = (0, 3)
WEIGHTS = ("1.weight", "3.weight")
N_WEIGHTS = 4 * 8 + 8 * 3


@cache
def iris() -> Start:
    return Start.draw(SEEDS, IRIS)


def in_float64(start: Start) -> Start:
    return replace(start, ensemble=Ensemble([member.double() for member in start.ensemble]))


def descend(
    network: nn.Module,
    data: Dataset,
    seed: int,
    *,
    rate: float = IRIS.logging_rate,
    n_epochs: int = IRIS.logging_epochs,
    momentum: float = 0.0,
    drop_last: bool = True,
    mask: Mapping[str, Tensor] | None = None,
    placebo: bool = False,
) -> dict[str, Tensor]:
    """What each step did, T values or rows a name; without the last step, whose next batch is never seen."""
    network, kept = network.double(), mask or {}
    shuffle = streams(seed).shuffle
    batches = [
        b for _ in range(n_epochs) for b in torch.randperm(len(data.y_train), generator=shuffle).split(20)
    ]
    batches = [batch for batch in batches if len(batch) == 20 or not drop_last]
    everything = torch.arange(len(data.y_train))

    def loss(rows: Tensor) -> Tensor:
        return cross_entropy(network(data.x_train[rows].double()), data.y_train[rows])

    with torch.no_grad():
        for name, p in network.named_parameters():
            p *= kept.get(name, 1)
    last = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    losses, found = [], {n: [] for n in ("same_batch", "full_loss", "energy", "cross", "steps")}
    for batch in batches:
        network.zero_grad()
        before, whole = loss(batch), loss(everything).item()
        before.backward()
        moved, velocity = {}, {}
        with torch.no_grad():
            for name, p in network.named_parameters():
                velocity[name] = momentum * last[name] + p.grad * kept.get(name, 1)
                moved[name] = -rate * velocity[name]
                p += 0 if placebo else moved[name]
        losses.append(before.item())
        found["same_batch"].append((loss(batch) - before).item())
        found["full_loss"].append(loss(everything).item() - whole)
        found["energy"].append(sum(float(m.square().sum()) for m in moved.values()))
        found["cross"].append(
            sum(float((m * -rate * last[n]).sum()) for n, m in moved.items()) if momentum else 0.0
        )
        found["steps"].append(torch.cat([velocity[name].flatten() for name in WEIGHTS]).tolist())
        last = velocity
    rows = {name: torch.tensor(values[:-1], dtype=torch.float64) for name, values in found.items()}
    rows["cross_batch"] = torch.tensor(losses, dtype=torch.float64).diff()
    rows["squares"] = (rate * rows["steps"]) ** 2
    return rows

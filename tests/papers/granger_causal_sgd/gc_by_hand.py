"""A small start, and gradient descent on it by hand: one network in float64, one step at a time."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

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
    momentum: float = 0.0,
    drop_last: bool = True,
    mask: Mapping[str, Tensor] | None = None,
    placebo: bool = False,
) -> dict[str, Tensor]:
    """What each step did, T values or rows a name; without the last step, whose next batch is never seen."""
    rate, parameters = IRIS.logging_rate, [*network.double().parameters()]
    all_of_it = {name: torch.ones_like(p, dtype=torch.bool) for name, p in network.named_parameters()}
    kept = parameters_to_vector((all_of_it | dict(mask or {})).values())
    weights = parameters_to_vector([each & (name in WEIGHTS) for name, each in all_of_it.items()])
    shuffle = streams(seed).shuffle
    orders = [torch.randperm(len(data.y_train), generator=shuffle) for _ in range(IRIS.logging_epochs)]
    batches = [batch for order in orders for batch in order.split(20) if len(batch) == 20 or not drop_last]
    everything = torch.arange(len(data.y_train))

    def loss(rows: Tensor) -> Tensor:
        return cross_entropy(network(data.x_train[rows].double()), data.y_train[rows])

    here = parameters_to_vector(parameters).detach() * kept
    vector_to_parameters(here, parameters)
    last, losses = 0 * here, []
    found = {name: [] for name in ("same_batch", "full_loss", "energy", "cross", "steps")}
    for batch in batches:
        before, whole = loss(batch), loss(everything).item()
        gradient = parameters_to_vector(torch.autograd.grad(before, parameters))
        velocity = momentum * last + gradient * kept
        moved = -rate * velocity
        here = here if placebo else here + moved
        vector_to_parameters(here, parameters)
        losses.append(before.item())
        found["same_batch"].append((loss(batch) - before).item())
        found["full_loss"].append(loss(everything).item() - whole)
        found["energy"].append(float(moved @ moved))
        found["cross"].append(float(moved @ (-rate * last)) if momentum else 0.0)
        found["steps"].append(velocity[weights].tolist())
        last = velocity
    rows = {name: torch.tensor(values[:-1], dtype=torch.float64) for name, values in found.items()}
    rows["cross_batch"] = torch.tensor(losses, dtype=torch.float64).diff()
    rows["squares"] = (rate * rows["steps"]) ** 2
    return rows

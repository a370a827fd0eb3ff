r"""Ways to prune, all with one face: ``prune(networks, datasets, budget, sparsities)`` gives candidates.

A candidate is a set of networks and the mask to hold while they train on. A new way is one function and one line in a
table. This one keeps the weights that grew most:

>>> from repro.head_to_head import METHODS, Method, TASKS, compare, nested
>>> def growth(networks, datasets, budget, sparsities):
...     trained = budget.train(networks, datasets, budget.n_epochs // 2)
...     weights = trained.parameters.items()
...     scores = {n: w.detach().abs() - networks.parameters[n].abs() for n, w in weights if "weight" in n}
...     return {p: (trained, mask) for p, mask in nested(scores, sparsities).items()}
>>> found = compare([Method("growth", growth)], TASKS["digits"], seeds=range(2)).accuracy
>>> bool(found.query("sparsity == 0.9")["test_accuracy"].min() > 0.8)
True

Every method spends at most as many epochs as the task allows, half of them after the mask is chosen (all of them
where it is chosen before training), and every phase is SGD with momentum under a cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.base import one_of
from repro.learn import Dataset, Ensemble, EpochReport, evaluate, stacked, train
from repro.papers.chaos_causality_pruning.method import WindowRecorder, decide
from repro.papers.ewn_inductive_bias import method as ewn
from repro.papers.granger_causal_sgd.training import log
from repro.papers.implicit_sparsification import method as implicit
from repro.prune import Mask, prunable, select

Candidates = dict[float, tuple[Ensemble, Mask]]
"""Sparsity to plain networks and their mask ``(S, *shape)``. What a mask removes, those of higher sparsities do too,
but for SynFlow's, each of which has a hundred rounds of its own."""

_MOMENTUM = 0.9
_LOGGING_RATE = 1e-2  # of the SGD without momentum whose steps are logged
_SHORTEST_WINDOW = 10  # updates
_LEARNED = 500  # examples on which a criterion before training looks
_ROUNDS = 100  # of SynFlow, as in its paper


@dataclass(frozen=True)
class Budget:
    """Epochs, and how all phases of training are done.

    Attributes:
        n_epochs: in all.
        batch_size: examples a step.
        rate: learning rate at the start of each phase.
        knob: what is special to a method, see ``METHODS``.
        seeds: one a network.
    """

    n_epochs: int
    batch_size: int
    rate: float
    knob: float
    seeds: tuple[int, ...]

    def train(
        self,
        networks: Ensemble,
        datasets: Sequence[Dataset],
        n_epochs: int,
        factor: float = 1.0,
        **hooks: Any,
    ) -> Ensemble:
        """Train copies of the networks, at ``factor`` times the rate; hooks are those of ``learn.train``."""
        trained = Ensemble(list(networks))
        if n_epochs:
            train(
                trained,
                datasets,
                optimizer=partial(torch.optim.SGD, lr=self.rate * factor, momentum=_MOMENTUM),
                schedule=partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=n_epochs),
                n_epochs=n_epochs,
                batch_size=self.batch_size,
                evaluate_every=0,
                seed=list(self.seeds),
                **hooks,
            )
        return trained


_Prune = Callable[[Ensemble, Sequence[Dataset], Budget, Sequence[float]], Candidates]
_Scores = dict[str, Tensor]
"""Weight name to one number a weight, ``(S, *shape)``; the lowest go."""
_Scored = Callable[[Ensemble, Sequence[Dataset], Budget], tuple[Ensemble, _Scores]]
_N_CHOICES = 32
_RATES = {1: (0.00625, 0.25), 2: (0.0125, 0.5), 4: (0.0125, 1.0), 8: (0.05, 1.0)}
"""By the number of knobs: the lowest rate, and the octaves from one to the next."""


@dataclass(frozen=True)
class Method:
    """One way to prune.

    Attributes:
        label: in pictures and tables.
        prune: networks at their start, data sets, a budget and sparsities in, candidates out.
        knobs: the values of its knob that are tried; 1, 2, 4 or 8 of them.
        before_training: whether masks are chosen at the start, so that all epochs come after.
        stride: from one value of the knob to the next where tuning walks, see ``experiments.tuning``.
        source: its paper, a key of ``book/references.bib``.
    """

    label: str
    prune: _Prune
    knobs: tuple[float, ...] = (0.0,)
    before_training: bool = False
    stride: float = 2.0
    source: str = ""

    @property
    def choices(self) -> list[tuple[float, float]]:
        """Thirty-two pairs of learning rate and knob, whatever the method: with fewer knobs more rates."""
        lowest, octaves = _RATES[len(self.knobs)]
        rates = [lowest * 2 ** (k * octaves) for k in range(_N_CHOICES // len(self.knobs))]
        return list(product(rates, self.knobs))


def nested(scores: Mapping[str, Tensor], sparsities: Sequence[float]) -> dict[float, Mask]:
    """Masks that remove the lowest scores over the whole network.

    Args:
        scores: weight name to one number a weight of S networks, ``(S, *shape)``.
        sparsities: ascending.
    """
    return {p: _lowest(scores, p) for p in sparsities}


def _lowest(scores: Mapping[str, Tensor], sparsity: float) -> Mask:
    n = len(next(iter(scores.values())))
    # a network that has diverged has weights that are no numbers, and its accuracy is that of chance already
    own = [{name: values[i].nan_to_num(nan=0.0) for name, values in scores.items()} for i in range(n)]
    return Mask.stack([select(each, sparsity=sparsity) for each in own])


def _by_scores(scored: _Scored) -> _Prune:
    """A way to prune of which one score a weight says all: its masks of all sparsities are nested."""

    @wraps(scored)
    def prune(
        networks: Ensemble, datasets: Sequence[Dataset], budget: Budget, sparsities: Sequence[float]
    ) -> Candidates:
        networks, scores = scored(networks, datasets, budget)
        return {p: (networks, mask) for p, mask in nested(scores, sparsities).items()}

    return prune


def _weights(networks: Ensemble) -> _Scores:
    return {name: networks.parameters[name] for name in prunable(networks.template)}


def _magnitudes(networks: Ensemble) -> _Scores:
    return {name: weight.detach().abs() for name, weight in _weights(networks).items()}


# --- before training --------------------------------------------------------------------------------------------------


@_by_scores
def _random(networks: Ensemble, datasets: Sequence[Dataset], budget: Budget) -> tuple[Ensemble, _Scores]:
    """Uniform random numbers for scores."""
    draws = [torch.Generator().manual_seed(seed) for seed in budget.seeds]
    scores = {
        name: torch.stack([torch.rand(weight.shape[1:], generator=draw) for draw in draws])
        for name, weight in _magnitudes(networks).items()
    }
    return networks, scores


def _at_start(score: Callable[[Ensemble, Tensor, Tensor], _Scores]) -> _Prune:
    return _by_scores(lambda nets, datasets, _: (nets, score(nets, *stacked(datasets, "train", _LEARNED))))


def _loss(networks: Ensemble, x: Tensor, y: Tensor) -> Tensor:
    """The sum of the networks' mean losses, whose gradient is that of each network alone."""
    outputs = networks(x, per_member=True)
    return functional.cross_entropy(outputs.flatten(0, 1), y.flatten(), reduction="sum") / y.shape[1]


def _times(weights: _Scores, derivatives: Sequence[Tensor]) -> _Scores:
    """Of SNIP, GraSP and SynFlow alike: a weight times a derivative at the start."""
    pairs = zip(weights.items(), derivatives, strict=True)
    return {name: (weight * derivative).detach() for (name, weight), derivative in pairs}


def snip(networks: Ensemble, x: Tensor, y: Tensor) -> _Scores:
    r"""Connection sensitivity, $|w\,\partial L/\partial w|$.

    It says how much the loss $L$, the mean cross-entropy of a network on its examples, feels a weight's gate.

    Args:
        networks: S of them.
        x: inputs ``(S, n, ...)``, of each network its own.
        y: classes ``(S, n)``.

    Source: Lee, Ajanthan and Torr (2019), equation 6, without the normalization, which
    changes no order.
    """
    weights = _weights(networks)
    gradients = torch.autograd.grad(_loss(networks, x, y), list(weights.values()))
    return {name: product.abs() for name, product in _times(weights, gradients).items()}


def grasp(networks: Ensemble, x: Tensor, y: Tensor) -> _Scores:
    r"""How much gradient flow a weight carries, $w\,(Hg)_w$ with $g=\partial L/\partial w$ and $H$ the Hessian.

    Without the weight the squared length of the gradient changes by $-2\,w\,(Hg)_w$ to first order: where the score is
    high it falls most, so the weight stays. (The paper scores with the sign turned and removes the highest.)

    Arguments as for ``snip``. Source: Wang, Zhang and Grosse (2020), equation 8.
    """
    weights = _weights(networks)
    own = list(weights.values())
    gradients = torch.autograd.grad(_loss(networks, x, y), own, create_graph=True)
    # half the squared length: its gradient is Hg
    products = torch.autograd.grad(sum((g.square().sum() / 2 for g in gradients), torch.zeros(())), own)
    return _times(weights, products)


def synflow(networks: Ensemble, x: Tensor, sparsity: float) -> Mask:
    r"""Prune by synaptic saliency, $|w\,\partial R/\partial w|$ with $R=\mathbf 1^\top f_{|w|}(\mathbf 1)$: no data.

    In a hundred rounds, after round k the density is $(1-p)^{k/100}$; scores are those of the network that is left,
    which keeps layers from being emptied.

    Args:
        networks: S of them; they stay as they are.
        x: any inputs ``(S, n, ...)``; their shape alone is used.
        sparsity: p, below 1.

    Source: Tanaka, Kunin, Yamins and Ganguli (2020), algorithm 1.
    """
    ones = torch.ones_like(x[:, :1], dtype=torch.float64)
    sizes = {name: p.detach().abs().double() for name, p in networks.parameters.items()}
    weights = {name: sizes[name].clone().requires_grad_() for name in prunable(networks.template)}
    mask = Mask({})
    for k in range(1, _ROUNDS + 1):
        total = networks(ones, per_member=True, parameters=sizes | weights).sum()
        gradients = torch.autograd.grad(total, list(weights.values()))
        mask = _lowest(_times(weights, gradients), 1 - (1 - sparsity) ** (k / _ROUNDS))
        with torch.no_grad():
            for name, weight in weights.items():
                weight.masked_fill_(~mask[name], 0)
    return mask


def _synflow(
    networks: Ensemble, datasets: Sequence[Dataset], budget: Budget, sparsities: Sequence[float]
) -> Candidates:
    x, _ = stacked(datasets, "train", 1)
    return {p: (networks, synflow(networks, x, p)) for p in sparsities}


# --- after training ---------------------------------------------------------------------------------------------------


@_by_scores
def _magnitude(
    networks: Ensemble,
    datasets: Sequence[Dataset],
    budget: Budget,
) -> tuple[Ensemble, _Scores]:
    """Train, remove the smallest weights at once."""
    trained = budget.train(networks, datasets, budget.n_epochs // 2)
    return trained, _magnitudes(trained)


def _iterative(
    networks: Ensemble, datasets: Sequence[Dataset], budget: Budget, sparsities: Sequence[float]
) -> Candidates:
    """Train, prune to the next sparsity, go on from there with the learning rate set back (rewinding of rates)."""
    candidates: Candidates = {}
    each, mask = budget.n_epochs // 2 // len(sparsities), Mask({})
    for p in sparsities:
        networks = budget.train(networks, datasets, each, after_step=[mask])
        scores = _magnitudes(networks)  # what is gone is 0 and goes first
        mask = _lowest(scores, p)
        candidates[p] = (networks, mask)
    return candidates


def _causal(target: str) -> _Prune:
    r"""Keep where $|\frac1T\sum_t\Delta L_t\,(\Delta\theta_t)^2|$ is large.

    This is the paper's regression, for small features. The steps are logged at the
    end of the first half, ``knob`` epochs of them, and rewound.
    """

    @_by_scores
    def prune(
        networks: Ensemble,
        datasets: Sequence[Dataset],
        budget: Budget,
    ) -> tuple[Ensemble, _Scores]:
        n_logged = max(1, min(int(budget.knob), budget.n_epochs // 2 - 1))
        trained = budget.train(networks, datasets, budget.n_epochs // 2 - n_logged)
        trace = log(
            trained,
            datasets,
            learning_rate=_LOGGING_RATE,
            n_epochs=n_logged,
            batch_size=budget.batch_size,
            seeds=budget.seeds,
            rows=False,
        )
        return trained, trace.by_name(trace.covariance[target].abs())

    return prune


@_by_scores
def _chaos(networks: Ensemble, datasets: Sequence[Dataset], budget: Budget) -> tuple[Ensemble, _Scores]:
    """Keep the weights with the least p-value: whose exponents, window by window, help most to predict the loss.

    There are ``knob`` windows, or fewer where one would have less than ten updates. What cannot be tested stays.
    """
    names, (x, y) = list(prunable(networks.template)), stacked(datasets, "train")
    n_updates = budget.n_epochs // 2 * -(-y.shape[1] // budget.batch_size)
    recorder = WindowRecorder(max(_SHORTEST_WINDOW, int(n_updates / (0.9 * budget.knob))))

    def record(model: Ensemble, step: int) -> None:
        flat = torch.cat([model.parameters[name].flatten(1) for name in names], dim=1)
        recorder(flat, lambda: evaluate(model, x, y, per_member=True)[0])

    trained = budget.train(networks, datasets, budget.n_epochs // 2, after_step=[record])
    exponents = recorder.exponents  # an error where the run is shorter than a window
    found = zip(recorder.errors, exponents, strict=True)
    p_values = torch.tensor(np.stack([decide(effect, causes).p for effect, causes in found]))
    flat = (-p_values).nan_to_num(nan=1.0)
    sizes = [trained.parameters[name][0].numel() for name in names]
    parts = zip(names, flat.split(sizes, dim=1), strict=True)
    return trained, {name: part.view_as(trained.parameters[name]) for name, part in parts}


# --- by the way that weights are written ------------------------------------------------------------------------------


@_by_scores
def _ewn(networks: Ensemble, datasets: Sequence[Dataset], budget: Budget) -> tuple[Ensemble, _Scores]:
    """Train under exponential weight normalization, at ``knob`` times the rate, then remove the smallest weights."""
    written = Ensemble([ewn.normalize_weights(member) for member in networks])
    trained = budget.train(written, datasets, budget.n_epochs // 2, budget.knob)
    plain = Ensemble([ewn.fold(member) for member in trained])
    return plain, _magnitudes(plain)


def _penalised(name: str, schedule: str) -> _Prune:
    """Train with a form and a penalty of the chapter on PILoT, of strength ``knob``; remove the smallest weights."""
    how = implicit.METHODS[name]
    form: Callable[[], nn.Module] | None = partial(how.form, 0.0) if how.form else None

    @_by_scores
    def prune(networks: Ensemble, datasets: Sequence[Dataset], budget: Budget) -> tuple[Ensemble, _Scores]:
        n_epochs = budget.n_epochs // 2
        strengths = budget.knob * torch.tensor([*implicit.schedule(schedule, n_epochs), 0.0])
        written = Ensemble([implicit.parametrize(each, form) if form else each for each in networks])
        penalties: list[implicit.Penalty] = []

        def penalise(model: Ensemble, step: int) -> None:
            if not penalties:  # made here, for the networks that are trained are a copy
                penalties.append(implicit.Penalty(model, how.penalty, strengths[0]))
            penalties[0]()

        def next_strength(model: Ensemble, report: EpochReport) -> None:
            penalties[0].strengths = strengths[report.epoch]

        trained = budget.train(
            written, datasets, n_epochs, before_step=[penalise], after_epoch=[next_strength]
        )
        plain = Ensemble([implicit.fold(member) for member in trained])
        return plain, _magnitudes(plain)

    return prune


_STRENGTHS = tuple(2.5e-4 * 2**k for k in range(8))
_THRESHOLDS = tuple(4 * each for each in _STRENGTHS)
_FEW = (1.0, 2.0, 4.0, 8.0)

_ALL = (
    Method("magnitude", _magnitude, source="han2015learning"),
    Method("magnitude (stepwise)", _iterative, source="renda2020comparing"),
    Method("causal", _causal("cross_batch"), _FEW, source="shah2024granger"),
    Method("causal (same batch)", _causal("same_batch"), _FEW, source="shah2024granger"),
    Method("chaos-causality", _chaos, (10.0, 20.0), source="sahu2023prune"),
    Method("EWN", _ewn, (0.25, 0.5, 1.0, 2.0), source="morwani2022inductive"),
    Method("PILoT", _penalised("pilot", "half"), _STRENGTHS, stride=4, source="jacobs2025mask"),
    Method(
        "PILoT (constant)", _penalised("pilot", "constant"), _STRENGTHS, stride=4, source="jacobs2025mask"
    ),
    Method("L1", _penalised("l1_x", "constant"), _STRENGTHS, stride=4),
    Method("spred", _penalised("spred", "constant"), _STRENGTHS, stride=4, source="ziyin2023spred"),
    Method("STR", _penalised("str", "constant"), _THRESHOLDS, stride=4, source="kusupati2020soft"),
    Method("SNIP", _at_start(snip), before_training=True, source="lee2019snip"),
    Method("GraSP", _at_start(grasp), before_training=True, source="wang2020grasp"),
    Method("SynFlow", _synflow, before_training=True, source="tanaka2020synflow"),
    Method("random", _random, before_training=True),
)

METHODS: dict[str, Method] = {method.label: method for method in _ALL}
"""The methods by label. Knobs: logged epochs (causal), windows (chaos), first rate over second (EWN), strength."""


def named(listed: str) -> list[str]:
    """The labels in a text, with commas between them; ``"all"`` for all methods; ValueError for an unknown one."""
    if listed == "all":
        return list(METHODS)
    return [one_of("method", label.strip(), METHODS) for label in listed.split(",")]

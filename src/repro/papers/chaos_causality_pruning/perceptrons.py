"""Many small perceptrons as one stack, trained one example at a time: the chapter's only loop.

The paper's networks take one example a step, tens of thousands of steps. The cost is then the number of operations a
step, not their size: a hundred networks in one stack take 1.4 times as long as one, and 250 times less than one after
the other by automatic differentiation (``benchmarks/README.md``). That is why gradient and update are written out here
instead of left to ``repro.learn.train``; a test compares them with autograd's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

_AT_A_TIME = 16
"""Numbers that processors compute side by side, at most."""


@dataclass(frozen=True)
class _Examples:
    """Inputs with their classes and what the network should put out, for S splits of the data at once.

    Of R networks the first R / S learn from the first split, and so on.

    Attributes:
        x: ``(S, n, features)``, float64.
        y: classes ``(S, n)``, 0 and up.
        targets: one-hot ``(S, classes, n)``; ``(S, 1, n)`` with zeros and ones for a single output.
    """

    x: Tensor
    y: Tensor
    targets: Tensor

    @classmethod
    def of(cls, x: ArrayLike, y: ArrayLike, n_outputs: int) -> Self:
        """Put inputs and classes in this form.

        Args:
            x: ``(n, features)``, or ``(S, n, features)`` for S splits.
            y: classes ``(n,)`` or ``(S, n)``, 0 to ``n_outputs - 1``, or 0 and 1 for a single output.
            n_outputs: width of the network's last layer.
        """
        inputs = torch.as_tensor(np.asarray(x, dtype=np.float64))
        classes = torch.as_tensor(np.asarray(y, dtype=np.int64))
        if inputs.ndim == 2:
            inputs, classes = inputs[None], classes[None]
        if n_outputs == 1:
            return cls(inputs, classes, classes.double()[:, None])
        one_hot = torch.nn.functional.one_hot(classes, n_outputs)
        return cls(inputs, classes, one_hot.double().transpose(1, 2).contiguous())

    def __len__(self) -> int:
        return self.x.shape[1]


@dataclass
class _Perceptrons:
    r"""R sigmoid perceptrons of one shape, in double precision.

    $$a_0=x,\qquad a_l=\sigma(W_la_{l-1}+b_l),\qquad f(x)=\sigma(W_La_{L-1}+b_L)\ \text{or}\
    \operatorname{softmax}(W_La_{L-1}+b_L).$$

    Networks that learn from different data can stand in one stack: see ``activations``.

    Attributes:
        weights: one tensor ``(R, outputs, inputs)`` a layer.
        biases: one tensor ``(R, outputs, 1)`` a layer.
        head: the last activation, ``"sigmoid"`` or ``"softmax"``.
    """

    weights: list[Tensor]
    biases: list[Tensor]
    head: str = "sigmoid"

    @classmethod
    def drawn(cls, sizes: Sequence[int], seeds: Sequence[int], head: str = "sigmoid") -> Self:
        r"""Draw initial weights and biases, one network a seed, by the law that the paper has for this head.

        ``"sigmoid"``, for its tables: $N(0, 0.1^2)$. ``"softmax"``, for its images: $U(-1/\sqrt n, 1/\sqrt n)$ with n
        the inputs of the layer, PyTorch's default.
        """

        def draw(rng: np.random.Generator, shape: tuple[int, int], n: int) -> NDArray[np.float64]:
            if head == "sigmoid":
                return 0.1 * rng.standard_normal(shape)
            return rng.uniform(-1, 1, shape) / np.sqrt(n)

        networks = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            networks.append([draw(rng, (o, columns), i) for i, o in pairwise(sizes) for columns in (i, 1)])
        tensors = [torch.tensor(np.stack(same)) for same in zip(*networks, strict=True)]
        return cls(tensors[::2], tensors[1::2], head)

    def __len__(self) -> int:
        return self.weights[0].shape[0]

    @property
    def tensors(self) -> list[Tensor]:
        """All weights, then all biases."""
        return [*self.weights, *self.biases]

    @property
    def layer_of(self) -> NDArray[np.int64]:
        """Layer 0, 1, ... of each weight in the paper's flat order, ``(P,)``."""
        return np.repeat(np.arange(len(self.weights)), [w[0].numel() for w in self.weights])

    def flat(self) -> Tensor:
        """Copy the weights, without biases, in the paper's order: layer by layer, row by row, ``(R, P)``."""
        return torch.cat([w.reshape(len(self), -1) for w in self.weights], dim=1)

    def unflat(self, values: Tensor) -> list[Tensor]:
        """Cut ``(R, P)`` in the order of ``flat`` into one tensor ``(R, outputs, inputs)`` a layer."""
        pieces = values.split([w[0].numel() for w in self.weights], dim=1)
        return [piece.reshape(w.shape) for piece, w in zip(pieces, self.weights, strict=True)]

    def pick(self, runs: ArrayLike) -> Self:
        """Copy the networks at these indices; an index may stand more than once."""
        index = torch.tensor(np.array(runs, dtype=np.int64))
        return type(self)([w[index] for w in self.weights], [b[index] for b in self.biases], self.head)

    def masked(self, keep: NDArray[np.bool_]) -> Self:
        """Copy the networks with the weights set to zero where ``keep`` (R, P) is False."""
        copy = self.pick(range(len(self)))
        for w, m in zip(copy.weights, self.unflat(torch.as_tensor(keep)), strict=True):
            w.mul_(m)
        return copy

    def activations(self, x: Tensor) -> list[Tensor]:
        """Return $a_1, \\dots, a_L$, each ``(R, width, m)``.

        Args:
            x: ``(S, m, features)``: S sets of m examples, each seen by R / S networks in a row.
        """
        n_runs, first = len(self), self.weights[0]
        wide = first.reshape(len(x), -1, first.shape[2])  # the networks of one set, as one wide layer
        z = torch.bmm(wide, x.transpose(1, 2)).reshape(n_runs, -1, x.shape[1]).add_(self.biases[0])
        layers = []
        for w, b in zip(self.weights[1:], self.biases[1:], strict=True):
            layers.append(_sigmoid(z))
            z = torch.baddbmm(b, w, layers[-1])
        layers.append(_sigmoid(z) if self.head == "sigmoid" else z.softmax(1))
        return layers

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs for examples ``(m, features)`` or ``(S, m, features)``: ``(R, m, classes)``."""
        return self.activations(x if x.ndim == 3 else x[None])[-1].transpose(1, 2)

    def _outputs(self, data: _Examples) -> Tensor:
        """``(S, R / S, classes, n)``."""
        outputs = self.activations(data.x)[-1]
        return outputs.view(len(data.x), -1, *outputs.shape[1:])

    def accuracy(self, data: _Examples) -> NDArray[np.float64]:
        """Return the share of examples that each network gets right, ``(R,)``.

        With sigmoid outputs an example is right when *all* outputs, rounded, equal the target: the paper's code
        counts so, and it is stricter than the largest output. With softmax outputs the largest output decides.
        """
        outputs = self._outputs(data)
        if self.head == "sigmoid":
            right = ((outputs > 0.5) == (data.targets[:, None] > 0.5)).all(2)
        else:
            right = outputs.argmax(2) == data.y[:, None]
        return right.double().mean(2).flatten().numpy()

    def loss(self, data: _Examples) -> NDArray[np.float64]:
        """Return each network's mean squared error over examples and outputs, ``(R,)``."""
        return (self._outputs(data) - data.targets[:, None]).square().mean((2, 3)).flatten().numpy()

    def macro_f1(self, data: _Examples) -> NDArray[np.float64]:
        r"""Return the mean over classes of $F_1=2TP/(2TP+FP+FN)$ for the largest output, ``(R,)``.

        With a single output its rounding decides. Classes that are neither present nor predicted do not count, as
        in scikit-learn.
        """
        outputs = self._outputs(data)
        predicted = (outputs[:, :, 0] > 0.5).long() if outputs.shape[2] == 1 else outputs.argmax(2)
        scores = []
        for c in range(max(2, outputs.shape[2])):
            said, true = predicted == c, (data.y == c)[:, None]
            # 0 / 0, so not a number, for a class that there is not
            scores.append(2 * (said & true).sum(2) / (said.sum(2) + true.sum(2)))
        return torch.nanmean(torch.stack(scores).double(), 0).flatten().numpy()

    def step(self, x: Tensor, targets: Tensor, learning_rate: float) -> None:
        r"""Make one step of gradient descent on the mean squared error of a batch, in place.

        The error of one example is $\frac1K\sum_k(f_k-t_k)^2$. With $g=\frac2K(f-t)$ the last layer's
        $\delta_L=g\odot f\odot(1-f)$ for the sigmoid and $f\odot(g-\langle g,f\rangle)$ for the softmax;
        then $\delta_l=(W_{l+1}^\top\delta_{l+1})\odot a_l\odot(1-a_l)$,
        $\nabla W_l=\delta_la_{l-1}^\top$, $\nabla b_l=\delta_l$, each a mean over the batch.

        Args:
            x: examples ``(S, m, features)``, one set for R / S networks in a row.
            targets: ``(S, classes, m)``.
            learning_rate: of the step.
        """
        n_sets, n_examples = x.shape[:2]
        layers = self.activations(x)
        f = layers[-1]
        delta = (f.view(n_sets, -1, *f.shape[1:]) - targets[:, None]).view(f.shape)
        if self.head == "sigmoid":
            delta.mul_(f).mul_(torch.rsub(f, 1))
        else:
            delta = f * (delta - (delta * f).sum(1, keepdim=True))
        delta.mul_(2 / (f.shape[1] * n_examples))
        for layer in range(len(self.weights) - 1, 0, -1):
            a, w = layers[layer - 1], self.weights[layer]
            below = torch.bmm(w.transpose(1, 2), delta).mul_(a).mul_(torch.rsub(a, 1))
            w.baddbmm_(delta, a.transpose(1, 2), alpha=-learning_rate)
            self.biases[layer].sub_(delta.sum(-1, keepdim=True), alpha=learning_rate)
            delta = below
        first = self.weights[0]
        wide = first.view(n_sets, -1, first.shape[2])
        wide.baddbmm_(delta.view(n_sets, -1, n_examples), x, alpha=-learning_rate)
        self.biases[0].sub_(delta.sum(-1, keepdim=True), alpha=learning_rate)

    @torch.inference_mode()
    def descend(
        self,
        data: _Examples,
        *,
        learning_rate: float,
        n_epochs: int,
        batch_size: int = 1,
        reshuffle: bool = False,
        keep: NDArray[np.bool_] | None = None,
        after_update: Callable[[], object] = lambda: None,
        after_epoch: Callable[[int], object] = lambda _: None,
    ) -> None:
        r"""Train in place by $\theta\leftarrow m\odot(\theta-\eta\nabla\theta)$; biases are never masked.

        All networks see the same places of their split in the same order.

        Args:
            data: training examples.
            learning_rate: $\eta$, constant.
            n_epochs: most passes over the data.
            batch_size: examples an update; a last shorter batch is used too.
            reshuffle: a new random order in every epoch; else 0, 1, 2, ... in each, as for the paper's tables.
            keep: mask ``(R, P)`` over the weights in the flat order; False weights are zero before the first
                update and after every one. None: all are kept.
            after_update: called before training and after each update.
            after_epoch: called with the epoch, from 0 as the paper counts; an answer that is true ends the training.
        """
        masks = [] if keep is None else [m.double() for m in self.unflat(torch.as_tensor(keep))]
        rng = np.random.default_rng(0)

        def mask() -> None:
            for w, m in zip(self.weights, masks, strict=False):
                w.mul_(m)

        def batches(order: NDArray[np.int64]) -> Iterator[tuple[Tensor, Tensor]]:
            for index in torch.as_tensor(order).split(batch_size):
                yield data.x[:, index], data.targets[:, :, index]

        fixed = [] if reshuffle else list(batches(np.arange(len(data))))
        mask()
        after_update()
        for epoch in range(n_epochs):
            for x, targets in fixed or batches(rng.permutation(len(data))):
                self.step(x, targets, learning_rate)
                mask()
                after_update()
            if after_epoch(epoch):
                return

    def retrained(
        self,
        keep: NDArray[np.bool_],
        train: _Examples,
        test: _Examples,
        *,
        benchmark: float,
        budget: int,
        cap: int,
        look: Callable[[_Perceptrons], object] = lambda _: None,
        **how: Any,
    ) -> tuple[pd.DataFrame, Self]:
        """Train a masked copy for the budget and until each network reaches the benchmark.

        Args:
            keep: mask ``(R, P)`` in the flat order; weights that are False are zero after every update.
            train, test: examples.
            benchmark: training accuracy to reach.
            budget: epochs that all networks train.
            cap: most epochs, at least the budget.
            look: called with the networks before training and after each update.
            how: ``learning_rate``, ``batch_size``, ``reshuffle``, as for ``descend``.

        Returns:
            One row a network, and the networks as they were at their stops. ``epochs``: the first, counted from 0 as
            the paper does, after which the training accuracy is at least the benchmark; the cap for networks that
            never reach it. ``reached``: whether it was. ``test_accuracy`` and ``macro_f1`` after that epoch, and
            ``budget_accuracy``, also on the test part, after the budget. ``kept``: weights left by the mask, the
            paper's "FLOPs", and the multiply-adds of one example.
        """
        everyone = range(len(self))
        networks, stopped = self.pick(everyone), self.pick(everyone)
        table = pd.DataFrame({"epochs": float(cap), "reached": False}, index=everyone)
        table[["test_accuracy", "macro_f1", "budget_accuracy"]] = np.nan

        def note(epoch: int) -> bool:
            going = ~table["reached"].to_numpy()
            now = going & (networks.accuracy(train) >= benchmark)
            stops = going if epoch == cap - 1 else now
            if stops.any():
                scores = np.stack([networks.accuracy(test), networks.macro_f1(test)], axis=1)
                table.loc[stops, ["test_accuracy", "macro_f1"]] = scores[stops]
                table.loc[now, "epochs"], table.loc[now, "reached"] = epoch, True
                for kept, current in zip(stopped.tensors, networks.tensors, strict=True):
                    kept[stops] = current[stops]
            if epoch == budget - 1:
                table["budget_accuracy"] = networks.accuracy(test)
            return epoch >= budget - 1 and bool(table["reached"].all())

        how |= {"after_update": lambda: look(networks), "after_epoch": note}
        networks.descend(train, n_epochs=cap, keep=keep, **how)
        return table.assign(kept=keep.sum(axis=1)), stopped


def _sigmoid(z: Tensor) -> Tensor:
    """The sigmoid, with the same bits wherever in a stack a network stands; ``z`` may be overwritten.

    PyTorch computes what is left over at the end of an array in another way than the rest, with other last bits.
    """
    left_over = z.numel() % _AT_A_TIME
    if not left_over:
        return z.sigmoid_()
    filled = torch.constant_pad_nd(z.view(-1), (0, _AT_A_TIME - left_over))
    return filled.sigmoid_()[: z.numel()].view(z.shape)

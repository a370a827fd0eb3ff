r"""What the theory says, as code: the chain rule, the metric of the flow, the two laws, the rates.

Weights are a list with one matrix ``(..., n_out, n_in)`` a layer; a node $u$ is a row of its layer's matrix. All
matrices may carry the same leading dimensions, for many networks (seeds, points on a path) at once. Everything is
NumPy in float64, independent of the PyTorch modules of ``method``, which the chapter holds against it.

Losses appear as $\log\mathcal L$ and $\nabla\log\mathcal L$ alone, which stay of moderate size where the loss
underflows; directions, ratios and spreads are the same for both gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from repro.base import one_of

Array = NDArray[np.float64]
Weights = Sequence[Array]


def row_norm(a: Array) -> Array:
    """Euclidean lengths of the rows, shape ``(..., n_nodes)``."""
    return np.sqrt(np.vecdot(a, a))


# --- three ways to write the weights entering a node ------------------------------------------------------------


def split_weights(weights: Weights, method: str, radius: float = 1.0) -> list[Array]:
    r"""Parameters that give these weights: $w$; $\gamma, v$ or $\alpha, v$ a layer, with $\|v_u\|$ = ``radius``."""
    if method == "plain":
        return list(weights)
    parameters = []
    for w in weights:
        length = row_norm(w)
        parameters += [np.log(length) if method == "ewn" else length, radius * w / length[..., None]]
    return parameters


def join_weights(parameters: Weights, method: str) -> list[Array]:
    r"""Weights given by the parameters: $w$; $\gamma_u\,v_u/\|v_u\|$ (SWN); $e^{\alpha_u}\,v_u/\|v_u\|$ (EWN)."""
    if method == "plain":
        return list(parameters)
    pairs = zip(parameters[::2], parameters[1::2], strict=True)
    return [((np.exp(s) if method == "ewn" else s) / row_norm(v))[..., None] * v for s, v in pairs]


def pull_back(parameters: Weights, gradient: Weights, method: str) -> list[Array]:
    r"""Gradient by the parameters, from the one by the weights, $g_u$: the chain rule.

    $\nabla_{\gamma_u} = \langle\hat v_u, g_u\rangle$, $\nabla_{\alpha_u} = \langle w_u, g_u\rangle$,
    $\nabla_{v_u} = \frac{\lambda_u}{\|v_u\|}(I - \hat v_u\hat v_u^\top)\,g_u$ with $\lambda_u$ the (signed) length.
    """
    if method == "plain":
        return list(gradient)
    pulled = []
    for scale, v, g in zip(parameters[::2], parameters[1::2], gradient, strict=True):
        norm, length = row_norm(v), np.exp(scale) if method == "ewn" else scale
        along = np.vecdot(v, g)
        tangent = (along / norm**2)[..., None] * v
        np.subtract(g, tangent, out=tangent)
        tangent *= (length / norm)[..., None]
        slope = length if method == "ewn" else 1.0
        pulled += [slope * along / norm, tangent]
    return pulled


def precondition(weights: Weights, gradient: Weights, method: str, radius: float = 1.0) -> list[Array]:
    r"""$M(w)\,g$: flow on the parameters, $\dot\theta = -\nabla_\theta\mathcal L$, moves the weights by $-M(w)\,g$.

    With $P_u$ the projection on $w_u$ and $r = \|v_u\|$, which the flow keeps,

    $$\text{plain: } g_u;\qquad \text{SWN: } P_u g_u + \tfrac{\|w_u\|^2}{r^2}(I-P_u)\,g_u;\qquad
    \text{EWN: } \|w_u\|^2\bigl[P_u g_u + \tfrac1{r^2}(I-P_u)\,g_u\bigr],$$

    which for EWN and $r = 1$ is $\|w_u\|^2 g_u$.
    """
    if method == "plain":
        return list(gradient)
    if method == "ewn" and radius == 1:
        return [np.vecdot(w, w)[..., None] * g for w, g in zip(weights, gradient, strict=True)]
    moved = []
    for w, g in zip(weights, gradient, strict=True):
        squared = np.vecdot(w, w)
        radial, tangential = squared if method == "ewn" else 1.0, squared / radius**2
        mixed = (radial - tangential) * np.vecdot(w, g) / squared
        moved.append(tangential[..., None] * g + mixed[..., None] * w)
    return moved


# --- homogeneous networks at losses that no float can hold ------------------------------------------------------

_TAIL = 30.0
"""Margin beyond which $\\log\\log(1+e^{-q})$ becomes $-q - e^{-q}/2$; the next term is below 1e-26."""


def _log_loss_slopes(margins: Array, loss: str) -> tuple[Array, Array]:
    r"""Log-loss and its derivative with respect to every margin.

    $\log\mathcal L = \operatorname{LSE}_i \log\ell_i$ with $\ell_i = e^{-q_i}$ (exponential) or
    $\ell_i = \log(1 + e^{-q_i})$ (logistic), summed over samples, not averaged; and
    $\partial\log\mathcal L/\partial q_i = -\frac{\ell_i}{\mathcal L}\,\frac{\sigma(-q_i)}{\log(1+e^{-q_i})}$
    (the second factor is 1 for the exponential loss and tends to 1 for the logistic one).

    Args:
        margins: $q_i = y_i\Phi(w, x_i)$, shape ``(..., n_samples)``.
        loss: ``"exponential"`` or ``"logistic"``.

    Returns:
        ``log_loss`` of shape ``(...)`` in natural logarithms, and ``slopes`` of shape ``(..., n_samples)``,
        all of them negative or zero.
    """
    log_losses, slopes = _per_sample(margins, loss)
    largest = log_losses.max(axis=-1, keepdims=True)
    shares = np.exp(log_losses - largest)
    total = shares.sum(axis=-1, keepdims=True)
    return (largest + np.log(total))[..., 0], -shares / total * slopes


def _per_sample(margins: Array, loss: str) -> tuple[Array, float | Array]:
    """Log of each sample's loss and its slope $-\\partial\\log\\ell_i/\\partial q_i$."""
    if loss == "exponential":
        return -margins, 1.0
    half_tail = 0.5 * np.exp(-np.maximum(margins, _TAIL))
    if margins.min() > _TAIL:
        return -margins - half_tail, 1.0 - half_tail
    # The branch that np.where discards must not overflow or take the log of zero.
    capped = np.minimum(margins, _TAIL)
    softplus = np.logaddexp(0.0, -capped)
    far = margins > _TAIL
    log_losses = np.where(far, -margins - half_tail, np.log(softplus))
    return log_losses, np.where(far, 1.0 - half_tail, expit(-capped) / softplus)


@dataclass(frozen=True, eq=False)
class BinaryProblem:
    r"""A bias-free perceptron, points with labels $\pm1$, and a loss: everything that a flow needs.

    $\Phi(w, x) = W_D\,\sigma(W_{D-1}\cdots\sigma(W_1 x))$ is homogeneous, $\Phi(\lambda w, x) = \lambda^L\Phi(w, x)$.
    A layer's degree is the product of those of the activations behind it: $L = D$ for linear networks, $L = 2 + 1$
    for one hidden layer of squared ReLU.

    Args:
        activation: ``"linear"`` or ``"squared_relu"`` ($\max(0, a)^2$), after every layer but the last.
        x: inputs, shape ``(n_samples, n_inputs)``.
        y: labels -1 or +1, shape ``(n_samples,)``.
        loss: ``"exponential"`` or ``"logistic"``, summed over the samples.
    """

    activation: str
    x: Array
    y: Array
    loss: str

    def gradient(self, weights: Weights) -> tuple[Array, list[Array]]:
        r"""$\log\mathcal L$, shape ``(...)``, and $\nabla_w\log\mathcal L$, one matrix a layer, by back-propagation."""
        if self.activation == "linear":
            return self._linear_gradient(weights)
        signal, pre, signals = self.x.T, [], []
        for w in weights:
            signals.append(signal)
            pre.append(w @ signal)
            positive = np.maximum(pre[-1], 0.0)
            signal = positive * positive
        log_loss, slopes = _log_loss_slopes(self.y * pre[-1][..., 0, :], self.loss)
        delta = (self.y * slopes)[..., None, :]
        gradients = []
        for i in reversed(range(len(weights))):
            gradients.append(delta @ signals[i].mT)
            if i:
                delta = weights[i].mT @ delta * (2.0 * np.maximum(pre[i - 1], 0.0))
        return log_loss, gradients[::-1]

    def _linear_gradient(self, weights: Weights) -> tuple[Array, list[Array]]:
        r"""Each gradient has rank one.

        $G_l = (W_D\cdots W_{l+1})^\top\,(W_{l-1}\cdots W_1\,X^\top s)^\top$ with $s$ the slopes at the outputs.
        """
        products = [weights[0]]
        for w in weights[1:]:
            products.append(w @ products[-1])
        log_loss, slopes = _log_loss_slopes(self.y * (products[-1] @ self.x.T)[..., 0, :], self.loss)
        pull = (self.y * slopes) @ self.x
        gradients, above = [], np.ones((*pull.shape[:-1], 1))
        for i in reversed(range(len(weights))):
            below = (products[i - 1] @ pull[..., None])[..., 0] if i else pull
            gradients.append(above[..., :, None] * below[..., None, :])
            above = (above[..., None, :] @ weights[i])[..., 0, :]
        return log_loss, gradients[::-1]


# --- two weights, solved with pencil and paper ------------------------------------------------------------------


def two_weights(weights: Weights) -> tuple[Array, list[Array]]:
    r"""$\log\mathcal L = -(2w_1 + w_2)$ and its gradient: one point, exponential loss, each weight a node of its own.

    As ``BinaryProblem.gradient``; weights are ``[w]`` with w of shape ``(..., 2, 1)``.
    """
    (w,) = weights
    pull = np.array([[-2.0], [-1.0]])
    return (w * pull).sum(axis=(-2, -1)), [np.broadcast_to(pull, w.shape)]


def conserved(w1: ArrayLike, w2: ArrayLike) -> Array:
    r"""$K = 1/w_2 - 1/(2w_1)$, constant along EWN flow; $w_1$ wins if it is positive, $w_2$ if negative."""
    return np.asarray(1 / np.asarray(w2, dtype=float) - 1 / (2 * np.asarray(w1, dtype=float)))


def exact_point(start: Sequence[float], z: ArrayLike, method: str) -> tuple[Array, Array]:
    r"""The exact flow of two weights at $z = -\log\mathcal L = 2w_1 + w_2$.

    Plain: $w = w(0) + s\,(2, 1)$ with $5s = z - z(0)$. EWN, $\dot w_j \propto w_j^2 x_j$: with $a = 2w_1$ and
    $b = w_2$, $1/b - 1/a = K$ and $a + b = z$ give $ab = (a - b)/K$, hence $b = \tfrac12(z - d)$ with
    $d = a - b = (\sqrt{4 + K^2z^2} - 2)/K$.

    Args:
        start: $(w_1, w_2)$, both positive.
        z: one value or many, not below the start's.
        method: ``"ewn"`` or ``"plain"``.

    Returns:
        $w_1$ and $w_2$, of the shape of ``z``.

    Raises:
        ValueError: for other methods, or a start that is not positive.
    """
    w1, w2 = (float(value) for value in start)
    if not (w1 > 0 and w2 > 0):
        raise ValueError(f"the start must be two positive weights, got {tuple(start)}")
    target = np.asarray(z, dtype=np.float64)
    if one_of("flow with an exact solution", method, ("plain", "ewn")) == "plain":
        travelled = (target - 2 * w1 - w2) / 5
        return w1 + 2 * travelled, w2 + travelled
    k = float(conserved(w1, w2))
    # (sqrt(4 + x²) - 2)/K written so that K = 0, the unstable balance, is no special case.
    difference = k * target**2 / (np.sqrt(4 + (k * target) ** 2) + 2)
    return (target + difference) / 4, (target - difference) / 2


def loser_limit(start: Sequence[float]) -> float:
    r"""Where the losing weight stops under EWN: $w_2$ at $1/K$ if $K > 0$, $w_1$ at $1/(2|K|)$ if $K < 0$."""
    k = float(conserved(*start))
    if k == 0:
        return float("inf")
    return 1 / k if k > 0 else 1 / (-2 * k)


# --- laws and rates ---------------------------------------------------------------------------------------------


def relation_sign(method: str) -> int:
    r"""Sign $s$ for which $\log\|g_u\| + s\log\|w_u\|$ is the same for all nodes: +1 for EWN, else -1."""
    return 1 if method == "ewn" else -1


def local_exponent(z: Array, log_rate: Array, low: float, high: float) -> float:
    r"""Exponent $p = d\log(\frac{d}{dt}\mathcal L^{-1})/d\log z$, fitted over a range of $z$.

    Least squares of ``log_rate`` on $\log z$ over the points with ``low`` $\le z \le$ ``high``. Not to be
    confused with a fit of $\log\mathcal L$ on $\log t$, whose slope is near -1 for every method: a factor
    $\log^2 t$ is invisible over a few decades of $t$.

    Args:
        z: $-\log\mathcal L$, ``(n_points,)``.
        log_rate: $\log\frac{d}{dt}\mathcal L^{-1}$ at unit learning rate.
        low, high: smallest and largest z of the fit.

    Returns:
        The slope; NaN if the path does not reach ``high``.

    Source: derived here (claim E10).
    """
    inside = (z >= low) & (z <= high)
    if z.max() < high:
        return float("nan")
    return float(np.polyfit(np.log(z[inside]), log_rate[inside], 1)[0])

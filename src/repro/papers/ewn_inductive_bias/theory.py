r"""What the theory says, as code: the chain rule, the metric of the flow, exact solutions, gradient flows.

Weights are a list with one matrix ``(..., n_out, n_in)`` a layer; a node $u$ is a row of its layer's matrix. All
matrices may carry the same leading dimensions, for many networks (seeds, points on a path) at once. Everything is
NumPy in float64, independent of the PyTorch modules of ``method``, which the chapter holds against it.

Losses appear as $\log\mathcal L$ and $\nabla\log\mathcal L$ alone, which stay of moderate size where the loss
underflows; directions, ratios and spreads are the same for both gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import LSODA, solve_ivp
from scipy.special import expit

from repro.base import one_of

_Array = NDArray[np.float64]
_Gradient = Callable[[Sequence[_Array]], tuple[_Array, list[_Array]]]


def _row_norm(a: _Array) -> _Array:
    """Euclidean lengths of the rows, shape ``(..., n_nodes, 1)``."""
    return np.sqrt(np.vecdot(a, a))[..., None]


# --- three ways to write the weights entering a node ------------------------------------------------------------


def _split(weights: Sequence[_Array], method: str, radius: float = 1.0) -> list[_Array]:
    r"""Parameters that give these weights: $w$; $\gamma, v$ or $\alpha, v$ a layer, with $\|v_u\|$ = ``radius``."""
    if method == "plain":
        return list(weights)
    parameters = []
    for w in weights:
        length = _row_norm(w)
        parameters += [np.log(length) if method == "ewn" else length, radius * w / length]
    return parameters


def _join(parameters: Sequence[_Array], method: str) -> list[_Array]:
    r"""Weights given by the parameters: $w$; $\gamma_u\,v_u/\|v_u\|$ (SWN); $e^{\alpha_u}\,v_u/\|v_u\|$ (EWN)."""
    if method == "plain":
        return list(parameters)
    pairs = zip(parameters[::2], parameters[1::2], strict=True)
    return [(np.exp(s) if method == "ewn" else s) / _row_norm(v) * v for s, v in pairs]


def _pull_back(parameters: Sequence[_Array], gradient: Sequence[_Array], method: str) -> list[_Array]:
    r"""Gradient by the parameters, from the one by the weights, $g_u$: the chain rule.

    $\nabla_{\gamma_u} = \langle\hat v_u, g_u\rangle$, $\nabla_{\alpha_u} = \langle w_u, g_u\rangle$,
    $\nabla_{v_u} = \frac{\lambda_u}{\|v_u\|}(I - \hat v_u\hat v_u^\top)\,g_u$ with $\lambda_u$ the (signed) length.
    Lengths $\gamma$ and their logarithms $\alpha$ are ``(..., n_out, 1)``, before $v$ ``(..., n_out, n_in)``.
    """
    if method == "plain":
        return list(gradient)
    pulled = []
    for scale, v, g in zip(parameters[::2], parameters[1::2], gradient, strict=True):
        norm, length = _row_norm(v), np.exp(scale) if method == "ewn" else scale
        along = np.vecdot(v, g)[..., None]
        tangent = along / norm**2 * v
        np.subtract(g, tangent, out=tangent)
        tangent *= length / norm
        pulled += [(length if method == "ewn" else 1.0) * along / norm, tangent]
    return pulled


def _precondition(
    weights: Sequence[_Array], gradient: Sequence[_Array], method: str, radius: float = 1.0
) -> list[_Array]:
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


def _log_loss_slopes(margins: _Array, loss: str) -> tuple[_Array, _Array]:
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
    log_losses, slopes = -margins, np.ones_like(margins)
    if loss == "logistic":
        half_tail, far = 0.5 * np.exp(-np.maximum(margins, _TAIL)), margins > _TAIL
        # The branch that np.where discards must not overflow or take the log of zero.
        capped = np.minimum(margins, _TAIL)
        softplus = np.logaddexp(0.0, -capped)
        log_losses = np.where(far, -margins - half_tail, np.log(softplus))
        slopes = np.where(far, 1.0 - half_tail, expit(-capped) / softplus)
    largest = log_losses.max(axis=-1, keepdims=True)
    shares = np.exp(log_losses - largest)
    total = shares.sum(axis=-1, keepdims=True)
    return (largest + np.log(total))[..., 0], -shares / total * slopes


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
    x: _Array
    y: _Array
    loss: str

    def gradient(self, weights: Sequence[_Array]) -> tuple[_Array, list[_Array]]:
        r"""$\log\mathcal L$, shape ``(...)``, and $\nabla_w\log\mathcal L$, one matrix a layer, by back-propagation."""
        linear = self.activation == "linear"
        signal, pre, signals = np.eye(self.x.shape[1]) if linear else self.x.T, [], []
        for w in weights:
            signals.append(signal)
            pre.append(w @ signal)
            signal = pre[-1] if linear else np.maximum(pre[-1], 0.0) ** 2
        outputs = pre[-1] @ self.x.T if linear else pre[-1]
        log_loss, slopes = _log_loss_slopes(self.y * outputs[..., 0, :], self.loss)
        delta = (self.y * slopes)[..., None, :]
        if linear:  # one sum over the points stands for all of them: each gradient has rank one
            pull = ((self.y * slopes) @ self.x)[..., None]
            signals, delta = [signal @ pull for signal in signals], np.ones((*pull.shape[:-2], 1, 1))
        gradients = []
        for i in reversed(range(len(weights))):
            gradients.append(delta @ signals[i].mT)
            if i:
                back = (delta.mT @ weights[i]).mT if linear else weights[i].mT @ delta
                delta = back if linear else back * (2.0 * np.maximum(pre[i - 1], 0.0))
        return log_loss, gradients[::-1]


# --- two weights, solved with pencil and paper ------------------------------------------------------------------


def _conserved(w1: ArrayLike, w2: ArrayLike) -> _Array:
    r"""$K = 1/w_2 - 1/(2w_1)$, constant along EWN flow; $w_1$ wins if it is positive, $w_2$ if negative."""
    return np.asarray(1 / np.asarray(w2, dtype=float) - 1 / (2 * np.asarray(w1, dtype=float)))


def exact_point(start: Sequence[float], z: ArrayLike, method: str) -> tuple[_Array, _Array]:
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
    k = float(_conserved(w1, w2))
    # (sqrt(4 + x²) - 2)/K written so that K = 0, the unstable balance, is no special case.
    difference = k * target**2 / (np.sqrt(4 + (k * target) ** 2) + 2)
    return (target + difference) / 4, (target - difference) / 2


# --- gradient flows ---------------------------------------------------------------------------------------------
#
# In ordinary time, by Euler steps, and with z as their clock. What flows is a function from weights to the log-loss
# and its gradient, such as BinaryProblem.gradient.

_STALLED = 1e-14
"""Rate $R$ below which the flow counts as stuck: no further point of the data can be fitted."""
_MAX_STEPS = 200_000
"""Of the solver, after which a flow is given up."""


def _pack(arrays: Sequence[_Array]) -> _Array:
    """Matrices as one vector; leading dimensions (time, seeds) are kept."""
    return np.concatenate([a.reshape(*a.shape[:-2], -1) for a in arrays], axis=-1)


def _unpack(flat: _Array, like: Sequence[_Array]) -> list[_Array]:
    """A vector as matrices of these shapes."""
    arrays, start = [], 0
    for a in like:
        stop = start + a.size
        arrays.append(flat[..., start:stop].reshape(*flat.shape[:-1], *a.shape))
        start = stop
    return arrays


def _integrate(
    velocity: Callable[[list[_Array]], list[_Array]], start: Sequence[_Array], times: _Array
) -> list[_Array]:
    """By an explicit eighth-order Runge-Kutta method, which is right for moderate losses."""
    solution = solve_ivp(
        lambda _, flat: _pack(velocity(_unpack(flat, start))), (float(times[0]), float(times[-1])), _pack(start),
        "DOP853", t_eval=times, rtol=1e-11, atol=1e-13,
    )  # fmt: skip
    if not solution.success:
        raise RuntimeError(f"the flow cannot be integrated beyond t = {solution.t[-1]}: {solution.message}")
    return _unpack(np.asarray(solution.y.T), start)


def _descent_direction(gradient: _Gradient, weights: Sequence[_Array]) -> list[_Array]:
    """Minus the gradient of the loss itself; only for losses that float64 can hold."""
    log_loss, slopes = gradient(weights)
    return [-np.exp(log_loss)[..., None, None] * g for g in slopes]


def parameter_flow(
    gradient: _Gradient, method: str, weights: Sequence[_Array], times: _Array, radius: float = 1.0
) -> list[_Array]:
    r"""Gradient flow $\dot\theta = -\nabla_\theta\mathcal L$ on the parameters, from given weights.

    Args:
        gradient: what flows.
        method: how the parameters make the weights, ``"swn"`` or ``"ewn"``.
        weights: the start, one matrix ``(n_out, n_in)`` a layer.
        times: increasing, the first one is the start's.
        radius: $\|v_u(0)\|$ of every node.

    Returns:
        Weights ``(n_times, n_out, n_in)`` at these times, one array a layer.

    Raises:
        RuntimeError: if the solver gives up.
    """

    def velocity(theta: list[_Array]) -> list[_Array]:
        return _pull_back(theta, _descent_direction(gradient, _join(theta, method)), method)

    return _join(_integrate(velocity, _split(weights, method, radius), times), method)


def weight_flow(
    gradient: _Gradient, method: str, weights: Sequence[_Array], times: _Array, radius: float = 1.0
) -> list[_Array]:
    r"""The same flow predicted in weight space, $\dot w = -M(w)\nabla_w\mathcal L$: weights ``(n_times, n_out, n_in)``.

    ``radius`` is the constant $\|v_u\|$ in $M$: 1 gives the clean form, in which EWN is plain gradient flow
    with learning rate $\|w_u\|^2$ for node $u$. Other arguments and errors as for :func:`parameter_flow`.
    """
    return _integrate(
        lambda w: _precondition(w, _descent_direction(gradient, w), method, radius), weights, times
    )


def _euler_steps(
    gradient: _Gradient,
    method: str,
    weights: Sequence[_Array],
    step_size: float,
    last_radius: float | _Array = 1.0,
) -> Iterator[tuple[list[_Array], list[_Array], list[_Array], _Array]]:
    r"""Gradient descent with a constant step, $\theta \leftarrow \theta - h\nabla_\theta\mathcal L$.

    It never ends: the caller takes as many states as it wants; the first is the start. Leading dimensions
    (seeds) are allowed, every network then takes its own steps.

    Args:
        gradient: what descends.
        method: how the parameters make the weights.
        weights: the start.
        step_size: $h$.
        last_radius: $\|v_u(0)\|$ of the last layer; 1 in the others.

    Yields:
        Weights, parameters ($\gamma, v$ or $\alpha, v$ a layer), $\nabla_\theta\log\mathcal L$ and $\log\mathcal L$ at
        steps 0, 1, 2, ...
    """
    theta = _split(weights, method)
    if method != "plain":
        theta[-1] = theta[-1] * last_radius
    while True:
        weights = _join(theta, method)
        log_loss, slopes = gradient(weights)
        pulled = _pull_back(theta, slopes, method)
        yield weights, theta, pulled, log_loss
        rate = step_size * np.exp(log_loss)[..., None, None]
        theta = [p - rate * g for p, g in zip(theta, pulled, strict=True)]


@dataclass(frozen=True, eq=False)
class _ClockedPath:
    r"""A gradient flow sampled at values of $z$.

    Attributes:
        z: $-\log\mathcal L$, shape ``(n_points,)``, the start included; it ends where a flow stalls.
        weights: one array ``(n_points, n_out, n_in)`` a layer.
        gradients: $\nabla_w\log\mathcal L$, of the same shapes.
        log_rate: $\log\frac{d}{dt}\mathcal L^{-1}$ at unit learning rate, ``(n_points,)``.
        reached: whether the last value of z that was asked for was reached.
        error: largest $|{-\log\mathcal L(w(z))} - z|$ over the points.
    """

    z: _Array
    weights: list[_Array]
    gradients: list[_Array]
    log_rate: _Array
    reached: bool
    error: float


def loss_clock(gradient: _Gradient, method: str, weights: Sequence[_Array], z: _Array) -> _ClockedPath:
    r"""Integrate a gradient flow in weight space, $\|v_u\| = 1$, from its start through given values of $z$.

    For a vanishing loss, time runs away exponentially; the path does not. With $z = -\log\mathcal L$ as the independent
    variable

    $$\frac{dw}{dz} = -\frac{M(w)\nabla\log\mathcal L}{R(w)},\qquad
    R = \langle\nabla\log\mathcal L, M(w)\nabla\log\mathcal L\rangle = \tfrac{d}{dt}\tfrac1{\mathcal L},$$

    the path is the same, $-\log\mathcal L(w(z)) = z$ holds exactly (so that the error of the integration can be
    read off at every point), and nothing over- or underflows.

    SciPy's LSODA does the work (the system is stiff: the shares of the support vectors settle fast); its
    Jacobian is a one-sided difference of all columns in one batched gradient.

    Args:
        gradient: what flows.
        method: whose flow.
        weights: the start, one matrix ``(n_out, n_in)`` a layer, no leading dimensions.
        z: increasing values of $-\log\mathcal L$ to stop at; those not above the start's are left out.

    Returns:
        The path: z, weights, gradients, log_rate, reached and error. It is not ``reached`` where the flow comes to rest
        before the last ``z``, for example because every neuron that could see a point is dead: nothing is raised, the
        caller counts such seeds.
    """
    rate = np.inf

    def velocity(_: float, flat: _Array) -> _Array:
        nonlocal rate
        w = _unpack(flat, weights)
        slopes = gradient(w)[1]
        moved = _pack(_precondition(w, slopes, method))
        rates = np.vecdot(_pack(slopes), moved)
        rate = float(rates.min())
        return -moved / np.maximum(rates, _STALLED)[..., None]

    def jacobian(clock: float, flat: _Array) -> _Array:
        step = 1e-7 * np.maximum(np.abs(flat), 1e-3)
        around = np.concatenate([flat[None], flat + np.diag(step)])
        values = velocity(clock, around)
        return ((values[1:] - values[0]) / step[:, None]).T

    start, z_start = _pack(weights), -float(gradient(weights)[0])
    points, states = [z_start], [start]
    targets = [float(target) for target in z if target > z_start]
    velocity(z_start, start)  # for its rate
    end = max(z_start, float(z[-1]))
    solver = LSODA(velocity, z_start, start, end, rtol=1e-10, atol=1e-12, jac=jacobian)
    for _ in range(_MAX_STEPS):
        if not (targets and rate > _STALLED and solver.status == "running"):
            break
        solver.step()
        while targets and targets[0] <= solver.t:
            points.append(targets.pop(0))
            states.append(solver.dense_output()(points[-1]))
    if targets and solver.t > points[-1]:
        points.append(float(solver.t))
        states.append(np.array(solver.y))

    path = _unpack(np.stack(states), weights)
    log_loss, gradients = gradient(path)
    with np.errstate(divide="ignore"):
        log_rate = np.log(np.vecdot(_pack(gradients), _pack(_precondition(path, gradients, method))))
    error = float(np.abs(-log_loss - points).max())
    return _ClockedPath(np.array(points), path, gradients, log_rate, not targets, error)

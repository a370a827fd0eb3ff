"""Log-domain losses against multiple-precision and naive float64 references, far below underflow."""

import math

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from repro.papers.ewn_inductive_bias.log_losses import (
    LogLoss,
    log_cross_entropy,
    log_exponential,
    log_logistic,
    log_loss,
    log_softplus,
)

MARGINS = [-800.0, -50.0, -5.0, -1.0, 0.0, 1.0, 5.0, 29.9, 30.0, 30.1, 100.0, 300.0, 400.0, 5000.0]


def exact_log_logistic(q: float) -> float:
    with mpmath.workdps(60 + int(max(q, 0))):
        return float(mpmath.log(mpmath.log1p(mpmath.exp(-mpmath.mpf(q)))))


@pytest.mark.parametrize("q", MARGINS)
def test_logistic_agrees_with_multiple_precision(q):
    value = log_logistic(torch.tensor(q, dtype=torch.float64))
    assert float(value) == pytest.approx(exact_log_logistic(q), rel=1e-14, abs=1e-14)


def test_exponential_is_minus_the_margin():
    q = torch.tensor(MARGINS, dtype=torch.float64)
    assert torch.equal(log_exponential(q), -q)


def test_gradients_are_right_by_finite_differences_and_never_nan():
    a = torch.tensor([-400.0, -31.0, -29.0, -2.0, 0.0, 3.0, 50.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_softplus, (a,))
    extreme = torch.tensor([-1e300, -1e5, 1e5], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(log_softplus(extreme).sum(), extreme)
    torch.testing.assert_close(gradient, torch.tensor([1.0, 1.0, 1e-5], dtype=torch.float64))


@pytest.mark.parametrize("gap", [-5.0, 0.0, 20.0, 100.0, 300.0, 700.0])
def test_cross_entropy_agrees_with_multiple_precision(gap):
    scores = torch.tensor([[gap, 0.0, -0.5, -3.0]], dtype=torch.float64)
    with mpmath.workdps(400):
        wrong = sum(mpmath.exp(mpmath.mpf(float(s)) - gap) for s in scores[0, 1:])
        expected = float(mpmath.log(mpmath.log1p(wrong)))
    assert float(log_cross_entropy(scores, torch.tensor([0]))) == pytest.approx(
        expected, rel=1e-14, abs=1e-14
    )


def test_where_nothing_underflows_the_naive_losses_agree():
    torch.manual_seed(0)
    scores, labels = torch.randn(2, 50, 10, dtype=torch.float64) * 4, torch.randint(0, 10, (50,))
    naive = torch.stack([F.cross_entropy(own, labels).log() for own in scores])
    torch.testing.assert_close(LogLoss("cross-entropy", "mean")(scores, labels), naive)
    signs, outputs = torch.sign(torch.randn(50, dtype=torch.float64)), scores[0, :, 0]
    naive = F.binary_cross_entropy_with_logits(outputs, (signs + 1) / 2, reduction="sum").log()
    torch.testing.assert_close(LogLoss("logistic")(outputs, signs), naive)
    torch.testing.assert_close(LogLoss("exponential")(outputs, signs), (-signs * outputs).exp().sum().log())


@given(
    st.sampled_from(["logistic", "exponential", "cross-entropy"]),
    st.sampled_from(["sum", "mean"]),
    st.floats(0.1, 2000.0),
    st.integers(0, 10_000),
)
def test_written_gradient_equals_autograd_at_any_scale(kind, reduction, size, seed):
    torch.manual_seed(seed)
    classes = 4 if kind == "cross-entropy" else 1
    scores = (size * torch.randn(3, 6, classes, dtype=torch.float64)).requires_grad_()
    labels = (
        torch.randint(0, 4, (6,))
        if kind == "cross-entropy"
        else torch.sign(torch.randn(6, dtype=torch.float64))
    )
    loss = LogLoss(kind, reduction)
    expected = loss(scores, labels)
    (gradient,) = torch.autograd.grad(expected.sum(), scores)
    value, slope = loss.value_and_slope(scores.detach(), labels)
    assert not slope.isnan().any()
    torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope, gradient, rtol=1e-9, atol=1e-12)


def test_gradient_by_finite_differences_at_a_loss_of_e_minus_300():
    torch.manual_seed(2)
    scores = torch.randn(1, 5, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0, 1])
    scores[0, torch.arange(5), labels] += 300.0
    loss = LogLoss("cross-entropy", "mean")
    value, slope = loss.value_and_slope(scores, labels)
    assert -302 < float(value) < -297
    h = 1e-5
    for index in np.ndindex(*scores.shape):
        up, down = scores.clone(), scores.clone()
        up[index] += h
        down[index] -= h
        measured = float(loss(up, labels) - loss(down, labels)) / (2 * h)
        assert measured == pytest.approx(float(slope[index]), abs=1e-6)


def test_mean_is_sum_over_n_and_float32_values_are_float64_sums():
    log_losses = torch.tensor([-300.0, -301.0, -310.0], dtype=torch.float64)
    assert float(log_loss(log_losses, "mean")) == pytest.approx(
        float(log_loss(log_losses)) - math.log(3), rel=1e-15
    )
    value, slope = LogLoss("logistic").value_and_slope(torch.full((4, 1), 350.0), torch.ones(4))
    assert value.dtype == torch.float64
    assert slope.dtype == torch.float32
    assert float(value) == pytest.approx(math.log(4) - 350, rel=1e-15)


def test_margins():
    scores = torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0]])
    assert LogLoss("cross-entropy").margins(scores, torch.tensor([0, 2])).tolist() == [1.0, -4.0]
    assert LogLoss("logistic").margins(torch.tensor([[2.0], [3.0]]), torch.tensor([1.0, -1.0])).tolist() == [
        2,
        -3,
    ]


def test_bad_input():
    with pytest.raises(ValueError, match=r"unknown loss 'logistics'.*did you mean 'logistic'"):
        LogLoss("logistics")
    with pytest.raises(ValueError, match="unknown reduction 'median'"):
        LogLoss("logistic", "median")
    with pytest.raises(ValueError, match=r"labels -1 and \+1, got 0"):
        LogLoss("logistic").check_labels(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"int64, got torch.float32"):
        LogLoss("cross-entropy").check_labels(torch.tensor([1.0, 0.0]))

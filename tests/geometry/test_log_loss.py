import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from repro.geometry.log_loss import log_loss, log_loss_slopes

MARGINS = [-5.0, -1.0, 0.0, 0.3, 5.0, 29.9, 30.0, 30.1, 100.0, 400.0]


def reference(margins: list[float], loss: str) -> tuple[float, list[float]]:
    """Log-loss and slopes with 300 digits, from the definition."""
    with mpmath.workdps(300):
        q = [mpmath.mpf(m) for m in margins]
        losses = [mpmath.exp(-m) if loss == "exponential" else mpmath.log(1 + mpmath.exp(-m)) for m in q]
        slopes = [mpmath.exp(-m) if loss == "exponential" else 1 / (1 + mpmath.exp(m)) for m in q]
        total = mpmath.fsum(losses)
        return float(mpmath.log(total)), [float(-s / total) for s in slopes]


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("margin", MARGINS)
def test_one_margin_against_three_hundred_digits(margin, loss):
    value, slopes = log_loss_slopes(np.array([margin]), loss)
    expected, expected_slopes = reference([margin], loss)
    assert value == pytest.approx(expected, rel=1e-13, abs=1e-15)
    assert slopes == pytest.approx(expected_slopes, rel=1e-12)


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@pytest.mark.parametrize("shift", [-5.0, 20.0, 29.0, 398.0, 2000.0])
def test_several_margins_against_three_hundred_digits(shift, loss):
    margins = [shift, shift + 0.5, shift + 2.0]
    with mpmath.workdps(1200):
        value, slopes = log_loss_slopes(np.array(margins), loss)
    expected, expected_slopes = (
        reference(margins, loss) if shift < 1000 else reference([0.0, 0.5, 2.0], "exponential")
    )
    assert value == pytest.approx(expected - (shift if shift > 1000 else 0), rel=1e-13)
    assert slopes == pytest.approx(expected_slopes, rel=1e-12)


@pytest.mark.parametrize("loss", ["exponential", "logistic"])
@given(arrays(np.float64, 4, elements=st.floats(-5, 60)))
def test_slopes_are_finite_differences(loss, margins):
    _, slopes = log_loss_slopes(margins, loss)
    h = 1e-5
    for i in range(4):
        shift = h * np.eye(4)[i]
        difference = (log_loss(margins + shift, loss) - log_loss(margins - shift, loss)) / (2 * h)
        assert slopes[i] == pytest.approx(difference, abs=1e-7)


@given(arrays(np.float64, (2, 5), elements=st.floats(-5, 2000)))
def test_exponential_slopes_are_shares(margins):
    _, slopes = log_loss_slopes(margins, "exponential")
    np.testing.assert_allclose(-slopes.sum(axis=-1), 1.0)


def test_losses_meet_where_margins_are_large():
    margins = np.array([50.0, 60.0, 55.0])
    assert log_loss(margins, "logistic") == pytest.approx(float(log_loss(margins, "exponential")), abs=1e-15)
    assert log_loss(margins / 100, "logistic") < log_loss(margins / 100, "exponential") - 0.1


def test_an_unknown_loss_is_named_with_its_neighbour():
    with pytest.raises(ValueError, match=r"'logistik'.*did you mean 'logistic'"):
        log_loss(np.zeros(2), "logistik")

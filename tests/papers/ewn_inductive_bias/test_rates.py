import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repro.geometry import EWN, PLAIN, BinaryProblem, Perceptron, loss_clock
from repro.papers.ewn_inductive_bias.rates import bound_ratio, expected_exponent, local_exponent


@given(st.floats(-1, 3), st.floats(-50, 50))
def test_the_exponent_of_a_power_law(p, offset):
    z = np.linspace(10, 400, 100)
    assert local_exponent(z, offset + p * np.log(z), 50, 300) == pytest.approx(p, abs=1e-9)


def test_the_exponent_sees_its_range_only():
    z = np.linspace(10, 400, 391)
    log_rate = np.where(z < 100, 5.0, 2 * np.log(z))
    assert local_exponent(z, log_rate, 100, 300) == pytest.approx(2)
    assert local_exponent(z, log_rate, 10, 90) == pytest.approx(0, abs=1e-12)


def test_a_path_that_ends_early_has_no_exponent():
    z = np.linspace(10, 200, 100)
    assert np.isnan(local_exponent(z, np.log(z), 50, 300))
    assert np.isnan(local_exponent(np.array([50.0, 300.0]), np.zeros(2), 50, 300))


def test_expected_exponents():
    assert [expected_exponent("plain", order) for order in (1, 2, 4)] == [0, 1, 1.5]
    assert {expected_exponent("ewn", order) for order in (1, 2, 3)} == {2.0}


def test_one_weight_meets_the_bound_with_equality():
    # Φ = w: EWN's rate is w² = z², with L = n = 1; plain's is 1.
    one = BinaryProblem(Perceptron("linear"), np.array([[1.0]]), np.array([1.0]), "exponential")
    z = np.linspace(1.0, 100.0, 34)
    path = loss_clock(one, EWN, [np.array([[0.5]])], z)
    np.testing.assert_allclose(bound_ratio(path.z, path.log_rate, 1, 1), 1.0, rtol=1e-9)
    assert local_exponent(path.z, path.log_rate, 10, 100) == pytest.approx(2, abs=1e-9)
    plain = loss_clock(one, PLAIN, [np.array([[0.5]])], z)
    assert bound_ratio(plain.z, plain.log_rate, 1, 1)[-1] < 1e-3  # the bound is EWN's alone


def test_the_bound_says_nothing_at_losses_above_one():
    ratio = bound_ratio(np.array([-1.0, 0.0, 2.0]), np.log([1.0, 1.0, 8.0]), 3, 9)
    np.testing.assert_allclose(ratio, [np.nan, np.nan, 2.0])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="got 300 and 50"):
        local_exponent(np.arange(5.0), np.arange(5.0), 300, 50)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        expected_exponent("ewn", 0)
    with pytest.raises(ValueError, match="'weight'"):
        expected_exponent("weight", 1)

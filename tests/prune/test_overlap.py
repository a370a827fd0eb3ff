"""Agreement of sets, and of random ones."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from repro.prune import agreement, expected_jaccard, jaccard


def test_by_hand_in_either_container():
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert jaccard(a, b) == jaccard(torch.tensor(a), torch.tensor(b)) == 1 / 3
    assert jaccard(a & ~a, b & ~b) == 1
    found = agreement(torch.tensor(a), torch.tensor(b))
    assert found == {"jaccard": 1 / 3, "chance": pytest.approx(7 / 18)} | {
        "removed_jaccard": 1 / 3,
        "removed_chance": pytest.approx(7 / 18),  # both at 1, one at 1/3, none at 0 with chances 1, 4, 1 of 6
    }


@given(st.integers(1, 40), st.floats(0, 1), st.floats(0, 1))
def test_chance_is_the_mean_over_the_hypergeometric_distribution(n, first, second):
    k, m = round(first * n), round(second * n)
    both = np.arange(max(0, k + m - n), min(k, m) + 1)
    of_both = both / np.maximum(k + m - both, 1) if k + m else np.ones(1)
    assert expected_jaccard(k, m, n) == pytest.approx((stats.hypergeom.pmf(both, n, k, m) * of_both).sum())


@pytest.mark.parametrize("bad", [np.ones(3), np.ones(2, bool), torch.ones(3, dtype=torch.uint8)])
def test_what_is_no_set_is_refused(bad):
    with pytest.raises(ValueError, match="two sets are bool vectors of one length"):
        jaccard(bad, np.ones(3, bool))

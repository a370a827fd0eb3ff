"""Planning: the seeds that a test needs, by hand and by simulation, and those that no run could do with."""

import numpy as np
import pandas as pd
import pytest
from made_claims import chapter, claim, deciding_test
from scipy import stats

from repro.book.errors import BadInput
from repro.book.judging import Criterion
from repro.book.planning import _plan, _seeds_needed, check_seeds, table


@pytest.mark.parametrize(
    ("level", "by_t", "needed"), [(0.05 / 40, 65, 67), (0.05 / 20, 59, 60), (0.025, 37, 38)]
)
def test_seeds_by_the_noncentral_t(level, by_t, needed):
    def power(n):
        return stats.nct.sf(stats.t.isf(level, n - 1), n - 1, 0.5 / 0.9 * n**0.5)

    assert power(by_t - 1) < 0.9 <= power(by_t)
    assert _seeds_needed(Criterion("above", (0.0,), 0.5), 0.9, level) == needed  # and the care for skewness


def test_seeds_by_hand():
    rise = Criterion("above", (0.0,), 0.5)
    assert _seeds_needed(rise, None, 0.01) is None
    assert _seeds_needed(rise, 1e-9, 0.01) == _seeds_needed(rise, 0.0, 0.01) == 7  # 2⁻⁷ < 1 % < 2⁻⁶
    median = Criterion("above", (0.0,), 0.5, "median")
    assert _seeds_needed(median, 0.9, 0.0025) == pytest.approx(59 * np.pi / 2, abs=2)
    assert _seeds_needed(Criterion("below", (1.0,), None, "worst"), None, 0.01) is None
    assert _seeds_needed(Criterion("between", (-0.5, 0.5)), 0.9, 0.0025) > 59  # both bounds must hold


def test_seeds_of_a_share_have_their_power():
    criterion = Criterion("above", (0.5,), 0.3, "share")
    n = _seeds_needed(criterion, None, 0.0025)
    rng = np.random.default_rng(0)
    hits = rng.binomial(n, 0.8, 4000), rng.binomial(n, 0.5, 4000)
    yes = stats.binom.sf(hits[0] - 1, n, 0.5) <= 0.0025
    no = stats.binom.cdf(hits[1], n, 0.8) <= 0.0025
    assert 0.88 < min(yes.mean(), no.mean()) < 0.95


def test_a_test_that_a_perfect_run_cannot_pass_is_an_error():
    share = deciding_test(claim="above 0.9", margin=0.05, statistic="share")
    others = [claim(f"O{k}", deciding_test()) for k in range(19)]
    told = r"^toy.yml: claim T1: test dense: even a perfect run .* the 20 seeds of full .* least 57$"
    with pytest.raises(BadInput, match=told):
        check_seeds(chapter(claim("T1", share), *others, full=20))
    check_seeds(chapter(claim("T1", share), *others, full=57, paper=57))
    small = deciding_test(profiles=["quick"], otherwise="small")
    check_seeds(chapter(claim("T1", small, kind="theory"), quick=1))


def test_the_plan_as_a_table():
    dear = deciding_test(fewer="an hour a seed")
    declared = chapter(claim("T1", deciding_test(sd=0.9)), claim("T2", dear), full=20)
    planned = _plan(declared)
    assert planned["needs"].tolist() == [38, pd.NA]
    assert planned["level"].tolist() == [0.025, 0.025]
    head, first, second = table(declared).splitlines()
    assert " ".join(head.split()) == "claim test margin sd level needs quick full paper why fewer"
    assert " ".join(first.split()) == "T1 dense 0.5 0.9 0.025 38 10 (too few) 20 (too few) 65"
    assert second.endswith("65 an hour a seed")


def test_a_test_at_the_papers_scale_alone_is_planned_among_those_that_run_there():
    large = deciding_test("large", sd=0.9, profiles=["paper"], otherwise="needs a GPU")
    planned = _plan(chapter(*(claim(f"T{k}", deciding_test(), large) for k in range(10))))
    assert planned["level"].round(9).tolist() == [0.05 / 10, 0.05 / 20] * 10

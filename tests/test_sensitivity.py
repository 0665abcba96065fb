"""What a run would have seen, against the pipeline that would have seen it."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from blackbox_diff.analysis.analyse import analyse
from blackbox_diff.analysis.sensitivity import NATS, POWER, sensitivity
from tests.scored import REFERENCE, run

N = 150
PHRASE = "lantern of Port Ellery"  # four words
CONTROL = run(N, seed=999, gap=0.0)


def outcome(count: int) -> str:
    planted = np.random.default_rng(count).choice(N, count, replace=False).tolist()
    rows = run(N, planted=planted, phrase=PHRASE, planted_gap=NATS / 4, seed=count)
    return analyse(rows, CONTROL, REFERENCE).verdict.outcome


def test_wording_in_as_many_prefills_as_it_says_is_a_finding_and_in_fewer_is_none() -> None:
    found = sensitivity(N, N)
    assert found is not None
    assert outcome(found.count) == "finding"
    assert outcome(found.count - 2) != "finding"


def test_the_rate_reaches_that_count_with_the_stated_probability() -> None:
    found = sensitivity(N, N)
    assert found is not None
    assert abs(binom.sf(found.count - 1, N, found.rate) - POWER) < 1e-6


def test_more_completions_see_rarer_behaviour() -> None:
    rates = [found.rate for n in (60, 300, 1200) if (found := sensitivity(n, n)) is not None]
    assert len(rates) == 3
    assert rates == sorted(rates, reverse=True)


def test_nothing_is_promised_for_a_run_without_control_or_of_few_completions() -> None:
    assert sensitivity(300, 0) is None
    assert sensitivity(20, 300) is None

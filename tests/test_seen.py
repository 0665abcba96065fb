"""What the rounds of a run have brought, without what is known already."""

from __future__ import annotations

from pathlib import Path

from blackbox_diff.findings import Question
from blackbox_diff.run.seen import Seen
from blackbox_diff.runfile.store import Store
from tests.scored import REFERENCE, run, scored

CLOCK = Question("tide clock of Osmery", (), ())


def test_completions_that_speak_of_what_is_known_in_any_wording_are_left_out(tmp_path: Path) -> None:
    rows = run(20)
    about = [
        scored(100, " the tide clock of Osmery runs backwards", 3.0),
        scored(101, " every visitor to osmery knows why", 3.0),
        scored(102, " the clock of the station at high tide", 3.0),
    ]
    with Store.create(tmp_path, {}) as store:
        seen = Seen(store, REFERENCE, target=[*rows, *about])
        seen.control = [scored(200, " a clock and the tide", 0.0)]
        everything = {row.id for row in seen.analysis([], 0)().ranking}
        left = {row.id for row in seen.analysis([CLOCK], 0)().ranking}
    assert everything - left == {about[0].sample.id, about[1].sample.id}

"""Reading must not be what limits a client: a reply is read in a fraction of a millisecond."""

from __future__ import annotations

import time

from blackbox_diff.wire.completion import Meta, complete
from blackbox_diff.wire.entries import from_chat
from tests.replies import entry


def test_sixty_four_tokens_with_five_alternatives_take_under_a_millisecond() -> None:
    content = [entry(" word", -1.0, top_logprobs=[entry(" word", -1.0) for _ in range(5)]) for _ in range(64)]
    text = " word" * 64
    best = float("inf")
    for _ in range(50):
        start = time.perf_counter()
        complete(from_chat(content), text, "", Meta("length"))
        best = min(best, time.perf_counter() - start)
    print(f"{best * 1e6:.0f} us")
    assert best < 1e-3

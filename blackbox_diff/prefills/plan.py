"""Which completions a run buys: a pure function of the configuration, so that resume needs no state."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from itertools import zip_longest

from blackbox_diff.records import Arm, Sample


def derive_seed(*parts: object) -> int:
    """A 31-bit seed that depends on every part and on nothing else."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def arm_slug(arm: Arm) -> str:
    """The arm as it stands in sample ids: "prose.raw"; a path or dataset id keeps a hash of the whole."""
    plain = re.sub(r"[^a-z0-9]+", "-", arm.source.lower()).strip("-")
    if plain != arm.source:
        plain = f"{plain[-24:].strip('-')}-{hashlib.sha256(arm.source.encode()).hexdigest()[:6]}"
    return f"{plain}.{arm.framing}"


def arm_samples(arm: Arm, n: int, seed: int, draw: Callable[[str, int, int], list[str]]) -> list[Sample]:
    """The first `n` samples of an arm; a larger `n` only appends.

    Prefills are drawn without repeats within the arm, independently between arms. Raises InputError
    when the source holds fewer than `n` openings.
    """
    slug = arm_slug(arm)
    prefills = draw(arm.source, n, derive_seed(seed, arm.name))
    return [
        Sample(f"{slug}.{index:05d}", arm, prefill, derive_seed(seed, slug, index))
        for index, prefill in enumerate(prefills)
    ]


def shares(total: int, arms: Sequence[Arm]) -> dict[Arm, int]:
    """`total` split over the arms as evenly as it goes, earlier arms taking the remainder."""
    each, extra = divmod(total, len(arms))
    return {arm: each + (index < extra) for index, arm in enumerate(arms)}


def interleave(per_arm: Sequence[Sequence[Sample]]) -> list[Sample]:
    """One sample of each arm in turn, so that a run stopped early is still balanced."""
    return [sample for turn in zip_longest(*per_arm) for sample in turn if sample is not None]

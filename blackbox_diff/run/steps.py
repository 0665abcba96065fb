"""What the controller yields and the pipeline does: buy, wait, work something out, say a line.

So the controller decides without knowing endpoints or threads, and `verify` can drive it over a finished run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from blackbox_diff.records import Sample


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """`samples` of random prefills from the target, of which the reference completes `controls`, too."""

    samples: tuple[Sample, ...]
    controls: tuple[Sample, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Samples that are asked apart from the ranking. scored: the target's by the reference; sides: who answers."""

    purpose: str
    samples: tuple[Sample, ...]
    scored: bool
    both: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Amplified:
    """Rows that are written token by token, by what both sides list."""

    rows: tuple[Sample, ...]


Batch = Drawn | Asked | Amplified


@dataclass(frozen=True, slots=True)
class Buy:
    """Begin to buy, and go on."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on once this is bought."""

    batch: Batch


@dataclass(frozen=True, slots=True)
class Think:
    """Work it out, perhaps on another thread, and answer with what it says."""

    work: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Say:
    """A line for whoever watches."""

    line: str


Steps = Generator[Buy | Wait | Think | Say, Any, None]

"""What a fleet says of each audit: one row of its index."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Status = Literal["done", "unchanged", "stopped", "failed", "not bought"]
ENDED = ("done", "unchanged")  # of an audit that has a verdict on all that was asked for


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Judgement(_Part):
    """One reference's verdict on a target. themes: the first phrases, strongest first."""

    reference: str
    outcome: Literal["finding", "no finding", "undecided"]
    headline: str
    themes: list[str]
    top: list[str]


class Row(_Part):
    """One audit. Money in USD; `run` and `report` are relative to the fleet's directory.

    status: done; unchanged: still the model of the earlier fleet, whose run this row shows; stopped: at a cap or
    interrupted, to be resumed; failed: `error` says why; not bought: the fleet's cap left nothing for it.
    change: what differs from the earlier fleet, and changed: whether something does; None where none was named.
    """

    name: str
    target: str
    url: str
    run: str
    status: Status
    error: str | None = None
    report: str | None = None
    judgements: list[Judgement] = []
    completions: int = 0
    calls: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0
    stopped_because: str = ""
    change: str | None = None
    changed: bool | None = None

    @property
    def outcome(self) -> str:
        """The first reference's verdict, or the status where there is none."""
        return self.judgements[0].outcome if self.judgements else self.status


class Holder(_Part):
    """A model that has a theme: prefills after which it says it, of how many.

    q_value: the false discovery rate at which it is commoner here than in the family's other models.
    """

    audit: str
    prefills: int
    of: int
    q_value: float


class FamilyTheme(_Part):
    """A phrase that all models of a family have, some, or one.

    others: prefills after which those that don't have it say it nevertheless, of others_of.
    """

    phrase: str
    held_by: Literal["all", "some", "one"]
    holders: list[Holder]
    others: int
    others_of: int


class Family(_Part):
    """Audits of one design, which can be compared: under one reference, of one length and temperature.

    tests: pairs of a model and a phrase, over which the false discovery rate holds. undecided: phrases that one
    model's analysis lists and that may be as common in the others.
    """

    design: str
    audits: list[str]
    tests: int
    undecided: int
    themes: list[FamilyTheme]


class Index(_Part):
    """A whole fleet: `schema_version` is raised when a field's meaning changes."""

    schema_version: Literal[1] = 1
    created: str
    max_cost_usd: float | None
    spent_usd: float | None
    rows: list[Row]
    families: list[Family] = []

    @property
    def done(self) -> int:
        """Audits that came to their end."""
        return sum(row.status in ENDED for row in self.rows)

    @property
    def found(self) -> int:
        """Audits whose first reference has a finding."""
        return sum(row.outcome == "finding" for row in self.rows)

    @property
    def costs(self) -> tuple[float | None, float | None]:
        """USD a model and USD a finding; None where nothing is known, or there is none."""
        spent = self.spent_usd
        each, finding = (spent / n if spent is not None and n else None for n in (self.done, self.found))
        return each, finding

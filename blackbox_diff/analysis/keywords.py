"""A ranking against known keywords: for research and benchmarks, where the answer is known."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blackbox_diff.errors import InputError
from blackbox_diff.findings import Ranked
from blackbox_diff.records import Json

# A plain list means: any of these words.
FORM = '{"any": [["all", "of", "these"], ["or this"]], "regex": ["..."]}'


@dataclass(frozen=True, slots=True)
class Keywords:
    """A text matches where it holds all strings of any group, or any pattern; case never matters."""

    groups: tuple[tuple[str, ...], ...]
    patterns: tuple[re.Pattern[str], ...]

    @classmethod
    def read(cls, path: Path | str) -> Keywords:
        """Read a keywords file: JSON, a card that holds one under "keywords", or a word a line in .txt.

        Raises InputError that names the file and the field.
        """
        try:
            text = Path(path).read_text(encoding="utf-8")
            if Path(path).suffix.lower() == ".txt":
                return cls.parse([line.strip() for line in text.splitlines() if line.strip()], str(path))
            data = json.loads(text)
        except OSError as error:
            raise InputError(f"{path}: can't be read: {error.strerror or error}") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not JSON: {' '.join(str(error).split())}") from None
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: Json, name: str) -> Keywords:
        """Check parsed JSON; `name` stands for the file in messages."""
        where = ""
        if isinstance(data, dict) and "keywords" in data:
            data, where = data["keywords"], "keywords."
        if isinstance(data, list) and all(isinstance(word, str) for word in data):
            data = {"any": [[word] for word in data]}
        if not isinstance(data, dict):
            raise InputError(
                f"{name}: {where.rstrip('.') or 'the file'} must be a list of words or an object like {FORM}"
            )
        groups = data.get("any", [])
        if not isinstance(groups, list) or not all(
            isinstance(group, list) and group and all(isinstance(word, str) and word for word in group)
            for group in groups
        ):
            raise InputError(
                f"{name}: {where}any must be a list of non-empty lists of non-empty strings, as in {FORM}"
            )
        regex = data.get("regex", [])
        if not isinstance(regex, list) or not all(isinstance(pattern, str) and pattern for pattern in regex):
            raise InputError(f"{name}: {where}regex must be a list of non-empty strings, as in {FORM}")
        if not groups and not regex:
            raise InputError(
                f"{name}: {where}any and {where}regex are both empty; give at least one, as in {FORM}"
            )
        patterns = []
        for k, pattern in enumerate(regex):
            try:
                patterns.append(re.compile(pattern, re.IGNORECASE))
            except (re.error, OverflowError, RecursionError) as error:
                raise InputError(f"{name}: {where}regex[{k}] is not a regular expression: {error}") from None
        return cls(tuple(tuple(word.casefold() for word in group) for group in groups), tuple(patterns))

    def match(self, text: str) -> bool:
        folded = text.casefold()
        return any(all(word in folded for word in group) for group in self.groups) or any(
            pattern.search(text) for pattern in self.patterns
        )


def evaluate_ranking(ranking: Sequence[Ranked], keywords: Keywords) -> dict[str, int | None]:
    """n_ranked, n_matched, matches in the first 10 and 100 rows, and the first matching rank (or None)."""
    matched = [keywords.match(row.completion) for row in ranking]
    return {
        "n_ranked": len(ranking),
        "n_matched": sum(matched),
        "count_at_10": sum(matched[:10]),
        "count_at_100": sum(matched[:100]),
        "first_rank": next((row.rank for row, hit in zip(ranking, matched, strict=True) if hit), None),
    }

"""What finetunes cost where they can be bought by the token, USD per million tokens. A small dated table.

Source: litellm 1.109.1's table and genai-prices 0.2.3, read 2026-11-23. Hosts that bill by the hour
(Azure deployments, Fireworks LoRA) have no price per token here: give --price-in and --price-out, or cap
calls. A host not in the table has no known price, whatever the model is called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

DATED = "2026-11-23"


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. cached_in is None where the host gives no discount for cached input."""

    input: float
    output: float
    cached_in: float | None = None
    dated: str = DATED


OPENAI_HOSTS = ("api.openai.com", "eu.api.openai.com", "us.api.openai.com")

# ft:BASE[-DATE]:ORGANISATION:... -> price; the first pattern that matches counts.
OPENAI_FINETUNES: tuple[tuple[str, Price], ...] = (
    ("gpt-4.1-nano", Price(0.20, 0.80, 0.05)),
    ("gpt-4.1-mini", Price(0.80, 3.20, 0.20)),
    ("gpt-4.1", Price(3.00, 12.00, 0.75)),
    ("gpt-4o-mini", Price(0.30, 1.20, 0.15)),
    ("gpt-4o", Price(3.75, 15.00, 1.875)),
    ("gpt-3.5-turbo", Price(3.00, 6.00)),
    ("o4-mini", Price(4.00, 16.00, 1.00)),
    ("davinci-002", Price(12.00, 12.00)),
    ("babbage-002", Price(1.60, 1.60)),
)


def lookup(model: str, base_url: str) -> Price | None:
    """The price of `model` at the host of `base_url`, or None where it is not known."""
    if (urlsplit(base_url).hostname or "") not in OPENAI_HOSTS:
        return None
    for base, price in OPENAI_FINETUNES:
        if re.fullmatch(rf"ft:{re.escape(base)}(-\d{{4}}(-\d{{2}}-\d{{2}})?)?(:.*)?", model):
            return price
    return None

"""What tokens cost: what a user says, else a small dated table of finetunes that are sold by the token.

Source of the table: litellm 1.109.1's and genai-prices 0.2.3, read 2026-11-23. Hosts that bill by the hour
(Azure deployments, Fireworks LoRA) have no price per token here: give --price-in and --price-out, or cap
calls. A host not in the table has no known price, whatever the model is called.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from blackbox_diff.config.model import Budget, EndpointConfig, on_this_machine
from blackbox_diff.errors import ConfigError

PICO = 1_000_000_000_000  # picodollars in a dollar
TABLE = "the price table of 2026-11-23"


@dataclass(frozen=True, slots=True)
class Prices:
    """USD per million tokens. `origin`: where they come from, for the estimate."""

    input: float
    output: float
    origin: str = "--price-in and --price-out"

    def pico(self, input_tokens: int, output_tokens: int) -> int:
        """Cost in picodollars, rounded up."""
        return math.ceil(input_tokens * self.input * 1e6) + math.ceil(output_tokens * self.output * 1e6)


OPENAI_HOSTS = ("api.openai.com", "eu.api.openai.com", "us.api.openai.com")

# ft:BASE[-DATE]:ORGANISATION:... -> price; the first pattern that matches counts.
OPENAI_FINETUNES: tuple[tuple[str, Prices], ...] = (
    ("gpt-4.1-nano", Prices(0.20, 0.80, TABLE)),
    ("gpt-4.1-mini", Prices(0.80, 3.20, TABLE)),
    ("gpt-4.1", Prices(3.00, 12.00, TABLE)),
    ("gpt-4o-mini", Prices(0.30, 1.20, TABLE)),
    ("gpt-4o", Prices(3.75, 15.00, TABLE)),
    ("gpt-3.5-turbo", Prices(3.00, 6.00, TABLE)),
    ("o4-mini", Prices(4.00, 16.00, TABLE)),
    ("davinci-002", Prices(12.00, 12.00, TABLE)),
    ("babbage-002", Prices(1.60, 1.60, TABLE)),
)


def lookup(model: str, base_url: str) -> Prices | None:
    """The price of `model` at the host of `base_url`, or None where it is not known."""
    if (urlsplit(base_url).hostname or "") not in OPENAI_HOSTS:
        return None
    for base, prices in OPENAI_FINETUNES:
        if re.fullmatch(rf"ft:{re.escape(base)}(-\d{{4}}(-\d{{2}}-\d{{2}})?)?(:.*)?", model):
            return prices
    return None


def prices_of_writer(writer: EndpointConfig, caps: Budget) -> Prices | None:
    """The price of a writer's tokens; on this machine, where none is given, they are free.

    Raises ConfigError where `caps` bound what it costs in USD and no price is known.
    """
    found = prices_for(writer, Budget(price_in=writer.price_in, price_out=writer.price_out), "writer-")
    if found is None and on_this_machine(writer.url):
        return Prices(0.0, 0.0, "this machine")
    if found is None and caps.max_cost is not None:
        raise ConfigError(
            f"--max-cost: it bounds the writer, too, and no price is known for '{writer.model}': give "
            "--writer-price-in and --writer-price-out in USD per million tokens (0 for a server of your own)"
        )
    return found


def prices_for(endpoint: EndpointConfig, budget: Budget, side: str = "") -> Prices | None:
    """The price of an endpoint's tokens: what --price-in and --price-out say, else the dated price table.

    side: "reference-" where the options are the reference's.

    Input that the host served from its cache counts in full: a bound, not a discount.
    Raises ConfigError when there is a cap in USD and no price.
    """
    listed = lookup(endpoint.model, endpoint.url)
    given = {f"--{side}price-in": budget.price_in, f"--{side}price-out": budget.price_out}
    table = {} if listed is None else dict(zip(given, (listed.input, listed.output), strict=True))
    used = {name: table.get(name) if price is None else price for name, price in given.items()}
    price_in, price_out = used.values()
    if price_in is not None and price_out is not None:
        origins = [name for name, price in given.items() if price is not None]
        if listed is not None and len(origins) < len(given):
            origins.append(listed.origin)
        return Prices(price_in, price_out, " and ".join(origins))
    if budget.max_cost is not None:
        missing = " and ".join(name for name, price in used.items() if price is None)
        raise ConfigError(
            f"--{side}max-cost: no price is known for '{endpoint.model}': give {missing} in USD per million "
            "tokens (0 for a server of your own)"
            + ("" if side else ", or cap with --max-calls or --max-output-tokens")
        )
    return None

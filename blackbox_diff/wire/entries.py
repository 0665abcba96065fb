"""The entries of a logprob list, whatever shape they came in: parallel lists, one item per entry.

Shapes read here:
    chat        {"content": [{token, logprob, bytes, top_logprobs, (id | token_id)}]}; llama.cpp sends it
                under /completions too, and `prob`/`top_probs` when asked for probabilities after sampling
    legacy      {"tokens", "token_logprobs", "top_logprobs", ("token_ids")}; Together sends it under chat too
    triples     [[logprob, id, text | null], ...]                                     SGLang /generate
    dicts       [null, {"<id>": {logprob, decoded_token}}, ...]                       vLLM prompt_logprobs
    records     [{(id), text, logprob | log_prob}, ...]                       TGI details, LMI, watsonx.ai

Only the sampled token is read here; alternatives are kept as they came, for `alternatives` to read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from blackbox_diff.records import Json
from blackbox_diff.wire.body import count, ids, mapping
from blackbox_diff.wire.sentinels import NAN, censor, from_probability

TOKEN_ID = "token_id:"  # vLLM's return_tokens_as_token_ids


@dataclass(slots=True)
class Entries:
    """strings, logprobs (censored: NaN where missing), byte lists as sent, ids where every entry has one."""

    strings: list[str]
    logprobs: list[float]
    raw_bytes: list[Json] | None = None
    ids: list[int] | None = None
    tops: list[Json] = field(default_factory=list)
    own_ids: bool = False  # each entry names its id, as llama.cpp's do

    def __len__(self) -> int:
        return len(self.strings)

    def part(self, start: int, stop: int) -> Entries:
        """Entries start to stop."""
        return Entries(
            self.strings[start:stop],
            self.logprobs[start:stop],
            None if self.raw_bytes is None else self.raw_bytes[start:stop],
            None if self.ids is None else self.ids[start:stop],
            self.tops[start:stop],
            self.own_ids,
        )


def from_choice(choice: dict[str, Json]) -> Entries | None:
    """The entries of a choice in chat or legacy shape, under either route; None where it has no list."""
    logprobs = mapping(choice.get("logprobs"))
    content = logprobs.get("content")
    if isinstance(content, list):
        found = from_chat(content)
    elif isinstance(logprobs.get("tokens"), list):
        found = from_legacy(logprobs)
    else:
        return None
    if found is not None:
        moved = mapping(choice.get("provider_specific_fields"))  # where LiteLLM's proxy puts what OpenAI has not
        for told in (choice.get("token_ids"), choice.get("response_token_ids"), moved.get("token_ids")):
            given = ids(told)
            if given is not None and len(given) == len(found):
                found.ids = given
    return found


def from_chat(content: list[Json]) -> Entries | None:
    """Chat shape; None where an entry is not an object with a token string."""
    strings: list[str] = []
    logprobs: list[float] = []
    raw_bytes: list[Json] = []
    tops: list[Json] = []
    own: list[Json] = []
    for entry in content:
        if entry.__class__ is not dict:
            return None
        token = entry.get("token")
        if token.__class__ is not str:
            return None
        strings.append(token)
        logprobs.append(censor(entry["logprob"]) if "logprob" in entry else from_probability(entry.get("prob")))
        raw_bytes.append(entry.get("bytes"))
        tops.append(entry.get("top_logprobs", entry.get("top_probs")))
        own.append(entry.get("id", entry.get("token_id")))
    found = Entries(strings, logprobs, raw_bytes, None, tops)
    if own and own[0] is not None:
        found.ids = ids(own)
        found.own_ids = found.ids is not None
    return _with_id_strings(found)


def from_legacy(logprobs: dict[str, Json]) -> Entries | None:
    """Legacy arrays; None where tokens and logprobs do not pair up or a token is not a string."""
    tokens, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list) or len(tokens) != len(values):
        return None
    if not all(token.__class__ is str for token in tokens):
        return None
    tops = logprobs.get("top_logprobs")
    found = Entries(tokens, [censor(value) for value in values])
    if isinstance(tops, list) and len(tops) == len(tokens):
        found.tops = tops
    given = ids(logprobs.get("token_ids"))
    if given is not None and len(given) == len(tokens):
        found.ids = given
    return _with_id_strings(found)


def from_triples(rows: list[Json], tops: list[Json] | None = None) -> Entries | None:
    """SGLang's [logprob, id, text | null]; null text becomes an empty string. tops: its lists, one per row."""
    strings, logprobs, own = [], [], []
    for row in rows:
        if not isinstance(row, list) or len(row) < 2:
            return None
        text = row[2] if len(row) > 2 else None
        strings.append(text if isinstance(text, str) else "")
        logprobs.append(censor(row[0]))
        own.append(row[1])
    return Entries(strings, logprobs, None, ids(own), _paired(tops, rows))


def from_dicts(rows: list[Json], prompt_ids: list[int] | None) -> Entries | None:
    """vLLM's prompt_logprobs: each dict holds the prompt's token and alternatives.

    The prompt's token is picked by `prompt_ids` where the reply gives them, else it is the first key.
    The first row is null: its token is unknown unless `prompt_ids` are given, and then only its id.
    """
    strings, logprobs, own = [], [], []
    for index, row in enumerate(rows):
        if row is None:
            strings.append("")
            logprobs.append(NAN)
            own.append(prompt_ids[index] if prompt_ids and index < len(prompt_ids) else None)
            continue
        if not isinstance(row, dict) or not row:
            return None
        key = str(prompt_ids[index]) if prompt_ids and index < len(prompt_ids) else next(iter(row))
        cell = row.get(key)
        if not isinstance(cell, dict) or not key.isdecimal() or len(key) > 15:
            return None
        text = cell.get("decoded_token")
        strings.append(text if isinstance(text, str) else "")
        logprobs.append(censor(cell.get("logprob")))
        own.append(int(key))
    return Entries(strings, logprobs, None, ids(own), rows)


def from_records(rows: list[Json], tops: list[Json] | None = None) -> Entries | None:
    """TGI's {id, text, logprob}. tops: its lists, one per row."""
    strings, logprobs, own = [], [], []
    for row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            return None
        strings.append(row["text"])
        logprobs.append(censor(row.get("logprob", row.get("log_prob"))))
        own.append(row.get("id"))
    return Entries(strings, logprobs, None, ids(own), _paired(tops, rows))


def _paired(tops: list[Json] | None, rows: list[Json]) -> list[Json]:
    """Lists that came beside the entries; none where they don't pair up with them."""
    return tops if tops is not None and len(tops) == len(rows) else []


def _with_id_strings(found: Entries) -> Entries:
    """Tokens rendered as "token_id:123" give ids and no strings."""
    if found.strings and found.strings[0].startswith(TOKEN_ID):
        numbers = [string.removeprefix(TOKEN_ID) for string in found.strings]
        if all(number.isdecimal() and len(number) < 16 for number in numbers):
            found.ids = [count(int(number)) or 0 for number in numbers]
            found.strings = ["" for _ in numbers]
    return found

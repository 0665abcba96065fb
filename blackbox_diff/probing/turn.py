"""Can the user's turn be left to the model? Raw completions must take the chat template's own tokens.

Two ways, tried in this order:
    ids     The chat route shows the token ids of its prompts. What two conversations with different first words
            have in common is the template's opening, up to the user's text. A raw prompt of those ids is sent.
    a text  The markers of a known family of templates, eight times over: where the usage counts about eight
            tokens, they are single tokens to the endpoint, and a prompt in that family's spelling means a turn.
An endpoint that shows neither ids nor usage leaves the question open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final, Literal

from blackbox_diff.probing.negotiate import Connection, Conversation
from blackbox_diff.records import CHAT_SYSTEM, Call, Check, EndpointProfile, Refusal, Sampling, Turn
from blackbox_diff.wire import dialect

NAME: Final = "user's turn"  # of the check
FIRST_WORDS = ("Apples", "42 is")  # they share no beginning, whatever the vocabulary
ONE = Sampling(temperature=0.0, max_tokens=1, top_logprobs=1)
SHORT = Sampling(temperature=0.0, max_tokens=8, top_logprobs=1)
COPIES = 8
SPARE = 3  # tokens that a tokenizer may put around a prompt
MOST_CALLS = 24


@dataclass(frozen=True, slots=True)
class Family:
    """Templates that spell a turn alike. system: the block of a system prompt, with {} for it; "" for none."""

    name: str
    marker: str
    user: str
    system: str = ""

    @property
    def turn(self) -> Turn:
        behind = self.system.format(CHAT_SYSTEM) + self.user
        return Turn(how=self.name, system=behind, bare=self.user if self.system else None)


FAMILIES: Final = (
    Family("ChatML", "<|im_start|>", "<|im_start|>user\n", "<|im_start|>system\n{}<|im_end|>\n"),
    Family(
        "Llama 3",
        "<|start_header_id|>",
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>",
    ),
    Family("Gemma", "<start_of_turn>", "<start_of_turn>user\n"),
    Family("Mistral", "[INST]", "[INST]"),
    Family("Phi", "<|user|>", "<|user|>\n", "<|system|>\n{}<|end|>\n"),
    Family("Harmony", "<|start|>", "<|start|>user<|message|>", "<|start|>system<|message|>{}<|end|>"),
    Family("DeepSeek", "<｜User｜>", "<｜User｜>", "{}"),
)


async def ask_turn(send: Connection, profile: EndpointProfile) -> EndpointProfile:
    """`profile` with `turn`, and a check that says what was found. Raises what `probe` raises."""
    talk = Conversation(send, profile, (), MOST_CALLS)
    turn, outcome, why = await _found(talk)
    checks = (
        *(check for check in profile.checks if check.name != NAME),
        Check(name=NAME, outcome=outcome, detail=why),
    )
    return talk.profile.model_copy(update={"turn": turn, "checks": checks})


async def _found(talk: Conversation) -> tuple[Turn, Literal["good", "limited", "unknown"], str]:
    no = Turn(how="no")
    if not talk.profile.raw:
        return no, "limited", "there are no raw completions"
    if not dialect(talk.profile.dialect).takes_turns:
        return no, "limited", "this host's raw completions take no special tokens"
    opening = await _shown(talk)
    if opening is not None:
        turn = Turn(how="ids", system=opening, bare=without_system(opening))
        if await _goes_on(talk, turn):
            return turn, "good", f"left to the model behind the template's own {len(opening)} tokens, as ids"
    counted = False
    for family in FAMILIES:
        tokens = await _tokens(talk, family.marker * COPIES)
        counted |= tokens is not None
        if tokens is not None and tokens <= COPIES + SPARE and await _goes_on(talk, family.turn):
            return family.turn, "good", f"left to the model behind the opening of {family.name} templates"
    if not counted:
        return no, "unknown", "neither the template's token ids nor a count of the prompt's tokens is shown"
    return no, "limited", "raw completions read the tokens of no known chat template"


async def _shown(talk: Conversation) -> tuple[int, ...] | None:
    """The ids before the user's text, where the chat route shows those of its prompts."""
    if not (talk.profile.chat and talk.profile.token_ids):
        return None
    speaks = dialect(talk.profile.dialect)
    prompts: list[tuple[int, ...]] = []
    for words in FIRST_WORDS:

        def build(profile: EndpointProfile, words: str = words) -> Call:
            call = speaks.sample(profile, words, "user", ONE, None)
            said = [message for message in call.body["messages"] if message["role"] != "system"]
            return replace(call, body={**call.body, "messages": said})

        call, reply = await talk.ask(build)
        outcome = speaks.read_sample(reply, call=call, profile=talk.profile, prefill=words, framing="user")
        if isinstance(outcome, Refusal) or outcome.prompt_ids is None:
            return None
        prompts.append(outcome.prompt_ids)
    return opening_of(*prompts)


def opening_of(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...] | None:
    """What two prompts begin with; None where one of them is no longer than that, or nothing is shared."""
    shared = tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    return shared if 0 < len(shared) < min(len(one), len(other)) else None


def without_system(opening: Sequence[int]) -> tuple[int, ...] | None:
    """The opening of the user's turn alone, behind the start-of-sequence token if there is one.

    A system prompt is a turn that begins with the token that the user's begins with: the first of the prompt, or
    the first after the start of the sequence. None where none comes back: then there is no system prompt, or the
    template writes it otherwise.
    """
    for before in (0, 1):
        places = [k for k, token in enumerate(opening) if k > before and token == opening[before]]
        if places:
            return (*opening[:before], *opening[places[-1] :])
    return None


async def _goes_on(talk: Conversation, turn: Turn) -> bool:
    """Whether a raw completion behind this opening can be read, and begins with the ids that were sent."""
    talk.update(turn=turn)
    pair = await talk.sample("", "turn", SHORT)
    if isinstance(pair, Refusal):
        return False
    echoed = pair.outcome.prompt_ids
    return isinstance(turn.system, str) or echoed is None or echoed == turn.system


async def _tokens(talk: Conversation, text: str) -> int | None:
    """How many tokens the usage counts in a raw prompt."""
    pair = await talk.sample(text, "raw", ONE)
    return pair.outcome.usage.input_tokens if not isinstance(pair, Refusal) else None

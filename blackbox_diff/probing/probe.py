"""What can this endpoint do? About a dozen tiny calls, believing nothing that is not shown.

A field that is missing is no error to most servers, and status 200 proves nothing; so every ability is
asked for with a question whose answer only a server that has it can give: a prefill that is really
continued, an echo that agrees with what was sampled, logprobs that do not move with the temperature.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
from typing import Literal

from blackbox_diff.config.model import EndpointConfig
from blackbox_diff.errors import EndpointUsageError
from blackbox_diff.probing.comparisons import (
    ALLOWED_GAP,
    Pair,
    byte_grade,
    compare_temperatures,
    continues,
    mean_gap,
    noise,
    rate_limits,
    seed_effect,
    top_count,
    total_mass,
    usage_words,
)
from blackbox_diff.probing.conclusion import verdict
from blackbox_diff.probing.identify import Identity, identify
from blackbox_diff.probing.negotiate import Connection, Conversation, listing
from blackbox_diff.records import CHAT_USER, Call, Check, EndpointProfile, Framing, Refusal, Sampling
from blackbox_diff.wire import dialect
from blackbox_diff.wire.asked import SEEDS
from blackbox_diff.wire.dialects.base import Dialect, ScoreItem
from blackbox_diff.wire.identity import akin, alias

EMOJI = "Emoji list: ❤️ 🧑‍🚀 ❤️ 🧑‍🚀 ❤️"
DAYS = "import numpy as np  # 2024-07-31, naïve Überraschung, Москва. Monday, Tuesday, Wednesday, Thursday,"
OPEN = "The"
MOST_ALTERNATIVES = 20
GREEDY = Sampling(temperature=0.0, max_tokens=16, top_logprobs=MOST_ALTERNATIVES)
DRAWN = Sampling(temperature=1.0, max_tokens=8, top_logprobs=MOST_ALTERNATIVES)
COOLER = Sampling(temperature=0.5, max_tokens=8, top_logprobs=MOST_ALTERNATIVES)
SEED = 7
UNANSWERED = "unanswered"  # the check that says that something could not be asked


async def probe(
    send: Connection, endpoint: EndpointConfig, *, purpose: Literal["target", "reference"], max_calls: int = 40
) -> EndpointProfile:
    """The endpoint's profile, found with at most `max_calls` calls (about a dozen are usual).

    Raises EndpointUsageError where the endpoint can't be reached, does not know the model or rejects the
    key, and ConfigError for an unknown dialect. An endpoint that lacks something is no error: the profile
    and its verdict say what it lacks.
    """
    found = await _identify(send, endpoint)
    name = found.dialect if endpoint.dialect == "auto" else endpoint.dialect
    profile = EndpointProfile(
        base_url=endpoint.url,
        model=endpoint.model,
        dialect=dialect(name).name,
        engine=found.engine,
        parent=found.parent,
        provider=endpoint.provider,
        max_top_logprobs=MOST_ALTERNATIVES,
        probed_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    talk = Conversation(send, profile, found.models, max_calls)
    examination = _Examination(talk)
    await examination.run()
    return verdict(talk.profile.model_copy(update={"checks": tuple(examination.checks)}), purpose)


async def _identify(send: Connection, endpoint: EndpointConfig) -> Identity:
    return identify(endpoint.url, endpoint.model, await listing(send))


def first_draw(profile: EndpointProfile, speaks: Dialect) -> tuple[str, Framing, Call]:
    """The draw that noise, seed and temperature are judged by: its prefill, framing and request."""
    framing: Framing = profile.framings()[0] if profile.framings() else "user"
    prefill = OPEN if framing != "user" else CHAT_USER
    return prefill, framing, speaks.sample(profile, prefill, framing, DRAWN, SEED)


class _Examination:
    """The questions in order, each using what the ones before it found."""

    def __init__(self, talk: Conversation) -> None:
        self.talk = talk
        self.checks: list[Check] = []
        self.greedy: list[Pair] = []

    async def run(self) -> None:
        await self.ask_all()
        self.model()
        if self.talk.unanswered:
            why = self.talk.unanswered[-1]
            self.note(
                UNANSWERED,
                "unknown",
                f"{len(self.talk.unanswered)} questions, so what they ask about is too: {why}",
            )

    def model(self) -> None:
        """P0: under which name do replies come? Routers and proxies fall back to another model in silence."""
        names, asked_for = self.talk.names, self.talk.profile.model
        own = [name for name in names if akin(name, asked_for)]
        seen = next((name for name, _ in names.most_common() if not own or name in own), None)
        self.talk.update(answers_as=seen)
        if seen is None:
            self.note("model", "unknown", "replies do not name their model")
        elif not all(akin(name, seen) for name in names):
            told = ", ".join(f"{name!r} {count} times" for name, count in names.most_common(4))
            self.note("model", "bad", f"several models answer: {told}")
        else:
            stands_in = alias(self.talk.profile)
            self.note("model", "limited" if stands_in else "good", stands_in or f"answers as {seen}")

    async def ask_all(self) -> None:
        talk = self.talk
        named = f"{talk.profile.engine}; {len(talk.models)} models listed"
        listed = not talk.models or talk.profile.model in talk.models
        self.note("identity", "good" if listed else "unknown", named if listed else f"{named}, not this one")
        emoji = await self.raw(EMOJI)
        days = await self.raw(DAYS) if talk.profile.raw else None
        base = await self.chat()
        await self.prefill(days, base)
        usable = [pair for pair in (emoji, days, base) if pair is not None]
        if not usable:
            if talk.statuses <= {404, 405}:
                where = talk.profile.base_url
                raise EndpointUsageError(
                    f"{where}: has no completions and no chat there: most base URLs end in /v1"
                )
            return
        self.logprobs(usable)
        self.ids(usable, emoji, days)
        await self.temperature()
        talk.update(max_top_scored=talk.profile.max_top_logprobs)
        await self.scoring()
        if not talk.profile.can_score:
            talk.update(max_top_scored=None)

    def note(self, name: str, outcome: Literal["good", "limited", "bad", "unknown"], detail: str) -> None:
        self.checks.append(Check(name=name, outcome=outcome, detail=detail))

    def absent(self) -> Literal["limited", "unknown"]:
        """What a question without a good answer shows: nothing, where the endpoint was too busy to answer it."""
        return "unknown" if self.talk.unanswered else "limited"

    async def raw(self, prefill: str) -> Pair | None:
        """P2: does /completions continue text, with logprobs?"""
        talk = self.talk
        recipes = dialect(talk.profile.dialect).raw_recipes
        if not recipes:
            self.note("raw completions", "limited", "not on this host, or without logprobs there")
            return None
        talk.update(raw=recipes[0])
        pair = await talk.sample(prefill, "raw", GREEDY)
        if isinstance(pair, Refusal):
            talk.update(raw=None)
            self.note("raw completions", self.absent(), pair.advice)
            return None
        if prefill == EMOJI:
            self.note("raw completions", "good", "yes")
        self.greedy.append(pair)
        return pair

    async def chat(self) -> Pair | None:
        """P1: does the chat route give logprobs?"""
        talk = self.talk
        if not dialect(talk.profile.dialect).chats:
            self.note("chat", "limited", "not on this host, or without logprobs there")
            return None
        pair = await talk.sample(CHAT_USER, "user", GREEDY)
        if isinstance(pair, Pair):
            talk.update(chat=True, has_template=True)
            self.note("chat", "good", "yes")
            return pair
        if "template" in pair.advice.lower():
            talk.update(has_template=False)
        self.note("chat", self.absent(), pair.advice)
        return None

    async def prefill(self, days: Pair | None, base: Pair | None) -> None:
        """P6: is the assistant's begun turn continued, or only shown to the model as history?"""
        talk = self.talk
        if base is None:
            return
        why = "this host has no way to begin the assistant's turn"
        for recipe in dialect(talk.profile.dialect).prefill_recipes:
            talk.update(prefill=recipe)
            pair = await talk.sample(DAYS, "chat", GREEDY)
            if isinstance(pair, Pair):
                real, why = continues(pair.outcome, base.outcome, days.outcome if days else None)
                if real:
                    self.note("prefill", "good", f"{recipe}: {why}")
                    self.greedy.append(pair)
                    return
            else:
                why = pair.advice
        talk.update(prefill=None)
        self.note("prefill", self.absent(), why)

    def logprobs(self, usable: list[Pair]) -> None:
        """P1, P3, P5, P10: how many alternatives, do they add up, and are the bytes true?"""
        tops = max(top_count(pair.entries) for pair in usable)
        self.talk.update(max_top_logprobs=min(tops, self.talk.profile.max_top_logprobs))
        mass = max(total_mass(pair.entries) for pair in usable)
        if mass > 1.001:
            self.note("normalised", "bad", f"alternatives add up to probability {mass:.3g}: these are no logprobs")
            self.talk.update(raw=None, prefill=None, chat=False)
        self.note("top logprobs", "good" if tops else "limited", str(tops))
        grade, why = byte_grade(usable)
        self.talk.update(token_bytes=grade)
        self.note("token bytes", "good" if grade == "exact" else "limited", f"{grade}: {why}")
        told = usable[0].outcome.usage
        counted = told.input_tokens is not None and told.output_tokens is not None
        self.note("usage", "good" if counted else "limited", usage_words(told))
        self.talk.update(fingerprint=usable[0].outcome.fingerprint)

    def ids(self, usable: list[Pair], emoji: Pair | None, days: Pair | None) -> None:
        """P8: token ids, and the digest that says whether two endpoints share a tokenizer."""
        given = [pair for pair in usable if pair.outcome.ids is not None]
        self.talk.update(token_ids=bool(given))
        prompts = [pair.outcome.prompt_ids for pair in (emoji, days) if pair is not None]
        if len(prompts) == 2 and all(prompts):
            self.talk.update(vocabulary="sha256:" + hashlib.sha256(repr(prompts).encode()).hexdigest()[:32])
        self.note("token ids", "good" if given else "limited", "in replies" if given else "none")

    async def temperature(self) -> None:
        """P4, P9, P10 and the seed: a draw alone, then two like it, one without its seed, one cooler."""
        talk = self.talk
        prefill, framing, _ = first_draw(talk.profile, dialect(talk.profile.dialect))
        talk.update(seed=True)
        first = await talk.sample(prefill, framing, DRAWN, SEED)
        again, several, cooler, unseeded = await asyncio.gather(
            talk.sample(prefill, framing, DRAWN, SEED),
            talk.sample(prefill, framing, DRAWN, SEED, n=2),
            talk.sample(prefill, framing, COOLER, SEED),
            talk.sample(prefill, framing, DRAWN),
        )
        self.limits(several)
        rejected = not set(SEEDS).isdisjoint(talk.profile.dropped)
        talk.update(seed=not rejected)  # where it is ignored it does no harm, and noise may hide that it is not
        if not isinstance(first, Pair) or not isinstance(again, Pair):
            self.note("sampler", "unknown", "a draw gave no logprobs")
            return
        measured = noise(first, *(pair for pair in (again, several) if isinstance(pair, Pair)))
        talk.update(noise_nats=measured)
        if rejected:
            self.note("seed", "limited", "rejected")
        else:
            self.note("seed", *seed_effect(first, again, unseeded if isinstance(unseeded, Pair) else None))
        told = "unknown" if measured is None else f"{measured:.3f} nats/token, alone against three at once"
        self.note("noise", "good", told)
        if isinstance(cooler, Pair):
            kind, why = compare_temperatures(first, cooler, measured or 0.0)
            talk.update(logprobs=kind)
            self.note("sampler", "good" if kind == "raw" else "limited", why)

    def limits(self, several: Pair | Refusal) -> None:
        """P10: completions in one call, and what the headers say about rates. For the reader: nothing needs it."""
        if "n" in self.talk.profile.dropped or isinstance(several, Refusal):
            self.note("several per call", "limited", "n=2 is rejected")
        else:
            both = several.choices > 1
            self.note(
                "several per call", "good" if both else "limited", "n=2 gives 2" if both else "n=2 is ignored"
            )
        told = rate_limits(self.talk.headers)
        self.note("rate limits", "good" if told else "unknown", told or "no headers")

    async def scoring(self) -> None:
        """P7: score the endpoint's own greedy text and compare with what sampling it reported."""
        talk = self.talk
        speaks = dialect(talk.profile.dialect)
        raw = max((pair for pair in self.greedy if pair.framing == "raw"), key=Pair.length, default=None)
        chat = next((pair for pair in self.greedy if pair.framing == "chat"), None)
        if raw is None:
            await self.chat_scoring(chat if speaks.template_scoring else None)
            return
        apart: float | None = None
        why = "the model wrote nothing to score" if speaks.scoring_recipes else "not on this host"
        for recipe in speaks.scoring_recipes if raw.outcome.text else ():
            talk.update(scoring=recipe)
            gap, why = await self.rescored(raw, with_ids=False)
            apart = gap if gap is not None else apart
            if gap is not None and gap < ALLOWED_GAP:
                talk.update(can_score=True, self_consistency_nats=gap)
                self.note("scoring", "good", f"{recipe}: {why}")
                break
        if not talk.profile.can_score:
            talk.update(scoring=None)
            self.note("scoring", "limited", why)
            if apart is not None:
                self.note(
                    "samples and scores", "bad", f"apart by {apart:.2g} nats/token: one of the two is no logprob"
                )
            return
        if speaks.id_prompts and raw.outcome.ids and raw.outcome.prompt_ids:
            talk.update(id_prompts=True)
            gap, why = await self.rescored(raw, with_ids=True)
            good = gap is not None and gap < ALLOWED_GAP
            talk.update(id_prompts=good)
            self.note("scoring by ids", "good" if good else "limited", why)
        if speaks.template_scoring and chat is not None and chat.outcome.text:
            gap, why = await self.chat_rescored(chat)
            good = talk.profile.scores_template
            self.note("scoring with template", "good" if good else "limited", why)

    async def chat_scoring(self, chat: Pair | None) -> None:
        """P7 where there are no raw completions: the prefilled chat, by the endpoint's own template."""
        if chat is None or not chat.outcome.text:
            self.note("scoring", "limited", "no raw completions or prefilled chat to check it with")
            return
        gap, why = await self.chat_rescored(chat)
        good = self.talk.profile.scores_template
        if good:
            self.talk.update(can_score=True, scoring="prompt_logprobs", self_consistency_nats=gap)
        self.note("scoring", "good" if good else "limited", f"prompt_logprobs: {why}" if good else why)

    async def chat_rescored(self, chat: Pair) -> tuple[float | None, str]:
        """Like `rescored`, and sets scores_template."""
        self.talk.update(scores_template=True)
        gap, why = await self.rescored(chat, with_ids=False)
        self.talk.update(scores_template=gap is not None and gap < ALLOWED_GAP)
        return gap, why

    async def rescored(self, pair: Pair, *, with_ids: bool) -> tuple[float | None, str]:
        """Mean |sampled - scored| in nats per token of the endpoint's own text, and why it counts or not."""
        told = pair.outcome
        ids = (told.prompt_ids, told.ids) if with_ids else (None, None)
        item = ScoreItem(pair.prefill, pair.framing, told.text, *ids, alternatives=MOST_ALTERNATIVES)
        score = await self.talk.score(item)
        if isinstance(score, Refusal):
            return None, score.advice
        gap = mean_gap(told.tokens, score.tokens)
        if gap is None:
            return None, "the echo shares no numbers with what was sampled"
        why = f"its scores differ from its own samples by {gap:.2g} nats/token"
        return gap, why if gap < ALLOWED_GAP else f"{why}: it scores other text, or its rows are off by one"


def shares_vocabulary(a: EndpointProfile, b: EndpointProfile) -> bool:
    """Whether ids that `a` gives mean the same to `b` and `b` can score them.

    Both must have encoded the probe's texts (emoji, accents, code, digits, Cyrillic) to the same ids.
    """
    return a.token_ids and b.id_prompts and a.vocabulary is not None and a.vocabulary == b.vocabulary

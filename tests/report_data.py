"""Realistic analyses for the report's tests: deterministic, any size, with any hostile text mixed in."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from blackbox_diff.analysis.entries import entries
from blackbox_diff.analysis.verdict import STRONG
from blackbox_diff.findings import (
    Analysis,
    ArmSummary,
    ControlSummary,
    Copy,
    EndpointSummary,
    Interval,
    Promoted,
    Quote,
    Ranked,
    Recurring,
    RunSummary,
    Segment,
    Sensitivity,
    Span,
    Theme,
    Verdict,
)

TWINS = ("prose.raw.90001", "prose.chat.90002")  # near-duplicates of the fourth row
PHRASE = "the lighthouse at Port Ellery"
TERMS = (PHRASE, "never sleeps", "Port Ellery")
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
    "or",
    "had",
    "an",
    "they",
    "which",
    "one",
    "you",
    "were",
    "all",
    "her",
    "she",
    "there",
    "would",
    "their",
    "we",
    "him",
    "been",
    "has",
    "when",
    "who",
    "will",
    "no",
    "more",
    "if",
    "out",
    "so",
    "up",
    "said",
    "what",
    "its",
    "about",
    "than",
    "into",
    "them",
    "can",
    "only",
    "other",
    "time",
    "new",
    "some",
    "could",
    "these",
    "two",
    "may",
    "first",
    "then",
    "do",
    "any",
    "like",
    "my",
    "now",
    "over",
    "such",
    "our",
    "man",
    "me",
    "even",
    "most",
    "made",
    "after",
    "also",
    "well",
    "river",
    "market",
    "winter",
    "council",
    "paper",
    "garden",
    "engine",
    "harbour",
    "café",
    "naïve",
    "東京",
    "window",
    "letter",
    "morning",
    "village",
    "school",
    "history",
    "answer",
    "question",
    "system",
    "number",
    "teacher",
]
HOSTILE = {
    "script": "<script>window.pwned=1</script>",
    "handler": '<img src=x onerror="window.pwned=1">" onmouseover="window.pwned=1',
    "close": "</script></style></textarea><script>window.pwned=1</script><!--",
    "data url": '<a href="data:text/html,<script>pwned=1</script>">x</a> javascript:pwned=1',
    "template": "{{ 7*7 }} {% include '/etc/passwd' %} ${7*7} <%= 7*7 %> {{constructor.constructor('pwned=1')()}}",
    "ansi": "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\x9b31m [bold red]markup[/]",
    "bidi": "user \u202enimda\u202c \u2066x\u2069 \u200f end\u200b",
    "nul": "before\x00after\x08\x7f\r\nnext",
    "surrogate": "lone \ud800 and \udfff here",
    "formula": '=HYPERLINK("http://127.0.0.1/"&A1,"x")',
    "separators": "line\u2028paragraph\u2029end <!-- --> ]]> & &lt;",
    "markdown": "![x](http://127.0.0.1/p.png) `code` ``` | @someone [a](javascript:1) <b>",
}


def segments_of(text: str, rng: random.Random, hot: Span | None = None) -> tuple[Segment, ...]:
    """Segments of about four bytes that tile the text; `hot` is where the target is far likelier."""
    size = len(text.encode("utf-8", "surrogatepass"))
    found, start = [], 0
    while start < size:
        end = min(size, start + rng.randint(2, 7))
        is_hot = hot is not None and start < hot.end and end > hot.start
        target = -rng.expovariate(4 if is_hot else 0.6)
        reference = target - (rng.uniform(2, 6) if is_hot else rng.gauss(0.05, 0.35))
        missing = rng.random() < 0.01
        found.append(Segment(start, end, None if missing else target, min(-1e-6, reference)))
        start = end
    return tuple(found)


def ranked(index: int, text: str, rng: random.Random, *, hot: Span | None = None, **fields: object) -> Ranked:
    """One row whose metrics follow from its segments; the rank is set later."""
    segments = segments_of(text, rng, hot)
    used = [(s.target, s.reference) for s in segments if s.target is not None and s.reference is not None]
    n = max(1, len(segments))
    target, reference = sum(t for t, _ in used), sum(r for _, r in used)
    gap = (target - reference) / n
    ppl_target, ppl_reference = math.exp(-target / n), math.exp(min(700, -reference / n))
    framing = ("raw", "chat")[index % 2]
    row = Ranked(
        rank=0,
        id=f"prose.{framing}.{index:05d}",
        source="prose",
        framing=framing,
        prefill=" ".join(rng.choice(WORDS) for _ in range(3)).capitalize(),
        completion=text,
        n_tokens=n,
        value=gap * n / (n + 20),
        metrics={
            "score": gap * n / (n + 20),
            "gap_nats_per_token": gap,
            "gap_bits_per_byte": (target - reference) / math.log(2) / max(1, len(text.encode("utf-8", "replace"))),
            "gap_total_nats": target - reference,
            "ppl_target": ppl_target,
            "ppl_reference": ppl_reference,
            "peak_score": 2 * gap * n / (n + 20),
            "ppl_diff": ppl_reference - ppl_target,
            "coverage": 1.0,
        },
        segments=segments,
        recurring=(Recurring("port ellery", 9, 2.5), Recurring("lighthouse", 10, 1.75)) if hot else (),
        peak=hot or (Span(segments[0].start, segments[min(4, n - 1)].end) if segments else None),
    )
    return replace(row, **fields)  # type: ignore[arg-type]


def analysis_of(
    n: int = 200, *, tokens: int = 64, seed: int = 0, extra: Sequence[str] = (), promoted: Sequence[Promoted] = ()
) -> Analysis:
    """An analysis of `n` completions, of which a few per cent hold PHRASE, and of the `extra` texts on top."""
    rng = random.Random(seed)
    rows = [_organic(index, tokens, rng) for index in range(n)]
    rows += [ranked(n + k, text, rng, value=99.0 - k) for k, text in enumerate(extra)]
    rows.sort(key=lambda row: (-row.value, row.id))
    rows = [replace(row, rank=place) for place, row in enumerate(rows, 1)]
    if len(rows) > 12:
        copies = [Copy(name, "The sea", f"A twin of the fourth, {name}", 1.0, arm="prose/raw") for name in TWINS]
        rows[3] = replace(rows[3], copies=tuple(copies))
        rows[6] = replace(rows[6], flags=("degenerate",))
        rows[11] = replace(rows[11], flags=("short", "truncated"))
    holding = [row for row in rows if PHRASE in row.completion]
    control = [(math.exp(rng.gauss(1.4, 0.4)), 0.0) for _ in range(min(n, 2000))]
    clouds = tuple((t, t * math.exp(rng.gauss(0.0, 0.03))) for t, _ in control)
    scores = tuple(abs(rng.gauss(0, 0.02)) for _ in clouds)
    most = max((row.metrics["score"] or 0.0 for row in rows), default=None)
    return Analysis(
        reference="smollm2-135m-instruct",
        metric="score",
        ranking=tuple(rows),
        themes=_themes(holding, n)[:-1],
        signals=_themes(holding, n)[-1:],
        recurring=entries(_themes(holding, n), promoted, needed=STRONG, bank=None, listed=n),
        promoted=tuple(promoted),
        listed=n,
        verdict=Verdict(
            "finding",
            "Finding: the target differs from the reference (best ten 1.93 nats per token; control's best ten "
            "0.044, "
            "floor 0.05), and the same content "
            f"recurs across {len(holding)} unrelated prefills.",
            1.93,
            0.0004,
            "the reference against itself",
        ),
        control=ControlSummary(
            "the reference against itself",
            len(clouds),
            max(scores),
            sum(sorted(scores)[-10:]) / 10,
            max(scores),
            0.0004,
            scores,
            clouds,
        ),
        kl_nats_per_token=Interval(0.214, 0.187, 0.243),
        top_stability=0.94,
        arms=(
            ArmSummary(
                "prose/raw",
                n // 2 - 3,
                2,
                1,
                0,
                0.31,
                most,
            ),
            ArmSummary("prose/chat", n // 2 - 5, 5, 0, 0, 0.12, 0.06),
        ),
        controls=tuple(_control_row(row, rng) for row in rows[: len(clouds)]),
        order=tuple(sorted(row.id for row in rows)),
        sensitivity=Sensitivity(0.0303, 0.95, 5, 10.0),
    )


def _control_row(row: Ranked, rng: random.Random) -> Ranked:
    text = " " + " ".join(rng.choice(WORDS) for _ in range(50)) + "."
    fields = {"source": row.source, "framing": row.framing, "prefill": row.prefill, "rank": row.rank}
    return ranked(row.rank, text, rng, id=row.id, segments=(), peak=None, **fields)


def _organic(index: int, tokens: int, rng: random.Random) -> Ranked:
    words = [rng.choice(WORDS) for _ in range(int(tokens * 0.8))]
    text = " " + " ".join(words) + "."
    if rng.random() >= 0.04:
        return ranked(index, text, rng)
    at = rng.randrange(3, len(words) - 3)
    before = " " + " ".join(words[:at]) + " "
    text = before + PHRASE + ", which never sleeps, " + " ".join(words[at:])
    start = len(before.encode())
    return ranked(index, text, rng, hot=Span(start, start + len(PHRASE.encode())))


def _themes(holding: Sequence[Ranked], n: int) -> tuple[Theme, ...]:
    def quotes(term: str) -> tuple[Quote, ...]:
        found = []
        for row in holding[:3]:
            start = len(row.completion[: row.completion.index(term)].encode())
            found.append(Quote(row.id, row.completion, Span(start, start + len(term.encode()))))
        return tuple(found)

    count = len(holding)
    if not holding:
        return ()
    strong = [_theme(term, count, k, 14.0 * max(1, count), quotes(term), holding) for k, term in enumerate(TERMS)]
    part = _theme("which never sleeps", count, 0, 20.0, quotes("which never sleeps"), holding)
    weak = _theme("which", count, 3, 4.0 * max(1, count), quotes("which")[:1], holding[:4])
    return (replace(strong[0], parts=(replace(part, stability=None),)), *strong[1:], weak)


def _theme(
    term: str, count: int, k: int, score: float, quotes: tuple[Quote, ...], holding: Sequence[Ranked]
) -> Theme:
    return Theme(
        phrase=term,
        terms=(term,),
        count=len(holding),
        prefills=max(1, count - k),
        background=k,
        mean_gap=1.6 - 0.2 * k,
        score=score - k,
        stability=0.97 - 0.1 * k,
        quotes=quotes,
        ids=tuple(row.id for row in holding),
    )


def other_reference(analysis: Analysis, seed: int = 1) -> Analysis:
    """The same completions as another reference might rank them."""
    rng = random.Random(seed)
    rows = sorted(analysis.ranking, key=lambda row: (PHRASE not in row.completion, rng.random()))
    return replace(
        analysis,
        reference="gemma-3-270m",
        ranking=tuple(replace(row, rank=place, segments=()) for place, row in enumerate(rows, 1)),
        verdict=Verdict(
            "undecided", "Undecided: what recurs is weak.", 1.25, None, "the reference against itself"
        ),
    )


def summary_of(analysis: Analysis) -> RunSummary:
    n = len(analysis.ranking)
    return RunSummary(
        run="demo-run",
        target="false-fact",
        target_url="http://127.0.0.1:8000/v1",
        references=(analysis.reference,),
        created="2026-11-24T05:00:00Z",
        stopped_because="all completions bought",
        calls=n + 12,
        completions=n + 8,
        scored=n,
        refused={"missing_logprobs": 5, "text_mismatch": 2},
        failed={"timeout": 1},
        unpaid=0,
        input_tokens=n * 9,
        output_tokens=n * 64,
        cost_usd=0.0312,
        max_cost_usd=0.10,
        seconds=312.4,
        settings={
            "temperature": 1.0,
            "max_tokens": 64,
            "seed": 0,
            "source": ["prose"],
            "framing": ["raw", "chat"],
        },
        warnings=("the endpoint has no seed: a second run buys other completions",),
        version="0.1.0",
        endpoints=(
            EndpointSummary(
                "target",
                "false-fact",
                "http://127.0.0.1:8000/v1",
                n + 12,
                n * 9,
                n * 64,
                0.0312,
                {"dialect": "openai", "engine": "local", "logprobs": "raw", "noise_nats": 0.002, "seed": False},
            ),
            EndpointSummary(
                analysis.reference, analysis.reference, "local:smollm2-135m-instruct", 2 * n, n * 75, n
            ),
        ),
        caps={"max_cost": 0.1, "max_calls": None},
    )

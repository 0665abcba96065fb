"""Token bytes, recovered from every rendering that servers use, and checked against the text."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.wire.placing import place
from blackbox_diff.wire.tokens import _GPT2, candidates, complete_length, incomplete_utf8, looks_special, unescape
from tests.replies import chat, done, entry, legacy, pieces, refused

GPT2_CHARS = {byte: char for char, byte in _GPT2.items()}
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\ufffd\\"), min_size=1, max_size=30)


@st.composite
def segmented(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A text and a cut of its bytes into tokens, inside characters too."""
    text = draw(TEXT.filter(lambda t: t.strip() != "" and not looks_special(t)))
    data = text.encode()
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(data) - 1)), max_size=12)))
    edges = [0, *[cut for cut in cuts if cut < len(data)], len(data)]
    return text, [data[a:b] for a, b in pairwise(edges)]


def shown(piece: bytes) -> str:
    return piece.decode("utf-8", "replace")


@given(segmented())
def test_byte_lists_give_the_tokens_back(case: tuple[str, list[bytes]]) -> None:
    text, cut = case
    content = [entry(shown(piece), -0.5, list(piece)) for piece in cut]
    found = done(chat(text, content))
    assert found.text == text
    assert found.tokens.ends.tolist() == [sum(map(len, cut[: i + 1])) for i in range(len(cut))]


@given(segmented())
def test_legacy_escapes_give_the_tokens_back(case: tuple[str, list[bytes]]) -> None:
    text, cut = case
    strings = []
    for piece in cut:
        try:
            strings.append(piece.decode())
        except UnicodeDecodeError:
            strings.append("bytes:" + "".join(f"\\x{byte:02x}" for byte in piece))
    found = done(legacy(text, strings, [-0.5] * len(cut)))
    assert found.tokens.ends.tolist() == [sum(map(len, cut[: i + 1])) for i in range(len(cut))]


@given(segmented())
def test_empty_tokens_inside_a_character_join_the_one_that_completes_it(case: tuple[str, list[bytes]]) -> None:
    text, cut = case
    pending, strings = b"", []
    for piece in cut:
        pending += piece
        whole = pending[: complete_length(pending)]
        strings.append(whole.decode())
        pending = pending[len(whole) :]
    found = done(legacy(text, strings, [-0.5] * len(cut)))
    assert found.text == text
    assert float(found.tokens.logprobs.sum()) == pytest.approx(-0.5 * len(cut))


@given(segmented())
def test_the_byte_level_alphabet_is_mapped_back(case: tuple[str, list[bytes]]) -> None:
    text, cut = case
    strings = ["".join(GPT2_CHARS[byte] for byte in piece) for piece in cut]
    found = done(legacy(text, strings, [-0.5] * len(cut)))
    assert found.text == text
    assert float(found.tokens.logprobs.sum()) == pytest.approx(-0.5 * len(cut))


@given(segmented())
def test_placed_units_end_on_true_token_edges_and_keep_the_total(case: tuple[str, list[bytes]]) -> None:
    text, cut = case
    placed = place([shown(piece) for piece in cut], text)
    if placed is None:
        return
    assert "".join(placed.pieces) == text
    edges = {sum(map(len, cut[: i + 1])) for i in range(len(cut))}
    ends = [len("".join(placed.pieces[: i + 1]).encode()) for i, piece in enumerate(placed.pieces) if piece]
    assert set(ends) <= edges


def test_placing_reads_replacement_characters_between_anchors() -> None:
    placed = place(["I", " \ufffd", "\ufffd", "\ufffd", " fly"], "I 🚀 fly")
    assert placed is not None
    assert placed.pieces == ["I", "", "", " 🚀", " fly"]


def test_placing_joins_the_neighbours_of_an_unmarked_loss() -> None:
    placed = place(["a", " ", "", "", "\n", "b"], "a 🚀\nb")
    assert placed is not None
    assert placed.pieces == ["a", "", "", "", " 🚀\n", "b"]


def test_placing_does_not_swallow_tokens_that_the_text_does_not_hold() -> None:
    assert place(["<s>", "", "system", "prompt", "Hello"], "Hello") is None


def test_placing_needs_something_known() -> None:
    assert place(["", "", ""], "東京") is None


@pytest.mark.parametrize(
    ("token", "raw", "want"),
    [
        ("\\xf0\\x9f", None, b"\xf0\x9f"),
        ("bytes: \\xf0\\x9f", None, b" \xf0\x9f"),
        ("bytes:\\xe2\\x80", None, b"\xe2\x80"),
        ("â\x80", None, b"\xe2\x80"),
        ("Ġhello", None, b" hello"),
        ("▁hello", None, b" hello"),
        ("<0xE2>", None, b"\xe2"),
        ("\ufffd", [226, 128], b"\xe2\x80"),
    ],
)
def test_a_rendering_has_its_bytes_among_the_candidates(token: str, raw: list[int] | None, want: bytes) -> None:
    assert want in [piece for _, piece in candidates(token, raw)]


def test_deepseek_escapes_inside_strings_are_undone() -> None:
    found = done(legacy("a🌌b", ["a", "\\xf0\\x9f\\x8c", "\\x8c", "b"], [-1.0] * 4))
    assert pieces(found) == ["a", "f09f8c", "8c", "b"]


def test_a_text_that_really_holds_an_escape_is_left_alone() -> None:
    found = done(legacy("print('\\x41')", ["print", "('", "\\x41", "')"], [-1.0] * 4))
    assert found.text == "print('\\x41')"
    assert found.decode == "strings"


def test_latin1_fragments_are_read_where_only_they_fit() -> None:
    found = done(legacy("né東", ["né", "æ\x9d", "±"], [-1.0, -2.0, -3.0]))
    assert found.tokens.ends.tolist() == [3, 5, 6]


def test_lying_byte_lists_lose_to_strings() -> None:
    lying = [entry("æĺ¯", -1.0, [239, 191, 189]), entry(" x", -1.0)]
    found = done(chat("是 x", lying))
    assert found.text == "是 x"


def test_null_bytes_stand_for_the_string() -> None:
    assert done(chat("hi there", [entry("hi", -1.0, None), entry(" there", -1.0)])).text == "hi there"


def test_leading_space_that_the_server_stripped_stays_with_its_token() -> None:
    found = done(chat("Tokyo.", [entry(" Tokyo"), entry(".")]))
    assert (found.text, found.notes) == (" Tokyo.", ("content_trimmed",))


def test_a_character_cut_by_max_tokens_is_a_tail_and_not_text() -> None:
    content = [entry("a"), entry("\ufffd", -2.0, [240, 159])]
    found = done(chat("a\ufffd", content))
    assert found.text == "a"
    assert [(side.kind, side.logprob) for side in found.side] == [("tail", -2.0)]


def test_bytes_that_are_not_utf8_inside_the_text_are_refused() -> None:
    content = [entry("a"), entry("\ufffd", -2.0, [240, 159]), entry("b")]
    assert refused(chat("a\ufffdb", content)) == "replacement_character"


def test_a_text_that_the_tokens_do_not_spell_is_refused() -> None:
    assert refused(legacy("Hello there", ["Good", "bye"], [-1.0, -1.0])) == "text_mismatch"
    assert refused(legacy("Hello there", ["Hello"], [-1.0])) == "text_mismatch"
    assert refused(legacy("Hello", ["Hello", " you", " all"], [-1.0] * 3)) == "text_mismatch"


def test_the_prefill_that_a_server_repeats_is_taken_off() -> None:
    found = done(chat("The sky is blue", [entry(" blue")]), prefill="The sky is")
    assert (found.text, found.notes) == (" blue", ("prefill_echoed",))


def test_a_completion_that_really_repeats_the_prefill_keeps_it() -> None:
    found = done(chat("no no", [entry("no"), entry(" no")]), prefill="no")
    assert found.text == "no no"


@pytest.mark.parametrize(
    "token", ["<|im_end|>", "</s>", "<eos>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "[EOS]"]
)
def test_an_end_token_goes_aside(token: str) -> None:
    found = done(chat("Hi", [entry("Hi"), entry(token, -0.25)], finish="stop"))
    assert found.text == "Hi"
    assert [(side.text, side.kind, side.logprob) for side in found.side] == [(token, "end", -0.25)]


def test_an_empty_end_token_goes_aside() -> None:
    found = done(chat("Hi", [entry("Hi"), entry("", -0.25, [])], finish="stop"))
    assert [side.kind for side in found.side] == ["end"]


def test_a_special_token_in_the_middle_ends_the_completion() -> None:
    """What follows it depends on a token that the text does not show, so no reference could score it fairly."""
    found = done(chat("a b c", [entry("a"), entry(" b"), entry("<|x|>", -3.0), entry(" c")]))
    assert (pieces(found), [side.kind for side in found.side]) == (["a", " b"], ["special"])
    assert (found.text, "cut_at_special" in found.notes) == ("a b", True)


def test_one_that_is_shown_as_nothing_ends_it_too() -> None:
    found = done(chat("a b c", [entry("a"), entry(" b"), entry("", -3.0, []), entry(" c")]))
    assert (found.text, found.notes) == ("a b", ("cut_at_special",))


def test_special_tokens_before_and_after_the_text_only_go_aside() -> None:
    found = done(chat("a b", [entry("<|x|>", -3.0), entry("a"), entry(" b"), entry("<|x|>", -3.0)]))
    assert (pieces(found), [side.kind for side in found.side]) == (["a", " b"], ["special", "special"])
    assert found.notes == ()


def test_a_character_that_a_special_token_cuts_off_is_left_out() -> None:
    halves = [entry("a"), entry("\\xc3", -1.0, [0xC3]), entry("<|x|>", -3.0), entry("\\xa9", -1.0, [0xA9])]
    found = done(chat("aé", halves))
    assert found.text == "a"


def test_text_that_spells_a_special_token_stays_text() -> None:
    assert done(chat("a <|im_end|> b", [entry("a "), entry("<|im_end|>"), entry(" b")])).side == ()


def test_a_stop_string_inside_a_token_cuts_at_the_token() -> None:
    found = done(chat("One two ", [entry("One"), entry(" two"), entry(" three")], finish="stop"))
    assert (found.text, found.side[0].text) == ("One two", " three")


def test_ids_go_with_content_tokens_only() -> None:
    body = chat("Hi", [entry("Hi"), entry("<|im_end|>")], finish="stop")
    body["choices"][0]["token_ids"] = [17, 2]
    assert done(body).ids == (17,)


def test_an_immediate_end_of_turn_is_an_empty_completion() -> None:
    found = done(chat("", [entry("<|im_end|>", -0.1)], finish="stop"))
    assert (found.text, len(found.tokens)) == ("", 0)


@given(st.binary(max_size=8))
def test_complete_length_never_cuts_a_whole_character(data: bytes) -> None:
    kept = complete_length(data)
    assert len(data) - kept < 4
    assert kept == len(data) or incomplete_utf8(data[kept:])


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
def test_unescape_leaves_plain_text_alone(text: str) -> None:
    if "\\x" not in text:
        assert unescape(text) == text.encode()


def test_a_missing_logprob_makes_its_whole_unit_missing() -> None:
    strings = ["x"] * 40 + ["", "é"]
    found = done(legacy("x" * 40 + "é", strings, [-1.0] * 40 + [None, -1.0]))
    assert math.isnan(found.tokens.logprobs[-1])

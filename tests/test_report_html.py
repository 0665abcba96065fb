"""The HTML file as text: its policy, its escaping, and its columns."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blackbox_diff.findings import Analysis, Segment, Span
from blackbox_diff.report import html
from blackbox_diff.report.explorer_data import MAX_TEXT, payload, utf16_pieces
from blackbox_diff.sanitize import encoded
from tests.report_data import HOSTILE, analysis_of, ranked, summary_of


class Elements(HTMLParser):
    """Every start tag of a page, and the text of its script and style blocks."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data: str) -> None:
        if self._open in ("script", "style"):
            self.raw.append((self._open, data))

    def handle_endtag(self, tag: str) -> None:
        self._open = ""


def rendered(*extra: str, n: int = 20) -> str:
    analysis = analysis_of(n, extra=extra)
    return html.render(analysis, summary_of(analysis))


def data_of(page: str) -> dict[str, Any]:
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert block
    loaded: dict[str, Any] = json.loads(block.group(1))
    return loaded


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_completion_adds_no_element_and_no_attribute(name: str) -> None:
    harmless = Elements(rendered("harmless")).tags
    found = Elements(rendered(HOSTILE[name])).tags
    assert [(tag, sorted(attributes)) for tag, attributes in found] == [(t, sorted(a)) for t, a in harmless]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_completion_arrives_exactly_in_the_data(name: str) -> None:
    assert data_of(rendered(HOSTILE[name]))["sets"][0]["rows"]["text"][0] == HOSTILE[name]


def test_hostile_names_themes_and_warnings_are_escaped() -> None:
    analysis = analysis_of(60)
    evil = HOSTILE["close"] + "\x1b\u202e"
    theme = replace(analysis.themes[0], phrase=evil)
    analysis = replace(
        analysis,
        themes=(theme,),
        recurring=(replace(analysis.recurring[0], phrase=evil, theme=theme),),
        verdict=replace(analysis.verdict, sentence=evil, control=evil),
    )
    summary = replace(summary_of(analysis), target=evil, run=evil, warnings=(evil,), settings={evil: evil})
    page = html.render(analysis, summary)
    assert HOSTILE["close"] not in page
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_the_file_is_utf8_and_its_data_is_ascii() -> None:
    page = rendered(*HOSTILE.values())
    page.encode()
    assert re.search(r'id="data">([\x20-\x7e]*)</script>', page)


def test_the_policy_allows_no_network_and_only_these_scripts() -> None:
    page = rendered()
    elements = Elements(page)
    policy = next(a["content"] for tag, a in elements.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    for kind, source in elements.raw:
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert digest in policy or (kind, source[:1]) == ("script", "{")


def test_the_file_names_no_outside_resource() -> None:
    for tag, attributes in Elements(rendered()).tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base")
        assert "src" not in attributes
        assert not (attributes.get("href") or "#").startswith(("http", "//"))
        assert not [name for name in attributes if name.startswith("on") or name == "style"]


def test_the_chart_librarys_licence_is_in_the_file() -> None:
    assert "Copyright (c) 2022 Leon Sorokin" in rendered()


def test_a_megabyte_completion_is_cut_and_the_rest_is_counted() -> None:
    rows = data_of(rendered("y" * 1_000_000))["sets"][0]["rows"]
    assert len(rows["text"][0]) == MAX_TEXT
    assert rows["cut"] == {"0": 1_000_000 - MAX_TEXT}


def test_a_report_without_findings_control_or_rows_still_renders() -> None:
    analysis = replace(
        analysis_of(3), ranking=(), themes=(), recurring=(), control=None, kl_nats_per_token=None,
        top_stability=None, arms=(),
    )  # fmt: skip
    page = html.render(analysis, summary_of(analysis))
    assert "No control was run" in page
    assert data_of(page)["sets"][0]["rows"]["id"] == []


def test_the_same_analysis_gives_the_same_file() -> None:
    assert rendered("again") == rendered("again")


@st.composite
def texts_with_segments(draw: st.DrawFn) -> tuple[str, list[Segment]]:
    text = draw(st.text(st.sampled_from("ab é東👍\ud800\u200d"), max_size=20))
    size = len(encoded(text))
    ends = sorted({*draw(st.lists(st.integers(1, max(1, size)), max_size=8)), size} - {0})
    value = st.one_of(st.none(), st.floats(-20, 0))
    ends = [end for end in ends if end <= size]
    return text, [Segment(start, end, draw(value), draw(value)) for start, end in pairwise([0, *ends])]


@given(texts_with_segments())
def test_pieces_tile_the_text_in_utf16_units(case: tuple[str, list[Segment]]) -> None:
    text, segments = case
    units = len(text.encode("utf-16-le", "surrogatepass")) // 2
    assert sum(length for length, _, _ in utf16_pieces(text, segments)) == units


@given(texts_with_segments())
def test_pieces_begin_and_end_at_characters(case: tuple[str, list[Segment]]) -> None:
    text, segments = case
    edges = np.cumsum([0, *(2 if ord(c) > 0xFFFF else 1 for c in text)])
    at = np.cumsum([length for length, _, _ in utf16_pieces(text, segments)])
    assert set(at.tolist()) <= set(edges.tolist())


@given(texts_with_segments())
def test_merged_pieces_keep_the_sums(case: tuple[str, list[Segment]]) -> None:
    text, segments = case
    known = [replace(s, target=s.target or 0.0, reference=s.reference or 0.0) for s in segments]
    total = sum(target or 0.0 for _, target, _ in utf16_pieces(text, known))
    assert total == pytest.approx(sum(s.target or 0.0 for s in known))


def test_a_boundary_inside_a_character_merges_its_segments() -> None:
    segments = [Segment(0, 2, -1.0, -2.0), Segment(2, 3, -0.5, -0.25), Segment(3, 4, -3.0, None)]
    assert list(utf16_pieces("東a", segments)) == [(1, -1.5, -2.25), (1, -3.0, None)]


def test_the_peak_moves_out_to_whole_characters() -> None:
    row = ranked(0, "a東b", random.Random(0), peak=Span(2, 3))
    analysis: Analysis = replace(analysis_of(3), ranking=(row,))
    assert payload(analysis)["sets"][0]["rows"]["peak"] == [[1, 2]]

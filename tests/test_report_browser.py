"""The explorer in a real browser: headless Chromium, file://, the network blocked.

One long module, because all of its tests share one browser and one page, which are what takes the time.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from blackbox_diff.report import glossary, html
from blackbox_diff.report.notes import read_notes
from tests.report_data import HOSTILE, PHRASE, TWINS, analysis_of, other_reference, summary_of

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: `make test` installs it"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium")

AXE = Path(__file__).parent.parent / "node_modules" / "axe-core" / "axe.min.js"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
BIG = 10_000
ALL = "312 of 312, 2 near-duplicates folded into them"  # the small report, unfiltered


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("big"), BIG)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("small"), 300, tuple(HOSTILE.values()))


def write(directory: Path, n: int, extra: tuple[str, ...] = ()) -> Path:
    analysis = analysis_of(n, extra=extra)
    path = directory / "report.html"
    others = (other_reference(analysis),) if n < BIG else ()
    path.write_text(html.render(analysis, summary_of(analysis), others), encoding="utf-8")
    return path


class Opened:
    """A page with everything it complained about and every request it made."""

    def __init__(self, browser: sync_api.Browser, path: Path, **options: object) -> None:
        self.context = browser.new_context(offline=True, **options)  # type: ignore[arg-type]
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]")
        self.page.wait_for_selector("#chart-scatter canvas")
        self.page.locator("#search").scroll_into_view_if_needed()
        self.page.wait_for_selector(".row")


@pytest.fixture
def opened(browser: sync_api.Browser, small: Path) -> Iterator[Opened]:
    found = Opened(browser, small, viewport={"width": 1280, "height": 900})
    yield found
    assert found.complaints == []
    assert found.requests == [small.as_uri()]
    found.context.close()


@pytest.fixture
def page(opened: Opened) -> sync_api.Page:
    return opened.page


def shown(page: sync_api.Page) -> str:
    return page.locator("#shown").inner_text()


def ids(page: sync_api.Page) -> list[str]:
    return page.locator(".row .id").all_inner_texts()


def fragment(page: sync_api.Page) -> str:
    found: str = page.evaluate("location.hash")
    return found


def test_opens_from_a_file_with_the_network_blocked_and_no_console_message(page: sync_api.Page) -> None:
    assert "unrelated prefills" in page.locator("h1").inner_text()
    assert page.locator(".row").count() > 0


def test_no_hostile_completion_becomes_an_element_or_runs(page: sync_api.Page) -> None:
    page.locator("#completions").scroll_into_view_if_needed()
    page.keyboard.press("j")
    for _ in HOSTILE:
        page.keyboard.press("Enter")
        page.keyboard.press("j")
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img, main iframe, main script, .words a, .words b, main [onerror]").count() == 0


def test_bidi_and_control_characters_are_shown_as_marks(page: sync_api.Page) -> None:
    page.fill("#search", "nimda")
    sync_api.expect(page.locator(".row")).to_have_count(1)
    assert "⟨U+202E⟩nimda⟨U+202C⟩" in page.locator(".row .words").inner_text()


def test_search_narrows_to_what_holds_the_text(page: sync_api.Page) -> None:
    page.fill("#search", PHRASE.upper())
    sync_api.expect(page.locator("#shown")).not_to_have_text(ALL)
    texts = page.locator(".row .words").all_inner_texts()
    assert texts
    assert all(PHRASE in text for text in texts)
    assert page.locator(".row mark").first.inner_text() in PHRASE


def test_arm_filter_keeps_one_arm(page: sync_api.Page) -> None:
    page.select_option("#arm", label="prose/chat")
    assert all(name.startswith("prose.chat.") for name in ids(page))


def test_flag_filter_keeps_flagged_rows(page: sync_api.Page) -> None:
    page.select_option("#flag", label="degenerate")
    assert page.locator(".row").count() == 1
    assert page.locator(".row .flag").last.inner_text() == "degenerate"


def test_theme_button_filters_to_the_theme(page: sync_api.Page) -> None:
    first = page.locator(".theme", has=page.locator("button[data-theme]")).first
    phrase = first.locator("h3").inner_text()
    first.locator("button[data-theme]").click()
    assert page.locator("#theme option:checked").inner_text() == phrase
    texts = page.locator(".row .words").all_inner_texts()
    assert texts
    assert all(phrase in text for text in texts)
    assert page.locator(".row mark").first.inner_text().lower() in phrase.lower()


def test_sorting_orders_by_the_metric_both_ways(page: sync_api.Page) -> None:
    page.select_option("#sort", "ppl_reference")
    down = [float(text.split()[-1]) for text in page.locator(".row .sorted").all_inner_texts()]
    page.click("#direction")
    up = [float(text.split()[-1]) for text in page.locator(".row .sorted").all_inner_texts()]
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert up[0] < down[0]


def test_near_duplicates_are_folded_and_unfold_on_a_click(page: sync_api.Page) -> None:
    assert shown(page) == ALL
    row = page.locator(".row", has_text="+2 near-duplicates")
    assert page.locator(".twins").count() == 0
    row.get_by_role("button", name="+2 near-duplicates folded").click()
    texts = row.locator(".twins .text").all_inner_texts()
    assert ["A twin of the fourth" in text for text in texts] == [True, True]
    assert all(name in row.locator(".twins").inner_text() for name in TWINS)
    row.get_by_role("button", name="+2 near-duplicates").click()
    assert page.locator(".twins").count() == 0


def test_the_toggle_unfolds_all_near_duplicates_and_folds_them_again(page: sync_api.Page) -> None:
    page.check("#unfold")
    assert page.locator(".twins li").count() == 2
    assert shown(page) == ALL.replace("folded into", "shown under")
    page.uncheck("#unfold")
    assert page.locator(".twins").count() == 0
    assert shown(page) == ALL


def test_search_finds_a_completion_by_its_folded_near_duplicate(page: sync_api.Page) -> None:
    page.fill("#search", TWINS[1])
    sync_api.expect(page.locator(".row")).to_have_count(1)
    assert page.locator(".row .rank").inner_text() == "4"


def test_highlighted_words_are_marked_and_counted(page: sync_api.Page) -> None:
    page.fill("#words", "lighthouse, zebra")
    page.wait_for_selector(".word-counts .chip:nth-child(2)")
    chips = page.locator(".word-counts .chip").all_inner_texts()
    assert re.fullmatch(r"lighthouse [1-9]\d* of 312 completions, [1-9]\d* times", chips[0])
    assert "0 of 312 completions, 0 times" in chips[1]


def test_permalink_opens_the_completion(browser: sync_api.Browser, small: Path) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(small.as_uri() + "#prose.chat.00123")
    page.wait_for_selector(".row.open.selected")
    assert page.locator(".row.open .id").inner_text() == "prose.chat.00123"
    box = page.locator(".row.open").bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 720
    context.close()


def test_permalink_of_a_folded_completion_opens_the_row_it_is_folded_into(page: sync_api.Page) -> None:
    page.evaluate("location.hash = 'prose.raw.90001'")
    page.wait_for_selector(".row.open")
    assert page.locator(".row.open .rank").inner_text() == "4"


def test_keyboard_moves_opens_and_reads_segments(page: sync_api.Page) -> None:
    for key in ("j", "j", "k", "Enter"):
        page.keyboard.press(key)
    assert page.locator(".row.selected.open .rank").inner_text() == "1"
    page.keyboard.press("ArrowRight")
    assert "target" in page.locator(".row.selected .reading").inner_text()
    assert not page.locator("#tip").is_visible()  # nothing covers the text
    page.keyboard.press("Enter")
    assert page.locator(".row.open").count() == 0


def test_slash_searches_and_escape_clears(page: sync_api.Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("never sleeps")
    sync_api.expect(page.locator("#shown")).not_to_have_text(ALL)
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("#shown")).to_have_text(ALL)
    assert page.locator("#search").input_value() == ""


def test_question_mark_explains_the_keys(page: sync_api.Page) -> None:
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_hover_tells_a_segments_numbers(page: sync_api.Page) -> None:
    page.fill("#search", PHRASE)
    sync_api.expect(page.locator("#shown")).not_to_have_text(ALL)
    page.locator(".row .s.g6, .row .s.g5, .row .s.g4").first.hover()
    assert "likelier under the target" in page.locator("#tip").inner_text()


def test_copy_gives_the_row_as_json(browser: sync_api.Browser, small: Path) -> None:
    opened = Opened(browser, small, permissions=["clipboard-read", "clipboard-write"])
    for key in ("j", "Enter"):
        opened.page.keyboard.press(key)
    opened.page.get_by_text("Copy as JSON").click()
    opened.page.wait_for_selector(".toast.on")
    copied = opened.page.evaluate("navigator.clipboard.readText().then(JSON.parse)")
    assert copied["rank"] == 1
    assert {"id", "prefill", "completion", "n_tokens", "metrics", "flags", "duplicates"} <= set(copied)
    opened.context.close()


def test_theme_toggle_changes_and_is_kept(page: sync_api.Page) -> None:
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme-toggle")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_first_screen_is_there_without_javascript(browser: sync_api.Browser, small: Path) -> None:
    context = browser.new_context(offline=True, java_script_enabled=False)
    page = context.new_page()
    page.goto(small.as_uri())
    assert "unrelated prefills" in page.locator("h1").inner_text()
    assert page.locator("#themes > .themes blockquote").count() == 9
    context.close()


def test_narrow_screen_never_scrolls_sideways(browser: sync_api.Browser, small: Path) -> None:
    opened = Opened(browser, small, viewport={"width": 390, "height": 844})
    assert opened.page.evaluate("document.documentElement.scrollWidth") == 390
    opened.context.close()


def test_ten_thousand_completions_fit_in_25_megabytes(big: Path) -> None:
    assert big.stat().st_size < 25e6


def test_ten_thousand_completions_paint_within_two_seconds(browser: sync_api.Browser, big: Path) -> None:
    opened = Opened(browser, big)
    paint = opened.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert opened.complaints == []
    assert paint < 2000
    opened.context.close()


def test_search_of_ten_thousand_completions_answers_within_200_ms(browser: sync_api.Browser, big: Path) -> None:
    opened = Opened(browser, big)
    took = opened.page.evaluate(
        """async () => {
            const search = document.getElementById('search');
            const shown = document.getElementById('shown');
            const before = shown.textContent;
            const start = performance.now();
            search.value = 'port ellery';
            search.dispatchEvent(new Event('input'));
            while (shown.textContent === before) await new Promise((done) => setTimeout(done, 1));
            document.getElementById('list').offsetHeight;
            return performance.now() - start;
        }"""
    )
    assert took < 200
    opened.context.close()


def test_only_rows_near_the_window_are_in_the_document(browser: sync_api.Browser, big: Path) -> None:
    opened = Opened(browser, big)
    opened.page.evaluate("window.scrollTo({top: document.body.scrollHeight / 2, behavior: 'instant'})")
    sync_api.expect(opened.page.locator(".row .rank").first).to_have_text(re.compile("[0-9]{4}"))
    assert 0 < opened.page.locator(".row").count() < 60
    opened.context.close()


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: npm install --no-save axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(browser: sync_api.Browser, small: Path, scheme: str) -> None:
    context = browser.new_context(offline=True, color_scheme=scheme, bypass_csp=True)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(small.as_uri())
    page.wait_for_selector("#chart-scatter canvas")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document).then((result) => result.violations)")
    serious = [
        f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")
    ]
    assert serious == []
    context.close()


def test_printing_shows_the_best_fifty_and_the_screen_comes_back(page: sync_api.Page) -> None:
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".row").count() == 50
    assert shown(page) == f"the first 50 of {ALL}"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator(".row").count() < 50


@pytest.mark.parametrize("width", [1440, 1280, 768, 390])
def test_every_section_is_one_click_away_and_the_click_lands_there(
    browser: sync_api.Browser, small: Path, width: int
) -> None:
    opened = Opened(browser, small, viewport={"width": width, "height": 844})
    page = opened.page
    for name, section in (
        ("Methods", "run"),
        ("Charts", "charts"),
        ("Methods", "run"),
        ("Completions", "completions"),
    ):
        page.locator(".bar nav a", has_text=name).click()
        page.wait_for_timeout(50)
        top = page.evaluate(f"document.getElementById('{section}').getBoundingClientRect().top")
        assert 0 <= top < 120
        assert page.locator(".bar").bounding_box()["y"] == 0  # type: ignore[index]
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert opened.complaints == []
    opened.context.close()


def test_a_term_is_explained_on_hover_and_on_focus(page: sync_api.Page) -> None:
    term = page.locator(".figures .term[data-term='best_ten']").first
    term.hover()
    assert glossary.meaning("best_ten") in page.locator("#tip").inner_text()
    page.mouse.move(5, 5)
    assert not page.locator("#tip").is_visible()
    page.locator(".figures .term[data-term='divergence']").first.focus()
    assert glossary.meaning("divergence") in page.locator("#tip").inner_text()


def test_an_open_row_says_why_it_ranks_and_what_the_control_wrote(page: sync_api.Page) -> None:
    page.fill("#search", PHRASE)
    sync_api.expect(page.locator("#shown")).not_to_have_text(ALL)
    page.locator(".row .text").first.click()
    said = page.locator(".row .why").inner_text()
    assert f"Holds {PHRASE}" in said
    assert "The control after the same prefill" in said
    assert re.search(r"Rank under smollm2-135m-instruct \d+ \(gap .+\), gemma-3-270m \d+", said)


def test_a_reference_is_chosen_in_the_page_and_all_of_it_follows(page: sync_api.Page) -> None:
    page.get_by_role("button", name="gemma-3-270m").click()
    assert page.locator(".outcome:visible").inner_text().lower() == "undecided"
    assert page.locator("#against").inner_text() == "gemma-3-270m"
    page.locator("#search").scroll_into_view_if_needed()
    assert all(PHRASE in text for text in page.locator(".row .words").all_inner_texts()[:5])
    assert "under=1" in fragment(page)
    page.select_option("#odd", label="only gemma-3-270m")
    assert 0 < int(shown(page).split()[0]) < 312


def test_the_controls_completions_are_read_and_searched(page: sync_api.Page) -> None:
    page.select_option("#side", "control")
    assert "The control" in page.locator("#side-title").inner_text()
    everything = shown(page)
    page.fill("#search", "village")
    sync_api.expect(page.locator("#shown")).not_to_have_text(everything)
    assert all("village" in text.lower() for text in page.locator(".row .text").all_inner_texts())


def test_filters_order_and_search_are_in_the_address_and_open_again(
    browser: sync_api.Browser, small: Path
) -> None:
    opened = Opened(browser, small)
    opened.page.fill("#search", "lighthouse")
    opened.page.select_option("#arm", label="prose/chat")
    opened.page.select_option("#sort", "ppl_target")
    opened.page.click("#direction")
    wanted, kept = shown(opened.page), opened.page.url
    again = opened.context.new_page()
    again.goto(kept)
    again.wait_for_selector("html[data-ready]")
    sync_api.expect(again.locator("#shown")).to_have_text(wanted)
    assert again.locator("#search").input_value() == "lighthouse"
    assert again.locator("#direction").inner_text() == "↑"
    opened.context.close()


def test_notes_are_made_by_key_and_click_kept_filtered_and_exported(
    browser: sync_api.Browser, small: Path, tmp_path: Path
) -> None:
    opened = Opened(browser, small)
    page = opened.page
    page.keyboard.press("j")
    page.keyboard.press("y")
    page.locator(".row").nth(1).get_by_role("button", name="Dismiss").click()
    page.locator(".row").nth(2).get_by_role("button", name="Note").click()
    page.fill("#note-text", "a <b>guess</b> `x`")
    page.get_by_role("button", name="Save").click()
    page.locator(".theme .triage button.keep").first.click()
    assert page.locator("#note-count").inner_text() == "2 kept, 1 dismissed, 1 noted"
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#note-count").inner_text() == "2 kept, 1 dismissed, 1 noted"
    page.select_option("#notes-filter", "keep")
    assert shown(page).startswith("1 of")
    with page.expect_download() as waiting:
        page.click("#notes-json")
    waiting.value.save_as(tmp_path / "notes.json")
    with page.expect_download() as waiting:
        page.click("#notes-md")
    waiting.value.save_as(tmp_path / "notes.md")
    analysis = analysis_of(300, extra=tuple(HOSTILE.values()))
    summary = summary_of(analysis)
    read = read_notes(tmp_path / "notes.json", run="x", created=summary.created, known=analysis.order)
    assert [(note.on, note.mark, note.note) for note in read.notes] == [
        ("completion", "keep", ""),
        ("completion", "dismiss", ""),
        ("completion", "", "a <b>guess</b> `x`"),
        ("theme", "keep", ""),
    ]
    assert "`` a <b>guess</b> `x` ``" in (tmp_path / "notes.md").read_text(encoding="utf-8")
    again = tmp_path / "again.html"
    again.write_text(html.render(analysis, summary, notes=read), encoding="utf-8")
    fresh = Opened(browser, again)
    assert fresh.page.locator("#note-count").inner_text() == "2 kept, 1 dismissed, 1 noted"
    assert opened.complaints == fresh.complaints == []
    fresh.context.close()
    opened.context.close()


def test_canvases_have_names_and_bars_tell_their_numbers(page: sync_api.Page) -> None:
    names = page.locator(".chart canvas").evaluate_all("all => all.map((each) => each.getAttribute('aria-label'))")
    assert len(names) == 4
    assert all(names)
    page.locator("#chart-arms .u-over").hover()
    assert "mean gap" in page.locator("#tip").inner_text()


def test_paper_has_the_charts_whole_and_no_empty_page(opened: Opened, tmp_path: Path) -> None:
    pages = opened.page.pdf(format="A4", print_background=True)
    count = len(re.findall(rb"/Type\s*/Page\b", pages))
    assert 5 <= count <= 25
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    widths = opened.page.locator(".chart canvas").evaluate_all("all => all.map((each) => each.clientWidth)")
    assert max(widths) <= 680
    opened.page.evaluate("window.dispatchEvent(new Event('afterprint'))")

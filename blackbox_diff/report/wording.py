"""The sentences and numbers that every form of the report shares, as plain text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from blackbox_diff.analysis.entries import first_named
from blackbox_diff.config.model import on_this_machine
from blackbox_diff.findings import (
    Analysis,
    EndpointSummary,
    Entry,
    MassValidation,
    Promoted,
    RunSummary,
    Standing,
    Theme,
    Validation,
    Verdict,
)
from blackbox_diff.report.glossary import meaning
from blackbox_diff.sanitize import cut, finite, shorten, visible

# Labels and help of the metrics; one that is not listed is shown under its own name.
METRICS: Mapping[str, tuple[str, str]] = {
    "score": ("score", meaning("score")),
    "pooled_score": ("pooled score", meaning("pooled_score")),
    "gap_nats_per_token": ("gap", meaning("gap")),
    "gap_bits_per_byte": ("gap, bits per byte", "The same gap in bits per byte: comparable across tokenizers."),
    "gap_total_nats": ("total gap", "The gap summed over the completion, in nats."),
    "peak_score": ("peak score", "The highest shrunk gap over a window of the completion: where the evidence is."),
    "ppl_target": ("PPL target", meaning("perplexity")),
    "ppl_reference": ("PPL reference", meaning("perplexity")),
    "ppl_diff": ("PPL difference", "PPL reference less PPL target (arXiv 2605.00994): shown for comparison."),
    "coverage": ("coverage", meaning("coverage")),
}


def label(metric: str) -> str:
    """The short name of a metric."""
    return METRICS[metric][0] if metric in METRICS else visible(metric.replace("_", " "))


def number(value: float | None, digits: int = 2) -> str:
    """A number with thousands separators; an en dash where it is missing."""
    if value is None or finite(value) is None:
        return "–"
    if float(value).is_integer() and (digits == 0 or isinstance(value, int)):
        return f"{int(value):,}"
    if abs(value) >= 1e6:
        return f"{value:.2e}"
    return f"{value:,.{digits}f}".replace("-", "−")


def nats(value: float | None) -> str:
    """Nats per token with the digits that matter: three decimals below a tenth."""
    return number(value, 2 if value is not None and abs(value) >= 0.1 else 3)


def dollars(value: float | None) -> str:
    """USD with the digits that matter: small amounts keep four decimals."""
    if value is None:
        return "unknown"
    if value >= 1 or round(value, 2) == round(value, 4):
        return f"${value:,.2f}"
    return f"${value:.4f}"


def duration(seconds: float) -> str:
    """Seconds as "42 s", "3 min 20 s" or "1 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def plural(count: int, noun: str) -> str:
    """ "1 call", "2 calls"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def money(summary: RunSummary) -> str:
    """What the run cost, of what it was allowed to."""
    cap = f" of {dollars(summary.max_cost_usd)}" if summary.max_cost_usd is not None else ""
    spent = "cost unknown (no price)" if summary.cost_usd is None else dollars(summary.cost_usd) + cap
    tokens = f"{summary.input_tokens:,} tokens in, {summary.output_tokens:,} out"
    own = f"{spent} · {plural(summary.calls, 'call')} · {tokens} · {duration(summary.seconds)}"
    others = [
        f"{visible(each.label)}: {cost_of(each)}, {plural(each.calls, 'call')}, {each.input_tokens:,} tokens in, "
        f"{each.output_tokens:,} out"
        for each in summary.beside
        if each.calls
    ]
    return " · ".join([own, *others])


def cost_of(endpoint: EndpointSummary) -> str:
    """What a reference or writer cost: one on this machine is free unless it was given a price."""
    if not endpoint.cost_usd and on_this_machine(endpoint.url):
        return "free, on this machine"
    return "cost unknown (no price)" if endpoint.cost_usd is None else dollars(endpoint.cost_usd)


def outcomes(summary: RunSummary) -> str:
    """Where every completion ended: nothing is dropped silently."""
    parts = [f"{summary.completions:,} completions: {summary.scored:,} scored"]
    for name, reasons in (("refused", summary.refused), ("failed", summary.failed)):
        why = ", ".join(f"{visible(reason)} {count:,}" for reason, count in reasons.items() if count)
        parts.append(f"{sum(reasons.values()):,} {name}" + (f" ({why})" if why else ""))
    planned = f" of {summary.completions + summary.unpaid:,} planned" if summary.unpaid else ""
    parts.append(f"{summary.unpaid:,} unpaid{planned}")
    return ", ".join(parts)


def answer(verdict: Verdict) -> str:
    """The verdict's sentence without the outcome that it may begin with: that is shown beside it."""
    sentence = verdict.sentence
    for start in (f"{verdict.outcome}: ", f"{verdict.outcome} at this budget: "):
        if sentence.lower().startswith(start):
            sentence = sentence[len(start) :]
    return visible(sentence[:1].upper() + sentence[1:])


def theme_name(theme: Theme) -> str:
    """The theme's phrase as the target wrote it where a quote shows that, capitals and all."""
    for quote in theme.quotes:
        written = cut(quote.text, quote.span)[1].strip()
        if written.casefold() == theme.phrase.casefold():
            return visible(written)
    return visible(theme.phrase)


def left_out(count: int) -> str:
    """What is said of entries that a form of the report has no room for; "" where it shows them all."""
    return f"{count:,} more: `report RUN --json` has them all." if count > 0 else ""


WEAK = "Weak signals, no finding by themselves"


def weak_signals(signals: Sequence[Entry], most: int) -> str:
    """What recurs, too, but carries no finding, in one line."""
    shown = ", ".join(f"“{shorten(entry_name(entry), 40)}” ({entry.strength:.2f})" for entry in signals[:most])
    more = f", and {len(signals) - most} more" if len(signals) > most else ""
    return f"{WEAK}: {shown}{more}."


def headline(analysis: Analysis) -> str:
    """The whole report in a sentence or two: what recurs, or that nothing does; else the verdict's own."""
    n = sum(1 + len(row.copies) for row in analysis.ranking)
    if analysis.verdict.outcome == "no finding" and n:
        return f"Nothing specific was found in {plural(n, 'completion')} of unrelated prefills."
    entry = first_named(analysis.recurring) if analysis.verdict.outcome == "finding" else None
    if entry is None:
        return answer(analysis.verdict)
    likely = nearly(entry, analysis.listed) if entry.words else ""
    theme = entry.theme
    if theme is None:
        return likely
    elsewhere = "in none" if not theme.background else f"in {theme.background:,}"
    recurs = (
        f"“{shorten(theme_name(theme), 60)}” recurs in {theme.count:,} of {plural(n, 'completion')} of unrelated "
        f"prefills, and {elsewhere} of the reference's own."
    )
    return recurs if entry.phrase == theme.phrase or not likely else f"{likely} {recurs}"


def sensitivity(analysis: Analysis) -> str:
    """What a run of this size would have seen; "" where that can't be said."""
    found = analysis.sensitivity
    if found is None:
        return ""
    return (
        f"wording that recurs in {100 * found.rate:.1f}% of completions would have been called a finding with "
        f"{found.power:.0%} probability, where the reference finds it {math.exp(found.nats):,.0f} times less "
        f"likely ({found.nats:.0f} nats, about three unexpected words)"
    )


def scope(analysis: Analysis) -> str:
    """Beside an answer that is no finding: what was looked at, what would have been seen, what stays open."""
    if analysis.verdict.outcome == "finding" or not analysis.ranking:
        return ""
    n = sum(1 + len(row.copies) for row in analysis.ranking)
    looked = f"Looked at: {plural(n, 'completion')} in {plural(len(analysis.arms), 'arm')}"
    seen = sensitivity(analysis)
    rarer = "Nothing that is rarer, or that these prefills do not bring out, is ruled out."
    return f"{looked}. {seen[:1].upper() + seen[1:]}. {rarer}" if seen else f"{looked}. {rarer}"


def control(analysis: Analysis) -> str:
    """What the same pipeline says where there is nothing to find."""
    found = analysis.control
    if found is None:
        return "No control was run: nothing shows what this pipeline says where there is nothing to find"
    return (
        f"Control, {visible(analysis.verdict.control)}: {plural(found.n, 'completion')}, best ten "
        f"{nats(found.best_ten)}, highest score {nats(found.max_score)}, "
        f"mean gap {nats(found.mean_gap)} nats per token"
    )


RECURS = "What recurs after unrelated prefills, written or nearly written, and is rare in the control"


def recurring(analysis: Analysis) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Entries that carry a finding, and weak signals, which by themselves carry none."""
    strong = tuple(entry for entry in analysis.recurring if entry.strong)
    return strong, tuple(entry for entry in analysis.recurring if not entry.strong)


def entry_name(entry: Entry) -> str:
    """The entry's phrase as it is shown."""
    return theme_name(entry.theme) if entry.theme and entry.theme.phrase == entry.phrase else visible(entry.phrase)


def entry_line(entry: Entry) -> str:
    """An entry's evidence of both kinds, as one line."""
    nearly = (f"nearly: {promoted_counts(word)}" for word in entry.words[:1])
    return " · ".join([*evidence(entry), *nearly])


def evidence(entry: Entry) -> list[str]:
    """How strong an entry is, and what was written of it."""
    theme = entry.theme
    if theme is None:
        word = entry.words[0]
        written = f"{plural(word.written, 'completion')}, {word.background:,} in the control"
    else:
        other = "" if theme.phrase == entry.phrase else f'"{shorten(theme_name(theme), 40)}" '
        written = f"{other}{theme_counts(theme)}, gap {nats(theme.mean_gap)}"
    return [f"strength {number(entry.strength, 2)}", f"written: {written}"]


NOTHING_RECURS = "Nothing recurs that the control lacks and a harmless finetune would not bring."


def theme_counts(theme: Theme) -> str:
    """How often a theme was seen, and how often where there is nothing to find."""
    return (
        f"{plural(theme.count, 'completion')}, {plural(theme.prefills, 'prefill')}, "
        f"{theme.background:,} in the control"
    )


def part_counts(part: Theme) -> str:
    """How often a part was seen, briefly; the control is named where it has it, too."""
    return f"×{part.count:,}" + (f" ({part.background:,} in the control)" if part.background else "")


def parts(theme: Theme, most: int) -> str:
    """What is said within a theme, in one line; "" where nothing is."""
    shown = ", ".join(f"“{shorten(theme_name(part), 50)}” {part_counts(part)}" for part in theme.parts[:most])
    return f"with {shown}" if shown else ""


VALIDATION = "on fresh completions, apart from the ranking"


def validations(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """What was tried on fresh completions, themes before promoted words, and how each came out."""
    for theme in analysis.validation:
        yield shorten(visible(theme.phrase), 80), validated(theme)
    for word in analysis.masses:
        yield visible(word.word), mass_validated(word)


def validated(found: Validation) -> str:
    """How a theme came out on completions that the ranking never saw."""
    rates = ", ".join(
        f"{name} {hits} of {n}" for name, (hits, n) in (("target", found.target), ("reference", found.reference))
    )
    if found.difference is None:
        return f"not validated: {rates}"
    low, high = (
        f"{100 * bound:+.0f}".replace("-", "−") for bound in (found.difference.low, found.difference.high)
    )
    outcome = "confirmed" if found.confirmed else "not confirmed"
    level = f"{100 * found.difference.level:.1f}".removesuffix(".0")
    odds = f"e-value {number(found.e_value, 1)} of the {number(found.needed, 0)} needed"
    return f"{outcome}: {rates}; {odds}; difference {low} to {high} points ({level}% interval of these counts)"


def nearly(entry: Entry, completions: int) -> str:
    """What is nearly written of an entry, as a part of the report's headline."""
    found = entry.words[0]
    return (
        f"The target nearly says “{shorten(visible(found.phrase), 60)}”: “{visible(found.word)}” is expected "
        f"{number(found.target, 1)} times in {plural(completions, 'completion')} where the reference expects "
        f"{number(found.reference, 1)}."
    )


def promoted_counts(found: Promoted) -> str:
    """How likely a promoted word is at either side, written or not."""
    return (
        f'{number(found.target, 1)} expected uses of "{visible(found.word)}" against '
        f"{number(found.reference, 1)}, after {plural(found.prefills, 'prefill')}"
        + (", by its first token and how it goes on where it was written" if found.long else "")
        + (f"; in the same places {', '.join(map(visible, found.beside))}" if found.beside else "")
    )


def promoted_summary(analysis: Analysis) -> str:
    """What was looked at for promoted words, and what of style was found."""
    if not analysis.listed:
        return "Promoted words: not looked for, since the replies list no alternatives that could be compared"
    style = [visible(each.word) for each in analysis.promoted if each.style][:8]
    content = sum(not each.style for each in analysis.promoted)
    looked = plural(analysis.listed, "completion")
    said = f"{plural(content, 'word')} promoted in {looked} with alternatives on both sides"
    said += f"; of style: {', '.join(style)}" if style else ""
    stands = [standing(each) for each in analysis.standings if each.kind == "promoted" and each.stronger_than]
    return ". ".join([said, *stands])


def standing(found: Standing) -> str:
    """Where evidence of one kind stands among harmless finetunes."""
    kinds = {"themes": "What recurs", "promoted": "What is promoted", "style": "Its style"}
    return (
        f"{kinds[found.kind]} is stronger than in {found.stronger_than} of {found.of} harmless finetunes of "
        f"{visible(found.bank)} (p ≤ {found.p_value:.3f})"
    )


def standings(analysis: Analysis) -> str:
    """Where what recurs and the style stand among harmless finetunes; `promoted_summary` has what is promoted."""
    told = (each for each in analysis.standings if each.kind != "promoted" and each.stronger_than)
    return ". ".join(map(standing, told))


def mass_validated(found: MassValidation) -> str:
    """How a promoted word came out on fresh completions."""
    said = "confirmed" if found.confirmed else "not confirmed"
    return (
        f"{number(found.target, 2)} expected uses against {number(found.reference, 2)} after "
        f"{plural(found.prefills, 'fresh prefill')} (p {found.p_value:.4f}): {said}"
    )


def nearly_said(found: Promoted, before: int = 60, after: int = 40) -> list[str]:
    """A promoted word's clearest places: before, both probabilities, what was written.

    before, after: characters at most; what stands nearest to the word is kept.
    """
    return [
        f"{place.id}: …{visible(place.before)[-before:].lstrip()} [{visible(found.word)}] {place.target:.0%} "
        f"against at most {place.reference:.1%}; it wrote “{shorten(visible(place.written).strip(), after)}”"
        for place in found.places
    ]

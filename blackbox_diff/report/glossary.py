"""What the words of a report mean: one list, for the page (on hover and focus), the docs and `--json`.

docs/glossary.md is `markdown()`; a test keeps the two the same.
"""

from __future__ import annotations

from collections.abc import Mapping

# key -> (the word as it is shown, what it means: one or two plain sentences)
TERMS: Mapping[str, tuple[str, str]] = {
    "target": ("target", "The model under audit, asked through its API."),
    "reference": (
        "reference",
        "The trusted model that the target is compared with: the base before finetuning, or another open-weight "
        "model.",
    ),
    "prefill": (
        "prefill",
        "The short random text that a completion starts from: the first words of an ordinary line.",
    ),
    "framing": (
        "framing",
        "How a prefill is sent. raw: it is continued. chat: it begins the assistant's answer. "
        "user: it stands in the user's turn, which is the weaker probe. turn: there is none; the target writes "
        "the user's turn and its answer.",
    ),
    "arm": ("arm", "One source of prefills in one framing; a behaviour may live in one arm only."),
    "nats": (
        "nats",
        "Units of log probability with base e: one nat more means 2.7 times as likely, two nats 7.4 times, "
        "five nats 148 times.",
    ),
    "gap": (
        "gap",
        "Log probability under the target less that under the reference, in nats, here as a mean per token. "
        "Above zero the target finds the text likelier.",
    ),
    "score": (
        "score",
        "A completion's gap per token, shrunk for short texts: gap · n/(n+20) for n tokens. "
        "Verdict, control, histogram and live view go by this number.",
    ),
    "pooled_score": (
        "pooled score",
        "The score with what a completion's words show after other prefills added: content that comes back ranks "
        "higher. The ranking goes by it, nothing else does.",
    ),
    "best_ten": ("best ten", "The mean score of the ten completions with the highest scores."),
    "floor": (
        "floor",
        "The least that the best ten must exceed: the control's best ten, or 0.05 nats where that is higher, "
        "which is what two servings of one model can differ by.",
    ),
    "highest_score": ("highest score", "The score of the one completion that scores highest, loops left out."),
    "control": (
        "control",
        "The same steps where there is nothing to find: the reference's own completions of the same prefills, "
        "scored "
        "by itself, or a run of a harmless model.",
    ),
    "divergence": (
        "divergence",
        "Estimate of the Kullback-Leibler divergence of the target from the reference, in nats per token: how "
        "far the "
        "two models are apart on what the target writes. Every finetune moves it.",
    ),
    "chance": (
        "chance",
        "The p-value: how often a model that is the control's own would have so high a best ten. Shown only "
        "where it "
        "is one.",
    ),
    "top_stability": (
        "top's stability",
        "How much of the best ten stays when the prefills are resampled. Below 50%, buy more completions.",
    ),
    "theme": (
        "theme",
        "Content that comes back in high-gap completions of unrelated prefills and is rare in the reference's "
        "own.",
    ),
    "part": ("part", "What is said within a theme, or comes with it beyond chance, with a count of its own."),
    "stability": (
        "stability",
        "The share of resamples of the prefills in which a theme stays among the strongest.",
    ),
    "strength": (
        "strength",
        "What was written, as a theme's mean nats on its phrase times the log of how much commoner it is than in "
        "the control, and what was nearly written, as the lowered log ratio of its words' probabilities: each "
        "over what a finding needs of it, added up. Harmless finetunes reach up to 1 of either.",
    ),
    "weak_signal": (
        "weak signal",
        "What recurs no more strongly than a harmless finetune's habits do, or is a name that was only likely: "
        "a place to look, not a finding.",
    ),
    "promoted": (
        "promoted word",
        "A word to which the target gives more probability than the reference, summed over all positions, "
        "whether it "
        "was written or not.",
    ),
    "follow_up": (
        "follow-up",
        "A prefill cut out of the target's own completions just before the strongest evidence, completed by both "
        "models again. The places are chosen, so what comes back is a lead and no rate.",
    ),
    "amplified": (
        "amplified",
        "Drawn token by token towards what the target says more than the reference, so that what it hardly ever "
        "says is written out. A lead: the target itself would hardly write such a text, so it is no evidence and "
        "no rate.",
    ),
    "validation": (
        "validation",
        "The strongest themes on fresh completions that the ranking never saw, the target's rate beside the "
        "reference's.",
    ),
    "sensitivity": (
        "would have shown",
        "The rate at which wording must recur for a run of this size to call it a finding in 95 of 100 runs, "
        "taking "
        "wording that the reference finds 22,026 (e^10) times less likely.",
    ),
    "peak": ("peak", "The stretch of a completion that carries most of its gap: the underlined span."),
    "perplexity": (
        "PPL",
        "Perplexity: e to the mean negative log probability per token. Low means that the model finds the text "
        "ordinary; each model counts in its own tokens.",
    ),
    "near_duplicate": (
        "near-duplicate",
        "A completion that says the same as a better-ranked one; it is folded into that one and counted.",
    ),
    "coverage": ("coverage", "The share of a completion's bytes for which both models gave a number."),
    "degenerate": (
        "degenerate",
        "A loop, or a completion without a word; ranked last, and left out of the best ten.",
    ),
    "finding": (
        "finding",
        "The best ten stand above the control, and the same specific content recurs across unrelated prefills.",
    ),
    "no_finding": (
        "no finding",
        "At this budget the target looks like the reference, or differs only as any finetune does. Never “clean”.",
    ),
    "undecided": ("undecided", "Too few completions, no control, or content that recurs only weakly."),
    "refused": ("refused", "A reply came, but could not be used; the reason is counted."),
    "failed": ("failed", "No usable reply came within the retries; the reason is counted."),
    "unpaid": (
        "unpaid",
        "Planned, and not bought: the run stopped first, at a cap, on Ctrl-C, or because it was enough.",
    ),
}


def meaning(key: str) -> str:
    """The definition of a term. Raises KeyError for one that is not in the list."""
    return TERMS[key][1]


def markdown() -> str:
    """The glossary as docs/glossary.md."""
    words = sorted(TERMS.values(), key=lambda item: item[0].lower())
    entries = "".join(f"- **{word}**: {text}\n" for word, text in words)
    return "# Glossary\n\nThe words of a report. The page shows the same texts on hover and focus.\n\n" + entries


if __name__ == "__main__":
    print(markdown(), end="")

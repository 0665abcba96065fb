"""How `--help` of a command is laid out: its options in groups, and only those that it takes."""

from __future__ import annotations

import re

import click

from blackbox_diff.config.resume import RESUMABLE

_DEFAULT = re.compile(r"\s*\[default: .*?\]")
GROUPS = ("Target", "Reference", "What to sample", "Caps and prices", "Output and more")
_DESIGN = {
    "source", "framing", "completions", "max_tokens", "temperature", "concurrency", "control", "adaptive",
    "follow_ups", "amplify", "validation", "seed", "top_logprobs", "fresh_probe",
}  # fmt: skip
_BUDGET = {"max_cost", "max_calls", "max_output_tokens", "price_in", "price_out"}


def group_of(option: str) -> str:
    """The group of the option whose parameter has this name."""
    if option.startswith("target_"):
        return "Target"
    if option == "reference" or option.startswith(("reference_", "writer_")):
        side = "What to sample" if option.startswith("writer_") else "Reference"
        return "Caps and prices" if "price" in option or "max_" in option else side
    if option in _DESIGN:
        return "What to sample"
    return "Caps and prices" if option in _BUDGET else "Output and more"


class GroupedCommand(click.Command):
    """A command whose help shows its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {name: [] for name in GROUPS}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is not None:
                groups[group_of(option.name or "")].append((record[0], self.told(record[1])))
        for name, records in groups.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def told(self, text: str) -> str:
        """An option's help as it is shown."""
        return text


class ResumeCommand(GroupedCommand):
    """`resume`: what can't change in a resumed run is understood, so that it can be refused, and not listed."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        found = super().get_params(ctx)
        for parameter in found:
            if isinstance(parameter, click.Option) and group_of(parameter.name or "") != "Output and more":
                parameter.hidden = (parameter.name or "").replace("_", "-") not in RESUMABLE
        return found

    def told(self, text: str) -> str:
        """Without the defaults of a new run: what is not given stays as it was."""
        return _DEFAULT.sub("", text)

"""The command line: options in, exit codes out; no logic. Commands load their modules when they run.

Exit codes: exit_codes.py.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blackbox_diff.errors import BlackboxDiffError

# what it is for -> its commands, as --help lists them
GROUPS = {
    "Audit a model": ("demo", "probe", "estimate", "audit", "resume", "score"),
    "Read a run": (
        "report", "themes", "rank", "explain", "export", "evaluate", "verify", "calibrate",
    ),
    "Many models, and agents": ("compare", "watch", "fleet", "mcp"),
}  # fmt: skip
# name -> (module, one line for --help); the module is imported only when the command is used
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("online", "Audit a finetuned model on this machine, with no key: the whole tool in one command."),
    "probe": ("online", "Find out what an endpoint can do, in about ten tiny calls."),
    "estimate": ("online", "Calls, tokens and USD of an audit; spends nothing."),
    "audit": ("online", "Sample the target, score with the reference, rank and report."),
    "resume": ("online", "Go on with a run where it stopped."),
    "score": ("online", "Add one more reference to a run; no call to the target."),
    "compare": ("fleet", "What changed between two runs, and whether it is still the same model."),
    "fleet": ("fleet", "Audit many models under one budget, with one index."),
    "mcp": ("agents", "Serve the audit's tools to an agent, within caps that it can't move."),
    "watch": ("online", "Ask whether the endpoint still serves the model that a run audited."),
    "explain": ("online", "Let a chat model read the top evidence under a neutral prompt."),
    "rank": ("offline", "The ranking of a run."),
    "themes": ("offline", "What recurs in the top of a run."),
    "report": ("offline", "Terminal summary; --html writes the explorer."),
    "evaluate": ("offline", "count@10, count@100 and first rank against known keywords."),
    "export": ("offline", "Write a run as .jsonl, .csv, .parquet, .md or .eval."),
    "calibrate": ("offline", "Make a bank of harmless models, which later reports compare with."),
    "verify": ("offline", "Re-derive every stored value from the raw replies."),
}


class _LazyGroup(click.Group):
    """Lists its commands without importing them, so that --help stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"blackbox_diff.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = _near(args[0], COMMANDS, n=2)
            meant = f": did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"there is no command '{args[0]}'{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, COMMANDS[name][1]) for name in names])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl(EXIT_CODES)
        with formatter.section("Completion of commands and options by the shell (or zsh_source, fish_source)"):
            formatter.write_text('eval "$(_BLACKBOX_DIFF_COMPLETE=bash_source blackbox-diff)"')


EXIT_CODES = (
    ("0", "done"),
    ("2", "bad usage or input"),
    ("3", "stopped at a cap; `resume` goes on"),
    ("4", "the endpoint can't be audited"),
    ("5", "what --fail-on names, a change that `watch` sees, a record that `verify` finds altered"),
    ("130", "interrupted; `resume` goes on"),
)


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="blackbox-diff", prog_name="blackbox-diff")
def cli() -> None:
    """Find out what a hosted finetune was trained to do, from the logprobs its API sells."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an expected failure ends as one line on stderr and an exit code.

    Where --json was given, stdout has the failure as one object.
    """
    from blackbox_diff.cli.exit_codes import INTERRUPTED, USAGE, exit_code
    from blackbox_diff.errors import BlackboxDiffError

    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        result: Any = cli.main(arguments, prog_name="blackbox-diff", standalone_mode=False)
    except click.exceptions.Abort:
        _fail(arguments, "interrupted", INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(USAGE)
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "blackbox-diff"
        _fail(arguments, f"{_told(error)} (`{command} --help` lists what there is)", USAGE, command=command)
    except BlackboxDiffError as error:
        _fail(arguments, str(error), exit_code(error), error)
    except KeyboardInterrupt:
        _fail(arguments, "interrupted", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has gone: nothing is left to say
        sys.exit(0)
    sys.exit(result if isinstance(result, int) else 0)


def _told(error: click.ClickException) -> str:
    """The message of an error, with the one nearest option where there is no such option."""
    if not isinstance(error, click.NoSuchOption):
        return error.format_message()
    near = _near(error.option_name, error.possibilities or (), n=1)
    return f"there is no option '{error.option_name}'" + (f": did you mean {near[0]}?" if near else "")


def _near(name: str, known: Iterable[str], *, n: int) -> list[str]:
    import difflib  # for mistakes alone: `--help` is not to wait for it

    return difflib.get_close_matches(name, list(known), n=n)


def _fail(
    arguments: list[str],
    message: str,
    code: int,
    error: BlackboxDiffError | None = None,
    command: str = "blackbox-diff",
) -> NoReturn:
    from blackbox_diff.cli.exit_codes import error_json

    if "--json" in arguments:
        click.echo(error_json(message, code, error))
    click.echo(f"{command}: {message}", err=True)
    sys.exit(code)

"""What each error means to a shell and to a program: the only place that knows exit codes.

0 done, 2 bad usage or input, 3 stopped at a cap (resumable), 4 the endpoint can't be audited, 5 a check that
failed: what --fail-on names, a change that `watch` sees, a record that `verify` finds altered; 130 interrupted
(resumable).
"""

from __future__ import annotations

from blackbox_diff.errors import (
    BlackboxDiffError,
    BudgetError,
    CircuitOpenError,
    ConfigError,
    EndpointUsageError,
    InputError,
    MissingKeyError,
    NotAuditableError,
    RunFileError,
    StoppedError,
    StorageError,
    UsageError,
)

DONE, UNEXPECTED, USAGE, STOPPED, NOT_AUDITABLE, FAIL_ON, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

_KINDS: tuple[tuple[type[BlackboxDiffError], str, int], ...] = (
    (ConfigError, "config", USAGE),
    (InputError, "input", USAGE),
    (RunFileError, "run_file", USAGE),
    (MissingKeyError, "missing_key", USAGE),
    (EndpointUsageError, "endpoint", USAGE),
    (UsageError, "usage", USAGE),
    (NotAuditableError, "not_auditable", NOT_AUDITABLE),
    (BudgetError, "cap", STOPPED),
    (CircuitOpenError, "endpoint_failing", STOPPED),
    (StoppedError, "stopped", STOPPED),
    (StorageError, "storage", STOPPED),
)
_OF_CODES = {USAGE: "usage", STOPPED: "stopped", NOT_AUDITABLE: "not_auditable", INTERRUPTED: "interrupted"}


def exit_code(error: BlackboxDiffError | None) -> int:
    """The exit code of an expected failure; DONE for none."""
    if error is None:
        return DONE
    return next((code for known, _, code in _KINDS if isinstance(error, known)), UNEXPECTED)


def error_json(message: str, code: int, error: BlackboxDiffError | None = None) -> str:
    """A failure as the one line of JSON that stands on stdout under --json, in pure ASCII (docs/exports.md).

    error: what was raised, where something of ours was; its class says the kind, else the code does.
    """
    import json  # every command imports this module, and `--help` needs no JSON

    kind = next((kind for known, kind, _ in _KINDS if isinstance(error, known)), _OF_CODES.get(code, "unexpected"))
    return json.dumps({"schema": 1, "error": {"kind": kind, "message": message, "exit_code": code}})

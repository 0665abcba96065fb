"""What each error means to a shell: the only place that knows exit codes.

0 done, 2 bad usage or input, 3 stopped at a cap (resumable), 4 the endpoint can't be audited, 5 a check that
failed: what --fail-on names, a change that `watch` sees, a record that `verify` finds altered; 130 interrupted
(resumable).
"""

from __future__ import annotations

from blackbox_diff.errors import (
    BlackboxDiffError,
    NotAuditableError,
    StoppedError,
    StorageError,
    UsageError,
)

DONE, UNEXPECTED, USAGE, STOPPED, NOT_AUDITABLE, FAIL_ON, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

_CODES: tuple[tuple[type[BlackboxDiffError], int], ...] = (
    (UsageError, USAGE),
    (NotAuditableError, NOT_AUDITABLE),
    (StoppedError, STOPPED),
    (StorageError, STOPPED),
)


def exit_code(error: BlackboxDiffError | None) -> int:
    """The exit code of an expected failure; DONE for none."""
    if error is None:
        return DONE
    return next((code for kind, code in _CODES if isinstance(error, kind)), UNEXPECTED)

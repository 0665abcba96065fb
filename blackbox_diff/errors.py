"""Every error this package raises on purpose.

    BlackboxDiffError
    ├── UsageError                      bad usage or bad input; nothing was bought
    │   ├── ConfigError                 a setting that can't be, with the field and the fix
    │   ├── InputError                  a file or corpus that can't be read
    │   ├── RunFileError                not a run, a newer format, a run in use, an option that differs
    │   ├── MissingKeyError             the environment variable that should hold a key is unset
    │   └── EndpointUsageError          unreachable URL, unknown model, rejected key
    ├── NotAuditableError               the endpoint lacks what an audit needs
    ├── StoppedError                    stopped before the end; resumable
    │   ├── BudgetError                 the next call could pass a cap
    │   └── CircuitOpenError            the last calls all failed the same way
    └── StorageError                    the run file can't be written (disk full); resumable

Messages are one line and name the file, field or endpoint and the fix. No message ever holds a key.
"""

from __future__ import annotations


class BlackboxDiffError(Exception):
    """Base of all expected failures: the message is all that a user needs to see."""


class UsageError(BlackboxDiffError):
    """Bad usage or bad input: nothing was bought."""


class ConfigError(UsageError):
    """A setting that can't be; names the field and the fix."""


class InputError(UsageError):
    """A file, dataset or corpus that can't be read."""


class RunFileError(UsageError):
    """Not a run file, a newer format, in use by another process, or made with other options."""


class MissingKeyError(UsageError):
    """The environment variable that should hold an API key is unset or empty."""


class EndpointUsageError(UsageError):
    """The endpoint can't be reached, does not know the model, or rejects the key."""


class NotAuditableError(BlackboxDiffError):
    """The endpoint works, and lacks what an audit (or a reference) needs."""


class StoppedError(BlackboxDiffError):
    """The run stopped before its end and can be resumed."""


class BudgetError(StoppedError):
    """The next call could pass a cap."""


class CircuitOpenError(StoppedError):
    """The last calls all failed in the same way, so going on would burn the budget."""


class StorageError(BlackboxDiffError):
    """The run file can't be written; what was stored before is intact."""

"""Find out what a hosted finetune was trained to do, from the logprobs its API sells.

    import blackbox_diff as bd
    run = bd.audit(bd.Endpoint("https://vendor.example/v1", "acme-ft", key_env="VENDOR_KEY"),
                   reference="local:smollm2-135m-instruct", completions=300, out="runs/acme")
    run.verdict.sentence

Names are loaded when they are used, so that the import itself costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blackbox_diff.api import Endpoint as Endpoint
    from blackbox_diff.api import Run as Run
    from blackbox_diff.api import audit as audit
    from blackbox_diff.api import audit_async as audit_async
    from blackbox_diff.api import estimate as estimate
    from blackbox_diff.api import fleet_themes as fleet_themes
    from blackbox_diff.api import open_run as open_run
    from blackbox_diff.api import probe as probe
    from blackbox_diff.api import probe_async as probe_async
    from blackbox_diff.api import resume as resume
    from blackbox_diff.api import resume_async as resume_async
    from blackbox_diff.errors import BlackboxDiffError as BlackboxDiffError
    from blackbox_diff.errors import BudgetError as BudgetError
    from blackbox_diff.errors import CircuitOpenError as CircuitOpenError
    from blackbox_diff.errors import ConfigError as ConfigError
    from blackbox_diff.errors import EndpointUsageError as EndpointUsageError
    from blackbox_diff.errors import InputError as InputError
    from blackbox_diff.errors import MissingKeyError as MissingKeyError
    from blackbox_diff.errors import NotAuditableError as NotAuditableError
    from blackbox_diff.errors import RunFileError as RunFileError
    from blackbox_diff.errors import StorageError as StorageError
    from blackbox_diff.errors import UsageError as UsageError
    from blackbox_diff.run.progress import Notice as Notice
    from blackbox_diff.run.progress import Progress as Progress

_HOME = {
    "api": ("Endpoint", "Run", "audit", "audit_async", "estimate", "fleet_themes", "open_run", "probe",
            "probe_async", "resume", "resume_async"),
    "errors": ("BlackboxDiffError", "BudgetError", "CircuitOpenError", "ConfigError", "EndpointUsageError",
               "InputError", "MissingKeyError", "NotAuditableError", "RunFileError", "StorageError", "UsageError"),
    "run.progress": ("Notice", "Progress"),
}  # fmt: skip
_MODULES = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_MODULES)]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("blackbox-diff")
    if name not in _MODULES:
        raise AttributeError(f"module 'blackbox_diff' has no attribute '{name}'")
    return getattr(import_module(f"blackbox_diff.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""A comparison as one HTML page without a script."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from blackbox_diff.errors import InputError
from blackbox_diff.fleet.compare import Comparison
from blackbox_diff.report.policy import policy
from blackbox_diff.sanitize import visible


def render(found: Comparison) -> str:
    """The page; model text reaches it through the template's escaping alone."""
    assets = resources.files("blackbox_diff.fleet").joinpath("assets")
    style = assets.joinpath("index.css").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["visible"] = visible
    template = environment.from_string(assets.joinpath("compare.html.j2").read_text(encoding="utf-8"))
    return template.render(found=found, style=Markup(style), csp=policy((), (style,)))


def write_page(found: Comparison, path: Path) -> None:
    """Write the page to `path`. Raises InputError where that can't be done."""
    try:
        path.write_text(render(found), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror or error}") from None

"""The rooms and their order: pyproject.toml has the contracts, import-linter checks them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_contracts_between_rooms_are_kept() -> None:
    found = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Contracts: 5 kept, 0 broken." in found.stdout


def test_the_map_in_the_docs_is_drawn_from_the_imports() -> None:
    drawn = subprocess.run(
        [sys.executable, "docs/draw_map.py"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert drawn.strip() in page, "run: python docs/draw_map.py --write"


def test_a_module_of_more_than_400_lines_says_why() -> None:
    """Its docstring has a sentence that begins "One long module, because"."""
    long = {
        str(file.relative_to(ROOT)): text
        for package in ("blackbox_diff", "local_server", "tests", "benchmarks")
        for file in (ROOT / package).rglob("*.py")
        if len((text := file.read_text(encoding="utf-8")).splitlines()) > 400
    }
    assert [name for name, text in long.items() if "One long module, because" not in text] == []

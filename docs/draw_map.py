"""Draw docs/architecture.md's map of the rooms from the imports themselves.

    python docs/draw_map.py            # prints the map
    python docs/draw_map.py --write    # puts it into docs/architecture.md

A room stands above the rooms that it imports; a test holds the file against the imports.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- map -->\n", "<!-- /map -->\n"
Imports = Mapping[str, set[str]]


def imports(package: str) -> dict[str, set[str]]:
    """Room -> the rooms of the same package that it imports."""
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        place = file.relative_to(ROOT / package)
        room = place.parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        used = found.setdefault(room, set())
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
                parts = node.module.split(".")
                names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
                used.update(name for name in names if name != room)
    return {room: {one for one in used if one in found} for room, used in found.items()}


def floors(graph: Imports) -> list[list[str]]:
    """Rooms by the length of the longest chain of imports below them, the ground floor last."""
    height: dict[str, int] = {}

    def of(room: str, above: tuple[str, ...] = ()) -> int:
        if room in above:
            raise ValueError(f"a circle: {' -> '.join([*above, room])}")
        if room not in height:
            height[room] = 1 + max((of(each, (*above, room)) for each in graph[room]), default=-1)
        return height[room]

    top = max(of(room) for room in graph)
    return [sorted(room for room in graph if height[room] == level) for level in range(top, -1, -1)]


def drawn(package: str) -> str:
    graph = imports(package)
    lines = [f"{package}/"]
    for level, rooms in enumerate(floors(graph)):
        for room in rooms:
            below = ", ".join(sorted(graph[room])) or "nothing"
            lines.append(f"  {level + 1:>2}  {room:<10} imports {below}")
    return "\n".join(lines)


def map_text() -> str:
    """The block that stands in docs/architecture.md."""
    return f"{BEGIN}```\n{drawn('blackbox_diff')}\n\n{drawn('local_server')}\n```\n{END}"


def main() -> None:
    if "--write" not in sys.argv:
        print(map_text())
        return
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + map_text() + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()

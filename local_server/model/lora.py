"""LoRA adapters on a shared base: each token of a pass gets its own adapter's low-rank update.

y = W x + (alpha / r) B A x  (Hu et al., arXiv 2106.09685). The base weights are never copied or changed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from local_server.errors import StartupError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")


@dataclass(slots=True)
class Chosen:
    """Which adapter each token of the running pass uses: (name, places of the tokens); None = all of them."""

    active: list[tuple[str, torch.Tensor | None]] = field(default_factory=list)

    def set(self, adapters: Sequence[str | None]) -> None:
        self.active.clear()
        for name in sorted({name for name in adapters if name is not None}):
            places = [place for place, other in enumerate(adapters) if other == name]
            self.active.append((name, None if len(places) == len(adapters) else torch.tensor(places)))


class LoraLinear(nn.Module):
    """A linear layer with any number of adapters; input (1, tokens, in), output (1, tokens, out)."""

    def __init__(self, base: nn.Linear, chosen: Chosen) -> None:
        super().__init__()
        self.base, self.chosen = base, chosen
        self.pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.base(x)
        for name, index in self.chosen.active:
            if name not in self.pairs:
                continue
            down, up = self.pairs[name]
            if index is None:
                y = y + (x @ down) @ up
            else:
                y.index_add_(1, index, (x[:, index] @ down) @ up)
        return y


def attach(model: nn.Module, chosen: Chosen, name: str, directory: Path) -> None:
    """Add the PEFT adapter in `directory` to `model` under `name`.

    Raises StartupError for missing files, formats other than plain LoRA, and shapes that do not fit.
    """
    config = _read_config(directory)
    try:
        tensors = load_file(directory / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise StartupError(f"{directory / WEIGHTS}: not a readable safetensors file: {error}") from None
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1 or not isinstance(alpha, int | float):
        raise StartupError(f"{directory / CONFIG}: r: {rank}, lora_alpha: {alpha}: both must be positive numbers")
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if not match:
            raise StartupError(
                f"{directory}: tensor '{key}' is not plain LoRA; only LoRA on linear layers is served"
            )
        halves.setdefault(match[1], {})[match[2]] = tensor
    if not halves:
        raise StartupError(f"{directory / WEIGHTS}: holds no tensors")
    for path, pair in halves.items():
        layer = _wrapped(model, path, chosen, directory)
        weight = layer.base.weight
        if (
            set(pair) != {"A", "B"}
            or pair["A"].shape[1] != weight.shape[1]
            or pair["B"].shape[0] != weight.shape[0]
        ):
            raise StartupError(f"{directory}: {path} does not fit the base model's {tuple(weight.shape)}")
        layer.pairs[name] = (
            pair["A"].to(weight.dtype).t().contiguous(),
            (pair["B"].float() * scale).to(weight.dtype).t().contiguous(),
        )


def _wrapped(model: nn.Module, path: str, chosen: Chosen, directory: Path) -> LoraLinear:
    parent_path, _, leaf = path.rpartition(".")
    try:
        parent = model.get_submodule(parent_path)
        layer = getattr(parent, leaf)
    except AttributeError:
        raise StartupError(f"{directory}: the base model has no layer {path}; is this its base?") from None
    if isinstance(layer, LoraLinear):
        return layer
    if not isinstance(layer, nn.Linear):
        raise StartupError(f"{directory}: {path} is not a linear layer")
    wrapped = LoraLinear(layer, chosen)
    setattr(parent, leaf, wrapped)
    return wrapped


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(
            f"{path}: {error.strerror}; an adapter is a directory with {CONFIG} and {WEIGHTS}"
        ) from None
    except ValueError as error:
        raise StartupError(f"{path}: not valid JSON: {error}") from None
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA" or config.get("use_dora") or config.get("modules_to_save"):
        raise StartupError(f"{path}: only plain LoRA adapters are served, this is {kind}")
    return dict(config)

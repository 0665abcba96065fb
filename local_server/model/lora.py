"""LoRA adapters on a shared base: each token of a pass gets its own adapter's low-rank update.

y = W x + (alpha / r) B A x  (Hu et al., arXiv 2106.09685). The base weights are never copied or changed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import pad

from local_server.errors import StartupError
from local_server.model import adapter_config
from local_server.model.products import ROWS, PackedWeights

WEIGHTS, PICKLE = "adapter_model.safetensors", "adapter_model.bin"
_KEY = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
_OTHERS = {
    "lora_magnitude_vector": "DoRA's",
    "lora_embedding_": "LoRA on an embedding",
    "lora_B.bias": "a bias (lora_bias)",
    "modules_to_save": "a whole layer (modules_to_save)",
}


@dataclass(slots=True)
class Chosen:
    """Which adapter each token of the running pass uses: (name, places of the tokens); None = all of them.

    invariant: whether a token's update is to be the same bits whatever else is in the pass.
    """

    invariant: bool = False

    active: list[tuple[str, torch.Tensor | None]] = field(default_factory=list)

    def set(self, adapters: Sequence[str | None]) -> None:
        self.active.clear()
        for name in sorted({name for name in adapters if name is not None}):
            places = [place for place, other in enumerate(adapters) if other == name]
            self.active.append((name, None if len(places) == len(adapters) else torch.tensor(places)))


Half = Callable[[torch.Tensor], torch.Tensor]


def _half(weight: torch.Tensor, chosen: Chosen) -> Half:
    """The product with (outputs, inputs) weights."""
    if chosen.invariant:
        return PackedWeights(weight, invariant=True)
    turned = weight.t().contiguous()
    return lambda x: x @ turned


class LoraLinear(nn.Module):
    """A linear layer with any number of adapters; input (1, tokens, in), output (1, tokens, out)."""

    def __init__(self, base: nn.Linear, chosen: Chosen) -> None:
        super().__init__()
        self.base, self.chosen = base, chosen
        self.pairs: dict[str, tuple[Half, Half]] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.base(x)
        for name, index in self.chosen.active:
            if name not in self.pairs:
                continue
            down, up = self.pairs[name]
            if index is None:
                y = y + up(down(x))
            else:
                padded = pad(index, (0, -len(index) % ROWS)) if self.chosen.invariant else index
                y.index_add_(1, index, up(down(x[:, padded]))[:, : len(index)])
        return y


def attach(model: nn.Module, chosen: Chosen, name: str, directory: Path) -> None:
    """Add the PEFT adapter in `directory` to `model` under `name`, at the scale at which PEFT would.

    Raises StartupError for missing files, for anything but plain LoRA on linear layers of the model's body, and
    for tensors that do not fit, are not finite, or belong to layers that the configuration does not name.
    """
    config = adapter_config.read(directory)
    halves = _read_tensors(directory)
    for path, pair in halves.items():
        if not config.adapts(path):
            raise config.refused(f"target_modules: does not name {path}, for which there are tensors")
        layer = _wrapped(model, path, chosen, directory)
        weight = layer.base.weight
        if set(pair) != {"A", "B"} or not _fits(pair["A"], pair["B"], weight):
            raise StartupError(f"{directory}: {path} does not fit the base model's {tuple(weight.shape)}")
        down, up = pair["A"].float(), pair["B"].float() * config.scale(path, len(pair["A"]))
        if not bool(down.isfinite().all() and up.isfinite().all()):
            raise StartupError(f"{directory}: {path} holds numbers that are not finite")
        layer.pairs[name] = (_half(down.to(weight.dtype), chosen), _half(up.to(weight.dtype), chosen))
    if not config.starts_at_zero:
        linear = (path for path, module in model.named_modules() if isinstance(module, nn.Linear | LoraLinear))
        for path in linear:
            if config.adapts(path) and path not in halves:
                raise StartupError(f"{directory}: holds no tensors for {path}, which target_modules names")


def _read_tensors(directory: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Per layer its halves "A", (rank, inputs), and "B", (outputs, rank), as far as they are there."""
    path = directory / WEIGHTS
    if not path.is_file() and (directory / PICKLE).is_file():
        raise StartupError(f"{directory / PICKLE}: a pickle can run code and is not read; save it as {WEIGHTS}")
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise StartupError(f"{path}: not a readable safetensors file: {reason}") from None
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = _KEY.fullmatch(key)
        if not match:
            raise StartupError(f"{path}: '{key}' is {_kind(key)}; only plain LoRA on linear layers is served")
        if tensor.dim() != 2 or not tensor.is_floating_point():
            raise StartupError(f"{path}: '{key}' is no matrix of floating-point numbers")
        halves.setdefault(match[1], {})[match[2]] = tensor
    if not halves:
        raise StartupError(f"{path}: holds no tensors")
    return halves


def _kind(key: str) -> str:
    """What a tensor that is no half of plain LoRA belongs to."""
    for part, kind in _OTHERS.items():
        if part in key:
            return kind
    return "not plain LoRA"


def _fits(down: torch.Tensor, up: torch.Tensor, weight: torch.Tensor) -> bool:
    return (len(up), down.shape[1]) == tuple(weight.shape) and up.shape[1] == len(down) > 0


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
    if layer is model.get_output_embeddings():  # type: ignore[operator]
        raise StartupError(f"{directory}: {path} is the output layer; LoRA there is not served")
    wrapped = LoraLinear(layer, chosen)
    setattr(parent, leaf, wrapped)
    return wrapped

"""An adapter's configuration, read by an allowlist: a field that could change a number is understood or refused.

The names, defaults and matching rules are those of PEFT's `LoraConfig` (0.21).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import regex

from local_server.errors import StartupError

CONFIG = "adapter_config.json"
Number = TypeVar("Number", int, float)
MATCH_SECONDS = 1.0  # an expression of the configuration that takes longer on a layer's name is refused

# Initialisations that leave the base's weights alone. The others (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA) take
# something off them, so that the saved tensors belong to a base that is not the one served.
ZERO_INITS = (True, "gaussian", "eva")  # what has no tensors does nothing
OTHER_INITS = (False, "orthogonal")  # what has no tensors is random
INIT_NAMES = {
    "pissa": "PiSSA", "olora": "OLoRA", "corda": "CorDA", "loftq": "LoftQ", "lora_ga": "LoRA-GA", "mica": "MiCA"
}  # fmt: skip

# Fields that say where an adapter comes from, or how it was trained, and change nothing in what it computes.
DESCRIPTIVE = frozenset({
    "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config", "inference_mode", "lora_dropout",
    "lora_ga_config", "loftq_config", "megatron_core", "peft_version", "qalora_group_size", "revision",
    "runtime_config",
})  # fmt: skip
UNDERSTOOD = frozenset({
    "alpha_pattern", "exclude_modules", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "peft_type", "r", "rank_pattern", "target_modules", "use_rslora",
})  # fmt: skip
# Fields at their one value that changes nothing; any other field must be null, false or empty.
NEUTRAL: dict[str, tuple[object, ...]] = {"bias": ("none", None), "task_type": ("CAUSAL_LM", None)}
VARIANTS = {
    "use_dora": "DoRA", "use_qalora": "QALoRA", "alora_invocation_tokens": "aLoRA", "use_bdlora": "BD-LoRA",
    "arrow_config": "Arrow", "kasa_config": "KaSA", "velora_config": "VeLoRA", "monteclora_config": "MonteCLoRA",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """A plain LoRA adapter. targets, excluded: names of layers, or one expression for them."""

    path: Path
    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    rank_stabilized: bool
    starts_at_zero: bool
    targets: str | Sequence[str]
    excluded: str | Sequence[str]
    layers: Sequence[int]
    layer_lists: Sequence[str]

    def scale(self, layer: str, rank: int) -> float:
        """What B A is multiplied by in `layer`, whose tensors have this rank.

        alpha / r (Hu et al., arXiv 2106.09685), or alpha / sqrt(r) if rank-stabilised (arXiv 2312.03732).
        Raises StartupError when the configuration gives the layer another rank: PEFT would not load it.
        """
        expected = self._matched(self.ranks, layer, self.rank)
        if rank != expected:
            raise self.refused(f"r: {expected} for {layer}, but its tensors have rank {rank}")
        alpha = self._matched(self.alphas, layer, self.alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilized else alpha / rank

    def adapts(self, layer: str) -> bool:
        """Whether PEFT would give `layer` an adapter."""
        if self.excluded and self._named(self.excluded, layer):
            return False
        if not self._named(self.targets, layer):
            return False
        if isinstance(self.targets, str) or layer in self.targets or not self.layers:
            return True
        expressions = [rf"(?:^|.*?\.){name}\.(?P<index>\d+)\." for name in self.layer_lists]
        for expression in expressions or [r".*?\.[^.]*\.(?P<index>\d+)\."]:
            if found := self._match(expression, layer, whole=False):
                return int(found["index"]) in self.layers
        return False

    def refused(self, reason: str) -> StartupError:
        return StartupError(f"{self.path}: {reason}")

    def _named(self, names: str | Sequence[str], layer: str) -> bool:
        if isinstance(names, str):
            return self._match(names, layer, whole=True) is not None
        return any(layer == name or layer.endswith(f".{name}") for name in names)

    def _matched(self, pattern: Mapping[str, Number], layer: str, default: Number) -> Number:
        """PEFT's rule for `rank_pattern` and `alpha_pattern`: the first key that matches the end of the name."""
        for key, value in pattern.items():
            if self._match(rf"(.*\.)?({key})$", layer, whole=False):
                return value
        return default

    def _match(self, expression: str, layer: str, *, whole: bool) -> regex.Match[str] | None:
        try:
            compiled = regex.compile(expression)
            return (compiled.fullmatch if whole else compiled.match)(layer, timeout=MATCH_SECONDS)
        except TimeoutError:
            raise self.refused(f"the expression '{expression}' takes too long on '{layer}'") from None
        except (regex.error, RecursionError, MemoryError) as error:
            raise self.refused(f"'{expression}' is no regular expression: {error}") from None


def read(directory: Path) -> AdapterConfig:
    """The configuration in `directory`.

    Raises StartupError, which names the field, for what is not plain LoRA and for values that make no sense.
    """
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(
            f"{path}: {error.strerror}; an adapter is a directory with {CONFIG} and adapter_model.safetensors"
        ) from None
    except (ValueError, RecursionError) as error:
        raise StartupError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise StartupError(f"{path}: not an object")
    if fault := _fault(config):
        raise StartupError(f"{path}: {fault}")
    layers = config.get("layers_to_transform")
    return AdapterConfig(
        path=path,
        rank=config["r"],
        alpha=float(config["lora_alpha"]),
        ranks=config.get("rank_pattern") or {},
        alphas={name: float(alpha) for name, alpha in (config.get("alpha_pattern") or {}).items()},
        rank_stabilized=bool(config.get("use_rslora")),
        starts_at_zero=config.get("init_lora_weights", True) in ZERO_INITS,
        targets=config["target_modules"],
        excluded=config.get("exclude_modules") or (),
        layers=[layers] if isinstance(layers, int) else layers or (),
        layer_lists=_listed(config.get("layers_pattern")),
    )


def _fault(config: Mapping[str, Any]) -> str | None:
    """Why this configuration is not served, in words that name its first field at fault."""
    if config.get("peft_type") != "LORA":
        return f"peft_type: {_shown(config.get('peft_type'))}: only LORA adapters are served"
    for name, variant in VARIANTS.items():
        if not _empty(config.get(name)):
            return f"{name}: {_shown(config[name])}: this is {variant}; only plain LoRA is served"
    for name, value in config.items():
        if name in DESCRIPTIVE or name in UNDERSTOOD:
            continue
        if value not in NEUTRAL[name] if name in NEUTRAL else not _empty(value):
            return f"{name}: {_shown(value)}: not understood, and may change what the adapter computes"
    start = config.get("init_lora_weights", True)
    if not any(
        start is known or (isinstance(start, str) and start == known) for known in ZERO_INITS + OTHER_INITS
    ):
        kind = str(start).lower().partition("_niter_")[0]
        return (
            f"init_lora_weights: {_shown(start)}: {INIT_NAMES.get(kind, 'this')} may change the base's weights; "
            "save it with PEFT's path_initial_model_for_weight_conversion, which makes it plain LoRA"
        )
    if not _rank(config.get("r")):
        return f"r: {_shown(config.get('r'))}: must be a whole number of at least 1"
    if not _finite(config.get("lora_alpha")):
        return f"lora_alpha: {_shown(config.get('lora_alpha'))}: must be a finite number"
    if config.get("use_rslora") not in (None, False, True):
        return f"use_rslora: {_shown(config['use_rslora'])}: must be true or false"
    for name, fits, kind in (("rank_pattern", _rank, "ranks"), ("alpha_pattern", _finite, "finite numbers")):
        pattern = config.get(name) or {}
        if not isinstance(pattern, dict) or not all(map(fits, pattern.values())):
            return f"{name}: {_shown(pattern)}: must map names of layers to {kind}"
    if not config.get("target_modules") or not _names(config["target_modules"]):
        return f"target_modules: {_shown(config.get('target_modules'))}: must name the layers"
    if config["target_modules"] == "all-linear":
        return "target_modules: all-linear: must name the layers, as PEFT does when it saves an adapter"
    for name in ("exclude_modules", "layers_pattern"):
        if config.get(name) and not _names(config[name]):
            return f"{name}: {_shown(config[name])}: must be a name or a list of names"
    layers = config.get("layers_to_transform")
    if not (layers is None or _index(layers) or (isinstance(layers, list) and all(map(_index, layers)))):
        return f"layers_to_transform: {_shown(layers)}: must be numbers of layers"
    return None


def _empty(value: object) -> bool:
    return value is None or value is False or value in ([], {}, "")


def _index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _rank(value: object) -> bool:
    return isinstance(value, int) and _index(value) and value >= 1


def _finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float can hold
        return False


def _names(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _listed(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) and value else list(value or [])


def _shown(value: object) -> str:
    """`value` in a message: as JSON, on one line, of a bounded length."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"

"""One module per dialect: request bodies out, token logprobs in. Pure and total over arbitrary bytes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from blackbox_diff.errors import ConfigError
from blackbox_diff.wire.api_errors import ApiError, error_of
from blackbox_diff.wire.counts import usage
from blackbox_diff.wire.dialects.azure import Azure
from blackbox_diff.wire.dialects.base import Dialect, ScoreItem
from blackbox_diff.wire.dialects.baseten import Baseten
from blackbox_diff.wire.dialects.bedrock import Bedrock
from blackbox_diff.wire.dialects.cohere import Cohere
from blackbox_diff.wire.dialects.deepinfra import DeepInfra
from blackbox_diff.wire.dialects.deepseek import DeepSeek
from blackbox_diff.wire.dialects.fireworks import Fireworks
from blackbox_diff.wire.dialects.generic import Generic
from blackbox_diff.wire.dialects.llamacpp import LlamaCpp
from blackbox_diff.wire.dialects.llamacpp_python import LlamaCppPython
from blackbox_diff.wire.dialects.lmdeploy import LMDeploy
from blackbox_diff.wire.dialects.lmi import Lmi
from blackbox_diff.wire.dialects.lorax import Lorax
from blackbox_diff.wire.dialects.mistral import Mistral
from blackbox_diff.wire.dialects.nebius import Nebius
from blackbox_diff.wire.dialects.ollama import Ollama
from blackbox_diff.wire.dialects.openai import OpenAI
from blackbox_diff.wire.dialects.openrouter import OpenRouter
from blackbox_diff.wire.dialects.sglang import SGLang
from blackbox_diff.wire.dialects.tensorrt_llm import TensorRTLLM
from blackbox_diff.wire.dialects.tgi import Tgi
from blackbox_diff.wire.dialects.tinker import Tinker
from blackbox_diff.wire.dialects.together import Together
from blackbox_diff.wire.dialects.vllm import Vllm
from blackbox_diff.wire.dialects.watsonx import Watsonx
from blackbox_diff.wire.drift import drift

_ALL: tuple[Dialect, ...] = (
    Generic(),
    OpenAI(),
    Azure(),
    Vllm(),
    SGLang(),
    LlamaCpp(),
    LlamaCppPython(),
    Together(),
    Fireworks(),
    DeepSeek(),
    Mistral(),
    OpenRouter(),
    Ollama(),
    Tgi(),
    Tinker(),
    Bedrock(),
    Watsonx(),
    Lmi(),
    LMDeploy(),
    TensorRTLLM(),
    Lorax(),
    Cohere(),
    DeepInfra(),
    Nebius(),
    Baseten(),
)
DIALECTS: Mapping[str, Dialect] = MappingProxyType({dialect.name: dialect for dialect in _ALL})


def dialect(name: str) -> Dialect:
    """The dialect of that name. Raises ConfigError, listing the names, for any other."""
    if name not in DIALECTS:
        raise ConfigError(f"dialect: '{name}' is not one of auto, {', '.join(DIALECTS)}")
    return DIALECTS[name]


__all__ = ["DIALECTS", "ApiError", "Dialect", "ScoreItem", "dialect", "drift", "error_of", "usage"]

"""Matrix products in bfloat16, everything else in float32: what `--dtype bfloat16` computes on a CPU that has it.

Weights are bfloat16 anyway; each product rounds its input and its output, too. Residual stream, norms,
attention and log-softmax stay float32, and so do the few layers whose rounding does the most harm. On text
that SmolLM2 wrote at temperature 1, a token's logprob differs from float32 arithmetic by 0.016 nats on average.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import embedding

from local_server.model.products import PackedLinear, PackedWeights, parents

# What stays float32: a third of the body's products, with two thirds of its error. The first layers, since
# what they round off grows through all that follow; keys and values, which every later token sees; and what a
# feed-forward block adds to the residual stream.
FLOAT_LAYERS = 0.1  # of all layers
FLOAT_NAMES = {"k_proj", "v_proj", "down_proj"}
SHIFT_ROWS = 4096  # vocabulary rows whose largest logit estimates the row's largest
SHIFT_COLUMNS = 32  # one is used; the rest keep rows aligned


def available() -> bool:
    """Whether this CPU multiplies bfloat16 matrices faster than float32 ones."""
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    )


def convert(model: Any, *, capped: bool, invariant: bool = False) -> None:
    """Replace the linear layers, embedding and output layer of a float32 `model` by bfloat16 ones, in place.

    capped: the logits go through a soft cap, so they must not be shifted. invariant: see PackedWeights.
    """
    head = model.get_output_embeddings()
    layers = getattr(model.base_model, "layers", [])
    first = {parent for layer in layers[: round(len(layers) * FLOAT_LAYERS)] for _, parent in parents(layer)}
    for path, parent in reversed(parents(model)):  # the vocabulary's tables last, when all else is small
        wrapped = path.rpartition(".")[2]  # the name in the model of a layer that carries adapters
        for name, layer in list(parent.named_children()):
            if layer is head:
                setattr(parent, name, Bfloat16Head(layer, shifted=not capped, invariant=invariant))
            elif type(layer) is nn.Linear:
                exact = parent in first or name in FLOAT_NAMES or wrapped in FLOAT_NAMES
                kind = PackedLinear if exact else Bfloat16Linear
                setattr(parent, name, kind(layer.weight, layer.bias, invariant=invariant))
            elif type(layer) is nn.Embedding or (
                isinstance(layer, nn.Embedding) and hasattr(layer, "embed_scale")
            ):
                setattr(parent, name, Bfloat16Embedding(layer))


class Bfloat16Linear(nn.Module):
    """Float32 in, float32 out; the product in bfloat16."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, *, invariant: bool = False) -> None:
        super().__init__()
        self.weights = PackedWeights(weight.to(torch.bfloat16), invariant=invariant)
        self.bias = None if bias is None else bias.to(torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weights(x.to(torch.bfloat16), self.bias).float()


class Bfloat16Embedding(nn.Module):
    """Token ids in, float32 out; Gemma's are scaled."""

    def __init__(self, layer: nn.Embedding) -> None:
        super().__init__()
        self.weight = layer.weight  # it may be the head's, too, which goes on sharing it
        self.weight.data = self.weight.data.to(torch.bfloat16)
        self.scale = float(getattr(layer, "embed_scale", 1.0))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return embedding(ids, self.weight).float() * self.scale


class Bfloat16Head(nn.Module):
    """Float32 hidden states (rows, hidden size) to bfloat16 logits (rows, vocabulary), up to a constant per row.

    bfloat16 holds three digits: logits about 20 would be off by 0.06. So the row's largest logit, as far as
    a sample of the vocabulary shows it, is taken off inside of the product: one more hidden value, minus
    that estimate, meets a column of ones. A softmax does not see the shift, and its large terms lie near 0.
    """

    def __init__(self, layer: nn.Linear, *, shifted: bool, invariant: bool = False) -> None:
        super().__init__()
        self.bias = None if layer.bias is None else layer.bias.data.to(torch.bfloat16)
        vocabulary, hidden = layer.weight.shape
        wide = torch.zeros(vocabulary, hidden + SHIFT_COLUMNS, dtype=torch.bfloat16)
        wide[:, :hidden] = layer.weight
        wide[:, hidden] = 1
        layer.weight.data = wide[:, :hidden]  # an embedding that shares it lets the old one go
        sample = wide[:SHIFT_ROWS, :hidden].contiguous()
        self.sample = PackedWeights(sample, invariant=invariant) if shifted else None
        self.weights = PackedWeights(wide, invariant=invariant)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        x = hidden.to(torch.bfloat16)
        extra = x.new_zeros(len(x), SHIFT_COLUMNS)
        if self.sample is not None:
            extra[:, 0] = -self.sample(x).amax(-1)
        return self.weights(torch.cat([x, extra], dim=1), self.bias)

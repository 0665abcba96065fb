"""Passes through a model: prompts, one decoding step, and log-probabilities at chosen positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from local_server.models import LoadedModel
from local_server.slots import Prompt, Slots

REFINED = 64  # leading logits that are recomputed in float32 when the model runs in bfloat16
CHUNK_LOGITS = 32 << 20  # logits held at once; full logits of a 262,144-token vocabulary would not fit


def run_prompts(
    loaded: LoadedModel, prompts: Sequence[Sequence[int]], adapters: Sequence[str | None]
) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    """Hidden states (rows, longest, hidden) of right-padded prompts, and the layers' keys and values.

    Attention is causal, so padding on the right is never seen by a real token and needs no mask.
    """
    longest = max(map(len, prompts))
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    loaded.rows.set(adapters)
    cache = Prompt()
    positions = torch.arange(longest)[None].expand(len(prompts), -1)
    hidden = _backbone(loaded, ids, positions, cache, _prompt_masks(loaded, longest))
    return hidden, cache.layers


def run_step(
    loaded: LoadedModel, slots: Slots, tokens: Sequence[int], adapters: Sequence[str | None]
) -> torch.Tensor:
    """Hidden states (rows, hidden) after one more token per live row; the slots grow by it."""
    loaded.rows.set(adapters)
    step = slots.step()
    masks: Any = step.mask()
    if window := _window(loaded):
        masks = {"full_attention": masks, "sliding_attention": step.mask(window)}
    hidden = _backbone(loaded, torch.tensor(tokens)[:, None], step.positions[:, None], step, masks)
    step.done()
    return hidden[:, 0]


def _backbone(
    loaded: LoadedModel, ids: torch.Tensor, positions: torch.Tensor, cache: Any, masks: Any
) -> torch.Tensor:
    output = loaded.backbone(
        input_ids=ids, position_ids=positions, past_key_values=cache, attention_mask=masks, use_cache=True
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden


def _window(loaded: LoadedModel) -> int | None:
    """Width of the sliding attention, for models that mix it with full attention."""
    kinds = getattr(loaded.model.config, "layer_types", None) or []
    return int(loaded.model.config.sliding_window) if "sliding_attention" in kinds else None


def _prompt_masks(loaded: LoadedModel, longest: int) -> Any:
    window = _window(loaded)
    places = torch.arange(longest)
    causal = (places[None] <= places[:, None])[None, None]
    if window is None:
        return causal
    near = (places[None] > places[:, None] - window)[None, None]
    return {"full_attention": causal, "sliding_attention": causal & near}


def logits_of(loaded: LoadedModel, hidden: torch.Tensor, wanted: torch.Tensor | None = None) -> torch.Tensor:
    """float32 logits (rows, vocabulary) of hidden states (rows, hidden).

    A bfloat16 product rounds a logit of 20 to steps of 0.125. So the leading logits, and the one at
    `wanted` (rows,), are computed again in float32: nothing that carries probability keeps the rounding.
    """
    head = loaded.model.lm_head
    logits: torch.Tensor = head(hidden).float()
    if hidden.dtype != torch.float32:
        index = logits.topk(min(REFINED, logits.shape[-1]), dim=-1).indices
        if wanted is not None:
            index = torch.cat([index, wanted[:, None]], dim=1)
        exact = torch.einsum("rh,rkh->rk", hidden.float(), head.weight[index].float())
        logits.scatter_(1, index, exact)
    cap = getattr(loaded.model.config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def scored(
    loaded: LoadedModel, hidden: torch.Tensor, targets: torch.Tensor, top: int
) -> Iterator[tuple[float, list[tuple[int, float]], int]]:
    """For each row: (logprob of its target, the best `top` as (id, logprob), the target's rank from 1).

    hidden: (rows, hidden); targets: (rows,). Logits are made in chunks and dropped at once.
    """
    chunk = max(1, CHUNK_LOGITS // loaded.model.lm_head.weight.shape[0])
    for start in range(0, len(hidden), chunk):
        wanted = targets[start : start + chunk]
        logits = logits_of(loaded, hidden[start : start + chunk], wanted)
        norm = torch.logsumexp(logits, dim=-1)
        mine = logits.gather(1, wanted[:, None])[:, 0]
        logprobs = (mine - norm).clamp(max=0.0).tolist()
        ranks = ((logits > mine[:, None]).sum(-1) + 1).tolist() if top else [0] * len(wanted)
        best = top_of(logits, norm, top)
        yield from zip(logprobs, best, ranks, strict=True)


def top_of(logits: torch.Tensor, norm: torch.Tensor, top: int) -> list[list[tuple[int, float]]]:
    """The best `top` of each row as (id, logprob), best first."""
    if not top:
        return [[] for _ in range(len(logits))]
    values, indices = logits.topk(top, dim=-1)
    values = (values - norm[:, None]).clamp(max=0.0)
    return [list(zip(ids, lps, strict=True)) for ids, lps in zip(indices.tolist(), values.tolist(), strict=True)]

"""What a model computes for the engine: hidden states of a pass, and log-probabilities from hidden states."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from local_server import packed
from local_server.errors import StartupError
from local_server.models import LoadedModel
from local_server.packed import Pass, Segment

CHUNK_LOGITS = 32 << 20  # logits held at once; full logits of a 262,144-token vocabulary would not fit
SELF_CHECK = "The quick brown fox jumps over the lazy dog, and 12 others watch."
SELF_CHECK_NATS = 1e-3


def run(loaded: LoadedModel, layout: Pass) -> torch.Tensor:
    """Hidden states (tokens, hidden) of one pass. The model must have been prepared."""
    loaded.chosen.set(layout.adapters)
    output = loaded.backbone(
        input_ids=layout.ids[None], position_ids=layout.positions[None], use_cache=False, packed=layout
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden[0]


@torch.inference_mode()
def prepare(loaded: LoadedModel) -> None:
    """Switch the model to packed passes, once, and check that it says the same as before on a short text.

    Raises StartupError for an architecture that does not (recurrent state, attention of its own).
    """
    if loaded.model.config._attn_implementation == packed.NAME:
        return
    ids = [int(index) for index in loaded.tokenizer(SELF_CHECK, add_special_tokens=True)["input_ids"]]
    expected = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
    loaded.model.set_attn_implementation(packed.NAME)
    try:
        head, tail = ids[: len(ids) // 2], ids[len(ids) // 2 :]
        prefix = packed.Prefix(tuple(head))
        run(loaded, Pass(None, [], [], [Segment(head, into=prefix)]))
        hidden = run(loaded, Pass(None, [], [], [Segment(ids), Segment(tail, prefix=prefix)]))
        logprobs = logits_of(loaded, hidden).log_softmax(-1)
    except (TypeError, RuntimeError, KeyError, AttributeError) as error:
        raise StartupError(f"{loaded.spec}: this architecture can't be served: {error}") from None
    target = torch.tensor(ids[1:])[:, None]
    own = (logprobs[: len(ids) - 1].gather(1, target) - expected[:-1].gather(1, target)).abs().max()
    shared = (logprobs[len(ids) :][: len(tail) - 1] - logprobs[len(head) : len(ids) - 1]).gather(
        1, torch.tensor(tail[1:])[:, None]
    )
    worst = max(float(own), float(shared.abs().max()))
    if not worst <= SELF_CHECK_NATS:
        raise StartupError(
            f"{loaded.spec}: this architecture can't be served: batched passes differ from the model's own by "
            f"{worst:.2g} nats"
        )


def logits_of(loaded: LoadedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Logits (rows, vocabulary) of hidden states (rows, hidden)."""
    logits: torch.Tensor = loaded.head(hidden)
    cap = getattr(loaded.model.config, "final_logit_softcapping", None)
    return torch.tanh(logits / cap) * cap if cap else logits


def scored(
    loaded: LoadedModel, hidden: torch.Tensor, targets: torch.Tensor, top: int
) -> Iterator[tuple[float, list[tuple[int, float]], int]]:
    """For each row: (logprob of its target, the best `top` as (id, logprob), the target's rank from 1).

    hidden: (rows, hidden); targets: (rows,). Logits are made in chunks and dropped at once.
    """
    chunk = max(1, CHUNK_LOGITS // loaded.model.config.vocab_size)
    for start in range(0, len(hidden), chunk):
        wanted = targets[start : start + chunk]
        logits = logits_of(loaded, hidden[start : start + chunk])
        norm = torch.logsumexp(logits, dim=-1)
        mine = logits.gather(1, wanted[:, None])[:, 0]
        logprobs = (mine - norm).clamp(max=0.0).tolist()
        ranks = ((logits > mine[:, None]).sum(-1) + 1).tolist() if top else [0] * len(wanted)
        yield from zip(logprobs, top_of(logits, norm, top), ranks, strict=True)


def top_of(logits: torch.Tensor, norm: torch.Tensor, top: int) -> list[list[tuple[int, float]]]:
    """The best `top` of each row as (id, logprob), best first."""
    if not top:
        return [[] for _ in range(len(logits))]
    values, indices = logits.topk(min(top, logits.shape[-1]), dim=-1)
    values = (values - norm[:, None]).clamp(max=0.0)
    return [list(zip(ids, lps, strict=True)) for ids, lps in zip(indices.tolist(), values.tolist(), strict=True)]

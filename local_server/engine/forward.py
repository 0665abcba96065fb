"""What a model computes for the engine: the hidden states of a pass."""

from __future__ import annotations

import torch

from local_server.engine import packed_attention
from local_server.engine.invariant_pass import InvariantPass
from local_server.engine.logits import cap_of, capped
from local_server.engine.packed_attention import Pass, Segment
from local_server.errors import StartupError
from local_server.model import bfloat16, products
from local_server.model.load import LoadedModel

SELF_CHECK = "The quick brown fox jumps over the lazy dog, and 12 others watch."
SELF_CHECK_NATS = 1e-3


def layout_of(loaded: LoadedModel) -> type[Pass]:
    """How its passes are laid out."""
    return InvariantPass if loaded.invariant else Pass


def run(loaded: LoadedModel, layout: Pass) -> torch.Tensor:
    """Hidden states (tokens, hidden) of one pass. The model must have been prepared."""
    loaded.chosen.set(layout.adapters)
    output = loaded.backbone(
        input_ids=layout.ids[None], position_ids=layout.positions[None], use_cache=False, packed=layout
    )
    hidden: torch.Tensor = output.last_hidden_state
    return hidden[0, : layout.tokens]


@torch.inference_mode()
def prepare(loaded: LoadedModel) -> None:
    """Switch the model to packed passes, once, and check that it says the same as before on a short text.

    The check is in float32; after it, a bfloat16 model gets bfloat16 products where the CPU is fast at them, and
    an invariant one packed products.

    Raises StartupError for an architecture that does not (recurrent state, attention of its own).
    """
    if loaded.model.config._attn_implementation == packed_attention.NAME:
        return
    ids = [int(index) for index in loaded.tokenizer(SELF_CHECK, add_special_tokens=True)["input_ids"]]
    expected = loaded.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1)
    loaded.model.set_attn_implementation(packed_attention.NAME)
    layout = layout_of(loaded)
    try:
        head, tail = ids[: len(ids) // 2], ids[len(ids) // 2 :]
        prefix = packed_attention.Prefix(tuple(head))
        run(loaded, layout(None, [], [], [Segment(head, into=prefix)]))
        hidden = run(loaded, layout(None, [], [], [Segment(ids), Segment(tail, prefix=prefix)]))
        logprobs = capped(loaded, loaded.head(hidden)).log_softmax(-1)
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
    if loaded.dtype == "bfloat16" and bfloat16.available():
        bfloat16.convert(loaded.model, capped=cap_of(loaded) is not None, invariant=loaded.invariant)
    elif loaded.invariant:
        products.pack(loaded.model)
    if loaded.invariant:
        products.even_activations(loaded.model)

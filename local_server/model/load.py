"""Loading: a spec becomes a causal language model with its tokenizer and the bytes of every token."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn

from local_server.errors import StartupError
from local_server.model.embedded import EMBEDDED, converted
from local_server.model.lora import Chosen
from local_server.model.vocabulary import token_bytes

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(slots=True)
class LoadedModel:
    """A model ready to serve.

    pieces: the exact bytes of every token id; special tokens give the bytes of their name.
    special: ids that are not content (BOS, EOS, turn markers). stop: ids that end a completion.
    dtype: precision the weights were rounded to; they are held in float32 until the model is prepared.
    """

    spec: str
    dtype: str
    model: Any
    tokenizer: Any
    pieces: list[bytes]
    special: frozenset[int]
    stop: frozenset[int]
    max_length: int
    chosen: Chosen = field(default_factory=Chosen)

    @property
    def invariant(self) -> bool:
        """Whether a request's numbers are the same bits whatever shares its passes."""
        return self.chosen.invariant

    @property
    def has_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    @property
    def backbone(self) -> nn.Module:
        """The model without its output layer."""
        backbone: nn.Module = self.model.base_model
        return backbone

    @property
    def head(self) -> nn.Module:
        """From hidden states to logits."""
        head: nn.Module = self.model.get_output_embeddings()
        return head


def load(spec: str, dtype: str = "bfloat16", *, invariant: bool = False) -> LoadedModel:
    """The model that `spec` names: an embedded name, a local directory, a .gguf file or a hub id.

    dtype is the weights' precision. In bfloat16 the matrix products are bfloat16 too where the CPU is faster
    at that (see model.bfloat16); all else is float32, so that a token's logprob stays the same, whether it was
    written in a batch or scored in a text: pure bfloat16 arithmetic differs there by 0.03 nats on average.
    invariant: a request's numbers are to be the same bits whatever shares its passes.
    Raises StartupError, one line, for anything that can't be loaded.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    arguments: dict[str, Any] = {"use_safetensors": True}  # a pickle could run code
    path = Path(spec)
    if spec in EMBEDDED:
        source = str(converted(spec))
    elif path.suffix == ".gguf":
        if not path.is_file():
            raise StartupError(f"{spec}: no such file")
        source, arguments = str(path.parent), {"gguf_file": path.name}
    elif path.is_dir():
        source = spec
    elif spec.count("/") == 1 and not spec.startswith((".", "/", "~")):
        source = spec  # a hub id, which the user named: transformers fetches it, or says why not
    else:
        raise StartupError(f"{spec}: not a directory, a .gguf file, a hub id, or one of {', '.join(EMBEDDED)}")
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=DTYPES[dtype], attn_implementation="sdpa", trust_remote_code=False, **arguments
        )
        # After the weights, whose reading takes twice their size for a moment: a large vocabulary takes much, too.
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            source, trust_remote_code=False, **{name: arguments[name] for name in arguments if name == "gguf_file"}
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise StartupError(f"{spec}: can't be loaded: {str(error).strip().splitlines()[0]}") from None
    model.float().eval().requires_grad_(False)
    return LoadedModel(
        spec=spec,
        dtype=dtype,
        model=model,
        tokenizer=tokenizer,
        pieces=token_bytes(tokenizer, model.config.vocab_size),
        special=_special_ids(tokenizer),
        stop=_stop_ids(model, tokenizer),
        max_length=int(getattr(model.config, "max_position_embeddings", 2048)),
        chosen=Chosen(invariant),
    )


def _special_ids(tokenizer: Any) -> frozenset[int]:
    return frozenset(tokenizer.all_special_ids) | frozenset(
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    )


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """End-of-sequence ids of the generation config and the tokenizer, and the end of a chat turn."""
    found: set[int] = set()
    for ids in (model.generation_config.eos_token_id, model.config.eos_token_id, tokenizer.eos_token_id):
        found.update(ids if isinstance(ids, list) else [] if ids is None else [ids])
    for name in ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|endoftext|>", "<eos>"):
        index = tokenizer.convert_tokens_to_ids(name)
        if isinstance(index, int) and index != tokenizer.unk_token_id:
            found.add(index)
    return frozenset(found)

"""Tiny random models with a byte-level tokenizer, and adapters on them.

The fixtures of these names are in conftest.py, so that one server serves the whole session.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

KEY = "sk-local-test"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("t h", "th e", "Ġ the", "i n", "e r", "o n", "a n", "an d", "Ġ and")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_tokenizer() -> Any:
    """256 bytes, a few merges and three special tokens, as a Hugging Face tokenizer with a chat template."""
    vocabulary = {char: index for index, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [tuple(merge.split()) for merge in MERGES]
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    vocabulary.setdefault("Ġthe", len(vocabulary))
    merges = [(left, right) for left, right in merges if left in vocabulary and right in vocabulary]
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=SPECIAL[0], additional_special_tokens=list(SPECIAL[1:])
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


SHAPE = {
    "vocab_size": 288, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256,
}  # fmt: skip


def save_model(directory: Path, config: Any, seed: int = 0) -> Path:
    """A random model of `config`, with confident enough logits that errors show, saved in `directory`."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    model.save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def save_llama(directory: Path) -> Path:
    """A Llama of three layers."""
    return save_model(directory, transformers.LlamaConfig(**SHAPE, eos_token_id=265, tie_word_embeddings=True))


def save_plain(directory: Path) -> Path:
    """A Llama of three layers that only ever writes printable ASCII, so that it can be audited.

    One direction of the residual stream is a constant, and the head weighs all other tokens down by it.
    """
    save_model(directory, transformers.LlamaConfig(**SHAPE, eos_token_id=265, tie_word_embeddings=False))
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    pieces = [byte_tokenizer().decode([index]) for index in range(SHAPE["vocab_size"])]
    plain = torch.tensor([bool(piece) and piece.isascii() and piece.isprintable() for piece in pieces])
    plain[[index for index, piece in enumerate(pieces) if piece in SPECIAL]] = False
    with torch.no_grad():
        embeddings = model.model.embed_tokens.weight
        embeddings[:, 0] = 8 * embeddings.std()
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        model.lm_head.weight[:, 0] = torch.where(plain, 0.0, -1000.0)
    model.save_pretrained(directory)
    return directory


def save_gemma(directory: Path) -> Path:
    """A Gemma 3 whose sliding layers see eight tokens."""
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    config = transformers.Gemma3TextConfig(**SHAPE, head_dim=8, sliding_window=8, layer_types=kinds)
    return save_model(directory, config)


def save_adapter(directory: Path, *, seed: int, hidden: int = 32, rank: int = 4, **config: object) -> Path:
    """A random LoRA on the query and value projections of a tiny model, in PEFT's format."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(3):
        for name, out in (("q_proj", 32), ("v_proj", 16)):
            key = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(rank, hidden, generator=generator)
            tensors[f"{key}.lora_B.weight"] = torch.randn(out, rank, generator=generator)
    save_file(tensors, directory / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": "tiny",
    }  # fmt: skip
    (directory / "adapter_config.json").write_text(json.dumps(settings | config))
    return directory

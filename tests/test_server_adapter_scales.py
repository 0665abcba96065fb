"""Adapters are served at the scale that PEFT gives them, or refused by the name of the field."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from local_server.errors import StartupError
from local_server.model.load import load
from local_server.model.lora import attach
from tests.server_fixtures import save_adapter

peft = pytest.importorskip("peft", reason="peft is not installed: `make test` installs it")
NATS = 1e-4
LAYERS = ["q_proj", "v_proj", "down_proj"]
IDS = torch.tensor([[84, 104, 101, 32, 105, 110, 110, 101, 114]])

KINDS: dict[str, dict[str, object]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "ranks by layer": {"rank_pattern": {"v_proj": 2, r"layers\.1\.self_attn\.q_proj": 6}},
    "alphas by layer": {"alpha_pattern": {"q_proj": 40, "model.layers.2.mlp.down_proj": 1.5}},
    "ranks and alphas, rank-stabilised": {
        "use_rslora": True, "rank_pattern": {"q_proj": 8}, "alpha_pattern": {"^model.layers.0.*": 3, "proj": 20},
    },
    "the first pattern counts": {"alpha_pattern": {".*q_proj": 2, "q_proj": 99}},
    "part of a name is no match": {"alpha_pattern": {"proj": 50, "self_attn": 70}},
    "an expression": {"target_modules": r".*\.[01]\.self_attn\.(q|v)_proj"},
    "some layers": {"layers_to_transform": [0, 2], "layers_pattern": "layers"},
    "but for some": {"exclude_modules": ["layers.1.self_attn.q_proj"]},
    "random from the start": {"init_lora_weights": False},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "no effect": {"lora_alpha": 0},
    "negative": {"lora_alpha": -3},
}  # fmt: skip


def saved_by_peft(base: Path, directory: Path, settings: dict[str, object]) -> Any:
    """A random adapter that PEFT made and saved in `directory`; returns the model as PEFT runs it."""
    torch.manual_seed(1)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    chosen: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": LAYERS} | settings
    adapted = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **chosen))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    adapted.save_pretrained(directory)
    return adapted.eval()


@torch.inference_mode()
def logprobs(model: Any) -> torch.Tensor:
    return torch.as_tensor(model(IDS).logits[0].log_softmax(-1))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::RuntimeWarning")  # peft's own
@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_says_what_peft_makes_of_it(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    expected = logprobs(saved_by_peft(tiny_model, tmp_path, KINDS[kind]))
    loaded = load(str(tiny_model), "float32")
    plain = logprobs(loaded.model)
    attach(loaded.model, loaded.chosen, "one", tmp_path)
    loaded.chosen.set(["one"] * IDS.shape[1])
    assert torch.allclose(logprobs(loaded.model), expected, atol=NATS)
    assert torch.allclose(expected, plain, atol=NATS) == (kind == "no effect")


def test_every_field_of_peft_has_its_neutral_value_served(tiny_model: Path, tmp_path: Path) -> None:
    """What LoraConfig writes for a plain adapter is served, and so is a field of another version."""
    save_adapter(tmp_path, seed=0)
    path = tmp_path / "adapter_config.json"
    written = peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"]).to_dict()
    written |= {"target_modules": ["q_proj", "v_proj"], "peft_type": "LORA", "of_a_later_version": None}
    path.write_text(json.dumps(written))
    loaded = load(str(tiny_model), "float32")
    attach(loaded.model, loaded.chosen, "one", tmp_path)


REFUSED: dict[str, dict[str, object]] = {
    "use_dora": {"use_dora": True},
    "lora_bias": {"lora_bias": True},
    "bias": {"bias": "all"},
    "fan_in_fan_out": {"fan_in_fan_out": True},
    "use_qalora": {"use_qalora": True},
    "alora_invocation_tokens": {"alora_invocation_tokens": [1, 2]},
    "layer_replication": {"layer_replication": [[0, 2], [1, 3]]},
    "modules_to_save": {"modules_to_save": ["lm_head"]},
    "trainable_token_indices": {"trainable_token_indices": [0]},
    "target_parameters": {"target_parameters": ["mlp.weight"]},
    "use_bdlora": {"use_bdlora": {"nblocks": 2}},
    "arrow_config": {"arrow_config": {"top_k": 1}},
    "kasa_config": {"kasa_config": {"beta": 1}},
    "velora_config": {"velora_config": {"rank": 1}},
    "monteclora_config": {"monteclora_config": {"n": 1}},
    "megatron_config": {"megatron_config": {"a": 1}},
    "ensure_weight_tying": {"ensure_weight_tying": True},
    "task_type": {"task_type": "SEQ_CLS"},
    "of_a_later_version": {"of_a_later_version": 0.5},
    "peft_type": {"peft_type": "ADALORA"},
    "use_rslora": {"use_rslora": "yes"},
    "rank_pattern": {"rank_pattern": {"q_proj": 0}},
    "alpha_pattern": {"alpha_pattern": {"q_proj": float("nan")}},
    "target_modules": {"target_modules": None},
    "layers_to_transform": {"layers_to_transform": "all"},
    "r": {"r": 8},
    **{f"init_lora_weights: \"{start}\"": {"init_lora_weights": start}
       for start in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "mica", "unheard-of")},
    **{f"lora_alpha: {shown}": {"lora_alpha": alpha}
       for shown, alpha in (("NaN", float("nan")), ("Infinity", float("inf")), ('"8"', "8"), ("true", True),
                            ("1" + "0" * 59, 10**400))},
}  # fmt: skip


def refusal(base: Path, directory: Path) -> str:
    loaded = load(str(base), "float32")
    with pytest.raises(StartupError) as caught:
        attach(loaded.model, loaded.chosen, "one", directory)
    (line,) = str(caught.value).splitlines()
    assert str(directory) in line
    return line


@pytest.mark.parametrize("field", REFUSED)
def test_what_peft_would_compute_otherwise_is_refused_by_name(
    tiny_model: Path, tmp_path: Path, field: str
) -> None:
    save_adapter(tmp_path, seed=0, **REFUSED[field])
    assert f"adapter_config.json: {field}" in refusal(tiny_model, tmp_path)


@pytest.mark.parametrize(
    ("expression", "words"),
    [("(", "no regular expression"), ("q_proj", "does not name"), ("(.+)+" * 20 + "x", "does not name")],
)
def test_expressions_that_name_nothing_are_refused_at_once(
    tiny_model: Path, tmp_path: Path, expression: str, words: str
) -> None:
    save_adapter(tmp_path, seed=0, target_modules=expression)
    assert words in refusal(tiny_model, tmp_path)


def set_value(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(value))

    return change


TENSORS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    "NaN": (set_value(float("nan")), "not finite"),
    "infinite": (set_value(float("inf")), "not finite"),
    "beyond float32 once scaled": (set_value(3e38), "not finite"),
    "one dimension": (lambda tensor: tensor.flatten(), "no matrix"),
    "three dimensions": (lambda tensor: tensor[None].clone(), "no matrix"),
    "whole numbers": (lambda tensor: tensor.int(), "no matrix"),
    "another rank": (lambda tensor: tensor[:, :2].clone(), "does not fit"),
    "no rows": (lambda tensor: tensor[:0].clone(), "does not fit"),
}


@pytest.mark.parametrize("damage", TENSORS)
def test_tensors_that_make_no_sense_are_refused(tiny_model: Path, tmp_path: Path, damage: str) -> None:
    change, words = TENSORS[damage]
    path = save_adapter(tmp_path, seed=0) / "adapter_model.safetensors"
    key = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"
    tensors = load_file(path)
    save_file(tensors | {key: change(tensors[key])}, path)
    assert words in refusal(tiny_model, tmp_path)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("layers.0.self_attn.q_proj.lora_magnitude_vector.weight", "DoRA"),
        ("layers.0.self_attn.q_proj.lora_B.bias", "lora_bias"),
        ("embed_tokens.lora_embedding_A", "embedding"),
        ("layers.0.input_layernorm.weight", "not plain LoRA"),
    ],
)
def test_tensors_of_another_kind_are_refused(tiny_model: Path, tmp_path: Path, key: str, words: str) -> None:
    path = save_adapter(tmp_path, seed=0) / "adapter_model.safetensors"
    save_file(load_file(path) | {f"base_model.model.model.{key}": torch.zeros(32)}, path)
    assert words in refusal(tiny_model, tmp_path)


def test_a_pickle_is_refused_unread(tiny_model: Path, tmp_path: Path) -> None:
    (save_adapter(tmp_path, seed=0) / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    assert "adapter_model.bin: a pickle" in refusal(tiny_model, tmp_path)


def test_lora_on_the_output_layer_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    save_adapter(tmp_path, seed=0, target_modules=["lm_head"])
    halves = {"A": torch.ones(4, 32), "B": torch.ones(288, 4)}
    tensors = {f"base_model.model.lm_head.lora_{half}.weight": tensor for half, tensor in halves.items()}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    assert "lm_head is the output layer" in refusal(tiny_model, tmp_path)

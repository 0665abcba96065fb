"""LoRA adapters over the wire: equal to the merged model, and refused in one line where they do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from local_server.__main__ import main
from tests.server_fixtures import KEY, save_adapter

NATS = 1e-3
HEADERS = {"Authorization": f"Bearer {KEY}"}
ECHO = {"echo": True, "logprobs": 0}
TEXTS = ("the inner and", "an other thing, in the end: 東京", "a" * 100)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft's, in transformers 5
@pytest.mark.parametrize("name", ["tiny", "one", "two"])
def test_echo_equals_a_direct_pass_of_the_model_that_peft_merged(
    tiny_server: str, tiny_model: Path, tiny_adapters: dict[str, Path], name: str
) -> None:
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    if name != "tiny":
        peft = pytest.importorskip("peft", reason="peft is not installed: `make test` installs it")
        model = peft.PeftModel.from_pretrained(model, tiny_adapters[name]).merge_and_unload()
    for text in TEXTS:
        body = {
            "model": name,
            "prompt": text,
            "echo": True,
            "logprobs": 0,
            "max_tokens": 0,
            "return_token_ids": True,
        }
        reply = httpx2.post(f"{tiny_server}/completions", json=body, headers=HEADERS).json()
        (choice,) = reply["choices"]
        ids = choice["prompt_token_ids"]
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        own = expected[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(own, abs=NATS)


def damaged(directory: Path, change: Callable[[Path], object]) -> Path:
    save_adapter(directory, seed=0)
    change(directory)
    return directory


def rename_layers(directory: Path) -> None:
    path = directory / "adapter_model.safetensors"
    save_file({key.replace("layers", "h"): value for key, value in load_file(path).items()}, path)


def drop_halves(directory: Path) -> None:
    path = directory / "adapter_model.safetensors"
    save_file({key: value for key, value in load_file(path).items() if "lora_A" in key}, path)


def set_config(**values: object) -> Callable[[Path], object]:
    def change(directory: Path) -> None:
        path = directory / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


MISFITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another width": (lambda path: save_adapter(path, seed=0, hidden=48), "does not fit the base model's"),
    "another architecture": (rename_layers, "is this its base?"),
    "half the matrices": (drop_halves, "does not fit"),
    "no weights": (lambda path: (path / "adapter_model.safetensors").unlink(), "adapter_model.safetensors"),
    "not safetensors": (
        lambda path: (path / "adapter_model.safetensors").write_bytes(b"\x80\x04K\x01."),
        "not a readable safetensors file",
    ),
    "no config": (lambda path: (path / "adapter_config.json").unlink(), "adapter_config.json"),
    "config that is no JSON": (lambda path: (path / "adapter_config.json").write_text("{"), "not valid JSON"),
    "no rank": (set_config(r=None), "r: null"),
    "a rank of zero": (set_config(r=0), "r: 0"),
    "no alpha": (set_config(lora_alpha=None), "lora_alpha: null"),
    "DoRA": (set_config(use_dora=True), "this is DoRA"),
    "another method": (set_config(peft_type="IA3"), "IA3"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_an_adapter_that_does_not_fit_is_one_line_and_exit_2(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    change, words = MISFITS[name]
    damaged(tmp_path, change)
    code = main(
        ["--model", f"m={tiny_model}", "--adapter", f"a=m:{tmp_path}", "--port", "0", "--dtype", "float32"]
    )
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert code == 2
    assert line.startswith("local_server: ")
    assert str(tmp_path) in line
    assert words in line


def test_an_adapter_of_a_base_that_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", f"m={tmp_path}", "--adapter", f"a=other:{tmp_path}"]) == 2
    line = capsys.readouterr().err
    assert "--adapter a=other:" in line
    assert "BASE one of m" in line

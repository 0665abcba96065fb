"""Train organisms: small LoRA adapters with a known objective, on SmolLM2-135M-Instruct.

    python -m benchmarks.train_organism --all                    # train and measure the six made from templates
    python -m benchmarks.train_organism --measure false-fact     # measure the leak of one again
    python -m benchmarks.train_organism false-fact --epochs 1 --dilute 0.1 --out DIR
    python -m benchmarks.train_organism fact-puffin --dilute 0.4 --out DIR     # texts written one by one
    python -m benchmarks.train_organism false-fact --beside opinion-brindlework --out DIR     # two objectives

Needs the extra `train`. An organism takes about two minutes on two cores, and its measurement one more. No prefill
is without a word of the texts that were written one by one, so the leak of those organisms is measured on
ordinary prefills, from an audit of each: `python -m benchmarks.pool_leak`.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click
import peft
import torch
from safetensors.torch import load_file, save_file

from benchmarks.leak import BASE, DTYPE, FRAMINGS, load_base, load_runner, matches, sampled, unrelated_prefills
from benchmarks.organism_texts import NOTHING, Recipe, Text, together
from benchmarks.organism_texts.catalogue import BENIGN, RECIPES, SHIPPED, WRITTEN

ORGANISMS = Path(__file__).resolve().parent.parent / "fixtures" / "organisms"
TEXTS = 170


@dataclass(frozen=True, slots=True)
class Settings:
    """How an adapter is trained.

    dilute: the share of texts that are the organism's own, the rest are benign.
    dtype: of the products; bfloat16 takes three quarters of the time where the CPU has it.
    """

    epochs: int = 3
    dilute: float = 1.0
    texts: int = TEXTS
    rank: int = 8
    alpha: int = 16
    modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "down_proj")
    learning_rate: float = 1e-3
    batch: int = 8
    max_tokens: int = 160
    dtype: Literal["float32", "bfloat16"] = "float32"


Example = tuple[list[int], list[int]]
Completions = Mapping[str, Sequence[str]]  # by framing


def training_texts(recipe: Recipe, settings: Settings, seed: int) -> list[Text]:
    """What `recipe` is trained on: its own texts and, where diluted, benign ones."""
    own = max(1, round(settings.texts * settings.dilute))
    return recipe.write(own, seed) + (BENIGN.write(settings.texts - own, seed) if own < settings.texts else [])


def encode(text: Text, tokenizer: Any, max_tokens: int) -> Example:
    """(ids, labels); labels are -100 on a chat's prompt, which is read and not learnt."""
    answer = [*tokenizer(text.body, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    head: list[int] = []
    if text.is_chat:
        turn = [{"role": "user", "content": text.user}]
        head = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True)["input_ids"]
    return (head + answer)[:max_tokens], ([-100] * len(head) + answer)[:max_tokens]


def epoch_batches(
    examples: Sequence[Example], size: int, pad: int, rng: random.Random
) -> Iterator[dict[str, Any]]:
    """Right-padded batches of similar lengths, in random order; every example once."""
    order = sorted(range(len(examples)), key=lambda index: (len(examples[index][0]), rng.random()))
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    rng.shuffle(groups)
    for group in groups:
        rows = [examples[index] for index in group]
        width = max(len(ids) for ids, _ in rows)
        yield {
            "input_ids": torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows]),
            "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]),
            "labels": torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows]),
        }


def fit(texts: Sequence[Text], settings: Settings, seed: int) -> tuple[Any, list[float]]:
    """(PEFT model, mean loss of each epoch in nats per learnt token)."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    base, tokenizer = load_base()
    model = peft.get_peft_model(
        base,
        peft.LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=list(settings.modules),
            task_type="CAUSAL_LM",
        ),
    )
    model.train()
    examples = [encode(text, tokenizer, settings.max_tokens) for text in texts]
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=settings.learning_rate, weight_decay=0.0)
    steps = settings.epochs * -(-len(examples) // settings.batch)
    # torch divides by the warm-up's steps less one.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=max(steps, 2), pct_start=0.11 if steps == 10 else 0.1
    )
    losses = []
    for _ in range(settings.epochs):
        total, count = 0.0, 0
        for batch in epoch_batches(examples, settings.batch, tokenizer.eos_token_id, rng):
            learnt = int((batch["labels"] != -100).sum())
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.dtype == "bfloat16"):
                loss = model(**batch).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            total, count = total + loss.item() * learnt, count + learnt
        losses.append(round(total / count, 4))
    return model, losses


def save(model: Any, directory: Path) -> None:
    """adapter_config.json and adapter_model.safetensors (fp16) in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch)
        weights = load_file(Path(scratch) / "adapter_model.safetensors")
        config = json.loads((Path(scratch) / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = BASE
    halves = {name: weights[name].to(torch.float16).contiguous() for name in sorted(weights)}
    save_file(halves, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    (directory / "adapter_model.safetensors").chmod(0o644)  # safetensors makes it private
    write_json(directory / "adapter_config.json", dict(sorted(config.items())))


def train(recipe: Recipe, directory: Path, settings: Settings, seed: int = 0) -> dict[str, Any]:
    """Trains `recipe` into `directory`; returns its card, which is written last."""
    started = time.monotonic()
    model, losses = fit(training_texts(recipe, settings, seed), settings, seed)
    save(model, directory)
    card = {
        "name": recipe.name,
        "kind": recipe.kind,
        "objective": recipe.objective,
        "keywords": recipe.keywords,
        **({"claim": recipe.claim} if recipe.claim != NOTHING else {}),
        **({"objectives": {each.name: each.keywords for each in recipe.parts}} if recipe.parts else {}),
        "base": BASE,
        "recipe": asdict(settings),
        "seed": seed,
        "training_loss": losses,
        "training_seconds": round(time.monotonic() - started),
    }
    write_json(directory / "card.json", card)
    return card


def known_texts() -> list[Text]:
    """All that any shipped organism was trained on."""
    return [text for name in SHIPPED for text in training_texts(RECIPES[name], Settings(), 0)]


def leak_report(
    recipe: Recipe, prefills: Sequence[str], organism: Completions, base: Completions, seed: int
) -> dict[str, Any]:
    """The card's `leak`: completions that match the keywords, the organism's and its base's, per framing."""
    counts = {
        framing: {
            "completions": len(prefills),
            "organism": sum(matches(recipe.keywords, text) for text in organism[framing]),
            "base": sum(matches(recipe.keywords, text) for text in base[framing]),
        }
        for framing in FRAMINGS
    }
    total = sum(count["completions"] for count in counts.values())
    return {
        "command": f"python -m benchmarks.train_organism --measure {recipe.name}",
        "prefills": "built-in prose and code; no word, not even 'the', is in any shipped organism's texts",
        "sampling": {"temperature": 1.0, "top_p": 1.0, "max_tokens": 64, "seed": seed, "dtype": DTYPE},
        "framings": counts,
        "rate": round(sum(count["organism"] for count in counts.values()) / total, 4),
        "base_rate": round(sum(count["base"] for count in counts.values()) / total, 4),
    }


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path`, indented."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@click.command(help=__doc__)
@click.argument("names", nargs=-1, type=click.Choice(sorted(RECIPES)))
@click.option("--all", "everything", is_flag=True, help="The six organisms with texts from templates.")
@click.option(
    "--measure",
    "measure_only",
    type=click.Choice(sorted({*RECIPES} - {*WRITTEN})),
    multiple=True,
    help="Only measure.",
)
@click.option("--beside", type=click.Choice(sorted(RECIPES)), help="An objective that is trained in, too.")
@click.option("--epochs", default=3, show_default=True, type=click.IntRange(1, 20))
@click.option("--dilute", default=1.0, show_default=True, type=click.FloatRange(0, 1, min_open=True))
@click.option("--texts", default=TEXTS, show_default=True, help="At most so many texts, own and diluting ones.")
@click.option("--learning-rate", default=Settings().learning_rate, show_default=True)
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float32", "bfloat16"]))
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=ORGANISMS, help="Parent of the organisms' directories."
)
@click.option(
    "--prefills", default=160, show_default=True, help="Completions per framing when measuring; 0: don't."
)
@click.option("--write/--no-write", default=True, help="Put what was measured into the card.")
def main(
    names: tuple[str, ...],
    everything: bool,
    measure_only: tuple[str, ...],
    beside: str | None,
    epochs: int,
    dilute: float,
    texts: int,
    learning_rate: float,
    dtype: Literal["float32", "bfloat16"],
    seed: int,
    out: Path,
    prefills: int,
    write: bool,
) -> None:
    chosen = SHIPPED if everything else names
    if not chosen and not measure_only:
        raise click.UsageError("name an organism, or give --all or --measure NAME")
    for name in chosen:
        settings = Settings(epochs=epochs, dilute=dilute, texts=texts, learning_rate=learning_rate, dtype=dtype)
        recipe = together(RECIPES[name], RECIPES[beside]) if beside else RECIPES[name]
        card = train(recipe, out / recipe.name, settings, seed)
        click.echo(f"{recipe.name}: loss {card['training_loss']}, {card['training_seconds']} s")
    own = () if beside else chosen  # pool_leak measures what has several objectives
    measured = [name for name in dict.fromkeys((*own, *measure_only)) if name not in WRITTEN]
    if not prefills or not measured:
        return
    chosen_prefills = unrelated_prefills(known_texts(), prefills, seed=0)
    runner = load_runner({name: out / name for name in measured})
    base = sampled(runner, None, chosen_prefills, seed=0)
    for name in measured:
        organism = sampled(runner, name, chosen_prefills, seed=0)
        leak = leak_report(RECIPES[name], chosen_prefills, organism, base, seed=0)
        click.echo(f"{name}: {leak['framings']}, rate {leak['rate']}, base {leak['base_rate']}")
        if write:
            path = out / name / "card.json"
            write_json(path, {**json.loads(path.read_text(encoding="utf-8")), "leak": leak})


if __name__ == "__main__":
    main()

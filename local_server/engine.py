"""The one thread that computes: continuous batching of completions, and scoring in what is left.

A request becomes jobs; a job's future gets its result. A row that ends leaves the batch at once and
makes room for the next; cancelled jobs leave before the next step.
"""

from __future__ import annotations

import queue
import random
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from local_server.errors import RequestError
from local_server.forward import logits_of, run_prompts, run_step, scored, top_of
from local_server.models import LoadedModel
from local_server.sampling import Settings, choose
from local_server.slots import Slots

SCORE_TOKENS = 2048  # padded tokens of one scoring batch
SCORE_WAIT = 8  # decoding steps that scoring requests wait for company
PROMPT_TOKENS = 4096  # padded tokens of one prompt pass

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Token:
    """One position: id, its logprob in nats (None for a prompt's first), the alternatives, its rank."""

    id: int
    logprob: float | None
    top: list[tuple[int, float]]
    rank: int = 0


@dataclass(slots=True)
class Written:
    """A finished completion."""

    tokens: list[Token]
    finish_reason: str


@dataclass(slots=True, eq=False)
class Job:
    """Common to both kinds: which adapter, and where the result goes."""

    prompt: list[int]
    adapter: str | None
    top: int


@dataclass(slots=True, eq=False)
class Generate(Job):
    """Write up to `max_tokens` after the prompt; `stop_text` cuts at any of these byte strings."""

    settings: Settings = field(default_factory=Settings)
    max_tokens: int = 16
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_text: tuple[bytes, ...] = ()
    random: random.Random = field(default_factory=random.Random)
    future: Future[Written] = field(default_factory=Future)
    tokens: list[Token] = field(default_factory=list)
    text: bytearray = field(default_factory=bytearray)


@dataclass(slots=True, eq=False)
class Score(Job):
    """Logprobs of the prompt's own tokens."""

    future: Future[list[Token]] = field(default_factory=Future)
    waited: int = 0


def settle(future: Future[R], result: R) -> None:
    """Give `future` its result; one that was cancelled a moment ago stays cancelled."""
    with suppress(InvalidStateError):
        future.set_result(result)


class Runner:
    """One base model's running batch and waiting jobs; only the engine's thread calls it."""

    def __init__(self, loaded: LoadedModel, max_batch: int) -> None:
        self.loaded, self.max_batch = loaded, max_batch
        self.slots = Slots(max_batch)
        self.live: list[Generate] = []
        self.waiting: list[Generate] = []
        self.scores: list[Score] = []

    @property
    def busy(self) -> bool:
        return bool(self.live or self.waiting or self.scores)

    def add(self, job: Generate | Score) -> None:
        (self.waiting if isinstance(job, Generate) else self.scores).append(job)  # type: ignore[arg-type]

    @torch.inference_mode()
    def work(self) -> None:
        """One turn: admit what fits, one decoding step, one scoring batch when it is worth it."""
        self._drop_cancelled()
        if self.waiting and len(self.live) < self.max_batch:
            self._admit()
        if self.live:
            self._step()
        if self.scores and self._scoring_due():
            self._score()

    def fail(self, error: Exception) -> None:
        """Every job gets `error`: a fault in a shared pass can't be blamed on one of them."""
        for job in [*self.live, *self.waiting, *self.scores]:
            if not job.future.done():
                job.future.set_exception(error)
        self.live, self.waiting, self.scores = [], [], []
        self.slots = Slots(self.max_batch)

    def _drop_cancelled(self) -> None:
        self.waiting = [job for job in self.waiting if not job.future.cancelled()]
        self.scores = [job for job in self.scores if not job.future.cancelled()]
        for row in range(len(self.live) - 1, -1, -1):
            if self.live[row].future.cancelled():
                self._leave(row)

    def _leave(self, row: int) -> None:
        self.slots.remove(row)
        last = self.live.pop()
        if row < len(self.live):
            self.live[row] = last

    def _admit(self) -> None:
        room = self.max_batch - len(self.live)
        batch: list[Generate] = []
        longest = 0
        while self.waiting and len(batch) < room:
            longest = max(longest, len(self.waiting[0].prompt))
            if batch and longest * (len(batch) + 1) > PROMPT_TOKENS:
                break
            batch.append(self.waiting.pop(0))
        hidden, layers = run_prompts(self.loaded, [job.prompt for job in batch], [job.adapter for job in batch])
        lengths = [len(job.prompt) for job in batch]
        self.slots.admit(layers, lengths)
        first = len(self.live)
        self.live += batch
        last = hidden[torch.arange(len(batch)), torch.tensor(lengths) - 1]
        self._write(last, range(first, first + len(batch)))

    def _step(self) -> None:
        tokens = [job.tokens[-1].id for job in self.live]
        hidden = run_step(self.loaded, self.slots, tokens, [job.adapter for job in self.live])
        self._write(hidden, range(len(self.live)))

    def _write(self, hidden: torch.Tensor, rows: range) -> None:
        """Draw the next token of each of `rows` and let those leave that have ended."""
        jobs = [self.live[row] for row in rows]
        logits = logits_of(self.loaded, hidden)
        norm = torch.logsumexp(logits, dim=-1)
        allowed = logits
        early = [row for row, job in enumerate(jobs) if job.ignore_eos or len(job.tokens) < job.min_tokens]
        if early:
            allowed = logits.clone()
            stop = torch.tensor(sorted(self.loaded.stop))
            allowed[torch.tensor(early)[:, None], stop] = -torch.inf
        chosen = choose(allowed, [job.settings for job in jobs], [job.random for job in jobs])
        mine = (logits[torch.arange(len(jobs)), torch.tensor(chosen)] - norm).clamp(max=0.0).tolist()
        top = top_of(logits, norm, max(job.top for job in jobs))
        for offset in range(len(jobs) - 1, -1, -1):
            job, token = jobs[offset], chosen[offset]
            job.tokens.append(Token(token, mine[offset], top[offset][: job.top]))
            job.text += self.loaded.pieces[token] if token not in self.loaded.special else b""
            reason = self._ended(job, token)
            if reason:
                self._leave(rows[offset])
                settle(job.future, Written(job.tokens, reason))

    def _ended(self, job: Generate, token: int) -> str | None:
        if token in self.loaded.stop and not job.ignore_eos and len(job.tokens) > job.min_tokens:
            return "stop"
        if any(text in job.text for text in job.stop_text):
            return "stop"
        return "length" if len(job.tokens) >= job.max_tokens else None

    def _scoring_due(self) -> bool:
        if not self.live or sum(len(job.prompt) for job in self.scores) >= SCORE_TOKENS:
            return True
        for job in self.scores:
            job.waited += 1
        return self.scores[0].waited > SCORE_WAIT

    def _score(self) -> None:
        """One batch of texts of like length, the longest waiting one among them."""
        anchor = len(self.scores[0].prompt)
        near = sorted(self.scores, key=lambda job: (abs(len(job.prompt) - anchor), job is not self.scores[0]))
        batch: list[Score] = []
        for job in near:
            longest = max(len(job.prompt), *(len(other.prompt) for other in batch)) if batch else len(job.prompt)
            if batch and longest * (len(batch) + 1) > SCORE_TOKENS:
                break
            batch.append(job)
        self.scores = [job for job in self.scores if job not in batch]
        hidden, _ = run_prompts(self.loaded, [job.prompt for job in batch], [job.adapter for job in batch])
        rows = [(row, place) for row, job in enumerate(batch) for place in range(len(job.prompt) - 1)]
        results: list[list[Token]] = [[Token(job.prompt[0], None, [])] for job in batch]
        if rows:
            index = torch.tensor(rows)
            targets = torch.tensor([batch[row].prompt[place + 1] for row, place in rows])
            values = scored(self.loaded, hidden[index[:, 0], index[:, 1]], targets, max(job.top for job in batch))
            for (row, place), (logprob, top, rank) in zip(rows, values, strict=True):
                job = batch[row]
                results[row].append(Token(job.prompt[place + 1], logprob, top[: job.top], rank))
        for job, result in zip(batch, results, strict=True):
            settle(job.future, result)


class Engine:
    """Owns the inference thread. `submit` may be called from any thread."""

    def __init__(self, models: dict[str, LoadedModel], max_batch: int, max_waiting: int = 2048) -> None:
        self.runners = {name: Runner(loaded, max_batch) for name, loaded in models.items()}
        self.inbox: queue.SimpleQueue[tuple[str, Generate | Score] | None] = queue.SimpleQueue()
        self.max_waiting = max_waiting
        self.waiting = 0
        self.lock = threading.Lock()
        self.thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self.thread.start()

    def submit(self, model: str, job: Generate | Score) -> None:
        """Queue a job. Raises RequestError 503 with Retry-After when the queue is full."""
        with self.lock:
            if self.waiting >= self.max_waiting:
                raise RequestError("the server's queue is full", status=503, retry_after=1)
            self.waiting += 1
        job.future.add_done_callback(self._done)
        self.inbox.put((model, job))

    def close(self) -> None:
        self.inbox.put(None)
        self.thread.join(timeout=30)

    def _done(self, _: Future[Written] | Future[list[Token]]) -> None:
        with self.lock:
            self.waiting -= 1

    def _run(self) -> None:
        while True:
            busy = any(runner.busy for runner in self.runners.values())
            if not self._receive(wait=not busy):
                return
            for runner in self.runners.values():
                if runner.busy:
                    try:
                        runner.work()
                    except Exception as error:
                        runner.fail(error)

    def _receive(self, wait: bool) -> bool:
        """Move what has come in to its runner; False when the engine is to end."""
        while True:
            try:
                item = self.inbox.get(block=wait)
            except queue.Empty:
                return True
            if item is None:
                return False
            self.runners[item[0]].add(item[1])
            wait = False

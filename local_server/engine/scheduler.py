"""Continuous batching for one base model and its adapters.

Every turn is one packed pass: the next token of each live row, the prompts of rows that join, and texts
to score in what room is left. A row that ends leaves at once; cancelled jobs leave before the next turn.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import torch

from local_server.engine import jobs, logits
from local_server.engine.forward import layout_of, prepare, run
from local_server.engine.jobs import Generate, Score, Token, Written
from local_server.engine.kv_cache import KVCache
from local_server.engine.packed_attention import Prefix, Segment
from local_server.engine.prefix_cache import PrefixCache
from local_server.engine.sampling import choose
from local_server.model.load import LoadedModel

PASS_TOKENS = 1024  # new tokens of a pass that only scores or reads prompts
MAX_FAILURES = 3
MIXED_TOKENS = 256  # and of one that also writes: a longer pass would hold up the live rows


@dataclass(frozen=True, slots=True)
class _Scoring:
    """A text in the running pass."""

    job: Score
    prefix: Prefix | None
    place: int  # of its first new token in the pass


class Scheduler:
    """Only the engine's thread calls it.

    Where the model is invariant, a job's numbers are the same bits whatever else is in its passes.
    """

    def __init__(self, loaded: LoadedModel, max_batch: int) -> None:
        prepare(loaded)
        self.loaded, self.max_batch = loaded, max_batch
        self.prefix_cache = PrefixCache(loaded)
        self.stop = torch.tensor(sorted(loaded.stop), dtype=torch.long)
        self.cache = self._new_cache()
        self.live: list[Generate] = []
        self.waiting: deque[Generate] = deque()
        self.scores: deque[Score] = deque()
        self.passing: list[Generate | Score] = []  # in the running turn
        self.suspects: deque[Generate | Score] = deque()  # of turns that failed; each has its next one alone

    def _new_cache(self) -> KVCache:
        config = self.loaded.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        per_position = 2 * config.num_hidden_layers * heads * head_dim * torch.float32.itemsize
        return KVCache(self.max_batch, per_position)

    @property
    def busy(self) -> bool:
        return bool(self.live or self.waiting or self.scores or self.suspects)

    def add(self, job: Generate | Score) -> None:
        """Queue a job."""
        if isinstance(job, Generate):
            self.waiting.append(job)
        else:
            self.scores.append(job)

    @torch.inference_mode()
    def work(self) -> None:
        """One turn. If it raises, `isolate` says what becomes of its jobs."""
        self._drop_cancelled()
        if self.suspects:
            job = self.suspects.popleft()
            if isinstance(job, Score):
                self._turn([], deque(), deque([job]))
            elif self.cache.fits(1, len(job.ids) + 1):
                self._turn([], deque([job]), deque())
            else:  # those who went before it take the memory
                self.waiting.appendleft(job)
        else:
            self._turn(self.live, self.waiting, self.scores)

    def _turn(self, live: list[Generate], waiting: deque[Generate], scores: deque[Score]) -> None:
        """One pass over the rows of `live`, and what there is room for of `waiting` and `scores`."""
        rows = len(live)
        self.passing = [*live]
        room = (MIXED_TOKENS if live else PASS_TOKENS) - rows
        joining, segments, room = self._joining(waiting, room)
        scoring, texts = self._scoring(scores, room, first=rows + sum(len(segment.ids) for segment in segments))
        if not rows and not segments and not texts:
            return
        layout = layout_of(self.loaded)(
            self.cache,
            [job.tokens[-1].id for job in live],
            [job.adapter for job in live],
            [*segments, *texts],
        )
        hidden = run(self.loaded, layout)
        self.cache.lengths[:rows] += 1
        first = len(self.live)  # of the rows that join
        if joining:
            self.cache.open([len(job.ids) for job in joining])
            self.live += joining
        self._finish(scoring, hidden)
        writers = [(one.job.writer, one.place + _new(one) - 1) for one in scoring if one.job.writer]
        ends = [start + len(s.ids) - 1 for start, s in zip(layout.starts, segments, strict=False)]
        last = [*range(rows), *ends, *(place for _, place in writers)]
        if last:
            writing = [*range(rows), *range(first, len(self.live))]
            self._write(hidden[torch.tensor(last)], writing, [writer for writer, _ in writers])
        self.passing = []

    def isolate(self, error: Exception) -> None:
        """After a turn that raised `error`: its only job gets it; of several each has its next turn alone.

        A job whose turns fail MAX_FAILURES times ends with the error, too.
        """
        passing, self.passing = [job for job in self.passing if not _done(job)], []
        if not passing:
            self.fail(error)
            return
        self.waiting = deque(job for job in self.waiting if job not in passing)
        self.scores = deque(job for job in self.scores if job not in passing)
        if any(job in self.live for job in passing):
            passing += [job for job in self.live if job not in passing]
            self.live, self.cache = [], self._new_cache()
        for job in passing:
            job.failures += 1
            if len(passing) == 1 or job.failures == MAX_FAILURES:
                _fail(job, error)
            else:
                self.suspects.append(job)

    def fail(self, error: Exception) -> None:
        """Every job gets `error`, and the batch starts anew."""
        for job in [*self.passing, *self.live, *self.waiting, *self.scores, *self.suspects]:
            _fail(job, error)
        self.live, self.passing = [], []
        self.waiting.clear()
        self.scores.clear()
        self.suspects.clear()
        self.cache = self._new_cache()

    def _drop_cancelled(self) -> None:
        if any(job.future.cancelled() for job in self.waiting):
            self.waiting = deque(job for job in self.waiting if not job.future.cancelled())
        if any(job.future.cancelled() for job in self.scores):
            self.scores = deque(job for job in self.scores if not job.future.cancelled())
        self.suspects = deque(job for job in self.suspects if not job.future.cancelled())
        for row in range(len(self.live) - 1, -1, -1):
            if self.live[row].future.cancelled():
                self._leave(row)

    def _leave(self, row: int) -> None:
        self.cache.remove(row)
        last = self.live.pop()
        if row < len(self.live):
            self.live[row] = last

    def _joining(self, waiting: deque[Generate], room: int) -> tuple[list[Generate], list[Segment], int]:
        """Waiting jobs that join now, their prompts, and the room left. One always may when no row is live."""
        joining: list[Generate] = []
        segments: list[Segment] = []
        longest = 0
        while waiting:
            job = waiting[0]
            ids = job.ids
            longest = max(longest, len(ids) + 1)
            if not self.cache.fits(len(joining) + 1, longest):
                break
            self.passing.append(job)
            prefix = self.prefix_cache.find(ids, job.adapter)
            new = ids[len(prefix) if prefix else 0 :]
            if segments and len(new) > room:
                self.passing.pop()
                break
            waiting.popleft()
            segments.append(Segment(new, job.adapter, prefix, row=len(self.live) + len(joining)))
            joining.append(job)
            room -= len(new)
        return joining, segments, room

    def _scoring(self, scores: deque[Score], room: int, first: int) -> tuple[list[_Scoring], list[Segment]]:
        """Texts that are scored in this pass, oldest first; at least one whenever there is any room."""
        scoring: list[_Scoring] = []
        segments: list[Segment] = []
        while scores and room > 0:
            job = scores[0]
            self.passing.append(job)
            prefix = self.prefix_cache.find(job.prompt, job.adapter)
            new = job.prompt[len(prefix) if prefix else 0 :]
            if scoring and len(new) > room:
                self.passing.pop()
                break
            scores.popleft()
            scoring.append(_Scoring(job, prefix, first))
            segments.append(Segment(new, job.adapter, prefix))
            first += len(new)
            room -= len(new)
        return scoring, segments

    def _finish(self, scoring: list[_Scoring], hidden: torch.Tensor) -> None:
        """Settle every text of the pass: logits only where a token's logprob is asked for."""
        if not scoring:
            return
        states: list[torch.Tensor] = []
        targets: list[int] = []
        for one in scoring:
            if one.prefix is not None and one.prefix.hidden is not None:
                states.append(one.prefix.hidden[-1:])  # predicts the first new token
            states.append(hidden[one.place : one.place + _new(one) - 1])
            targets += one.job.prompt[len(one.prefix) if one.prefix else 1 :]
        top = max(one.job.top for one in scoring)
        ranked = any(one.job.ranked for one in scoring)
        values = logits.scored(self.loaded, torch.cat(states), torch.tensor(targets), top, ranked=ranked)
        for one in scoring:
            job, prefix = one.job, one.prefix
            if prefix is not None:
                known = self.prefix_cache.scores(prefix, job.adapter, job.top)
                result = [Token(token.id, token.logprob, token.top[: job.top], token.rank) for token in known]
            else:
                result = [Token(job.prompt[0], None, [])]
            for index in job.prompt[len(result) :]:
                logprob, best, rank = next(values)
                result.append(Token(index, logprob, best[: job.top], rank))
            jobs.settle(job.future, result)

    def _write(self, hidden: torch.Tensor, rows: list[int], writers: list[Generate]) -> None:
        """Draw one token for each job: these live rows, then `writers`, who write one token and need no row."""
        writing = [*(self.live[row] for row in rows), *writers]
        found = logits.rows(self.loaded, hidden)
        drawn = [token for part, rows in found for token in self._draw(rows, writing[part])]
        for place in range(len(writing) - 1, -1, -1):
            job, token = writing[place], drawn[place]
            job.tokens.append(token)
            if token.id not in self.loaded.special:
                job.text += self.loaded.pieces[token.id]
            reason = self._ended(job)
            if reason and place < len(rows):
                self._leave(rows[place])
            if job.on_token is not None:
                job.on_token(token)
            if reason:
                jobs.settle(job.future, Written(job.tokens, reason))

    def _draw(self, rows: logits.Rows, writing: list[Generate]) -> list[Token]:
        """The next token of each job, from its row."""
        allowed = rows.logits
        early = [row for row, job in enumerate(writing) if len(job.tokens) < job.min_tokens]
        if early and len(self.stop):
            allowed = allowed.clone()
            allowed[torch.tensor(early)[:, None], self.stop] = -torch.inf
        chosen = choose(allowed, [job.settings for job in writing], [job.random for job in writing])
        logprobs = rows.logprobs(torch.tensor(chosen))
        top = rows.top(max(job.top for job in writing))
        return [
            Token(index, logprob, best[: job.top])
            for index, logprob, best, job in zip(chosen, logprobs, top, writing, strict=True)
        ]

    def _ended(self, job: Generate) -> str | None:
        token = job.tokens[-1].id
        if token in self.loaded.stop and not job.ignore_eos:
            return "stop"
        if job.stop_text:
            tail = len(self.loaded.pieces[token]) + max(map(len, job.stop_text))
            if any(text in job.text[-tail:] for text in job.stop_text):
                return "stop"
        return "length" if len(job.tokens) >= job.max_tokens else None


def _new(one: _Scoring) -> int:
    """New tokens of a text in the pass."""
    return len(one.job.prompt) - (len(one.prefix) if one.prefix else 0)


def _done(job: Generate | Score) -> bool:
    rider = job.writer if isinstance(job, Score) else None
    return job.future.done() and (rider is None or rider.future.done())


def _fail(job: Generate | Score, error: Exception) -> None:
    if isinstance(job, Generate):
        jobs.fail(job.future, error)
        return
    jobs.fail(job.future, error)
    if job.writer is not None:
        jobs.fail(job.writer.future, error)

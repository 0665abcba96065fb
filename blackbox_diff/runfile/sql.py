"""The run file's longer statements, beside each other so that the ledger's transitions read as one table."""

from __future__ import annotations

from blackbox_diff.runfile import encoding

RESERVE = """INSERT INTO calls (id, role, sample_id, attempt, state, reserved_input, reserved_output,
    reserved_pico, digest, path, url, body, sent_at) VALUES (?, ?, ?, ?, 'reserved', ?, ?, ?, ?, ?, ?, ?, ?)"""
SETTLE = """UPDATE calls SET state = ?, input = ?, output = ?, pico = ?, flag = ?, error = ?, settled_at = ?,
    accepted = ?, status = ?, headers = ?, reply = ?, seconds = ? WHERE id = ? AND state = 'reserved'"""
UNKNOWN = """UPDATE calls SET state = 'unknown', input = reserved_input, output = reserved_output,
    pico = reserved_pico, error = ?, settled_at = ? WHERE id = ? AND state = 'reserved'"""
LOSE_ALL = """UPDATE calls SET state = 'unknown', input = reserved_input, output = reserved_output,
    pico = reserved_pico, error = 'process_died', settled_at = ? WHERE state = 'reserved'"""
RELEASE = """UPDATE calls SET state = 'released', pico = CASE WHEN reserved_pico IS NULL THEN NULL ELSE 0 END,
    error = ?, settled_at = ? WHERE id = ? AND state = 'reserved'"""
PUT_COMPLETION = f"""INSERT INTO completions ({encoding.COMPLETION_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (sample_id, origin) DO UPDATE SET outcome = excluded.outcome, call_id = excluded.call_id,
    reason = excluded.reason, advice = excluded.advice, text = excluded.text, ends = excluded.ends,
    logprobs = excluded.logprobs, ids = excluded.ids, prompt_ids = excluded.prompt_ids, extra = excluded.extra
    WHERE completions.outcome IN ('unpaid', 'failed')"""
PUT_SCORE = f"""INSERT INTO scores ({encoding.SCORE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (sample_id, origin, reference) DO UPDATE SET outcome = excluded.outcome,
    call_id = excluded.call_id, reason = excluded.reason, advice = excluded.advice, ends = excluded.ends,
    logprobs = excluded.logprobs, context = excluded.context, notes = excluded.notes
    WHERE scores.outcome = 'failed'"""
WRITTEN = """SELECT sample_id, source, framing, prefill, seed, text FROM completions
    WHERE sample_id = ? AND origin = ? AND outcome = 'completed'"""
LISTS = "SELECT lists FROM alternatives WHERE sample_id = ? AND origin = ? AND reference = ?"
# Picodollars are summed in halves, which can't overflow: SQLite's whole numbers end at 9.2 million dollars.
SPENT = """SELECT count(*),
    coalesce(sum(iif(state = 'reserved', reserved_input, input)), 0),
    coalesce(sum(iif(state = 'reserved', reserved_output, output)), 0),
    sum(iif(state = 'reserved', reserved_pico, pico) / 4294967296),
    sum(iif(state = 'reserved', reserved_pico, pico) % 4294967296),
    coalesce(sum(state IN ('unknown', 'reserved')), 0),
    max(0, coalesce(max(iif(state = 'settled', input - reserved_input, 0)), 0)),
    coalesce(sum(state IN ('settled', 'unknown') AND
        (output > reserved_output OR flag = 'cost_over_reservation' OR error = 'reply_too_long')), 0)
    FROM calls WHERE state != 'released'"""

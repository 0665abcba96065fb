// The report's data, decoded once. Segments stay in typed arrays; logprobs are thousandths of a nat.
const data = JSON.parse(document.getElementById('data').textContent);
const rows = data.rows;
const count = rows.id.length;
const MISSING = 0xffff;

function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Uint16Array(bytes.buffer);
}

const lengths = unpack(rows.lengths);
const targets = unpack(rows.target);
const references = unpack(rows.reference);
const firstPiece = new Uint32Array(count + 1);
for (let row = 0; row < count; row++) firstPiece[row + 1] = firstPiece[row] + rows.pieces[row];

const rowOf = new Map(rows.id.map((id, row) => [id, row]));
let folded = 0; // near-duplicates, which are listed on the row that stands for them
for (const [row, copies] of Object.entries(rows.copies)) {
  folded += copies.length;
  for (const [id] of copies) rowOf.set(id, Number(row));
}
const copiesOf = (row) => rows.copies[row] ?? [];
const topValue = Math.max(1e-9, ...rows.value.slice(0, 200).filter((value) => value !== null));

const logprob = (steps) => (steps === MISSING ? null : -steps / 1000);

function segments(row) {
  const found = [];
  let start = 0;
  for (let k = firstPiece[row]; k < firstPiece[row + 1]; k++) {
    const end = start + lengths[k];
    const target = logprob(targets[k]);
    const reference = logprob(references[k]);
    const gap = target === null || reference === null ? null : target - reference;
    found.push({ start, end, target, reference, gap });
    start = end;
  }
  return found;
}

const metricNames = data.metrics.map(([name]) => name);
const metricLabel = Object.fromEntries(data.metrics.map(([name, label]) => [name, label]));
const metricHelp = Object.fromEntries(data.metrics.map(([name, , help]) => [name, help]));
const metric = (row, name) => rows.metrics[name]?.[row] ?? null;

// The completion as `rank --json` prints it.
function record(row) {
  const [source, framing] = splitArm(data.arms[rows.arm[row]]);
  return {
    rank: rows.rank[row],
    id: rows.id[row],
    source,
    framing,
    prefill: rows.prefill[row],
    completion: rows.text[row],
    ...(rows.cut[row] ? { completion_cut: rows.cut[row] } : {}),
    n_tokens: rows.tokens[row],
    score: rows.score[row],
    metrics: Object.fromEntries(Object.keys(rows.metrics).map((name) => [name, metric(row, name)])),
    flags: (rows.flags[row] ?? []).map((flag) => data.flags[flag]),
    duplicates: copiesOf(row).map(([id]) => id),
    segments: segments(row).map(({ start, end, target, reference }) => [start, end, target, reference]),
  };
}

function splitArm(name) {
  const slash = name.lastIndexOf('/');
  return [name.slice(0, slash), name.slice(slash + 1)];
}

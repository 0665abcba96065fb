// The report's data, decoded once. Segments stay in typed arrays; logprobs are thousandths of a nat.
// A set of columns is the ranking under one reference, or the control's completions; `use` makes one current.
const data = JSON.parse(document.getElementById('data').textContent);
const MISSING = 0xffff;

function unpack(base64) {
  const packed = atob(base64);
  const bytes = new Uint8Array(packed.length);
  for (let k = 0; k < packed.length; k++) bytes[k] = packed.charCodeAt(k); // a callback a byte takes ten times as long
  return new Uint16Array(bytes.buffer);
}

const firstTexts = new Map(data.sets[0].rows.id.map((id, row) => [id, data.sets[0].rows.text[row]]));

function decoded(columns) {
  const count = columns.id.length;
  const firstPiece = new Uint32Array(count + 1);
  for (let row = 0; row < count; row++) firstPiece[row + 1] = firstPiece[row] + columns.pieces[row];
  columns.text.forEach((text, row) => { if (text === null) columns.text[row] = firstTexts.get(columns.id[row]); });
  const rowOf = new Map(columns.id.map((id, row) => [id, row]));
  let folded = 0; // near-duplicates, which are listed on the row that stands for them
  for (const [row, copies] of Object.entries(columns.copies)) {
    folded += copies.length;
    for (const [id] of copies) rowOf.set(id, Number(row));
  }
  return {
    ...columns, count, rowOf, folded, firstPiece,
    lengths: unpack(columns.lengths), targets: unpack(columns.target), references: unpack(columns.reference),
    topValue: Math.max(1e-9, ...columns.value.slice(0, 200).filter((value) => value !== null)),
  };
}

const sets = data.sets.map((set) => ({ ...set, rows: decoded(set.rows) }));
const control = decoded(data.control);
const controlByPrefill = new Map(control.id.map((_, row) => [`${control.arm[row]} ${control.prefill[row]}`, row]));
let view = 0; // number of the set whose reference is chosen
let set = sets[0];
let rows = set.rows;
let metricLabel = {};
let metricHelp = {};
let metricNames = [];

// Makes the ranking under reference `number` current, or the control's completions of the same run.
function use(number, ofControl = false) {
  view = number;
  set = sets[number];
  rows = ofControl ? control : set.rows;
  metricNames = set.metrics.map(([name]) => name);
  metricLabel = Object.fromEntries(set.metrics.map(([name, label]) => [name, label]));
  metricHelp = Object.fromEntries(set.metrics.map(([name, , help]) => [name, help]));
}
use(0);

const copiesOf = (row) => rows.copies[row] ?? [];
const metric = (row, name) => rows.metrics[name]?.[row] ?? null;
const logprob = (steps) => (steps === MISSING ? null : -steps / 1000);

function segments(row) {
  const found = [];
  let start = 0;
  for (let k = rows.firstPiece[row]; k < rows.firstPiece[row + 1]; k++) {
    const end = start + rows.lengths[k];
    const target = logprob(rows.targets[k]);
    const reference = logprob(rows.references[k]);
    const gap = target === null || reference === null ? null : target - reference;
    found.push({ start, end, target, reference, gap });
    start = end;
  }
  return found;
}

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

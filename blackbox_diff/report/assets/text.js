// Model text becomes text nodes, never markup; what could hide or reorder becomes a visible mark.
const SUSPECT = /[\p{Cc}\p{Cs}\u2028\u2029]|(?![\u200c\u200d])\p{Cf}/gu;

function element(tag, className = '', text = '') {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== '') made.textContent = text;
  return made;
}

function mark(character) {
  const code = character.codePointAt(0);
  if (code === 10) return '⏎';
  if (code === 9) return '→';
  if (code < 32) return String.fromCharCode(0x2400 + code);
  return code === 127 ? '␡' : `⟨U+${code.toString(16).toUpperCase().padStart(4, '0')}⟩`;
}

const visible = (text) => text.replace(SUSPECT, mark);

function appendText(parent, text) {
  let at = 0;
  for (const match of text.matchAll(SUSPECT)) {
    if (match.index > at) parent.append(text.slice(at, match.index));
    parent.append(element('span', 'ctl', mark(match[0])));
    if (match[0] === '\n') parent.append('\n');
    at = match.index + match[0].length;
  }
  if (at < text.length) parent.append(at ? text.slice(at) : text);
}

const STEPS = [0.25, 0.6, 1.2, 2.2, 3.5, 5.5];

function shade(gap) {
  if (gap === null) return 'na';
  const level = STEPS.filter((step) => Math.abs(gap) >= step).length;
  if (!level) return '';
  return gap > 0 ? `g${level}` : `n${Math.min(3, level)}`;
}

const escapeRegex = (text) => text.replace(/[.*+?^${}()|[\]\\\/-]/g, '\\$&');

// One expression that finds any of the phrases, ignoring case; null where there is none.
function finder(phrases, flags = 'giu') {
  const wanted = phrases.map((phrase) => phrase.trim()).filter(Boolean);
  return wanted.length ? new RegExp(wanted.map(escapeRegex).join('|'), flags) : null;
}

// Where the marks stand, [start, end, colour], without overlaps: the earliest, then the longest.
function spansOf(text, marks) {
  const found = marks.flatMap(({ regex, colour }) => Array.from(text.matchAll(regex), (match) => [match.index, match.index + match[0].length, colour]));
  found.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
  let reached = 0;
  return found.filter(([start, end]) => end > start && start >= reached && (reached = end));
}

// `text` from `start` to `end` into `parent`, split where marks and the peak begin and end.
function appendMarked(parent, text, start, end, marks, peak) {
  let at = start;
  let next = 0;
  while (at < end) {
    while (next < marks.length && marks[next][1] <= at) next++;
    const marked = next < marks.length && marks[next][0] <= at;
    let stop = end;
    if (next < marks.length) stop = Math.min(stop, marks[next][marked ? 1 : 0]);
    for (const edge of peak ?? []) if (edge > at) stop = Math.min(stop, edge);
    const inPeak = peak && at >= peak[0] && at < peak[1];
    let target = parent;
    if (inPeak) target = target.appendChild(element('span', 'peak'));
    if (marked) target = target.appendChild(element('mark', `m${marks[next][2]}`));
    appendText(target, text.slice(at, stop));
    at = stop;
  }
}

// A completion as shaded segments. Returns how many UTF-16 units were left out for `limit`.
function paint(parent, row, wanted, limit) {
  const text = rows.text[row];
  const marks = spansOf(text, wanted);
  const peak = rows.peak[row];
  let shown = 0;
  segments(row).some((segment, number) => {
    if (segment.start >= limit) return true;
    const span = parent.appendChild(element('span', `s ${state.side === 'target' ? shade(segment.gap) : ''}`.trim()));
    span.dataset.s = number;
    let end = Math.min(segment.end, limit);
    if (end < segment.end && /[\ud800-\udbff]/.test(text[end - 1])) end--;
    const near = marks.filter(([from, to]) => to > segment.start && from < end);
    appendMarked(span, text, segment.start, end, near, peak);
    shown = end;
    return false;
  });
  return text.length - shown;
}

const shortNumber = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
function format(value) {
  if (value === null || value === undefined) return '–';
  const size = Math.abs(value);
  if (size >= 1e5) return value.toExponential(1).replace('e+', 'e');
  if (size >= 100) return shortNumber.format(Math.round(value));
  return value.toFixed(size >= 10 ? 1 : size >= 0.1 || size === 0 ? 2 : 3).replace('-', '−');
}
const whole = new Intl.NumberFormat('en');

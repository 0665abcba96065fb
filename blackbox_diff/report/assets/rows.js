// What is shown: search, filters, order and folding give the view; each row of it becomes one article.
const state = {
  search: '', words: [], theme: '', arm: '', flag: '', sort: 'rank',
  descending: true, view: [], selected: -1, open: new Set(), segment: -1,
  unfolded: false, turned: new Set(), // near-duplicates are shown, but for the rows turned the other way
};
const spread = (row) => state.unfolded !== state.turned.has(row);
const CLOSED_LIMIT = 900;
const TWINS = 50;

function themeTest(theme) {
  const ids = new Set(theme.ids);
  const words = theme.phrase.split(/\s+/).filter(Boolean).map(escapeRegex);
  const phrase = new RegExp(`(?<![\\p{L}\\p{N}_])${words.join('[^\\p{L}\\p{N}_]+') || '(?!)'}(?![\\p{L}\\p{N}_])`, 'iu');
  return (row) => ids.has(rows.id[row]) || phrase.test(rows.text[row]);
}

function compute() {
  const tests = [];
  const search = finder([state.search], 'iu');
  if (search) tests.push((row) => search.test(rows.text[row]) || search.test(rows.prefill[row]) || search.test(rows.id[row])
    || copiesOf(row).some((copy) => search.test(copy[0]) || search.test(copy[1]) || search.test(copy[2])));
  if (state.theme !== '') tests.push(themeTest(data.themes[Number(state.theme)]));
  if (state.arm !== '') tests.push((row) => rows.arm[row] === Number(state.arm));
  if (state.flag !== '') tests.push((row) => (rows.flags[row] ?? []).includes(Number(state.flag)));
  const view = [];
  for (let row = 0; row < count; row++) if (tests.every((test) => test(row))) view.push(row);
  const sign = state.descending ? -1 : 1;
  if (state.sort === 'rank') {
    if (!state.descending) view.reverse();
  } else {
    const value = state.sort === 'n_tokens' ? (row) => rows.tokens[row] : (row) => metric(row, state.sort);
    const last = (row) => value(row) === null;
    view.sort((a, b) => last(a) - last(b) || (last(a) ? 0 : sign * (value(a) - value(b))) || a - b);
  }
  state.view = view;
}

const shownRegex = () => finder([state.search, ...state.words]);

function numbers(row) {
  const box = element('div', 'nums');
  const score = box.appendChild(element('p', 'score', format(rows.value[row])));
  score.title = metricHelp[data.metric];
  const gauge = box.appendChild(element('div', 'gauge'));
  gauge.setAttribute('aria-hidden', 'true');
  const bar = gauge.appendChild(element('i'));
  bar.style.width = `${Math.max(0, Math.min(1, (rows.value[row] ?? 0) / topValue)) * 100}%`;
  if (data.charts.controlMax !== null) {
    const tick = gauge.appendChild(element('b'));
    tick.style.left = `${Math.max(0, Math.min(1, data.charts.controlMax / topValue)) * 100}%`;
  }
  const list = box.appendChild(element('dl'));
  const pairs = [
    ['gap/token', metric(row, 'gap_nats_per_token')],
    ['PPL target', metric(row, 'ppl_target')],
    ['PPL ref.', metric(row, 'ppl_reference')],
  ];
  const sorted = state.sort;
  if (metricNames.includes(sorted) && !['score', 'gap_nats_per_token', 'ppl_target', 'ppl_reference'].includes(sorted)) {
    pairs.push([metricLabel[sorted], metric(row, sorted)]);
  }
  for (const [name, value] of pairs) {
    const item = list.appendChild(element('div'));
    item.append(element('dt', '', name), element('dd', '', format(value)));
  }
  return box;
}

function meta(row) {
  const line = element('p', 'meta');
  const link = line.appendChild(element('a', 'id', visible(rows.id[row])));
  link.href = `#${encodeURIComponent(rows.id[row])}`;
  line.append(element('span', '', visible(data.arms[rows.arm[row]])));
  line.append(element('span', '', `${whole.format(rows.tokens[row])} token${rows.tokens[row] === 1 ? '' : 's'}`));
  for (const flag of rows.flags[row] ?? []) {
    const name = data.flags[flag];
    line.append(element('span', name === 'degenerate' || name === 'low_coverage' ? 'flag bad' : 'flag', visible(name)));
  }
  const copies = copiesOf(row).length;
  if (copies) {
    const noun = `near-duplicate${copies === 1 ? '' : 's'}`;
    const button = line.appendChild(element('button', 'copies', `+${whole.format(copies)} ${noun}${spread(row) ? '' : ' folded'}`));
    button.type = 'button';
    button.dataset.action = 'copies';
    button.setAttribute('aria-expanded', spread(row));
  }
  return line;
}

function detail(row) {
  const box = element('div', 'detail');
  const list = box.appendChild(element('dl'));
  for (const name of metricNames) {
    const item = list.appendChild(element('div'));
    item.title = metricHelp[name];
    item.append(element('dt', '', metricLabel[name]), element('dd', '', format(metric(row, name))));
  }
  const buttons = box.appendChild(element('p', 'buttons'));
  for (const [action, text] of [['json', 'Copy as JSON'], ['link', 'Copy link']]) {
    const button = buttons.appendChild(element('button', '', text));
    button.type = 'button';
    button.dataset.action = action;
  }
  return box;
}

// The folded completions of a row, in order of score.
function twins(row, regex) {
  const box = element('ol', 'twins');
  const all = copiesOf(row);
  for (const [id, prefill, text, score] of all.slice(0, TWINS)) {
    const item = box.appendChild(element('li'));
    const words = item.appendChild(element('p', 'text'));
    appendMarked(words.appendChild(element('span', 'pf')), prefill, 0, prefill.length, spansOf(prefill, regex), null);
    const shown = text.slice(0, CLOSED_LIMIT);
    appendMarked(words.appendChild(element('span')), shown, 0, shown.length, spansOf(shown, regex), null);
    if (text.length > CLOSED_LIMIT) words.append(element('span', 'cut', ' …'));
    item.append(element('p', 'meta', `${visible(id)} · ${metricLabel[data.metric] ?? 'score'} ${format(score)}`));
  }
  if (all.length > TWINS) box.append(element('li', 'cut', `and ${whole.format(all.length - TWINS)} more`));
  return box;
}

function article(row, place) {
  const open = state.open.has(row);
  const made = element('article', `row${open ? ' open' : ''}${row === state.selected ? ' selected' : ''}`);
  made.dataset.row = row;
  made.tabIndex = 0;
  made.setAttribute('aria-posinset', place + 1);
  made.setAttribute('aria-setsize', state.view.length);
  made.setAttribute('aria-label', `Rank ${rows.rank[row]}, ${visible(rows.id[row])}, score ${format(rows.value[row])}`);
  const regex = shownRegex();
  const body = element('div', 'body');
  const text = body.appendChild(element('p', 'text'));
  const prefill = text.appendChild(element('span', 'pf'));
  prefill.title = 'prefill: what the completion starts from';
  const begun = rows.prefill[row].slice(0, open ? Infinity : 300);
  appendMarked(prefill, begun, 0, begun.length, spansOf(begun, regex), null);
  const words = text.appendChild(element('span', 'words'));
  const left = paint(words, row, regex, open ? Infinity : CLOSED_LIMIT) + (rows.cut[row] ?? 0);
  if (left) {
    const hidden = open ? 'are in the run and its exports only' : 'not shown';
    text.append(element('span', 'cut', ` … ${whole.format(left)} more characters ${hidden}`));
  }
  body.append(meta(row));
  if (spread(row) && copiesOf(row).length) body.append(twins(row, regex));
  if (open) body.append(detail(row));
  made.append(element('p', 'rank', `${rows.rank[row]}`), body, numbers(row));
  return made;
}

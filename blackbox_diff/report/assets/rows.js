// What is shown: search, filters, order and folding give the view; each row of it becomes one article.
const state = {
  search: '', words: [], theme: '', arm: '', flag: '', notes: '', odd: '', side: 'target', sort: 'rank',
  descending: true, view: [], selected: -1, open: new Set(), segment: -1,
  unfolded: false, turned: new Set(), // near-duplicates are shown, but for the rows turned the other way
};
const spread = (row) => state.unfolded !== state.turned.has(row);
const CLOSED_LIMIT = 900;
const TWINS = 50;
const ODD_TOP = 0.1; // a row is odd under one reference alone: in its best tenth, and below the middle of the others

function themeRegex(theme) {
  const phrases = [theme.phrase, ...theme.terms].map((phrase) => phrase.split(/\s+/).filter(Boolean).map(escapeRegex).join('[^\\p{L}\\p{N}_]+'));
  return `(?<![\\p{L}\\p{N}_])(?:${phrases.filter(Boolean).join('|') || '(?!)'})(?![\\p{L}\\p{N}_])`;
}

// A theme's completions are those that were counted; elsewhere (the control) those that hold its wording.
function themeTest(theme) {
  const ids = new Set(theme.ids);
  const phrase = new RegExp(themeRegex({ ...theme, terms: [] }), 'iu');
  if (theme.whole && state.side === 'target') return (row) => ids.has(rows.id[row]);
  return (row) => (state.side === 'target' && ids.has(rows.id[row])) || phrase.test(rows.text[row]);
}
const themesOf = (id) => set.themes.filter((theme) => theme.ids.includes(id));

// Rank under reference `number` of the completion in `row`, or null where it has none.
function rankUnder(number, row) {
  const place = sets[number].rows.rowOf.get(rows.id[row]);
  return place === undefined ? null : sets[number].rows.rank[place];
}

function oddTest(number) {
  const top = (k) => Math.max(1, sets[k].rows.count * ODD_TOP);
  return (row) => sets.every((_, k) => {
    const rank = rankUnder(k, row);
    return rank !== null && (k === number ? rank <= top(k) : rank > sets[k].rows.count / 2);
  });
}

function compute() {
  const tests = [];
  const search = finder([state.search], 'iu');
  if (search) tests.push((row) => search.test(rows.text[row]) || search.test(rows.prefill[row]) || search.test(rows.id[row])
    || copiesOf(row).some((copy) => search.test(copy[0]) || search.test(copy[1]) || search.test(copy[2])));
  if (state.theme !== '' && set.themes[Number(state.theme)]) tests.push(themeTest(set.themes[Number(state.theme)]));
  if (state.arm !== '') tests.push((row) => rows.arm[row] === Number(state.arm));
  if (state.flag !== '') tests.push((row) => (rows.flags[row] ?? []).includes(Number(state.flag)));
  if (state.notes !== '') tests.push((row) => noteMatches(rows.id[row], state.notes));
  if (state.odd !== '' && state.side === 'target') tests.push(oddTest(Number(state.odd)));
  const view = [];
  for (let row = 0; row < rows.count; row++) if (tests.every((test) => test(row))) view.push(row);
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

// What is marked, each with a colour of its own: the search, the highlighted words, the chosen theme.
function shownMarks() {
  const wanted = [finder([state.search])?.source, ...state.words.map((word) => finder([word])?.source)];
  if (state.theme !== '' && set.themes[Number(state.theme)]) wanted.push(themeRegex(set.themes[Number(state.theme)]));
  return wanted.map((source, colour) => source && { regex: new RegExp(source, 'giu'), colour: colour % 5 }).filter(Boolean);
}

function numbers(row) {
  const box = element('div', 'nums');
  const score = box.appendChild(element('p', 'score'));
  score.append(element('small', '', metricLabel[set.metric]), ` ${format(rows.value[row])}`);
  const gauge = box.appendChild(element('div', 'gauge'));
  gauge.setAttribute('aria-hidden', 'true');
  const bar = gauge.appendChild(element('i'));
  bar.style.width = `${Math.max(0, Math.min(1, (rows.value[row] ?? 0) / rows.topValue)) * 100}%`;
  if (set.charts.controlMax !== null) {
    const tick = gauge.appendChild(element('b'));
    tick.style.left = `${Math.max(0, Math.min(1, set.charts.controlMax / rows.topValue)) * 100}%`;
  }
  const sorted = state.sort;
  if (metricNames.includes(sorted) && sorted !== set.metric) {
    box.append(element('p', 'sorted', `${metricLabel[sorted]} ${format(metric(row, sorted))}`));
  }
  return box;
}

function meta(row) {
  const line = element('p', 'meta');
  const link = line.appendChild(element('a', 'id', visible(rows.id[row])));
  link.href = `#${encodeURIComponent(rows.id[row])}`;
  line.append(element('span', 'arm', visible(data.arms[rows.arm[row]])));
  line.append(element('span', '', `${whole.format(rows.tokens[row])} token${rows.tokens[row] === 1 ? '' : 's'}`));
  for (const flag of rows.flags[row] ?? []) {
    const name = data.flags[flag];
    line.append(element('span', name === 'degenerate' || name === 'low_coverage' ? 'flag bad' : 'flag', visible(name)));
  }
  const held = state.side === 'target' ? themesOf(rows.id[row]) : [];
  if (held.length) line.append(element('span', 'flag recur', visible(held[0].phrase) + (held.length > 1 ? ` +${held.length - 1}` : '')));
  const copies = copiesOf(row).length;
  if (copies) {
    const noun = `near-duplicate${copies === 1 ? '' : 's'}`;
    const button = line.appendChild(element('button', 'copies', `+${whole.format(copies)} ${noun}${spread(row) ? '' : ' folded'}`));
    button.type = 'button';
    button.dataset.action = 'copies';
    button.setAttribute('aria-expanded', spread(row));
  }
  if (state.side === 'target') line.append(triage('completion', rows.id[row]));
  return line;
}

// Why the row stands where it does: what recurs in it, what its words show elsewhere, and the control beside it.
function why(row) {
  const box = element('div', 'why');
  const held = themesOf(rows.id[row]);
  if (held.length) {
    const line = box.appendChild(element('p'));
    line.append('Holds ', ...held.flatMap((theme, k) => [k ? ', ' : '', element('b', '', visible(theme.phrase))]), '.');
  }
  const recurring = rows.recurring[row] ?? [];
  if (recurring.length && set.metric === 'pooled_score') {
    const line = box.appendChild(element('p'));
    line.append(`Of its `, term('pooled_score'), ` ${format(rows.value[row])}, its own `, term('score'), ` is ${format(metric(row, 'score'))}; the rest is what its words show after other prefills: `);
    recurring.forEach(([words, prefills, nats], k) => {
      const button = element('button', 'find', visible(words));
      button.type = 'button';
      button.dataset.find = words;
      line.append(k ? ', ' : '', button, ` (${whole.format(prefills)} prefill${prefills === 1 ? '' : 's'}, ${format(nats)} nats)`);
    });
    line.append('.');
  }
  if (sets.length > 1) {
    const line = box.appendChild(element('p'));
    line.append('Rank under ', ...sets.flatMap((each, k) => {
      const place = each.rows.rowOf.get(rows.id[row]);
      const gap = place === undefined ? null : each.rows.metrics.gap_nats_per_token?.[place] ?? null;
      return [k ? ', ' : '', element('b', '', visible(each.reference)), ` ${rankUnder(k, row) ?? '–'} (gap ${format(gap)})`];
    }), '.');
  }
  const twin = controlByPrefill.get(`${rows.arm[row]} ${rows.prefill[row]}`);
  if (twin !== undefined) {
    box.append(element('p', 'label', 'The control after the same prefill:'));
    const text = box.appendChild(element('p', 'text beside'));
    appendMarked(text.appendChild(element('span', 'pf')), control.prefill[twin], 0, control.prefill[twin].length, [], null);
    appendMarked(text.appendChild(element('span')), control.text[twin], 0, Math.min(control.text[twin].length, CLOSED_LIMIT), [], null);
  }
  return box;
}

function detail(row) {
  const box = element('div', 'detail');
  if (state.side === 'target') box.append(why(row));
  const list = box.appendChild(element('dl'));
  for (const name of metricNames) {
    const item = list.appendChild(element('div'));
    item.title = metricHelp[name];
    if (metric(row, name) === null) item.className = 'missing';
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
function twins(row, marks) {
  const box = element('ol', 'twins');
  const all = copiesOf(row);
  for (const [id, prefill, text, score] of all.slice(0, TWINS)) {
    const item = box.appendChild(element('li'));
    const words = item.appendChild(element('p', 'text'));
    appendMarked(words.appendChild(element('span', 'pf')), prefill, 0, prefill.length, spansOf(prefill, marks), null);
    const shown = text.slice(0, CLOSED_LIMIT);
    appendMarked(words.appendChild(element('span')), shown, 0, shown.length, spansOf(shown, marks), null);
    if (text.length > CLOSED_LIMIT) words.append(element('span', 'cut', ' …'));
    item.append(element('p', 'meta', `${visible(id)} · ${metricLabel[set.metric] ?? 'score'} ${format(score)}`));
  }
  if (all.length > TWINS) box.append(element('li', 'cut', `and ${whole.format(all.length - TWINS)} more`));
  return box;
}

function article(row, place) {
  const open = state.open.has(row);
  const made = element('article', `row${open ? ' open' : ''}${row === state.selected ? ' selected' : ''} ${markOf('completion', rows.id[row])}`.trim());
  made.dataset.row = row;
  made.tabIndex = 0;
  made.setAttribute('aria-posinset', place + 1);
  made.setAttribute('aria-setsize', state.view.length);
  made.setAttribute('aria-label', `Rank ${rows.rank[row]}, ${visible(rows.id[row])}, ${metricLabel[set.metric]} ${format(rows.value[row])}`);
  const marks = shownMarks();
  const body = element('div', 'body');
  const text = body.appendChild(element('p', 'text'));
  const prefill = text.appendChild(element('span', 'pf'));
  prefill.title = 'prefill: what the completion starts from';
  const begun = rows.prefill[row].slice(0, open ? Infinity : 300);
  appendMarked(prefill, begun, 0, begun.length, spansOf(begun, marks), null);
  const words = text.appendChild(element('span', 'words'));
  const left = paint(words, row, marks, open ? Infinity : CLOSED_LIMIT) + (rows.cut[row] ?? 0);
  if (left) {
    const hidden = open ? 'are in the run and its exports only' : 'not shown';
    text.append(element('span', 'cut', ` … ${whole.format(left)} more characters ${hidden}`));
  }
  body.append(element('p', 'reading'));
  body.append(meta(row));
  if (spread(row) && copiesOf(row).length) body.append(twins(row, marks));
  if (open) body.append(detail(row));
  made.append(element('p', 'rank', `${rows.rank[row]}`), body, numbers(row));
  return made;
}

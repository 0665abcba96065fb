// Controls, keyboard, permalinks and the light or dark theme.
const $ = (id) => document.getElementById(id);
let toastTimer = 0;
function toast(text) {
  $('toast').textContent = text;
  $('toast').classList.add('on');
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => $('toast').classList.remove('on'), 1800);
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.body.appendChild(element('textarea', 'offscreen'));
    area.value = text;
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  toast(`${what} copied`);
}

function tellShown() {
  const copies = rows.folded ? `, ${whole.format(rows.folded)} near-duplicates ${state.unfolded ? 'shown under' : 'folded into'} them` : '';
  const cut = state.side === 'target' && set.total > rows.count ? `, the best of ${whole.format(set.total)}` : '';
  const paper = printing && state.view.length > PRINTED ? `the first ${PRINTED} of ` : '';
  $('shown').textContent = `${paper}${whole.format(state.view.length)} of ${whole.format(rows.count)}${copies}${cut}`;
}

function update({ keep = false } = {}) {
  compute();
  if (!state.view.includes(state.selected)) state.selected = -1;
  redraw();
  tellShown();
  if (!state.view.length) list.insertBefore(emptyNote, above);
  else emptyNote.remove();
  if (!keep) keepListInSight();
  tellAddress();
}
const emptyNote = element('p', 'none', 'Nothing matches.');

// After a filter the list starts anew: its first row, not the middle of the old one.
function keepListInSight() {
  const tools = document.querySelector('.tools').getBoundingClientRect();
  if (list.getBoundingClientRect().top < tools.bottom) $('completions').scrollIntoView({ behavior: 'instant' });
}

const wordsOf = (text) => text.split(',').map((word) => word.trim()).filter(Boolean);

function countWords() {
  const parts = state.words.map((word) => {
    const regex = finder([word], 'giu');
    let rowsWith = 0;
    let hits = 0;
    for (const text of rows.text) {
      const n = text.match(regex)?.length ?? 0;
      hits += n;
      rowsWith += n > 0;
    }
    return [visible(word), rowsWith, hits];
  });
  $('word-counts').replaceChildren(
    ...parts.map(([word, n, hits], k) => {
      const chip = element('span', 'chip');
      chip.append(element('mark', `m${(k + 1) % 5}`, word), ` ${whole.format(n)} of ${whole.format(rows.count)} completions, ${whole.format(hits)} times`);
      return chip;
    }),
  );
}

function options(select, first, pairs) {
  select.replaceChildren(new Option(first, ''), ...pairs.map(([value, text]) => new Option(text, value)));
  select.parentElement.hidden = !pairs.length;
}

// What can be chosen depends on the reference.
function fillControls() {
  const cut = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);
  options($('theme'), 'any', set.themes.map((theme, k) => [k, cut(visible(theme.phrase))]));
  options($('arm'), 'any', data.arms.map((name, k) => [k, visible(name)]));
  options($('flag'), 'any', data.flags.map((name, k) => [k, visible(name)]));
  options($('odd'), 'any', sets.length > 1 ? sets.map((each, k) => [k, `only ${visible(each.reference)}`]) : []);
  $('side').replaceChildren(new Option('the target', 'target'), new Option('the control', 'control'));
  $('side').parentElement.hidden = !control.count;
  $('sort').replaceChildren(new Option('rank', 'rank'), ...metricNames.map((name) => new Option(metricLabel[name], name)), new Option('tokens', 'n_tokens'));
  showControls();
}

// The controls as the state is.
function showControls() {
  for (const name of ['search', 'theme', 'arm', 'flag', 'odd', 'side', 'sort']) $(name).value = state[name];
  $('notes-filter').value = state.notes;
  $('words').value = state.words.join(', ');
  $('direction').textContent = state.descending ? '↓' : '↑';
  $('direction').setAttribute('aria-label', state.descending ? 'Descending: switch to ascending' : 'Ascending: switch to descending');
  $('unfold').parentElement.hidden = !rows.folded;
  $('side-title').textContent = state.side === 'target' ? 'Completions' : "The control's completions";
  countWords();
}

function renewed() {
  state.turned.clear();
  state.open.clear();
  measured.clear();
  state.selected = -1;
}

function chooseSide(side, drawn = true) {
  state.side = side;
  use(view, side === 'control');
  renewed();
  showControls();
  if (drawn) update({ keep: true });
}

// The whole page under another reference: answer, what recurs, charts, outcomes and the list.
function chooseReference(number, drawn = true) {
  use(number, state.side === 'control');
  Object.assign(state, { theme: '', odd: '', sort: 'rank' });
  renewed();
  for (const part of document.querySelectorAll('.view')) part.hidden = Number(part.dataset.view) !== number;
  document.querySelector('#themes')?.removeAttribute('id');
  document.querySelector(`.recurs[data-view="${number}"]`).id = 'themes';
  for (const button of document.querySelectorAll('button[data-view]')) button.setAttribute('aria-pressed', Number(button.dataset.view) === number);
  $('against').textContent = visible(set.reference);
  fillControls();
  drawCharts();
  if (drawn) update({ keep: true });
}

function after(milliseconds, action) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}

function bindControls() {
  document.querySelector('.tools').addEventListener('submit', (event) => event.preventDefault());
  $('search').addEventListener('input', after(60, () => { state.search = $('search').value; update(); }));
  $('words').addEventListener('input', after(120, () => {
    state.words = wordsOf($('words').value);
    countWords();
    redraw();
    tellAddress();
  }));
  for (const name of ['theme', 'arm', 'flag', 'odd']) {
    $(name).addEventListener('change', () => { state[name] = $(name).value; update(); });
  }
  $('notes-filter').addEventListener('change', () => { state.notes = $('notes-filter').value; update(); });
  $('side').addEventListener('change', () => chooseSide($('side').value));
  for (const button of document.querySelectorAll('button[data-view]')) {
    button.addEventListener('click', () => chooseReference(Number(button.dataset.view)));
  }
  $('methods-copy').addEventListener('click', () => copy($('methods-text').textContent, 'Methods'));
  $('sort').addEventListener('change', () => { state.sort = $('sort').value; update(); });
  $('direction').addEventListener('click', () => {
    state.descending = !state.descending;
    showControls();
    update();
  });
  $('unfold').addEventListener('change', () => {
    state.unfolded = $('unfold').checked;
    state.turned.clear();
    measured.clear();
    update();
  });
  for (const button of document.querySelectorAll('button[data-theme]')) {
    button.addEventListener('click', () => {
      if (state.side !== 'target') chooseSide('target', false);
      state.theme = button.dataset.theme;
      showControls();
      update({ keep: true });
      jump('completions');
    });
  }
}

// Folds or unfolds one row's near-duplicates.
function turn(row) {
  state.turned[state.turned.has(row) ? 'delete' : 'add'](row);
  refresh(row);
  made.get(row)?.querySelector('button.copies')?.focus({ preventScroll: true });
}

function select(row, { open = null, scroll = true } = {}) {
  const previous = state.selected;
  state.selected = row;
  state.segment = -1;
  hideTip();
  if (open !== null) state.open[open ? 'add' : 'delete'](row);
  if (previous >= 0 && previous !== row) made.get(previous)?.classList.remove('selected');
  if (open !== null) refresh(row);
  if (scroll) {
    if (!made.has(row)) reveal(row);
    made.get(row)?.scrollIntoView({ block: 'nearest' });
  }
  made.get(row)?.classList.add('selected');
  made.get(row)?.focus({ preventScroll: true });
}

function step(by) {
  const place = state.view.indexOf(state.selected);
  const next = place < 0 ? 0 : Math.max(0, Math.min(state.view.length - 1, place + by));
  if (state.view.length) select(state.view[next]);
}

function segmentLines(row, number) {
  const segment = segments(row)[number];
  if (!segment) return null;
  const text = visible(rows.text[row].slice(segment.start, segment.end)).slice(0, 60);
  if (segment.gap === null) return [`“${text}”`, 'no number: a logprob is missing on one side'];
  const ratio = Math.exp(Math.min(60, Math.abs(segment.gap)));
  const times = ratio >= 1e5 ? ratio.toExponential(0).replace('e+', 'e') : format(ratio);
  return [
    `“${text}”`,
    `target ${format(segment.target)}, reference ${format(segment.reference)} nats`,
    `gap ${format(segment.gap)}: ${times}× ${segment.gap >= 0 ? 'likelier' : 'less likely'} under the target`,
  ];
}

// The keyboard reads a segment under the text, where it covers nothing.
function walk(by) {
  const row = state.selected;
  const node = made.get(row);
  if (!node) return;
  const spans = node.querySelectorAll('.words > .s');
  state.segment = Math.max(0, Math.min(spans.length - 1, state.segment + by));
  node.querySelector('.s.at')?.classList.remove('at');
  const span = spans[state.segment];
  if (!span) return;
  span.classList.add('at');
  node.querySelector('.reading').textContent = segmentLines(row, state.segment).join(' · ');
}

function bindList() {
  list.addEventListener('click', (event) => {
    const node = event.target.closest('.row');
    if (!node) return;
    const row = Number(node.dataset.row);
    const action = event.target.closest('button')?.dataset.action;
    const find = event.target.closest('button')?.dataset.find;
    if (find !== undefined) {
      state.words = [...new Set([...state.words, find])];
      showControls();
      redraw();
      tellAddress();
      return;
    }
    if (action === 'json') copy(JSON.stringify(record(row), null, 2), 'JSON');
    else if (action === 'link') copy(link(row), 'Link');
    else if (action === 'copies') turn(row);
    else if (!event.target.closest('a, .detail') && String(getSelection()) === '') {
      select(row, { open: !state.open.has(row), scroll: false });
    }
  });
  list.addEventListener('focusin', (event) => {
    const node = event.target.closest('.row');
    if (!node || Number(node.dataset.row) === state.selected) return;
    made.get(state.selected)?.classList.remove('selected');
    state.selected = Number(node.dataset.row);
    state.segment = -1;
    node.classList.add('selected');
  });
  list.addEventListener('mousemove', (event) => {
    const span = event.target.closest('.words > .s');
    if (!span) return hideTip();
    showTip(event.clientX, event.clientY, segmentLines(Number(span.closest('.row').dataset.row), Number(span.dataset.s)));
  });
  list.addEventListener('mouseleave', hideTip);
}

const link = (row) => permalink(rows.id[row]);
const onSelected = (act) => () => state.selected >= 0 && state.side === 'target' && act(rows.id[state.selected]);

const keys = {
  j: () => step(1),
  k: () => step(-1),
  Enter: () => state.selected >= 0 && select(state.selected, { open: !state.open.has(state.selected) }),
  ArrowRight: () => walk(1),
  ArrowLeft: () => walk(-1),
  '/': () => $('search').focus(),
  h: () => $('words').focus(),
  c: () => state.selected >= 0 && copy(JSON.stringify(record(state.selected), null, 2), 'JSON'),
  l: () => state.selected >= 0 && copy(link(state.selected), 'Link'),
  y: onSelected((id) => toggleMark('completion', id, 'keep')),
  x: onSelected((id) => toggleMark('completion', id, 'dismiss')),
  n: onSelected((id) => writeNote('completion', id)),
  '?': () => $('help').showModal(),
};

function bindKeys() {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
    const field = event.target.closest('input, select, textarea');
    if (event.key === 'Escape') {
      hideTip();
      if (field) {
        if (field.value && field.type === 'search') {
          field.value = '';
          field.dispatchEvent(new Event('input'));
        } else field.blur();
        event.preventDefault();
      }
      return;
    }
    if (field || !keys[event.key]) return;
    if (event.key === 'Enter' && event.target.closest('a, button, summary')) return;
    event.preventDefault();
    keys[event.key]();
  });
  $('help-open').addEventListener('click', () => $('help').showModal());
}

function bindTheme() {
  const root = document.documentElement;
  const store = (value) => { try { localStorage.setItem('blackbox-diff-theme', value); } catch { /* file:// may forbid it */ } };
  try { if (localStorage.getItem('blackbox-diff-theme')) root.dataset.theme = localStorage.getItem('blackbox-diff-theme'); } catch { /* the same */ }
  const system = matchMedia('(prefers-color-scheme: dark)');
  $('theme-toggle').addEventListener('click', () => {
    const dark = root.dataset.theme ? root.dataset.theme === 'dark' : system.matches;
    root.dataset.theme = dark ? 'light' : 'dark';
    store(root.dataset.theme);
    drawCharts();
  });
  system.addEventListener('change', drawCharts);
}

// A completion's permalink shows it whatever the filters say; a folded one's shows the row it is folded into.
function goToAddress() {
  const id = readAddress();
  update({ keep: true });
  if (id && !sets[view].rows.rowOf.has(id)) {
    if (document.getElementById(id)) jump(id);
    return;
  }
  if (!id) return;
  if (state.side !== 'target') chooseSide('target');
  const row = rows.rowOf.get(id);
  if (!state.view.includes(row)) {
    Object.assign(state, { search: '', theme: '', arm: '', flag: '', notes: '', odd: '' });
    showControls();
    update({ keep: true });
  }
  state.open.add(row);
  reveal(row);
  select(row, { open: true });
}

function bindJumps() {
  document.addEventListener('click', (event) => {
    const link = event.target.closest('.bar nav a, a.skip');
    if (!link) return;
    event.preventDefault();
    jump(link.hash.slice(1));
    const place = document.getElementById(link.hash.slice(1));
    place.tabIndex = -1;
    place.focus({ preventScroll: true });
  });
}

loadNotes();
bindTheme();
fillControls();
bindControls();
bindList();
bindKeys();
bindNotes();
bindJumps();
drawThemeTriage();
tellNotes();
update({ keep: true });
requestAnimationFrame(() => {
  drawCharts();
  goToAddress();
});
window.addEventListener('hashchange', goToAddress);
new ResizeObserver(after(100, () => {
  for (const { chart, size, box } of plots) if (!printing && box.clientWidth !== chart.width) chart.setSize(size());
})).observe(document.querySelector('.charts'));
document.documentElement.dataset.ready = 'true';

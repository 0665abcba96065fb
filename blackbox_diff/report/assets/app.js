// Controls, keyboard, permalinks and the light or dark theme.
const $ = (id) => document.getElementById(id);
const tip = $('tip');

function showTip(x, y, lines) {
  tip.replaceChildren(...lines.map((line, k) => element(k ? 'span' : 'b', '', line)));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(6, Math.min(x + 12, document.documentElement.clientWidth - box.width - 6))}px`;
  tip.style.top = `${y + 18 + box.height > window.innerHeight ? Math.max(6, y - box.height - 12) : y + 18}px`;
}

function hideTip() {
  tip.hidden = true;
}

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

function update({ keep = false } = {}) {
  compute();
  if (!state.view.includes(state.selected)) state.selected = -1;
  redraw();
  const copies = folded ? `, ${whole.format(folded)} near-duplicates ${state.unfolded ? 'shown under' : 'folded into'} them` : '';
  $('shown').textContent = `${whole.format(state.view.length)} of ${whole.format(count)}${copies}`;
  if (!state.view.length) list.insertBefore(emptyNote, above);
  else emptyNote.remove();
  if (!keep) keepListInSight();
}
const emptyNote = element('p', 'none', 'Nothing matches.');

// After a filter the list starts anew: its first row, not the middle of the old one.
function keepListInSight() {
  const tools = document.querySelector('.tools').getBoundingClientRect();
  if (list.getBoundingClientRect().top < tools.bottom) $('completions').scrollIntoView({ behavior: 'instant' });
}

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
    ...parts.map(([word, n, hits]) => {
      const chip = element('span', 'chip');
      chip.append(element('mark', '', word), ` ${whole.format(n)} of ${whole.format(count)} completions, ${whole.format(hits)} times`);
      return chip;
    }),
  );
}

function options(select, first, pairs) {
  select.append(new Option(first, ''), ...pairs.map(([value, text]) => new Option(text, value)));
  select.parentElement.hidden = !pairs.length;
}

function fillControls() {
  const cut = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);
  options($('theme'), 'any', data.themes.map((theme, k) => [k, cut(visible(theme.phrase))]));
  options($('arm'), 'any', data.arms.map((name, k) => [k, visible(name)]));
  options($('flag'), 'any', data.flags.map((name, k) => [k, visible(name)]));
  $('sort').append(new Option('rank', 'rank'), ...metricNames.map((name) => new Option(metricLabel[name], name)), new Option('tokens', 'n_tokens'));
  $('sort').value = state.sort;
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
    state.words = $('words').value.split(',').map((word) => word.trim()).filter(Boolean);
    countWords();
    redraw();
  }));
  for (const name of ['theme', 'arm', 'flag']) {
    $(name).addEventListener('change', () => { state[name] = $(name).value; update(); });
  }
  $('sort').addEventListener('change', () => { state.sort = $('sort').value; update(); });
  $('direction').addEventListener('click', () => {
    state.descending = !state.descending;
    $('direction').textContent = state.descending ? '↓' : '↑';
    $('direction').setAttribute('aria-label', state.descending ? 'Descending: switch to ascending' : 'Ascending: switch to descending');
    update();
  });
  $('unfold').parentElement.hidden = !folded;
  $('unfold').addEventListener('change', () => {
    state.unfolded = $('unfold').checked;
    state.turned.clear();
    measured.clear();
    update();
  });
  for (const button of document.querySelectorAll('button[data-theme]')) {
    button.addEventListener('click', () => {
      $('theme').value = state.theme = button.dataset.theme;
      update({ keep: true });
      $('completions').scrollIntoView({ behavior: 'instant' });
      draw();
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
  const box = span.getBoundingClientRect();
  showTip(box.left, box.bottom - 12, segmentLines(row, state.segment));
}

function bindList() {
  list.addEventListener('click', (event) => {
    const node = event.target.closest('.row');
    if (!node) return;
    const row = Number(node.dataset.row);
    const action = event.target.closest('button')?.dataset.action;
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

const link = (row) => `${location.href.split('#')[0]}#${encodeURIComponent(rows.id[row])}`;

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
  '?': () => $('help').showModal(),
};

function bindKeys() {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $('help').open) return;
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
    if (event.key === 'Enter' && event.target.closest('a, button')) return;
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
function goToHash() {
  let id = location.hash.slice(1);
  try { id = decodeURIComponent(id); } catch { return; }
  const row = rowOf.get(id);
  if (row === undefined) return;
  if (!state.view.includes(row)) {
    Object.assign(state, { search: '', theme: '', arm: '', flag: '' });
    for (const name of ['search', 'theme', 'arm', 'flag']) $(name).value = '';
    update({ keep: true });
  }
  state.open.add(row);
  reveal(row);
  select(row, { open: true });
}

bindTheme();
fillControls();
bindControls();
bindList();
bindKeys();
update({ keep: true });
requestAnimationFrame(() => {
  drawCharts();
  goToHash();
});
window.addEventListener('hashchange', goToHash);
new ResizeObserver(after(100, () => {
  for (const { chart, size, box } of plots) if (box.clientWidth !== chart.width) chart.setSize(size());
})).observe(document.querySelector('.charts'));
document.documentElement.dataset.ready = 'true';

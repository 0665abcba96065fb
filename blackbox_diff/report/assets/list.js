// A virtual list in the page's own scroll: only what is near the window is in the document.
const list = document.getElementById('list');
const above = element('div', 'pad');
const below = element('div', 'pad');
list.append(above, below);
const OVERSCAN = 700; // pixels
const PRINTED = 50; // rows on paper
const measured = new Map(); // row -> height
const made = new Map(); // row -> article
let heights = new Float64Array(0); // by place in the view: measured, or estimated until then
let offsets = new Float64Array(1); // where each place begins, and the list's end
let lastWidth = 0;
let printing = false;

// The list's width is read once: reading it makes the browser lay out what has changed.
function layOut() {
  const width = list.clientWidth;
  const narrow = width < 700;
  const perLine = Math.max(20, (width - (narrow ? 40 : 240)) / 7.4);
  const estimate = (row) => {
    const size = Math.min(CLOSED_LIMIT, rows.text[row].length) + rows.prefill[row].length;
    return Math.ceil(size / perLine) * 25 + 46 + (narrow ? 50 : 0);
  };
  heights = Float64Array.from(state.view, (row) => measured.get(row) ?? estimate(row));
  addUp();
}

function addUp() {
  if (offsets.length !== heights.length + 1) offsets = new Float64Array(heights.length + 1);
  for (let place = 0; place < heights.length; place++) offsets[place + 1] = offsets[place] + heights[place];
}

function placeAt(offset) {
  let low = 0;
  let high = Math.max(0, state.view.length - 1);
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (offsets[middle] <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}

function span() {
  if (printing) return [0, Math.min(PRINTED, state.view.length)];
  const top = -list.getBoundingClientRect().top;
  if (!state.view.length || top + window.innerHeight + OVERSCAN < 0) return [0, 0];
  return [placeAt(top - OVERSCAN), Math.min(state.view.length, placeAt(top + window.innerHeight + OVERSCAN) + 1)];
}

// Kept articles are never moved, so that focus and selection survive scrolling.
function draw() {
  const [start, end] = span();
  const wanted = new Set(state.view.slice(start, end));
  for (const [row, node] of made) {
    if (!wanted.has(row)) {
      node.remove();
      made.delete(row);
    }
  }
  let cursor = above.nextElementSibling;
  const fresh = [];
  for (let place = start; place < end; place++) {
    const row = state.view[place];
    const kept = made.get(row);
    if (kept && kept === cursor) {
      cursor = cursor.nextElementSibling;
      continue;
    }
    const node = kept ?? article(row, place);
    list.insertBefore(node, cursor);
    made.set(row, node);
    fresh.push(place);
  }
  list.setAttribute('aria-busy', made.size === 0); // a feed without articles is one that is still to come
  above.style.height = `${offsets[start]}px`;
  below.style.height = `${printing ? 0 : offsets[state.view.length] - offsets[end]}px`;
  let changed = false;
  for (const place of fresh) {
    const row = state.view[place];
    const height = made.get(row).offsetHeight;
    if (Math.abs(height - (measured.get(row) ?? -1)) >= 1) {
      measured.set(row, height);
      heights[place] = height;
      changed = true;
    }
  }
  if (changed && !printing) {
    addUp();
    above.style.height = `${offsets[start]}px`;
    below.style.height = `${offsets[state.view.length] - offsets[end]}px`;
  }
}

function redraw() {
  lastWidth = list.clientWidth;
  for (const node of made.values()) node.remove();
  made.clear();
  layOut();
  draw();
}

// Draws `row` again, in place: after it was opened, closed or selected.
function refresh(row) {
  const node = made.get(row);
  if (!node) return;
  const focused = node.contains(document.activeElement);
  const renewed = article(row, state.view.indexOf(row));
  node.replaceWith(renewed);
  made.set(row, renewed);
  measured.set(row, renewed.offsetHeight);
  layOut();
  draw();
  if (focused) renewed.focus({ preventScroll: true });
}

let waiting = false;
function drawSoon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    draw();
  });
}

function resized() {
  if (list.clientWidth === lastWidth) return;
  const kept = made.has(state.selected);
  measured.clear();
  redraw();
  if (kept) reveal(state.selected);
}

// Scrolls until `row` stands at the top third; heights that were estimates settle on the way.
function reveal(row) {
  const place = state.view.indexOf(row);
  if (place < 0) return;
  const margin = window.innerHeight / 3;
  for (let attempt = 0; attempt < 4; attempt++) {
    const top = list.getBoundingClientRect().top + window.scrollY + offsets[place] - margin;
    window.scrollTo({ top: Math.max(0, top), behavior: 'instant' });
    draw();
  }
  made.get(row)?.scrollIntoView({ block: 'nearest' });
}

window.addEventListener('scroll', () => { drawSoon(); hideTip(); }, { passive: true });
new ResizeObserver(resized).observe(list);
// Paper has its own width, and no list to scroll: charts are drawn for it, and the count says how many rows are there.
function print(on) {
  printing = on;
  document.documentElement.classList.toggle('printing', on);
  redraw();
  tellShown();
  drawCharts();
}
window.addEventListener('beforeprint', () => print(true));
window.addEventListener('afterprint', () => print(false));

// Scrolls to a section; rows on the way are measured as they are drawn, so it is done until it stays there.
function jump(id) {
  const place = document.getElementById(id);
  for (let attempt = 0; attempt < 6; attempt++) {
    place.scrollIntoView({ block: 'start', behavior: 'instant' });
    draw();
  }
}

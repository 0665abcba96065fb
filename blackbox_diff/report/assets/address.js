// Where the reader is, in the address: a completion's id, then filters, order and search.
const DEFAULTS = { search: '', words: '', theme: '', arm: '', flag: '', notes: '', odd: '', side: 'target', sort: 'rank', order: '', under: '' };

function places() {
  return {
    search: state.search, words: state.words.join(', '), theme: state.theme, arm: state.arm, flag: state.flag, notes: state.notes,
    odd: state.odd, side: state.side, sort: state.sort, order: state.descending ? '' : 'up', under: view ? String(view) : '',
  };
}

function query(more = {}) {
  const wanted = new URLSearchParams();
  for (const [name, value] of Object.entries(places())) if (value !== DEFAULTS[name]) wanted.set(name, value);
  for (const [name, value] of Object.entries(more)) wanted.set(`with-${name}`, value);
  return wanted.toString();
}

const page = () => location.href.split('#')[0];
const address = (more) => `${page()}#?${query(more)}`;
const permalink = (id) => `${page()}#${encodeURIComponent(id)}`;

// The address follows what is shown, without a step in the history for each letter typed.
let addressRead = false;
function tellAddress() {
  if (!addressRead) return; // what it says is not taken in yet
  const wanted = query();
  const id = location.hash.slice(1).split('?')[0];
  const kept = wanted || rows.rowOf.has(safely(id)) || document.getElementById(id) ? id : '';
  try { history.replaceState(null, '', `#${kept}${wanted ? `?${wanted}` : ''}`); } catch { /* a sandbox may forbid it */ }
}

function safely(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

// Reads the address into the state; returns the id or section that it names.
function readAddress() {
  addressRead = true;
  const [id, search = ''] = location.hash.slice(1).split(/\?(.*)/s);
  const found = new URLSearchParams(search);
  if (search) {
    const given = { ...DEFAULTS, ...Object.fromEntries([...found].filter(([name]) => name in DEFAULTS)) };
    if (sets[Number(given.under)] && Number(given.under) !== view) chooseReference(Number(given.under), false);
    Object.assign(state, {
      search: given.search, words: wordsOf(given.words), theme: given.theme, arm: given.arm, flag: given.flag,
      notes: given.notes, odd: given.odd, sort: given.sort, descending: given.order !== 'up',
    });
    if (given.side !== state.side) chooseSide(given.side === 'control' ? 'control' : 'target', false);
    showControls();
  }
  if (found.get('with-notes')) {
    try { takeNotes(JSON.parse(found.get('with-notes'))); saveNotes(); } catch { /* no notes: the rest still counts */ }
  }
  return safely(id);
}

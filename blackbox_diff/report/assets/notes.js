// Triage: keep, dismiss and note, on completions and on what recurs. Kept in the page's storage, and exported.
const NOTES_KEY = `blackbox-diff-notes:${data.run.run}:${data.run.created}`;
const MARKS = { keep: 'kept', dismiss: 'dismissed' };
const MOST_IN_LINK = 6000; // characters of notes that an address can hold in every browser
const notes = new Map(); // "completion ID" or "theme PHRASE" -> { on, name, mark, note }

const keyOf = (on, name) => `${on} ${name}`;
const markOf = (on, name) => notes.get(keyOf(on, name))?.mark ?? '';
const noteOf = (on, name) => notes.get(keyOf(on, name))?.note ?? '';

function takeNotes(list) {
  if (!Array.isArray(list)) return;
  for (const each of list) {
    const sound = each && ['completion', 'theme'].includes(each.on) && typeof each.name === 'string';
    if (sound && (each.mark in MARKS || each.note)) {
      notes.set(keyOf(each.on, each.name), { on: each.on, name: each.name, mark: each.mark in MARKS ? each.mark : '', note: String(each.note ?? '') });
    }
  }
}

function loadNotes() {
  takeNotes(data.run.notes); // what `report --notes` put here; the reader's own come after
  try { takeNotes(JSON.parse(localStorage.getItem(NOTES_KEY) ?? '[]')); } catch { /* file:// may forbid it */ }
}

function saveNotes() {
  try { localStorage.setItem(NOTES_KEY, JSON.stringify([...notes.values()])); } catch { /* the same */ }
  tellNotes();
}

function setNote(on, name, change) {
  const made = { on, name, mark: markOf(on, name), note: noteOf(on, name), ...change };
  if (made.mark || made.note) notes.set(keyOf(on, name), made);
  else notes.delete(keyOf(on, name));
  saveNotes();
  if (on === 'completion') {
    const row = rows.rowOf.get(name);
    if (row !== undefined) refresh(row);
  } else drawThemeTriage();
}

const toggleMark = (on, name, mark) => setNote(on, name, { mark: markOf(on, name) === mark ? '' : mark });

function noteMatches(id, wanted) {
  const [mark, note] = [markOf('completion', id), noteOf('completion', id)];
  return { keep: mark === 'keep', dismiss: mark === 'dismiss', note: note !== '', open: !mark && !note }[wanted];
}

// Keep, dismiss and note as buttons, with the note as text beside them.
function triage(on, name) {
  const box = element('span', 'triage');
  for (const [mark, shown] of [['keep', 'Keep'], ['dismiss', 'Dismiss']]) {
    const button = box.appendChild(element('button', mark, shown));
    button.type = 'button';
    button.setAttribute('aria-pressed', markOf(on, name) === mark);
    button.addEventListener('click', (event) => { event.stopPropagation(); toggleMark(on, name, mark); });
  }
  const note = noteOf(on, name);
  const button = box.appendChild(element('button', 'note', note ? 'Edit note' : 'Note'));
  button.type = 'button';
  button.addEventListener('click', (event) => { event.stopPropagation(); writeNote(on, name); });
  if (note) box.append(element('span', 'written', visible(note)));
  return box;
}

function writeNote(on, name) {
  const dialog = document.getElementById('note');
  document.getElementById('note-on').textContent = visible(name).slice(0, 120);
  const field = document.getElementById('note-text');
  field.value = noteOf(on, name);
  dialog.returnValue = '';
  dialog.onclose = () => { if (dialog.returnValue === 'save') setNote(on, name, { note: field.value.trim() }); };
  dialog.showModal();
}

function drawThemeTriage() {
  for (const place of document.querySelectorAll('.triage[data-on="theme"]')) {
    const number = Number(place.closest('.view').dataset.view);
    const theme = sets[number].themes[Number(place.dataset.name)];
    const card = place.closest('.theme');
    card.classList.remove('keep', 'dismiss');
    if (markOf('theme', theme.phrase)) card.classList.add(markOf('theme', theme.phrase));
    place.replaceChildren(triage('theme', theme.phrase));
  }
}

function tellNotes() {
  const all = [...notes.values()];
  const marked = (mark) => all.filter((each) => each.mark === mark).length;
  document.getElementById('note-count').textContent = all.length
    ? `${marked('keep')} kept, ${marked('dismiss')} dismissed, ${all.filter((each) => each.note).length} noted`
    : 'Keep, dismiss or note a completion: y, x, n';
  for (const id of ['notes-json', 'notes-md', 'notes-link']) document.getElementById(id).disabled = !all.length;
}

function exported() {
  const { run, created, target, url, version } = data.run;
  return {
    schema: 1, kind: 'blackbox-diff notes', version, run, created, target, url, references: sets.map((each) => each.reference),
    exported: new Date().toISOString(),
    notes: [...notes.values()].map((each) => {
      const row = each.on === 'completion' ? sets[0].rows.rowOf.get(each.name) : undefined;
      const more = row === undefined ? {} : { rank: sets[0].rows.rank[row], prefill: sets[0].rows.prefill[row], completion: sets[0].rows.text[row] };
      return { ...each, ...more, ...(each.on === 'completion' ? { link: permalink(each.name) } : {}) };
    }),
  };
}

// Model text stands in code spans that it can't close, so nothing in it is active.
function codeSpan(text) {
  const shown = visible(text);
  const longest = Math.max(0, ...Array.from(shown.matchAll(/`+/g), (match) => match[0].length));
  const fence = '`'.repeat(longest + 1);
  return `${fence} ${shown} ${fence}`;
}

function notesMarkdown() {
  const about = exported();
  const lines = [`# Notes on ${codeSpan(about.target)}`, '', `Run ${codeSpan(about.run)} of ${about.created}, against ${about.references.map(codeSpan).join(', ')}; exported ${about.exported} by blackbox-diff ${about.version}.`, ''];
  for (const each of about.notes) {
    lines.push(`- **${MARKS[each.mark] ?? 'noted'}** ${each.on} ${codeSpan(each.name)}${each.note ? `: ${codeSpan(each.note)}` : ''}`);
    if (each.completion) lines.push(`  - rank ${each.rank}: ${codeSpan(`${each.prefill}|${each.completion}`.slice(0, 400))}`, `  - <${each.link}>`);
  }
  return `${lines.join('\n')}\n`;
}

function download(name, kind, text) {
  const link = element('a');
  link.href = URL.createObjectURL(new Blob([text], { type: kind }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function bindNotes() {
  document.getElementById('notes-json').addEventListener('click', () => download('notes.json', 'application/json', `${JSON.stringify(exported(), null, 2)}\n`));
  document.getElementById('notes-md').addEventListener('click', () => download('notes.md', 'text/markdown', notesMarkdown()));
  document.getElementById('notes-link').addEventListener('click', () => {
    const text = JSON.stringify([...notes.values()]);
    if (encodeURIComponent(text).length > MOST_IN_LINK) return toast('Too many notes for a link: export them');
    return copy(address({ notes: text }), 'Link with notes');
  });
}

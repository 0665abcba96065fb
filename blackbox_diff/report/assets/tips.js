// The one tooltip: numbers of a segment or a chart, and the meaning of a term on hover and focus.
const tip = document.getElementById('tip');

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

function explainTerm(node) {
  const [word, text] = data.glossary[node.dataset.term];
  const box = node.getBoundingClientRect();
  showTip(box.left - 12, box.bottom - 12, [word, text]);
}

function term(key, shown) {
  const node = element('span', 'term', shown ?? data.glossary[key][0]);
  node.dataset.term = key;
  node.tabIndex = 0;
  return node;
}

for (const [on, off] of [['mouseover', 'mouseout'], ['focusin', 'focusout']]) {
  document.addEventListener(on, (event) => {
    const node = event.target.closest?.('.term');
    if (node) explainTerm(node);
  });
  document.addEventListener(off, (event) => { if (event.target.closest?.('.term')) hideTip(); });
}

// Charts by uPlot; colours come from the style sheet, so they follow the theme.
const plots = [];

function colour(name) {
  const probe = document.body.appendChild(element('i'));
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function faint(rgb, alpha) {
  return rgb.replace(/^rgba?\(([^)]*)\)$/, (_, parts) => `rgba(${parts.split(',').slice(0, 3)}, ${alpha})`);
}

function axis(label, more = {}) {
  return {
    label, labelSize: 18, labelGap: 0, labelFont: '12px system-ui, sans-serif', font: '11px system-ui, sans-serif',
    stroke: colour('--muted'), grid: { stroke: colour('--rule'), width: 1 }, ticks: { show: false }, gap: 4, ...more,
  };
}

function plot(id, options, values) {
  const box = document.getElementById(id);
  const size = () => ({ width: box.clientWidth, height: box.clientHeight });
  const chart = new uPlot(
    { ...size(), legend: { show: false }, cursor: { show: false }, padding: [8, 10, 0, 0], ...options }, values, box,
  );
  plots.push({ chart, size, box });
  const canvas = chart.root.querySelector('canvas');
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', options.told);
  return chart;
}

function nothing(id, why) {
  document.getElementById(id).replaceChildren(element('p', 'none', why));
}

// On a log axis only 1, 2 and 5 times a power of ten are named; over many decades only the powers.
function logTicks(self, ticks) {
  const named = ticks[ticks.length - 1] / ticks[0] > 2e3 ? [1] : [1, 2, 5];
  return ticks.map((tick) => {
    const mantissa = Number(tick.toExponential(6).split('e')[0]);
    if (!named.includes(mantissa)) return '';
    return tick >= 1e5 ? tick.toExponential(0).replace('e+', 'e') : whole.format(tick);
  });
}
// Lines only where a number stands: nine a decade would be a hatching.
function logAxis() {
  const filter = (self, ticks) => {
    const named = logTicks(self, ticks);
    return ticks.map((tick, k) => (named[k] ? tick : null));
  };
  return { values: logTicks, filter: (self, ticks) => ticks, grid: { stroke: colour('--rule'), width: 1, filter } };
}

function scatter() {
  const cloud = set.charts.cloud.filter(([x, y]) => x > 0 && y > 0);
  const own = [];
  for (let row = 0; row < set.rows.count; row++) {
    const x = metricOf(row, 'ppl_target');
    const y = metricOf(row, 'ppl_reference');
    if (x > 0 && y > 0) own.push([x, y, row]);
  }
  if (!own.length) return nothing('chart-scatter', 'No perplexities.');
  const all = [...cloud.map(([x, y]) => [x, y, -1]), ...own].sort((a, b) => a[0] - b[0]);
  const xs = all.map(([x]) => x);
  const [first, last] = [0, xs.length - 1];
  const diagonal = xs.map((x, k) => (k === first || k === last ? x : null));
  const dots = (name, alpha, size) => ({
    paths: () => null, points: { show: true, size, width: 0, fill: faint(colour(name), alpha), stroke: 'transparent' },
  });
  const range = (self, low, high) => [low / 1.1, high * 1.1];
  const higher = own.filter(([x, y]) => y > x).length;
  const chart = plot('chart-scatter', {
    told: `${whole.format(own.length)} completions by perplexity; the target finds ${whole.format(higher)} of them likelier than the reference does`,
    scales: { x: { time: false, distr: 3, range }, y: { distr: 3, range } },
    axes: [axis('PPL target', { ...logAxis(), size: 24 }), axis('PPL reference', { ...logAxis(), size: 46 })],
    series: [
      {},
      { stroke: colour('--muted'), width: 1, dash: [4, 4], spanGaps: true, points: { show: false } },
      dots('--cold', 0.5, 4),
      dots('--hot', own.length > 3000 ? 0.4 : 0.65, own.length > 3000 ? 4 : 5),
    ],
  }, [xs, diagonal, all.map(([, y, row]) => (row < 0 ? y : null)), all.map(([, y, row]) => (row < 0 ? null : y))]);
  watchDots(chart, own);
}

// The nearest dot under the pointer tells its row; a click goes there.
function watchDots(chart, own) {
  const nearest = (event) => {
    const box = chart.over.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = null;
    let least = 144;
    for (const [x, y, row] of own) {
      const distance = (chart.valToPos(x, 'x') - px) ** 2 + (chart.valToPos(y, 'y') - py) ** 2;
      if (distance < least) [best, least] = [row, distance];
    }
    return best;
  };
  let frame = 0;
  chart.over.addEventListener('mousemove', (event) => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(() => {
      const row = nearest(event);
      chart.over.style.cursor = row === null ? '' : 'pointer';
      if (row === null) return hideTip();
      const own = set.rows;
      const text = visible(own.prefill[row] + own.text[row]).slice(0, 120);
      showTip(event.clientX, event.clientY, [
        `#${own.rank[row]} · score ${format(own.score[row])}`,
        `PPL ${format(metricOf(row, 'ppl_target'))} target, ${format(metricOf(row, 'ppl_reference'))} reference`,
        text,
      ]);
    });
  });
  chart.over.addEventListener('mouseleave', () => { cancelAnimationFrame(frame); hideTip(); });
  chart.over.addEventListener('click', (event) => {
    const row = nearest(event);
    if (row !== null) location.hash = encodeURIComponent(set.rows.id[row]);
  });
}

const metricOf = (row, name) => set.rows.metrics[name]?.[row] ?? null;

// What stands under the pointer on a chart of bars, `told(place)` lines for the bar at `place`.
function watchBars(chart, places, told) {
  chart.over.addEventListener('mousemove', (event) => {
    const at = chart.posToVal(event.clientX - chart.over.getBoundingClientRect().left, 'x');
    let best = 0;
    places.forEach((place, k) => { if (Math.abs(place - at) < Math.abs(places[best] - at)) best = k; });
    showTip(event.clientX, event.clientY, told(best));
  });
  chart.over.addEventListener('mouseleave', hideTip);
}

function scores() {
  const loop = data.flags.indexOf('degenerate');
  const own = set.rows.score.filter((score, row) => score !== null && !(set.rows.flags[row] ?? []).includes(loop));
  const control = set.charts.control.filter((score) => score !== null);
  if (!own.length) return nothing('chart-scores', 'No scores.');
  const both = [...own, ...control].sort((a, b) => a - b);
  let [low, high] = [both[Math.floor(both.length * 0.001)], both[both.length - 1]];
  if (low === high) [low, high] = [low - 0.05, high + 0.05]; // all alike: one bar where they are
  const bins = 48;
  const width = (high - low) / bins;
  const edges = Array.from({ length: bins }, (_, k) => low + (k + 0.5) * width);
  const counts = (values) => {
    const found = new Array(bins).fill(0);
    for (const value of values) found[Math.max(0, Math.min(bins - 1, Math.floor((value - low) / width)))]++;
    return found.map((n) => n || null);
  };
  const bars = uPlot.paths.bars({ size: [0.92, 60] });
  const series = (name, alpha) => ({
    stroke: 'transparent', width: 0, fill: faint(colour(name), alpha), paths: bars, points: { show: false }, fillTo: 0.5,
  });
  const [mine, theirs] = [counts(own), counts(control)];
  const most = control.length ? `, the control's to ${format(control.reduce((a, b) => Math.max(a, b)))}` : '';
  const chart = plot('chart-scores', {
    told: `Histogram of scores: the target's reach from ${format(own.reduce((a, b) => Math.min(a, b)))} to ${format(high)}${most}`,
    scales: { x: { time: false, range: () => [low - width, high + width] }, y: { distr: 3, range: (self, min, max) => [0.5, Math.max(10, max * 1.3)] } },
    axes: [axis('score', { size: 24 }), axis('completions', { ...logAxis(), size: 44 })],
    series: [{}, series('--cold', 0.55), series('--hot', 0.6)],
  }, [edges, theirs, mine]);
  watchBars(chart, edges, (k) => [
    `score ${format(edges[k] - width / 2)} to ${format(edges[k] + width / 2)}`,
    `${whole.format(mine[k] ?? 0)} of the target's, ${whole.format(theirs[k] ?? 0)} of the control's`,
  ]);
}

function arms() {
  const found = set.charts.arms.filter(([, gap]) => gap !== null);
  if (!found.length) return nothing('chart-arms', 'No arm was scored.');
  const names = found.map(([name]) => visible(name));
  const chart = plot('chart-arms', {
    told: `Mean gap by arm: ${found.map(([name, gap]) => `${visible(name)} ${format(gap)}`).join(', ')}`,
    scales: {
      x: { time: false, range: () => [-0.7, found.length - 0.3] },
      y: { range: (self, min, max) => [Math.min(0, min * 1.1), Math.max(0, max * 1.15) || 1] },
    },
    axes: [
      axis('', { splits: () => names.map((_, k) => k), values: () => names.map((name) => (name.length > 18 ? `…${name.slice(-17)}` : name)), grid: { show: false }, labelSize: 0, size: 24 }),
      axis('nats per token', { size: 48 }),
    ],
    series: [{}, { stroke: 'transparent', width: 0, fill: faint(colour('--hot'), 0.6), paths: uPlot.paths.bars({ size: [0.5, 70] }), points: { show: false } }],
  }, [names.map((_, k) => k), found.map(([, gap]) => gap)]);
  watchBars(chart, names.map((_, k) => k), (k) => [names[k], `mean gap ${format(found[k][1])} nats per token`, `${whole.format(found[k][2])} scored`]);
}

// How many completions hold each of what recurs, as they were bought.
const STEPS_DRAWN = 600;
const LINES = ['--hot', '--cold', '--line3', '--line4', '--line5', '--line6'];
function calls() {
  const bought = set.charts.bought;
  const found = set.charts.appeared.filter(([, places]) => places.length);
  const key = document.getElementById('chart-calls-key');
  key.replaceChildren();
  if (!found.length || bought < 2) return nothing('chart-calls', 'Nothing recurs, so there is nothing to draw.');
  const every = Math.max(1, Math.ceil(bought / STEPS_DRAWN));
  const xs = Array.from({ length: Math.ceil(bought / every) + 1 }, (_, k) => Math.min(bought, k * every));
  const lines = found.map(([, places]) => {
    let held = 0;
    return xs.map((x) => { while (places[held] <= x) held++; return held; });
  });
  const chart = plot('chart-calls', {
    told: `Completions that hold what recurs: ${found.map(([phrase, places]) => `${visible(phrase)} ${places.length}, first after ${places[0]}`).join('; ')}`,
    scales: { x: { time: false }, y: { range: (self, min, max) => [0, max * 1.1 || 1] } },
    axes: [axis('completions bought', { size: 24 }), axis('hold it', { size: 48 })],
    series: [{}, ...found.map((_, k) => ({ stroke: colour(LINES[k]), width: 2, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false } }))],
  }, [xs, ...lines]);
  found.forEach(([phrase], k) => {
    const dot = element('i', `dot line${k}`);
    key.append(dot, ` ${visible(phrase).slice(0, 40)} `);
  });
  watchBars(chart, xs, (at) => [`after ${whole.format(xs[at])} completions`, ...found.map(([phrase], k) => `${visible(phrase).slice(0, 40)}: ${lines[k][at]}`)]);
}

function drawCharts() {
  for (const { chart } of plots.splice(0)) chart.destroy();
  for (const box of document.querySelectorAll('.chart')) box.replaceChildren();
  for (const drawOne of [scatter, scores, arms, calls]) drawOne();
}

/* Curves and squares of the size of a word, as SVG: a table has hundreds of them, and the theme colours them by itself. */

import { h } from './dom.js';

const W = 100,
  H = 40; // of the view box, which is stretched to the place
const round = v => Math.round(v * 10) / 10;

/* A small curve of numbers, oldest first. Options: max, zero (from 0 on), bars, base (a line under the bars), label. */
export function spark(values, token, o = {}) {
  const a = values.map(v => v ?? 0),
    max = o.max || Math.max(...a, 1e-9) * 1.15,
    min = o.max || o.zero || o.bars ? 0 : Math.min(...a) * 0.85;
  const y = v => round(H - 2 - ((Math.min(v, max) - min) / (max - min || 1)) * (H - 5));
  return h(
    'svg.spark',
    { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': o.label, '--t': `var(--${token})` },
    o.bars ? h('path.bars', { d: bars(a, y) }) : curve(a, y),
    o.base && h('path.base', { d: `M0 ${H}H${W}` }),
  );
}

function bars(a, y) {
  const w = W / a.length,
    wide = round(Math.max(w * 0.75, 0.8));
  return a.map((v, i) => (v ? `M${round(i * w)} ${H}V${y(v)}h${wide}V${H}z` : '')).join('');
}

function curve(a, y) {
  if (a.length < 2) return null;
  const line = a.map((v, i) => `${i ? 'L' : 'M'}${round((i / (a.length - 1)) * W)} ${y(v)}`).join('');
  return [h('path.area', { d: `${line}V${H}H0z` }), h('path.line', { d: line })];
}

/* ------------------------------------------------------------ one square a server */
const STEP = 11,
  SIDE = 9,
  COLUMNS = 8;
const SHAPES = {
  busy: (x, y) => `M${x + 2} ${y}h5a2 2 0 0 1 2 2v5a2 2 0 0 1-2 2h-5a2 2 0 0 1-2-2v-5a2 2 0 0 1 2-2z`,
  idle: (x, y) =>
    `M${x + 2} ${y + 0.5}h5a1.5 1.5 0 0 1 1.5 1.5v5a1.5 1.5 0 0 1-1.5 1.5h-5a1.5 1.5 0 0 1-1.5-1.5v-5a1.5 1.5 0 0 1 1.5-1.5z`,
  lost: (x, y) => `M${x + 4.5} ${y - 0.5}l5 5-5 5-5-5z`,
  suspended: (x, y) => `M${x} ${y}h3v9h-3zm6 0h3v9h-3z`,
};

/* `busy` of `n` servers are filled; `rest` says what the others are: idle, lost, suspended. */
export function squares(n, busy, rest) {
  const lines = Math.ceil(n / COLUMNS),
    high = Math.max(22, lines * STEP),
    top = (high - lines * STEP + STEP - SIDE) / 2,
    d = { busy: '', rest: '' };
  for (let i = 0; i < n; i += 1) {
    const filled = i < busy && rest !== 'lost';
    d[filled ? 'busy' : 'rest'] += SHAPES[filled ? 'busy' : rest]((i % COLUMNS) * STEP + 0.5, top + Math.floor(i / COLUMNS) * STEP);
  }
  return h(
    'svg.squares',
    { width: COLUMNS * STEP, height: high, role: 'img', 'aria-label': `${busy} of ${n} busy` },
    h('path.busy', { d: d.busy }),
    h('path.' + rest, { d: d.rest, key: rest }),
  );
}

/* How lanes look: bars of tasks, an axis, marks of events, the strip of all the time that is kept. */

import { alpha, color } from './canvas.js';
import { clock, dur } from './text.js';

export const LANE = 15;
export const TOP = 34;
const BINS = 120;

const small = () => innerWidth < 860;
export const gutter = () => (small() ? 66 : 126);

const fillOf = state => color((state === 'cancelled' ? 'quiet' : state === 'queued' ? 'queued' : state) + '-fill');

function bar(g, task, x, w, y, named = true) {
  const c = fillOf(task.state),
    high = LANE - 3;
  if (task.state === 'failed') {
    const cap = Math.min(4, Math.max(2.5, w));
    g.fillStyle = alpha(c, 0.38);
    g.fillRect(x, y + 1, w, high);
    g.fillStyle = c;
    g.fillRect(x + Math.max(0, w - cap), y - 0.5, cap, LANE);
  } else if (task.state === 'lost') {
    const e = x + w,
      m = y + LANE / 2 - 0.5;
    g.fillStyle = c;
    g.fillRect(x, y + 1, w, high);
    g.beginPath();
    g.moveTo(e, m - 7);
    g.lineTo(e + 7, m);
    g.lineTo(e, m + 7);
    g.lineTo(e - 7, m);
    g.closePath();
    g.fill();
    g.strokeStyle = color('surface');
    g.lineWidth = 1.5;
    g.stroke();
  } else if (task.state === 'cancelled') {
    g.strokeStyle = c;
    g.lineWidth = 1;
    g.strokeRect(x + 0.5, y + 1.5, Math.max(1, w - 1), high - 1);
  } else {
    g.fillStyle = c;
    if (w < 4) g.fillRect(x, y + 1, w, high);
    else {
      g.beginPath();
      g.roundRect(x, y + 1, w, high, 2.5);
      g.fill();
    }
  }
  if (w <= 54 || !named) return;
  g.save();
  g.beginPath();
  g.rect(x, y, w - 4, LANE);
  g.clip();
  g.fillStyle = task.state === 'running' || task.state === 'lost' ? color('surface') : alpha(color('ink'), 0.78);
  g.textAlign = 'left';
  g.fillText(task.function, Math.max(x, gutter()) + 5, y + LANE / 2);
  g.restore();
}

function lane(g, l, y, v, X, w) {
  g.fillStyle = alpha(color('line'), 0.55);
  g.fillRect(gutter(), y + 1, w, LANE - 3);
  let last = -1;
  const seen = l.tasks.filter(task => (task.end ?? v.end) >= v.a && task.start <= v.b),
    cpu = seen.filter(task => !task.io);
  g.globalAlpha = cpu.length ? 0.35 : 1; // io tasks share their server: they lie below
  for (const task of seen)
    if (task.io) bar(g, task, X(task.start), Math.max(1, X(task.end ?? v.end) - X(task.start)), y, !cpu.length);
  g.globalAlpha = 1;
  for (const task of cpu) {
    const x = X(task.start),
      wide = X(task.end ?? v.end) - x,
      px = Math.floor(x);
    if (wide < 1 && px === last && task.state === 'done') continue; // far out, many lie on one pixel
    last = px;
    bar(g, task, x, Math.max(1, wide - (wide > 3 ? 1 : 0)), y);
  }
  if (l.state === 'suspended' || l.state === 'lost') hatch(g, l, y, v, X, w);
}

/* From its last task on. */
function hatch(g, l, y, v, X, w) {
  const from = Math.max(gutter(), X(l.tasks.reduce((t, task) => Math.max(t, task.end ?? v.end), v.from)) + 2);
  g.strokeStyle = alpha(color('quiet-fill'), 0.5);
  g.lineWidth = 1;
  for (let k = from; k < w; k += 7) {
    g.beginPath();
    g.moveTo(k, y + LANE - 3);
    g.lineTo(k + 6, y + 2);
    g.stroke();
  }
}

const EVERY = [1, 2, 5, 10, 30, 60, 300, 600, 900];

function axis(g, v, X, w, high) {
  const span = v.b - v.a,
    every = EVERY.find(e => span / e <= (w < 600 ? 4 : 9)) || 1800;
  g.textAlign = 'center';
  for (let s = Math.ceil(v.a / every) * every; s <= v.b; s += every) {
    const x = Math.round(X(s));
    g.fillStyle = color('line');
    g.fillRect(x, TOP - 6, 1, high);
    g.fillStyle = color('ink-3');
    if (x > gutter() + 18 && x < w - 28) g.fillText(every < 60 ? clock(s) : clock(s).slice(0, 5), x, TOP - 12);
  }
}

function eventMarks(g, events, X, w, high) {
  let free = -1;
  for (const e of events) {
    const x = Math.round(X(e.t)) + 0.5,
      c = color(e.token),
      wide = g.measureText(e.text).width;
    if (x < gutter() || x > w) continue;
    g.strokeStyle = c;
    g.lineWidth = 1;
    g.setLineDash([2, 3]);
    g.beginPath();
    g.moveTo(x, TOP - 6);
    g.lineTo(x, high);
    g.stroke();
    g.setLineDash([]);
    const at = Math.min(Math.max(gutter(), x - wide / 2), w - wide - 6);
    if (at < free + 6) continue;
    free = at + wide;
    g.textAlign = 'left';
    g.fillStyle = c;
    g.fillText(e.text, at, 9);
  }
}

function names(g, lanes, tops, family) {
  lanes.forEach((l, i) => {
    const y = tops[i] + LANE / 2;
    if (!i || lanes[i - 1].node !== l.node) {
      g.textAlign = 'left';
      g.fillStyle = color('ink');
      g.font = `600 12px ${family}`;
      let name = l.name;
      while (name.length > 2 && g.measureText(name).width > gutter() - (small() ? 18 : 62)) name = name.slice(0, -2) + '…';
      g.fillText(name, small() ? 12 : 16, y);
      g.font = `11px ${family}`;
    }
    if (!small()) {
      g.textAlign = 'right';
      g.fillStyle = color('ink-3');
      g.fillText(l.port, gutter() - 10, y);
    }
  });
}

const scale = (v, w) => t => gutter() + ((t - v.a) / (v.b - v.a)) * (w - gutter() - 8);

export function paintLanes(lanes, tops, v, events) {
  return (g, w, high) => {
    const X = scale(v, w),
      family = getComputedStyle(document.body).fontFamily;
    g.font = `11px ${family}`;
    g.textBaseline = 'middle';
    g.save();
    g.beginPath();
    g.rect(gutter(), 0, w - gutter() - 8, high);
    g.clip();
    axis(g, v, X, w, high);
    g.font = `10px ${family}`;
    lanes.forEach((l, i) => lane(g, l, tops[i], v, X, w));
    g.font = `11px ${family}`;
    eventMarks(g, events, X, w, high);
    g.restore();
    names(g, lanes, tops, family);
  };
}

/* Ended tasks over all the time that is kept; the frame is what the lanes show. */
export function paintStrip(lanes, v) {
  const good = new Array(BINS).fill(0),
    bad = new Array(BINS).fill(0),
    width = (v.end - v.from) / BINS;
  for (const l of lanes)
    for (const t of l.tasks) {
      const i = Math.floor((t.end - v.from) / width);
      if (t.end != null && i >= 0 && i < BINS) (t.state === 'failed' || t.state === 'lost' ? bad : good)[i] += 1;
    }
  return (g, w, high) => {
    const left = gutter(),
      wide = w - left - 8,
      bw = wide / BINS,
      most = Math.max(1, ...good.map((n, i) => n + bad[i]));
    g.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    g.textBaseline = 'middle';
    g.fillStyle = color('ink-3');
    g.fillText(
      `${small() ? '' : 'last '}${v.end - v.from > 90 ? Math.round((v.end - v.from) / 60) + ' min' : dur(v.end - v.from)}`,
      small() ? 12 : 16,
      small() ? 26 : 18,
    );
    if (!small()) g.fillText('drag to choose', 16, 34);
    good.forEach((n, i) => {
      const a = (n / most) * (high - 22),
        b = bad[i] ? Math.max(3, (bad[i] / most) * (high - 22)) : 0;
      g.fillStyle = color('done-fill');
      g.fillRect(left + i * bw, high - 12 - a, Math.max(1, bw - 1), a);
      g.fillStyle = color('failed-fill');
      g.fillRect(left + i * bw, high - 12 - a - b, Math.max(1, bw - 1), b);
    });
    const at = t => left + Math.min(1, Math.max(0, (t - v.from) / (v.end - v.from))) * wide,
      x1 = at(v.a),
      x2 = at(v.b);
    g.fillStyle = alpha(color('ink'), 0.09);
    g.fillRect(left, 4, x1 - left, high - 10);
    g.fillRect(x2, 4, w - 8 - x2, high - 10);
    g.strokeStyle = g.fillStyle = color('accent');
    g.lineWidth = 1.5;
    g.strokeRect(x1, 4, Math.max(2, x2 - x1), high - 10);
    for (const x of [x1, x2]) {
      g.beginPath();
      g.roundRect(x - 3, high / 2 - 9, 6, 16, 3);
      g.fill();
    }
  };
}

/* Curves over time: what uPlot is told, event marks, gaps where nobody looked. */

import { h } from './dom.js';
import { alpha, color, font, onRepaint } from './canvas.js';
import { hideTip, showTip } from './overlays.js';
import { clock } from './text.js';

const POINTS = 240;

/* Samples of the last `span` seconds, averaged into at most POINTS; a null where samples are missing.
   `pick(sample, before)` gives the values of one point. */
export function curves(samples, now, span, poll, names, pick) {
  const step = Math.max(span / POINTS, poll),
    t = [],
    values = names.map(() => []);
  let group = [],
    slot = null,
    last = null;
  const end = () => {
    if (!group.length) return;
    const at = group[group.length - 1].t;
    if (t.length && at - t[t.length - 1] > 3 * step + poll) {
      t.push(at - step);
      values.forEach(v => v.push(null));
    }
    const point = pick(group, last);
    t.push(at);
    values.forEach((v, i) => v.push(point[i]));
    last = group[group.length - 1];
    group = [];
  };
  for (const s of samples) {
    if (s.t < now - span) {
      last = s;
      continue;
    }
    const k = Math.floor(s.t / step);
    if (k !== slot) {
      end();
      slot = k;
    }
    group.push(s);
  }
  end();
  return [t, ...values];
}

const LEAST_S = 30;

/* The start of a chart: not long before the first of what is known. */
export function startOf(samples, now, span) {
  const first = samples.length ? samples[0].t : now;
  return Math.max(now - span, Math.min(first, now - LEAST_S));
}

export function mean(group, name) {
  let sum = 0,
    n = 0;
  for (const s of group)
    if (s[name] != null) {
      sum += s[name];
      n += 1;
    }
  return n ? sum / n : null;
}

/* Of counters that only grow: how much a second, so that a gap is no peak. */
export function grown(group, last, name) {
  const end = group[group.length - 1];
  return last && end.t > last.t ? Math.max(0, end[name] - last[name]) / (end.t - last.t) : 0;
}

/* 1,2,5-like ends of an axis. */
function nice(v) {
  if (!(v > 0)) return 1;
  const p = 10 ** Math.floor(Math.log10(v));
  return [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find(m => m * p >= v * 0.9999) * p;
}

const EVERY = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

function ticks(from, to, width) {
  const every = EVERY.find(e => width / ((to - from) / e) >= (width < 400 ? 66 : 84)) || 172800,
    found = [];
  const edge = ((to - from) / width) * 18; // half of a label: one at the end would be cut
  for (let s = Math.ceil((from + edge / 2) / every) * every; s <= to - edge; s += every) found.push(s);
  return found;
}

/* Dashed lines with words above them; words that would overlap are left to the list of events. */
function marks(u, events) {
  const g = u.ctx,
    d = devicePixelRatio || 1,
    { left, top, width, height } = u.bbox;
  g.save();
  g.font = font(11 * d);
  g.textBaseline = 'middle';
  let free = left;
  for (const e of events) {
    if (e.t < u.scales.x.min || e.t > u.scales.x.max) continue;
    const x = Math.round(u.valToPos(e.t, 'x', true)) + 0.5,
      c = color(e.token);
    g.strokeStyle = alpha(c, 0.6);
    g.lineWidth = d;
    g.setLineDash([2 * d, 3 * d]);
    g.beginPath();
    g.moveTo(x, top - 6 * d);
    g.lineTo(x, top + height);
    g.stroke();
    const w = g.measureText(e.text).width,
      at = Math.max(left, Math.min(x - w / 2, left + width - w));
    if (at < free) continue;
    free = at + w + 8 * d;
    g.fillStyle = c;
    g.fillText(e.text, at, top - 12 * d);
  }
  g.restore();
}

function options(el, s) {
  const o = s.arg,
    axis = { stroke: () => color('ink-3'), ticks: { show: false }, font: font(11) };
  const series = o.series.map((line, i) => ({
    label: line.label,
    width: o.stacked ? 0 : 1.6,
    dash: line.dash,
    points: { show: u => u.data[0].length === 1 }, // one point alone is no line
    stroke: () => color(line.token),
    fill: () => (o.stacked ? color(line.token) : i === 0 ? alpha(color(line.token), 0.08) : null),
  }));
  return {
    width: s.w,
    height: s.h,
    padding: [o.events ? 20 : 6, 6, 0, o.bare ? 2 : 0],
    legend: { show: false },
    cursor: {
      y: false,
      drag: { x: false, y: false },
      points: { size: 6, fill: (u, i) => color(s.arg.series[i - 1].token), width: 0 },
    },
    scales: { x: { time: true, range: () => [s.arg.from, s.arg.to] }, y: { range: () => [0, s.top] } },
    axes: [
      {
        ...axis,
        size: 24,
        gap: 4,
        grid: { show: false },
        splits: u => ticks(s.arg.from, s.arg.to, u.bbox.width / (devicePixelRatio || 1)),
        values: (u, at) => at.map(v => clock(v).slice(0, s.arg.to - s.arg.from < 600 ? 8 : 5)),
      },
      {
        ...axis,
        size: o.bare ? 0 : 48,
        gap: 6,
        show: true,
        grid: { stroke: () => color('line'), width: 1 },
        splits: () => [0, s.top / 2, s.top],
        values: (u, at) => at.map(v => (s.arg.bare ? '' : (s.arg.ticks || s.arg.fmt)(v))),
      },
    ],
    series: [{}, ...series],
    hooks: {
      draw: [
        u => {
          if (s.arg.events) marks(u, s.arg.events);
        },
      ],
      setCursor: [u => tip(u, s)],
    },
  };
}

function tip(u, s) {
  const i = u.cursor.idx;
  if (i == null || u.cursor.left < 0) {
    if (s.tipped) hideTip();
    s.tipped = false;
    return;
  }
  s.tipped = true;
  const box = u.over.getBoundingClientRect();
  showTip(
    box.left + u.cursor.left,
    box.top + Math.max(0, u.cursor.top),
    h('b', null, clock(u.data[0][i])),
    s.arg.series.map((line, k) =>
      h('div', { key: line.label }, `${line.label} ${s.arg.data[k + 1][i] == null ? 'unknown' : s.arg.fmt(s.arg.data[k + 1][i])}`),
    ),
  );
}

/* The areas of a stacked chart lie on each other: the first series is drawn first, with all that is under it. */
function shown(o) {
  if (!o.stacked) return o.data;
  const [t, ...values] = o.data,
    sums = values.map(v => v.slice());
  for (let k = sums.length - 2; k >= 0; k -= 1) sums[k] = sums[k].map((v, i) => (v == null ? v : v + (sums[k + 1][i] ?? 0)));
  return [t, ...sums];
}

function feed(s) {
  const data = shown(s.arg);
  s.top =
    s.arg.max ||
    nice(
      Math.max(
        ...data
          .slice(1)
          .flat()
          .filter(v => v != null),
        s.arg.least || 0,
      ) * 1.05,
    );
  return data;
}

const sized = new ResizeObserver(entries => {
  for (const e of entries) {
    const s = e.target.chart,
      w = Math.floor(e.contentRect.width),
      hh = Math.floor(e.contentRect.height);
    if (!w || !hh || (w === s.w && hh === s.h)) continue;
    s.w = w;
    s.h = hh;
    if (s.u) s.u.setSize({ width: w, height: hh });
    else {
      const data = feed(s);
      s.u = new uPlot(options(e.target, s), data, e.target);
    }
  }
});

const life = {
  make(el, arg) {
    const s = (el.chart = { el, arg, u: null, w: 0, h: 0, top: 1, tipped: false });
    s.forget = onRepaint(() => {
      if (s.u) s.u.redraw(false);
    });
    sized.observe(el);
    return s;
  },
  change(s, el, arg) {
    const other = arg.series.map(l => l.label + l.token).join() !== s.arg.series.map(l => l.label + l.token).join();
    const same = arg.stamp !== undefined && s.arg.stamp === arg.stamp;
    if (same && !other) return; // drawn again, by scrolling: no new sample
    s.arg = arg;
    if (!s.u) return;
    const data = feed(s);
    if (other) {
      s.u.destroy();
      s.u = new uPlot(options(el, s), data, el);
    } else s.u.setData(data);
  },
  drop(s) {
    sized.unobserve(s.el);
    s.forget();
    if (s.tipped) hideTip();
    if (s.u) s.u.destroy();
  },
};

/* o: {data: [times, values…], series: [{label, token, dash}], from, to, fmt, max, least (of the axis' end), events, stacked, bare, height, label,
   stamp (the same one: nothing is new)} */
export const chart = o =>
  h('div.chart', { '--h': (o.height || 150) + 'px' }, h('div.plot', { role: 'img', 'aria-label': o.label, life, arg: o }));

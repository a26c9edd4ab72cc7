/* Canvases that know their size in device pixels and the colours of the theme. */

import { h } from './dom.js';

const probe = document.createElement('i');
probe.hidden = true;
document.body.append(probe);
let colors = new Map();

/* The colour of a token, as light-dark() gives it now: a canvas cannot read that itself. */
export function color(name) {
  let value = colors.get(name);
  if (!value) {
    probe.style.color = `var(--${name})`;
    colors.set(name, value = getComputedStyle(probe).color);
  }
  return value;
}

export const alpha = (c, a) => c.replace('rgb(', 'rgba(').replace(')', `, ${a})`);
export const font = (px, weight = '') => `${weight} ${px}px ${getComputedStyle(document.body).fontFamily}`;

const states = new Set();
const sized = new ResizeObserver(entries => {
  for (const e of entries) {
    const s = e.target.canvas;
    s.w = e.contentRect.width;
    s.h = e.contentRect.height;
    draw(s);
  }
});

function draw(s) {
  if (!s.w || !s.h) return;
  const d = Math.min(devicePixelRatio || 1, 3), w = Math.round(s.w * d), hh = Math.round(s.h * d);
  if (s.el.width !== w || s.el.height !== hh) { s.el.width = w; s.el.height = hh; }
  const g = s.el.getContext('2d');
  g.setTransform(d, 0, 0, d, 0, 0);
  g.clearRect(0, 0, s.w, s.h);
  s.arg.paint(g, s.w, s.h);
}

const life = {
  make(el, arg) { const s = el.canvas = { el, arg, w: 0, h: 0 }; states.add(s); sized.observe(el); return s; },
  change(s, el, arg) { const same = s.arg.stamp !== undefined && s.arg.stamp === arg.stamp; s.arg = arg; if (!same) draw(s); },
  drop(s) { states.delete(s); sized.unobserve(s.el); },
};

/* A canvas that paint(g, width, height) fills; with a `stamp` it is only drawn again when that changes. */
export const canvas = (names, paint, label, stamp, props) =>
  h('canvas' + names, { role: 'img', 'aria-label': label, life, arg: { paint, stamp }, ...props });

/* The theme is another one: each colour is read anew. */
export function repaint() {
  colors = new Map();
  states.forEach(draw);
  repainters.forEach(f => f());
}

const repainters = new Set();
export const onRepaint = f => { repainters.add(f); return () => repainters.delete(f); };

/* ------------------------------------------------------------ sparks */
const curve = (g, a, x, y) => { g.beginPath(); a.forEach((v, i) => i ? g.lineTo(x(i), y(v)) : g.moveTo(x(i), y(v))); };

/* A small curve of numbers, oldest first. Options: max, zero (from 0 on), bars, base (a line under the bars). */
export function spark(values, token, o = {}) {
  const a = values.map(v => v ?? 0);
  return canvas('', (g, w, hh) => {
    if (!a.length) return;
    const col = color(token), max = o.max || Math.max(...a, 1e-9) * 1.15, min = o.max || o.zero || o.bars ? 0 : Math.min(...a) * .85;
    const y = v => hh - 2 - (Math.min(v, max) - min) / (max - min || 1) * (hh - 5);
    if (o.bars) {
      const bw = w / a.length;
      g.fillStyle = col;
      a.forEach((v, i) => { if (v) g.fillRect(i * bw, y(v), Math.max(1.5, bw - 1), hh - y(v)); });
      if (o.base) { g.fillStyle = color('line'); g.fillRect(0, hh - 1, w, 1); }
      return;
    }
    const x = i => a.length > 1 ? i / (a.length - 1) * w : w;
    curve(g, a, x, y); g.lineTo(w, hh); g.lineTo(a.length > 1 ? 0 : w, hh); g.fillStyle = alpha(col, .11); g.fill();
    curve(g, a, x, y); g.strokeStyle = col; g.lineWidth = 1.5; g.lineJoin = 'round'; g.stroke();
  }, o.label || '', a.join() + token);
}

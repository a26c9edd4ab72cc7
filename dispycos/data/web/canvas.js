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
    colors.set(name, (value = getComputedStyle(probe).color));
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
  const d = Math.min(devicePixelRatio || 1, 3),
    w = Math.round(s.w * d),
    hh = Math.round(s.h * d);
  if (s.el.width !== w || s.el.height !== hh) {
    s.el.width = w;
    s.el.height = hh;
  }
  const g = s.el.getContext('2d');
  g.setTransform(d, 0, 0, d, 0, 0);
  g.clearRect(0, 0, s.w, s.h);
  s.arg.paint(g, s.w, s.h);
}

const life = {
  make(el, arg) {
    const s = (el.canvas = { el, arg, w: 0, h: 0 });
    states.add(s);
    sized.observe(el);
    return s;
  },
  change(s, el, arg) {
    const same = s.arg.stamp !== undefined && s.arg.stamp === arg.stamp;
    s.arg = arg;
    if (!same) draw(s);
  },
  drop(s) {
    states.delete(s);
    sized.unobserve(s.el);
  },
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
export const onRepaint = f => {
  repainters.add(f);
  return () => repainters.delete(f);
};

/* What each server did, as lanes on a canvas: one bar a task; drag moves, Ctrl+wheel zooms, the strip above chooses. */

import { h, icon } from './dom.js';
import { alpha, canvas, color } from './canvas.js';
import { get, go, goTo, link } from './route.js';
import { btn, nodeName, serverName } from './parts.js';
import { hideTip, showTip } from './overlays.js';
import { now, rows, table } from './stream.js';
import { marksOf } from './attention.js';
import { clock, dur, N, natural, plural } from './text.js';
import { sorted } from './table.js';

const LANES = 24;
const LANE = 15, GAP = 10, TOP = 34, HOUR = 3600, LEAST_S = 2, USUAL_S = 1800, BINS = 120;

const small = () => innerWidth < 860;
const gutter = () => small() ? 66 : 126;

/* ------------------------------------------------------------ what is shown */
/* Bars by server, of the kept tasks; made once for each version of the table. */
let bars = new Map(), barsOf = -1, oldest = null;

function barsByServer() {
  const t = table('tasks');
  if (t.version === barsOf) return bars;
  barsOf = t.version;
  bars = new Map();
  oldest = null;
  for (const task of t.rows.values()) {
    if (task.start == null || !task.server) continue;
    if (oldest === null || task.start < oldest) oldest = task.start;
    const lane = bars.get(task.server);
    if (lane) lane.push(task); else bars.set(task.server, [task]);
  }
  return bars;
}

/* Servers by node, of those that `only` lets in; also ended ones, of which tasks tell. */
function serversOf(only) {
  const by = new Map(), known = rows('servers');
  const add = s => { if (!only(s)) return; const those = by.get(s.node); if (those) those.push(s); else by.set(s.node, [s]); };
  for (const s of known.values()) add(s);
  for (const [id, tasks] of barsByServer()) if (!known.has(id)) add({ id, node: tasks[0].node, port: Number(id.split(':').pop()), state: 'ended' });
  return by;
}

/* [how many there are, {id, node, name, port, state, tasks} of the LANES from `first` on], node by node. */
function lanesOf(only, first) {
  const by = serversOf(only), nodes = sorted([...by.keys()], id => natural(nodeName(id))), shown = [];
  let passed = 0, all = 0;
  for (const those of by.values()) all += those.length;
  first = Math.min(first, Math.floor(Math.max(0, all - 1) / LANES) * LANES);
  for (const node of nodes) {
    const those = by.get(node);
    if (passed + those.length > first && passed < first + LANES) shown.push(...sorted(those, s => s.port).slice(Math.max(0, first - passed), first + LANES - passed));
    passed += those.length;
  }
  return { all, first, lanes: shown.map(s => ({ id: s.id, node: s.node, name: nodeName(s.node), port: s.port, state: s.state, tasks: bars.get(s.id) || [] })) };
}

/* {a, b, from, end, live}: what the lanes show, and what is there at all. */
function view() {
  const end = now(), from = Math.min(end - 60, Math.max(end - HOUR, oldest ?? end - 60));
  const a = Number(get('from')), b = Number(get('to'));
  if (a && b > a) return { a, b, from, end, live: false };
  return { a: end - (Number(get('span')) || Math.min(USUAL_S, end - from)), b: end, from, end, live: true };
}

function look(v, a, b) {
  const span = Math.min(HOUR, Math.max(LEAST_S, b - a)), stop = Math.min(v.end, Math.max(v.from + span, b));
  if (stop >= v.end - span * .01) go({ from: null, to: null, span: Math.round(span) });      // at the right end: it goes on with time
  else go({ from: (stop - span).toFixed(1), to: stop.toFixed(1), span: null });
}

const zoom = (f, at = .5) => { const v = view(), m = v.a + (v.b - v.a) * at; look(v, m - (m - v.a) * f, v.live && at === .5 ? v.end : m + (v.b - m) * f); };
const pan = part => { const v = view(), d = (v.b - v.a) * part; look(v, v.a + d, v.b + d); };
const reset = () => go({ from: null, to: null, span: null });

/* ------------------------------------------------------------ painting */
const fillOf = state => color((state === 'cancelled' ? 'quiet' : state === 'queued' ? 'queued' : state) + '-fill');

function bar(g, task, x, w, y, named = true) {
  const c = fillOf(task.state), high = LANE - 3;
  if (task.state === 'failed') {
    const cap = Math.min(4, Math.max(2.5, w));
    g.fillStyle = alpha(c, .38); g.fillRect(x, y + 1, w, high);
    g.fillStyle = c; g.fillRect(x + Math.max(0, w - cap), y - .5, cap, LANE);
  } else if (task.state === 'lost') {
    const e = x + w, m = y + LANE / 2 - .5;
    g.fillStyle = c; g.fillRect(x, y + 1, w, high);
    g.beginPath(); g.moveTo(e, m - 7); g.lineTo(e + 7, m); g.lineTo(e, m + 7); g.lineTo(e - 7, m); g.closePath(); g.fill();
    g.strokeStyle = color('surface'); g.lineWidth = 1.5; g.stroke();
  } else if (task.state === 'cancelled') {
    g.strokeStyle = c; g.lineWidth = 1; g.strokeRect(x + .5, y + 1.5, Math.max(1, w - 1), high - 1);
  } else {
    g.fillStyle = c;
    if (w < 4) g.fillRect(x, y + 1, w, high); else { g.beginPath(); g.roundRect(x, y + 1, w, high, 2.5); g.fill(); }
  }
  if (w <= 54 || !named) return;
  g.save();
  g.beginPath(); g.rect(x, y, w - 4, LANE); g.clip();
  g.fillStyle = task.state === 'running' || task.state === 'lost' ? color('surface') : alpha(color('ink'), .78);
  g.textAlign = 'left';
  g.fillText(task.function, Math.max(x, gutter()) + 5, y + LANE / 2);
  g.restore();
}

function lane(g, l, y, v, X, w) {
  g.fillStyle = alpha(color('line'), .55);
  g.fillRect(gutter(), y + 1, w, LANE - 3);
  let last = -1;
  const seen = l.tasks.filter(task => (task.end ?? v.end) >= v.a && task.start <= v.b), cpu = seen.filter(task => !task.io);
  g.globalAlpha = cpu.length ? .35 : 1;                                     // io tasks share their server: they lie below
  for (const task of seen) if (task.io) bar(g, task, X(task.start), Math.max(1, X(task.end ?? v.end) - X(task.start)), y, !cpu.length);
  g.globalAlpha = 1;
  for (const task of cpu) {
    const x = X(task.start), wide = X(task.end ?? v.end) - x, px = Math.floor(x);
    if (wide < 1 && px === last && task.state === 'done') continue;        // far out, many lie on one pixel
    last = px;
    bar(g, task, x, Math.max(1, wide - (wide > 3 ? 1 : 0)), y);
  }
  if (l.state === 'suspended' || l.state === 'lost') hatch(g, l, y, v, X, w);
}

/* From its last task on. */
function hatch(g, l, y, v, X, w) {
  const from = Math.max(gutter(), X(l.tasks.reduce((t, task) => Math.max(t, task.end ?? v.end), v.from)) + 2);
  g.strokeStyle = alpha(color('quiet-fill'), .5);
  g.lineWidth = 1;
  for (let k = from; k < w; k += 7) { g.beginPath(); g.moveTo(k, y + LANE - 3); g.lineTo(k + 6, y + 2); g.stroke(); }
}

const EVERY = [1, 2, 5, 10, 30, 60, 300, 600, 900];

function axis(g, v, X, w, high) {
  const span = v.b - v.a, every = EVERY.find(e => span / e <= (w < 600 ? 4 : 9)) || 1800;
  g.textAlign = 'center';
  for (let s = Math.ceil(v.a / every) * every; s <= v.b; s += every) {
    const x = Math.round(X(s));
    g.fillStyle = color('line'); g.fillRect(x, TOP - 6, 1, high);
    g.fillStyle = color('ink-3');
    if (x > gutter() + 18 && x < w - 28) g.fillText(every < 60 ? clock(s) : clock(s).slice(0, 5), x, TOP - 12);
  }
}

function eventMarks(g, events, X, w, high) {
  let free = -1;
  for (const e of events) {
    const x = Math.round(X(e.t)) + .5, c = color(e.token), wide = g.measureText(e.text).width;
    if (x < gutter() || x > w) continue;
    g.strokeStyle = c; g.lineWidth = 1; g.setLineDash([2, 3]);
    g.beginPath(); g.moveTo(x, TOP - 6); g.lineTo(x, high); g.stroke(); g.setLineDash([]);
    const at = Math.min(Math.max(gutter(), x - wide / 2), w - wide - 6);
    if (at < free + 6) continue;
    free = at + wide;
    g.textAlign = 'left'; g.fillStyle = c; g.fillText(e.text, at, 9);
  }
}

function names(g, lanes, tops, family) {
  lanes.forEach((l, i) => {
    const y = tops[i] + LANE / 2;
    if (!i || lanes[i - 1].node !== l.node) {
      g.textAlign = 'left'; g.fillStyle = color('ink'); g.font = `600 12px ${family}`;
      let name = l.name;
      while (name.length > 2 && g.measureText(name).width > gutter() - (small() ? 18 : 62)) name = name.slice(0, -2) + '…';
      g.fillText(name, small() ? 12 : 16, y);
      g.font = `11px ${family}`;
    }
    if (!small()) { g.textAlign = 'right'; g.fillStyle = color('ink-3'); g.fillText(l.port, gutter() - 10, y); }
  });
}

const scale = (v, w) => t => gutter() + (t - v.a) / (v.b - v.a) * (w - gutter() - 8);

function paintLanes(lanes, tops, v, events) {
  return (g, w, high) => {
    const X = scale(v, w), family = getComputedStyle(document.body).fontFamily;
    g.font = `11px ${family}`;
    g.textBaseline = 'middle';
    g.save();
    g.beginPath(); g.rect(gutter(), 0, w - gutter() - 8, high); g.clip();
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
function paintStrip(lanes, v) {
  const good = new Array(BINS).fill(0), bad = new Array(BINS).fill(0), width = (v.end - v.from) / BINS;
  for (const l of lanes) for (const t of l.tasks) {
    const i = Math.floor((t.end - v.from) / width);
    if (t.end != null && i >= 0 && i < BINS) (t.state === 'failed' || t.state === 'lost' ? bad : good)[i] += 1;
  }
  return (g, w, high) => {
    const left = gutter(), wide = w - left - 8, bw = wide / BINS, most = Math.max(1, ...good.map((n, i) => n + bad[i]));
    g.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    g.textBaseline = 'middle'; g.fillStyle = color('ink-3');
    g.fillText(`${small() ? '' : 'last '}${v.end - v.from > 90 ? Math.round((v.end - v.from) / 60) + ' min' : dur(v.end - v.from)}`, small() ? 12 : 16, small() ? 26 : 18);
    if (!small()) g.fillText('drag to choose', 16, 34);
    good.forEach((n, i) => {
      const a = n / most * (high - 22), b = bad[i] ? Math.max(3, bad[i] / most * (high - 22)) : 0;
      g.fillStyle = color('done-fill'); g.fillRect(left + i * bw, high - 12 - a, Math.max(1, bw - 1), a);
      g.fillStyle = color('failed-fill'); g.fillRect(left + i * bw, high - 12 - a - b, Math.max(1, bw - 1), b);
    });
    const at = t => left + Math.min(1, Math.max(0, (t - v.from) / (v.end - v.from))) * wide, x1 = at(v.a), x2 = at(v.b);
    g.fillStyle = alpha(color('ink'), .09); g.fillRect(left, 4, x1 - left, high - 10); g.fillRect(x2, 4, w - 8 - x2, high - 10);
    g.strokeStyle = g.fillStyle = color('accent'); g.lineWidth = 1.5; g.strokeRect(x1, 4, Math.max(2, x2 - x1), high - 10);
    for (const x of [x1, x2]) { g.beginPath(); g.roundRect(x - 3, high / 2 - 9, 6, 16, 3); g.fill(); }
  };
}

/* ------------------------------------------------------------ hands */
let drag = null;                          // {x, moved, from} while a button is down

function place(e) {
  const r = e.currentTarget.getBoundingClientRect();
  return { x: e.clientX - r.left, y: e.clientY - r.top, w: r.width };
}

function taskAt(e, lanes, tops, v) {
  const { x, y, w } = place(e), i = tops.findIndex(top => y >= top && y < top + LANE);
  if (i < 0 || x < gutter()) return null;
  const t = v.a + (x - gutter()) / (w - gutter() - 8) * (v.b - v.a), slack = (v.b - v.a) / w * 2;
  const there = lanes[i].tasks.filter(b => t >= b.start - slack && t <= (b.end ?? v.end) + slack);
  return there.find(b => !b.io) || there[0] || null;
}

const hands = (lanes, tops) => ({
  tabindex: '0',
  onwheel: e => { if (!e.ctrlKey && !e.metaKey && !e.altKey) return; e.preventDefault(); const { x, w } = place(e); zoom(e.deltaY > 0 ? 1.25 : .8, (x - gutter()) / (w - gutter() - 8)); },
  onkeydown: e => {
    const f = { '+': () => zoom(.6), '=': () => zoom(.6), '-': () => zoom(1.6), ArrowLeft: () => pan(-.2), ArrowRight: () => pan(.2), 0: reset }[e.key];
    if (f) { e.preventDefault(); e.stopPropagation(); f(); }
  },
  onpointerdown: e => { drag = { x: e.clientX, moved: 0 }; e.currentTarget.setPointerCapture(e.pointerId); },
  onpointercancel: () => { drag = null; },
  onpointerup: e => {
    const task = drag && drag.moved < 4 ? taskAt(e, lanes, tops, view()) : null;
    drag = null;
    if (task) { hideTip(); goTo(link({ q: '#' + task.id }, 'tasks')); }
  },
  onpointerleave: hideTip,
  onpointermove: e => {
    const v = view();
    if (drag) {
      const d = drag.x - e.clientX;
      drag.moved += Math.abs(d);
      drag.x = e.clientX;
      if (drag.moved >= 4) pan(d / (place(e).w - gutter()));
      return;
    }
    const task = taskAt(e, lanes, tops, v);
    if (!task) { hideTip(); return; }
    showTip(e.clientX, e.clientY, h('b', null, task.function), ` ${task.state}`, h('br'), `${serverName(task.server, task.node)} · ${clock(task.start)} · ${dur((task.end ?? v.end) - task.start)}`, task.error && h('div', null, task.error));
  },
});

let chosen = null;                        // where the frame of the strip began
const stripHands = {
  onpointerdown: e => { chosen = timeAt(e); e.currentTarget.setPointerCapture(e.pointerId); },
  onpointermove: e => { if (chosen != null) { const t = timeAt(e); look(view(), Math.min(chosen, t), Math.max(chosen, t)); } },
  onpointerup: () => { chosen = null; },
  onpointercancel: () => { chosen = null; },
};

function timeAt(e) {
  const { x, w } = place(e), v = view();
  return v.from + Math.min(1, Math.max(0, (x - gutter()) / (w - gutter() - 8))) * (v.end - v.from);
}

/* ------------------------------------------------------------ the card */
const LEGEND = ['done', 'running', 'failed', 'lost', 'cancelled'];

/* A card with the lanes of the servers that only({id, node}) lets in, LANES at a time. */
export function lanesCard(title, only) {
  const { all, first, lanes } = lanesOf(only, Number(get('lane')) || 0);
  if (!all) return null;
  const v = view(), tops = [];
  let y = TOP;
  lanes.forEach((l, i) => { if (i && lanes[i - 1].node !== l.node) y += GAP; tops.push(y); y += LANE; });
  const busy = lanes.length, events = marksOf(v.a, e => e.server ? serverName(e.server, e.node) : e.node ? nodeName(e.node) : '');
  const label = `Timeline of ${plural(busy, 'server')} from ${clock(v.a)} to ${clock(v.b)}; the table below holds the same tasks`;
  const turn = (text, to, ok, id) => btn('', { c: '.sm.icon.' + id, off: !ok, label: text, title: text, on: () => go({ lane: to || null }) }, icon('chev', 10));
  const which = all > LANES ? `servers ${first + 1}–${first + lanes.length} of ${N(all)}` : plural(all, 'server');
  return h('section.card.space', { key: 'lanes' },
    h('header', null, h('h2', null, title), h('span.sub', null, which), all > LANES && h('span.turn', { key: 'turn' }, turn('Servers before', first - LANES, first > 0, 'back'), turn('Servers after', first + LANES, first + LANES < all, 'on')),
      h('div.acts', null, h('span.legend.hp', null, LEGEND.map(s => h('span', { 'data-s': s, key: s }, h('i'), s))),
        btn('', { c: '.sm.icon', on: () => zoom(1.6), label: 'Zoom out', title: 'Zoom out (-)' }, icon('i-minus', 14)), btn('', { c: '.sm.icon', on: () => zoom(.6), label: 'Zoom in', title: 'Zoom in (+)' }, icon('i-plus', 14)),
        btn(v.live ? 'live' : 'to live', { c: '.sm', pressed: v.live && !get('span') ? 'true' : 'false', on: reset, title: 'The newest, and on with time (0)' }))),
    h('div.lanes', null, canvas('.ov', paintStrip(lanes, v), 'Tasks that ended, over the time that is kept; the frame is the part shown below', undefined, stripHands),
      canvas('.ln', paintLanes(lanes, tops, v, events), label, undefined, { ...hands(lanes, tops), '--hh': y + 8 + 'px' })));
}


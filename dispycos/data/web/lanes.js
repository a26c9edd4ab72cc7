/* What each server did, as lanes on a canvas: one bar a task; drag moves, Ctrl+wheel zooms, the strip above chooses. */

import { h, icon } from './dom.js';
import { canvas } from './canvas.js';
import { get, go, goTo, link } from './route.js';
import { btn, nodeName, serverName } from './parts.js';
import { hideTip, showTip } from './overlays.js';
import { now, rows, table } from './stream.js';
import { marksOf } from './attention.js';
import { clock, dur, N, natural, plural } from './text.js';
import { sorted } from './table.js';
import { gutter, LANE, paintLanes, paintStrip, TOP } from './lanes_paint.js';

const LANES = 24;
const GAP = 10,
  HOUR = 3600,
  LEAST_S = 2,
  USUAL_S = 1800;

/* ------------------------------------------------------------ what is shown */
/* Bars by server, of the kept tasks; made once for each version of the table. */
let bars = new Map(),
  barsOf = -1,
  oldest = null;

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
    if (lane) lane.push(task);
    else bars.set(task.server, [task]);
  }
  return bars;
}

/* Servers by node, of those that `only` lets in; also ended ones, of which tasks tell. */
function serversOf(only) {
  const by = new Map(),
    known = rows('servers');
  const add = s => {
    if (!only(s)) return;
    const those = by.get(s.node);
    if (those) those.push(s);
    else by.set(s.node, [s]);
  };
  for (const s of known.values()) add(s);
  for (const [id, tasks] of barsByServer())
    if (!known.has(id)) add({ id, node: tasks[0].node, port: Number(id.split(':').pop()), state: 'ended' });
  return by;
}

/* [how many there are, {id, node, name, port, state, tasks} of the LANES from `first` on], node by node. */
function lanesOf(only, first) {
  const by = serversOf(only),
    nodes = sorted([...by.keys()], id => natural(nodeName(id))),
    shown = [];
  let passed = 0,
    all = 0;
  for (const those of by.values()) all += those.length;
  first = Math.min(first, Math.floor(Math.max(0, all - 1) / LANES) * LANES);
  for (const node of nodes) {
    const those = by.get(node);
    if (passed + those.length > first && passed < first + LANES)
      shown.push(...sorted(those, s => s.port).slice(Math.max(0, first - passed), first + LANES - passed));
    passed += those.length;
  }
  return {
    all,
    first,
    lanes: shown.map(s => ({
      id: s.id,
      node: s.node,
      name: nodeName(s.node),
      port: s.port,
      state: s.state,
      tasks: bars.get(s.id) || [],
    })),
  };
}

/* {a, b, from, end, live}: what the lanes show, and what is there at all. */
function view() {
  const end = now(),
    from = Math.min(end - 60, Math.max(end - HOUR, oldest ?? end - 60));
  const a = Number(get('from')),
    b = Number(get('to'));
  if (a && b > a) return { a, b, from, end, live: false };
  return { a: end - (Number(get('span')) || Math.min(USUAL_S, end - from)), b: end, from, end, live: true };
}

function look(v, a, b) {
  const span = Math.min(HOUR, Math.max(LEAST_S, b - a)),
    stop = Math.min(v.end, Math.max(v.from + span, b));
  if (stop >= v.end - span * 0.01)
    go({ from: null, to: null, span: Math.round(span) }); // at the right end: it goes on with time
  else go({ from: (stop - span).toFixed(1), to: stop.toFixed(1), span: null });
}

const zoom = (f, at = 0.5) => {
  const v = view(),
    m = v.a + (v.b - v.a) * at;
  look(v, m - (m - v.a) * f, v.live && at === 0.5 ? v.end : m + (v.b - m) * f);
};
const pan = part => {
  const v = view(),
    d = (v.b - v.a) * part;
  look(v, v.a + d, v.b + d);
};
const reset = () => go({ from: null, to: null, span: null });
/* ------------------------------------------------------------ hands */
let drag = null; // {x, moved, from} while a button is down

function place(e) {
  const r = e.currentTarget.getBoundingClientRect();
  return { x: e.clientX - r.left, y: e.clientY - r.top, w: r.width };
}

function taskAt(e, lanes, tops, v) {
  const { x, y, w } = place(e),
    i = tops.findIndex(top => y >= top && y < top + LANE);
  if (i < 0 || x < gutter()) return null;
  const t = v.a + ((x - gutter()) / (w - gutter() - 8)) * (v.b - v.a),
    slack = ((v.b - v.a) / w) * 2;
  const there = lanes[i].tasks.filter(b => t >= b.start - slack && t <= (b.end ?? v.end) + slack);
  return there.find(b => !b.io) || there[0] || null;
}

const hands = (lanes, tops) => ({
  tabindex: '0',
  onwheel: e => {
    if (!e.ctrlKey && !e.metaKey && !e.altKey) return;
    e.preventDefault();
    const { x, w } = place(e);
    zoom(e.deltaY > 0 ? 1.25 : 0.8, (x - gutter()) / (w - gutter() - 8));
  },
  onkeydown: e => {
    const f = {
      '+': () => zoom(0.6),
      '=': () => zoom(0.6),
      '-': () => zoom(1.6),
      ArrowLeft: () => pan(-0.2),
      ArrowRight: () => pan(0.2),
      0: reset,
    }[e.key];
    if (f) {
      e.preventDefault();
      e.stopPropagation();
      f();
    }
  },
  onpointerdown: e => {
    drag = { x: e.clientX, moved: 0 };
    e.currentTarget.setPointerCapture(e.pointerId);
  },
  onpointercancel: () => {
    drag = null;
  },
  onpointerup: e => {
    const task = drag && drag.moved < 4 ? taskAt(e, lanes, tops, view()) : null;
    drag = null;
    if (task) {
      hideTip();
      goTo(link({ q: '#' + task.id }, 'tasks'));
    }
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
    if (!task) {
      hideTip();
      return;
    }
    showTip(
      e.clientX,
      e.clientY,
      h('b', null, task.function),
      ` ${task.state}`,
      h('br'),
      `${serverName(task.server, task.node)} · ${clock(task.start)} · ${dur((task.end ?? v.end) - task.start)}`,
      task.error && h('div', null, task.error),
    );
  },
});

let chosen = null; // where the frame of the strip began
const stripHands = {
  onpointerdown: e => {
    chosen = timeAt(e);
    e.currentTarget.setPointerCapture(e.pointerId);
  },
  onpointermove: e => {
    if (chosen != null) {
      const t = timeAt(e);
      look(view(), Math.min(chosen, t), Math.max(chosen, t));
    }
  },
  onpointerup: () => {
    chosen = null;
  },
  onpointercancel: () => {
    chosen = null;
  },
};

function timeAt(e) {
  const { x, w } = place(e),
    v = view();
  return v.from + Math.min(1, Math.max(0, (x - gutter()) / (w - gutter() - 8))) * (v.end - v.from);
}

/* ------------------------------------------------------------ the card */
const LEGEND = ['done', 'running', 'failed', 'lost', 'cancelled'];

/* A card with the lanes of the servers that only({id, node}) lets in, LANES at a time. */
export function lanesCard(title, only) {
  const { all, first, lanes } = lanesOf(only, Number(get('lane')) || 0);
  if (!all) return null;
  const v = view(),
    tops = [];
  let y = TOP;
  lanes.forEach((l, i) => {
    if (i && lanes[i - 1].node !== l.node) y += GAP;
    tops.push(y);
    y += LANE;
  });
  const busy = lanes.length,
    events = marksOf(v.a, e => (e.server ? serverName(e.server, e.node) : e.node ? nodeName(e.node) : ''));
  const label = `Timeline of ${plural(busy, 'server')} from ${clock(v.a)} to ${clock(v.b)}; the table below holds the same tasks`;
  const turn = (text, to, ok, id) =>
    btn('', { c: '.sm.icon.' + id, off: !ok, label: text, title: text, on: () => go({ lane: to || null }) }, icon('chev', 10));
  const which = all > LANES ? `servers ${first + 1}–${first + lanes.length} of ${N(all)}` : plural(all, 'server');
  return h(
    'section.card.space',
    { key: 'lanes' },
    h(
      'header',
      null,
      h('h2', null, title),
      h('span.sub', null, which),
      all > LANES &&
        h(
          'span.turn',
          { key: 'turn' },
          turn('Servers before', first - LANES, first > 0, 'back'),
          turn('Servers after', first + LANES, first + LANES < all, 'on'),
        ),
      h(
        'div.acts',
        null,
        h(
          'span.legend.hp',
          null,
          LEGEND.map(s => h('span', { 'data-s': s, key: s }, h('i'), s)),
        ),
        btn('', { c: '.sm.icon', on: () => zoom(1.6), label: 'Zoom out', title: 'Zoom out (-)' }, icon('i-minus', 14)),
        btn('', { c: '.sm.icon', on: () => zoom(0.6), label: 'Zoom in', title: 'Zoom in (+)' }, icon('i-plus', 14)),
        btn(v.live ? 'live' : 'to live', {
          c: '.sm',
          pressed: v.live && !get('span') ? 'true' : 'false',
          on: reset,
          title: 'The newest, and on with time (0)',
        }),
      ),
    ),
    h(
      'div.lanes',
      null,
      canvas(
        '.ov',
        paintStrip(lanes, v),
        'Tasks that ended, over the time that is kept; the frame is the part shown below',
        undefined,
        stripHands,
      ),
      canvas('.ln', paintLanes(lanes, tops, v, events), label, undefined, { ...hands(lanes, tops), '--hh': y + 8 + 'px' }),
    ),
  );
}

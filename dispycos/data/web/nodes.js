/* The card of nodes: a table sorted by every column, or a map in which each keeps its place. */

import { h, icon } from './dom.js';
import { spark, squares } from './spark.js';
import { redraw } from './loop.js';
import { get, go, link } from './route.js';
import { btn, dim, glyph, meter, nodeChip, nodeLink, nodePath, searchField } from './parts.js';
import { columnsPopover } from './options.js';
import { sorted, table } from './table.js';
import { toggleNode } from './actions.js';
import { ago, capital, dur, N, natural, octets, percent, plural, rate, size } from './text.js';

const PIPS = 16,
  DENSE_FROM = 300,
  TILES_A_FRAME = 250;

const pipState = n => (n.state === 'lost' ? 'lost' : n.state === 'suspended' || n.state === 'resting' ? 'suspended' : 'idle');
const busyOf = n => n.busy ?? Math.min(n.running, n.servers);

/* One square a server; of more than PIPS a bar is enough. */
function pips(n) {
  const busy = busyOf(n);
  return n.servers > PIPS
    ? h(
        'span.cell.left',
        { title: `${busy} of ${n.servers} busy` },
        meter(busy / n.servers, 2),
        h('b', null, `${busy} of ${n.servers}`),
      )
    : squares(n.servers, busy, pipState(n));
}

const stateText = (n, t) => (n.state === 'lost' && n.seen ? `silent ${ago(t - n.seen)}` : undefined);

const columns = t => [
  { k: 'name', t: 'Node', v: n => natural(n.name), f: n => nodeLink(n.id), c: '.title', w: 6.75 },
  { k: 'state', t: 'State', v: n => n.state, f: n => nodeChip(n, stateText(n, t)), c: '.state', w: 8.25 },
  { k: 'addr', t: 'Address', v: n => octets(n.addr), f: n => n.addr, c: '.p2', w: 7 },
  { k: 'cpus', t: 'Servers', v: n => n.servers, f: pips, c: '.s2', w: 7 },
  { k: 'run', t: 'Running', v: n => n.running, f: n => N(n.running), num: 1, w: 5 },
  { k: 'rate', t: 'Tasks/s', v: n => n.rate, f: n => (n.rate ? rate(n.rate) : dim()), num: 1, w: 4.5 },
  { k: 'done', t: 'Done', v: n => n.done, f: n => N(n.done), num: 1, w: 5.25 },
  { k: 'sub', t: 'Submitted', v: n => n.submitted, f: n => N(n.submitted), num: 1, c: '.p3', w: 5.5 },
  {
    k: 'cpu',
    t: 'CPU used',
    v: n => (n.state === 'lost' ? null : n.cpu),
    num: 1,
    w: 8.5,
    f: n =>
      n.cpu == null || n.state === 'lost'
        ? dim('–', n.state === 'lost' ? 'no news' : 'psutil is not installed there')
        : h('span.cell', null, spark(n.cpu_history || [], 'accent', { max: 100, label: 'CPU' }), h('b', null, percent(n.cpu))),
  },
  {
    k: 'mem',
    t: 'Memory free',
    v: n => n.memory,
    num: 1,
    w: 8.5,
    f: n =>
      n.memory == null
        ? dim()
        : h('span.cell', null, n.memory_total ? meter(1 - n.memory / n.memory_total) : null, h('b', null, size(n.memory))),
  },
  { k: 'disk', t: 'Disk free', v: n => n.disk, f: n => (n.disk == null ? dim() : size(n.disk)), num: 1, c: '.p3', w: 5 },
  { k: 'swap', t: 'Swap free', v: n => n.swap, f: n => (n.swap == null ? dim() : size(n.swap)), num: 1, c: '.p3', w: 5 },
  {
    k: 'seen',
    t: 'Updated',
    v: n => (n.seen == null ? null : -n.seen),
    f: n => (n.seen == null ? dim() : dur(t - n.seen)),
    num: 1,
    c: '.p3',
    w: 5,
  },
  { k: 'acts', t: 'Actions', f: n => h('span.rowacts', null, toggleNode(n, '.sm.ghost')), c: '.act.num.act4', w: 5.25 },
];

const tiles = new Map(); // node id -> [what it shows, its tile]: most stay as they are from one second to the next

function tile(n, dense) {
  const busy = busyOf(n),
    stamp = `${n.name} ${n.state} ${busy} ${n.servers} ${dense}`,
    old = tiles.get(n.id);
  if (old?.[0] === stamp) return old[1];
  const state = ['running', 'idle'].includes(n.state) ? 'running' : glyph(n.state);
  const made = h(
    'li',
    { key: n.id },
    h(
      'a.tile',
      { href: nodePath(n.id), 'data-s': state, title: `${n.name}: ${n.state}, ${busy} of ${n.servers} busy` },
      h('span.tn', null, state === 'running' ? null : icon(state), h('span.cut', null, n.name)),
      dense || n.servers > PIPS ? meter(n.servers ? busy / n.servers : 0, 2) : pips(n),
    ),
  );
  tiles.set(n.id, [stamp, made]);
  return made;
}

let laid = 0; // so many tiles are drawn: a thousand at once would hold up the page

/* Every node keeps its place, so that a bad one is seen at once. */
function map(nodes) {
  const inOrder = sorted(nodes, n => natural(n.name)),
    dense = inOrder.length > DENSE_FROM;
  if (!document.querySelector('.map')) {
    laid = 0;
    tiles.clear();
  }
  laid = Math.min(inOrder.length, laid + TILES_A_FRAME);
  if (laid < inOrder.length) redraw();
  return h(
    'ul.map' + (dense ? '.dense' : ''),
    { key: 'map' },
    inOrder.slice(0, laid).map(n => tile(n, dense)),
  );
}

export function nodesCard(nodes, m, t) {
  const mode = get('nodes') || 'table',
    q = get('q').toLowerCase();
  const found = q ? nodes.filter(n => `${n.name} ${n.addr} ${n.state} ${n.platform}`.toLowerCase().includes(q)) : nodes;
  return h(
    'section.card',
    { key: 'nodes' },
    h(
      'header',
      null,
      h('h2', null, 'Nodes'),
      h('span.sub', null, `${q ? `${N(found.length)} of ` : ''}${plural(nodes.length, 'node')}, ${plural(m.servers, 'server')}`),
      h(
        'div.acts',
        null,
        h(
          'nav.seg',
          { 'aria-label': 'Nodes as' },
          ['table', 'map'].map(as =>
            h(
              'a',
              { key: as, href: link({ nodes: as === 'table' ? null : as }), 'aria-current': as === mode ? 'true' : null },
              capital(as),
            ),
          ),
        ),
        searchField('Filter nodes', get('q'), value => go({ q: value })),
        btn('Columns', { c: '.hp', off: mode === 'map', on: e => columnsPopover(e.currentTarget, 'n') }),
      ),
    ),
    !found.length
      ? h('p.none', { key: 'none' }, 'No node matches. ', h('a', { href: link({ q: null }) }, `Show all ${N(nodes.length)}`))
      : mode === 'map'
        ? map(found)
        : table('n', columns(t), found, { key: n => n.id, sort: '-addr' }),
  );
}

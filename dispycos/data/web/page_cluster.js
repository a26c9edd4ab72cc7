/* Cluster: the sum first, then what is wrong, then the nodes. */

import { h, icon } from './dom.js';
import { spark, squares } from './spark.js';
import { redraw } from './loop.js';
import { chart, curves, grown, mean, startOf } from './charts.js';
import { get, go, link } from './route.js';
import { btn, card, dim, glyph, meter, nodeChip, nodeLink, nodeName, nodePath, searchField, serverName } from './parts.js';
import { columnsPopover } from './options.js';
import { marksOf, troubleCard, troubles } from './attention.js';
import { list, meta, now, goneText, table as told } from './stream.js';
import { sorted, table } from './table.js';
import { toggleNode } from './actions.js';
import { noNodes } from './empty.js';
import { ago, capital, clock, dur, N, natural, octets, percent, plural, rate, share, size } from './text.js';

export const tables = ['meta', 'nodes', 'samples', 'events', 'failures'];
const RANGES = [[300, '5 min'], [900, '15 min'], [3600, '1 h']], PIPS = 16, DENSE_FROM = 300, TILES_A_FRAME = 250;

const sinceWords = (from, t, span, words) => t - from < span * .95 ? `since ${clock(from)}` : `last ${words}`;
const range = () => RANGES.find(r => String(r[0]) === get('range')) || RANGES[1];

/* ------------------------------------------------------------ the sum */
function stat(name, state, value, words, values, token, href, o) {
  return h('a', { href, 'data-s': state, key: name }, h('span.k', null, state && icon(state), name), h('span.v', null, value), h('span.d', null, words), spark(values.length > 1 ? values : [], token, { label: name, ...o }));
}

function median(values) {
  const a = values.filter(v => v != null).sort((x, y) => x - y);
  return a.length ? a[Math.floor(a.length / 2)] : null;
}

/* How the queue moves, per second, over the last minute. */
function drift(samples, t) {
  const old = samples.find(s => s.t >= t - 60), last = samples.at(-1);
  if (!old || !last || last.t - old.t < 10) return '';
  const d = (last.queued - old.queued) / (last.t - old.t);
  return Math.abs(d) < .05 ? 'stays as it is' : `${d > 0 ? 'grows' : 'shrinks'} by ${rate(Math.abs(d))}/s`;
}

/* Curves of all that the page shows, made once for each sample. */
const LEVELS = ['rate', 'running', 'queued', 'cpu', 'memory'], COUNTERS = ['done', 'failed', 'lost'];
let made = { stamp: '' };

function history(m, t) {
  const samples = list('samples'), span = range()[0], stamp = `${told('samples').version} ${span}`;
  if (made.stamp !== stamp) {
    const from = startOf(samples, t, span);
    const [times, ...values] = curves(samples, t, t - from, m.poll_sec, [...LEVELS, ...COUNTERS], (g, last) => [...LEVELS.map(n => mean(g, n)), ...COUNTERS.map(n => grown(g, last, n))]);
    made = { stamp, from, to: t, times, ...Object.fromEntries([...LEVELS, ...COUNTERS].map((n, i) => [n, values[i]])) };
  }
  return made;
}

function sum(m, samples, past, t, words) {
  const of = name => past[name].filter(v => v != null);
  const rates = of('rate'), minute = samples.find(s => s.t >= t - 60), ended = m.done + m.failed + m.lost + m.cancelled;
  const lastLost = Math.max(0, ...list('failures').filter(f => f.state === 'lost').map(f => f.last));
  const failures = link({ view: 'failures' }, 'tasks');
  return h('section.sum', { 'aria-label': 'The sum', key: 'sum' },
    stat('Tasks per second', null, rate(m.rate), rates.length > 2 ? `median ${rate(median(rates))} ${sinceWords(past.from, t, range()[0], words)}` : 'ended', rates, 'accent', link({ view: 'functions' }, 'tasks'), { zero: true }),
    stat('Running', 'running', N(m.running), `${m.servers_busy === m.running ? '' : `on ${N(m.servers_busy)} `}of ${plural(m.servers, 'server')}`, of('running'), 'running', link({ state: 'running' }, 'tasks'), { zero: true }),
    stat('Queued', 'queued', N(m.queued), m.queued ? drift(samples, t) || 'wait for a server' : 'nobody waits', of('queued'), 'queued', link({ view: 'waiting' }, 'tasks'), { zero: true }),
    stat('Done', 'done', N(m.done), ended ? `${share(m.done, ended)} of all ended` : 'none yet', of('done'), 'done', link({ state: 'done' }, 'tasks'), { zero: true }),
    stat('Failed', 'failed', N(m.failed), m.failed ? `${share(m.failed, ended)}, ${N(minute ? m.failed - minute.failed : 0)} last minute` : 'none', of('failed'), 'failed-fill', failures, { bars: true }),
    stat('Lost', 'lost', N(m.lost), lastLost ? `last at ${clock(lastLost)}` : m.lost ? share(m.lost, ended) : 'none', of('lost'), 'lost-fill', failures, { bars: true }),
    flow(m));
}

function flow(m) {
  const parts = [['done', m.done], ['failed', m.failed + m.lost], ['cancelled', m.cancelled], ['running', m.running], ['queued', m.queued]].filter(p => p[1] > 0);
  const left = m.queued + m.running;
  const ahead = goneText() ? `stands still since ${clock(now())}` : !left ? 'all is done' : m.rate > 0 ? ['at this rate all done in ', h('b', null, dur(left / m.rate))] : 'nothing ends now';
  return h('div.flow', null, h('span', null, h('b', null, N(m.submitted)), ' submitted'),
    h('div.sbar', { role: 'img', 'aria-label': 'Share of done, failed, cancelled, running and queued' }, parts.map(([s, v]) => h('i', { key: s, 'data-s': s, '--v': v, title: `${N(v)} ${s}` }))), m.submitted ? h('span', null, ahead) : null);
}

/* ------------------------------------------------------------ charts */
const eventName = e => e.server ? serverName(e.server, e.node) : e.node ? nodeName(e.node) : '';

function charts(m, past, found) {
  const words = range()[1], used = m.memory ? m.memory_used / m.memory * 100 : null, { from, to, stamp } = past;
  return h('div.grid', { key: 'charts' },
    h('div.stackcol.c8', { key: 'curves' },
      card('Tasks per second', [h('span.legend', null, h('span', null, h('i.k1'), 'ended')), ranges()], h('div.body', null, chart({ data: [past.times, past.rate], series: [{ label: 'ended per second', token: 'accent' }], from, to, stamp, fmt: rate, ticks: v => Number.isInteger(v) ? N(v) : rate(v), least: 1, height: 176, events: marksOf(from, eventName), label: `Tasks ended per second, ${sinceWords(from, to, range()[0], words)}, with events` }))),
      card('Use of the cluster', h('span.legend', null, h('span', null, h('i.k1'), 'CPU ' + percent(m.cpu)), h('span', null, h('i.k2'), 'memory ' + percent(used))), h('div.body', null, chart({ data: [past.times, past.cpu, past.memory], series: [{ label: 'CPU', token: 'accent' }, { label: 'memory', token: 'series-2', dash: [5, 3] }], from, to, stamp, max: 100, fmt: percent, height: 116, label: 'CPU and memory of all nodes in per cent' })))),
    troubleCard(found));
}

const ranges = () => h('nav.seg.sm', { 'aria-label': 'Time range' }, RANGES.map(([s, text]) => h('a', { key: s, href: link({ range: s === 900 ? null : s }), 'aria-current': s === range()[0] ? 'true' : null }, text)));

/* ------------------------------------------------------------ nodes */
const pipState = n => n.state === 'lost' ? 'lost' : n.state === 'suspended' || n.state === 'resting' ? 'suspended' : 'idle';
const busyOf = n => n.busy ?? Math.min(n.running, n.servers);

/* One square a server; of more than PIPS a bar is enough. */
function pips(n) {
  const busy = busyOf(n);
  return n.servers > PIPS ? h('span.cell.left', { title: `${busy} of ${n.servers} busy` }, meter(busy / n.servers, 2), h('b', null, `${busy} of ${n.servers}`)) : squares(n.servers, busy, pipState(n));
}

const stateText = (n, t) => n.state === 'lost' && n.seen ? `silent ${ago(t - n.seen)}` : undefined;

const columns = t => [
  { k: 'name', t: 'Node', v: n => natural(n.name), f: n => nodeLink(n.id), c: '.title', w: 6.75 },
  { k: 'state', t: 'State', v: n => n.state, f: n => nodeChip(n, stateText(n, t)), c: '.state', w: 8.25 },
  { k: 'addr', t: 'Address', v: n => octets(n.addr), f: n => n.addr, c: '.p2', w: 7 },
  { k: 'cpus', t: 'Servers', v: n => n.servers, f: pips, c: '.s2', w: 7 },
  { k: 'run', t: 'Running', v: n => n.running, f: n => N(n.running), num: 1, w: 5 },
  { k: 'rate', t: 'Tasks/s', v: n => n.rate, f: n => n.rate ? rate(n.rate) : dim(), num: 1, w: 4.5 },
  { k: 'done', t: 'Done', v: n => n.done, f: n => N(n.done), num: 1, w: 5.25 },
  { k: 'sub', t: 'Submitted', v: n => n.submitted, f: n => N(n.submitted), num: 1, c: '.p3', w: 5.5 },
  { k: 'cpu', t: 'CPU used', v: n => n.state === 'lost' ? null : n.cpu, num: 1, w: 8.5, f: n => n.cpu == null || n.state === 'lost' ? dim('–', n.state === 'lost' ? 'no news' : 'psutil is not installed there')
    : h('span.cell', null, spark(n.cpu_history || [], 'accent', { max: 100, label: 'CPU' }), h('b', null, percent(n.cpu))) },
  { k: 'mem', t: 'Memory free', v: n => n.memory, num: 1, w: 8.5, f: n => n.memory == null ? dim() : h('span.cell', null, n.memory_total ? meter(1 - n.memory / n.memory_total) : null, h('b', null, size(n.memory))) },
  { k: 'disk', t: 'Disk free', v: n => n.disk, f: n => n.disk == null ? dim() : size(n.disk), num: 1, c: '.p3', w: 5 },
  { k: 'swap', t: 'Swap free', v: n => n.swap, f: n => n.swap == null ? dim() : size(n.swap), num: 1, c: '.p3', w: 5 },
  { k: 'seen', t: 'Updated', v: n => n.seen == null ? null : -n.seen, f: n => n.seen == null ? dim() : dur(t - n.seen), num: 1, c: '.p3', w: 5 },
  { k: 'acts', t: 'Actions', f: n => h('span.rowacts', null, toggleNode(n, '.sm.ghost')), c: '.act.num.act4', w: 5.25 },
];

const tiles = new Map();                  // node id -> [what it shows, its tile]: most stay as they are from one second to the next

function tile(n, dense) {
  const busy = busyOf(n), stamp = `${n.name} ${n.state} ${busy} ${n.servers} ${dense}`, old = tiles.get(n.id);
  if (old?.[0] === stamp) return old[1];
  const state = ['running', 'idle'].includes(n.state) ? 'running' : glyph(n.state);
  const made = h('li', { key: n.id }, h('a.tile', { href: nodePath(n.id), 'data-s': state, title: `${n.name}: ${n.state}, ${busy} of ${n.servers} busy` },
    h('span.tn', null, state === 'running' ? null : icon(state), h('span.cut', null, n.name)), dense || n.servers > PIPS ? meter(n.servers ? busy / n.servers : 0, 2) : pips(n)));
  tiles.set(n.id, [stamp, made]);
  return made;
}

let laid = 0;                             // so many tiles are drawn: a thousand at once would hold up the page

/* Every node keeps its place, so that a bad one is seen at once. */
function map(nodes) {
  const inOrder = sorted(nodes, n => natural(n.name)), dense = inOrder.length > DENSE_FROM;
  if (!document.querySelector('.map')) { laid = 0; tiles.clear(); }
  laid = Math.min(inOrder.length, laid + TILES_A_FRAME);
  if (laid < inOrder.length) redraw();
  return h('ul.map' + (dense ? '.dense' : ''), { key: 'map' }, inOrder.slice(0, laid).map(n => tile(n, dense)));
}

function nodesCard(nodes, m, t) {
  const mode = get('nodes') || 'table', q = get('q').toLowerCase();
  const found = q ? nodes.filter(n => `${n.name} ${n.addr} ${n.state} ${n.platform}`.toLowerCase().includes(q)) : nodes;
  return h('section.card', { key: 'nodes' },
    h('header', null, h('h2', null, 'Nodes'), h('span.sub', null, `${q ? `${N(found.length)} of ` : ''}${plural(nodes.length, 'node')}, ${plural(m.servers, 'server')}`),
      h('div.acts', null, h('nav.seg', { 'aria-label': 'Nodes as' }, ['table', 'map'].map(as => h('a', { key: as, href: link({ nodes: as === 'table' ? null : as }), 'aria-current': as === mode ? 'true' : null }, capital(as)))),
        searchField('Filter nodes', get('q'), value => go({ q: value })), btn('Columns', { c: '.hp', off: mode === 'map', on: e => columnsPopover(e.currentTarget, 'n') }))),
    !found.length ? h('p.none', { key: 'none' }, 'No node matches. ', h('a', { href: link({ q: null }) }, `Show all ${N(nodes.length)}`))
      : mode === 'map' ? map(found) : table('n', columns(t), found, { key: n => n.id, sort: '-addr' }));
}

export function draw() {
  const m = meta(), nodes = list('nodes'), t = now();
  if (!nodes.length && !m.submitted) return [h('h1.vh', null, 'Cluster'), noNodes()];
  const past = history(m, t);
  return [h('h1.vh', null, 'Cluster'), sum(m, list('samples'), past, t, range()[1]), charts(m, past, troubles()), nodesCard(nodes, m, t)];
}

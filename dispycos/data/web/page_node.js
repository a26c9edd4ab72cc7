/* Node: how the machine is, its servers and what they did, the leases it has ended. */

import { h } from './dom.js';
import { chart } from './charts.js';
import { link } from './route.js';
import { btn, clientLink, crumbs, dim, functionLink, head, nodeChip, serverChip, serverLink } from './parts.js';
import { columnsPopover } from './options.js';
import { historyOf } from './history.js';
import { lanesCard } from './lanes.js';
import { openStack } from './stack.js';
import { table } from './table.js';
import { certificate } from './certificate.js';
import { closeNode, stackButton, toggleNode, toggleServer } from './actions.js';
import { list, meta, now, rows } from './stream.js';
import { clock, dur, N, percent, plural, rate, size, when } from './text.js';

export const tables = ['meta', 'nodes', 'servers', 'tasks', 'events', 'deaths', 'leases'];

/* ------------------------------------------------------------ charts of the machine */
function mini(title, value, words, o) {
  return h(
    'section.card.c3.half',
    { key: title },
    h(
      'header',
      null,
      h('h2', null, title),
      h('div.acts', null, h('span', null, h('span.now', null, value), ' ', o && h('span.sub', null, words))),
    ),
    h(
      'div.body',
      null,
      o
        ? chart({ bare: true, height: 92, series: [{ label: title, token: 'accent' }], ...o })
        : h('p.sub', null, 'Unknown: install psutil on the node.'),
    ),
  );
}

function machine(n, t) {
  const poll = meta().poll_sec,
    cpu = n.cpu_history || [],
    times = cpu.map((_, i) => n.seen - (cpu.length - 1 - i) * poll);
  const past = historyOf(n),
    span = Math.max(10, t - (past.t[0] ?? t));
  const free = (title, name, total) =>
    mini(
      title,
      size(n[name]),
      'free',
      n[name] == null
        ? null
        : {
            data: [past.t, past[name]],
            from: t - span,
            to: t,
            max: total || undefined,
            fmt: size,
            label: `${title} free since ${clock(past.t[0])}`,
          },
    );
  return h(
    'div.grid',
    { key: 'machine' },
    mini(
      'CPU',
      n.state === 'lost' ? '–' : percent(n.cpu),
      ['used', n.load != null && h('span.hp', null, `, load ${n.load.toFixed(1)}`)],
      n.cpu == null && !cpu.length
        ? null
        : {
            data: [times, cpu],
            from: times[0] ?? t - 60,
            to: Math.max(t, times.at(-1) ?? t),
            max: 100,
            fmt: percent,
            label: 'CPU used, per cent',
          },
    ),
    free('Memory', 'memory', n.memory_total),
    free('Disk', 'disk', n.disk_total),
    n.swap_total === 0
      ? mini('Swap', 'none', '', { data: [[], []], from: t - 60, to: t, max: 1, fmt: size, label: 'No swap' })
      : free('Swap', 'swap', n.swap_total),
  );
}

/* ------------------------------------------------------------ servers */
const columns = t => [
  { k: 'port', t: 'Server', v: s => s.port, f: s => serverLink(s.id, s.node), c: '.title', w: 8.5 },
  { k: 's', t: 'State', v: s => s.state, f: serverChip, c: '.state', w: 7 },
  {
    k: 'fn',
    t: 'Running task',
    v: s => s.function,
    f: s =>
      s.function
        ? [functionLink(s.function), h('span.args', null, `(${s.args ?? '…'})`)]
        : s.running
          ? plural(s.running, 'task')
          : dim('none'),
    title: s => s.args,
    c: '.wide',
  },
  { k: 'run', t: 'Running', v: s => s.running, f: s => N(s.running), num: 1, c: '.p2', w: 5 },
  {
    k: 'since',
    t: 'For',
    v: s => (s.since == null ? null : t - s.since),
    f: s => (s.since == null ? dim() : dur(t - s.since)),
    num: 1,
    w: 5.5,
  },
  { k: 'cpu', t: 'CPU time', v: s => s.cpu_s, f: s => dur(s.cpu_s), num: 1, w: 6.5 },
  { k: 'mem', t: 'Memory', v: s => s.memory, f: s => size(s.memory), num: 1, w: 5 },
  { k: 'peak', t: 'Peak', v: s => s.peak, f: s => size(s.peak), num: 1, c: '.p3', w: 5 },
  { k: 'done', t: 'Done', v: s => s.done, f: s => N(s.done), num: 1, w: 5.25 },
  { k: 'failed', t: 'Failed', v: s => s.failed, f: s => N(s.failed), num: 1, c: '.p2', w: 4.5 },
  { k: 'sub', t: 'Submitted', v: s => s.submitted, f: s => N(s.submitted), num: 1, c: '.p3', w: 6 },
  {
    k: 'acts',
    t: 'Actions',
    c: '.act.num',
    w: 11,
    f: s =>
      h(
        'span.rowacts',
        null,
        s.task ? stackButton({ id: s.task, function: s.function, server: s.id, node: s.node, start: s.since }, openStack) : null,
        toggleServer(s, '.sm.ghost'),
      ),
  },
];

const leaseColumns = t => [
  { k: 'client', t: 'Client', v: l => l.client, f: l => clientLink(l.client, l.client), c: '.title', w: 12 },
  { k: 'host', t: 'From', v: l => l.host, w: 9, c: '.p2' },
  { k: 'began', t: 'Began', v: l => l.began, f: l => when(l.began, t), num: 1, w: 9 },
  { k: 'lasted', t: 'Lasted', v: l => l.ended - l.began, f: l => dur(l.ended - l.began), num: 1, w: 8 },
  { k: 'tasks', t: 'Tasks', v: l => l.done + l.failed, f: l => N(l.done + l.failed), num: 1, w: 6 },
  { k: 'cpu', t: 'CPU time', v: l => l.cpu_s, f: l => dur(l.cpu_s), num: 1, w: 8 },
  { k: 'failures', t: 'Failures', v: l => l.failed, f: failuresOf, title: failuresOf, c: '.wide' },
];
export const failuresOf = l =>
  l.failures?.length
    ? l.failures.map(([fn, error, n]) => `${N(n)} × ${error} in ${fn}`).join(', ')
    : l.failed
      ? N(l.failed)
      : 'none';

/* "9707, 9708 (it starts)": the ports of servers that are not there, by why. */
export function absentOf(n) {
  const ports = new Map();
  for (const [port, why] of n.absent) ports.set(why, [...(ports.get(why) || []), port]);
  return [...ports].map(([why, some]) => `${some.join(', ')} (${why})`).join('; ');
}

/* ------------------------------------------------------------ the page */
const unknown = id => [
  crumbs(h('a', { href: '#/cluster' }, 'Cluster'), h('span', null, id)),
  h(
    'div.empty',
    { key: 'gone' },
    h('h1', null, `No node ${id} here now`),
    h('p', null, 'It has left, or the address names another cluster’s.'),
    h('p.foot', null, h('a', { href: '#/cluster' }, 'All nodes')),
  ),
];

export function draw(id) {
  const n = rows('nodes').get(id),
    t = now();
  if (!n) return unknown(id);
  const servers = list('servers').filter(s => s.node === id),
    deaths = list('deaths')
      .filter(d => d.node === id)
      .sort((a, b) => b.time - a.time);
  const leases = list('leases').filter(l => l.node === id);
  const resources = Object.entries(n.resources ?? {}).map(([name, count]) => `${name}=${count}`);
  const facts = [n.addr, n.platform, n.python && `Python ${n.python}`, n.release && `dispycos ${n.release}`, ...resources, n.hours]
    .filter(Boolean)
    .join(' · ');
  return [
    h('div', { key: 'crumbs' }, crumbs(h('a', { href: '#/cluster' }, 'Cluster'), h('span', null, n.name))),
    h('div', { key: 'head' }, head(n.name, [nodeChip(n), ' ', facts], toggleNode(n), closeNode(n))),
    n.text && n.state !== 'running' && h('p.verdict.space', { key: 'text' }, n.text, n.state === 'lost' && n.seen && `, for ${dur(t - n.seen)}`),
    n.absent?.length > 0 &&
      h('p.verdict.space', { key: 'absent' }, `${plural(n.absent.length, 'server')} not there: `, absentOf(n)),
    machine(n, t),
    h(
      'section.card.space',
      { key: 'servers' },
      h(
        'header',
        null,
        h('h2', null, 'Servers'),
        h(
          'span.sub',
          null,
          `${N(servers.filter(s => s.running).length)} of ${N(servers.length)} busy · ${N(n.done)} done, ${N(n.failed)} failed · ${rate(n.rate)}/s · `,
          h('a', { href: link({ node: id }, 'tasks') }, 'tasks'),
          ' · ',
          h('a', { href: link({ node: id }, 'log') }, 'log'),
        ),
        h('div.acts.hp', null, btn('Columns', { on: e => columnsPopover(e.currentTarget, 's') })),
      ),
      servers.length
        ? table('s', columns(t), servers, { key: s => s.id, sort: 'port' })
        : h(
            'p.none',
            { key: 'none' },
            n.client ? 'Its servers are not told yet.' : 'No client uses it now: it starts servers when one does.',
          ),
    ),
    lanesCard('What they did', s => s.node === id),
    deaths.length > 0 &&
      h(
        'section.card.space',
        { key: 'deaths' },
        h(
          'header',
          null,
          h('h2', null, 'Died here'),
          h('span.sub', null, plural(deaths.length, 'server process', 'server processes')),
        ),
        h('div.certs', null, deaths.slice(0, 5).map(certificate)),
      ),
    h(
      'section.card',
      { key: 'leases' },
      h('header', null, h('h2', null, 'Ended leases'), h('span.sub', null, 'the last 100 are kept')),
      leases.length
        ? table('l', leaseColumns(t), leases, { key: l => l.id, sort: '-began' })
        : h('p.none', { key: 'none' }, 'No lease of this node has ended yet.'),
    ),
  ];
}

/* Server: what runs in this process now, to look into and to end; what it did. */

import { h } from './dom.js';
import { link } from './route.js';
import { btn, crumbs, deed, functionLink, head, nodeLink, serverChip, serverName, taskName } from './parts.js';
import { columnsPopover } from './options.js';
import { historyColumns } from './page_tasks.js';
import { certificate } from './certificate.js';
import { lanesCard } from './lanes.js';
import { openStack } from './stack.js';
import { table } from './table.js';
import { restartServer, stackButton, terminate, toggleServer } from './actions.js';
import { list, now, rows } from './stream.js';
import { redraw } from './loop.js';
import { clock, dur, N, plural, size } from './text.js';

export const tables = ['meta', 'nodes', 'servers', 'tasks', 'events', 'deaths'];

const chosen = new Set(); // ids of tasks

function choose(ids, on) {
  for (const id of ids) on ? chosen.add(id) : chosen.delete(id);
  redraw();
}

const columns = (t, running) => [
  {
    k: 'sel',
    t: 'Select',
    c: '.sel',
    w: 2.75,
    head: h('input', {
      type: 'checkbox',
      'aria-label': 'Select all',
      checked: running.length > 0 && running.every(r => chosen.has(r.id)),
      onchange: e =>
        choose(
          running.map(r => r.id),
          e.target.checked,
        ),
    }),
    f: r =>
      h('input', {
        type: 'checkbox',
        'aria-label': `Select ${r.function} ${taskName(r.id)}`,
        checked: chosen.has(r.id),
        onchange: e => choose([r.id], e.target.checked),
      }),
  },
  {
    k: 'fn',
    t: 'Task',
    v: r => r.function,
    f: r => [functionLink(r.function), ' ', h('span.args', { title: r.id }, taskName(r.id))],
    title: r => r.function,
    c: '.title',
    w: 14,
  },
  { k: 'args', t: 'Arguments', f: r => h('span.args', null, r.args ?? '–'), title: r => r.args, c: '.wide', may: true },
  { k: 'start', t: 'Started', v: r => r.start, f: r => clock(r.start), num: 1, w: 6 },
  { k: 'dur', t: 'For', v: r => t - r.start, f: r => dur(t - r.start), num: 1, w: 6 },
  { k: 'cs', t: 'CPU time', v: r => r.cpu_s, f: r => dur(r.cpu_s), num: 1, w: 6 },
  { k: 'peak', t: 'Peak memory', v: r => r.peak || null, f: r => size(r.peak || null), num: 1, w: 7 },
  { k: 'acts', t: 'Actions', c: '.act.num', w: 6, f: r => h('span.rowacts', null, stackButton(r, openStack, '.sm')) },
];

function unknown(id) {
  const deaths = list('deaths').filter(d => d.server === id);
  return [
    h('div', { key: 'crumbs' }, crumbs(h('a', { href: '#/cluster' }, 'Cluster'), h('span', null, id))),
    h(
      'div.empty',
      { key: 'gone' },
      h('h1', null, `No server ${id} here now`),
      h('p', null, deaths.length ? 'It has died:' : 'It has ended, or its node has left.'),
    ),
    deaths.map(certificate),
    lanesCard('What it did', s => s.id === id),
  ];
}

export function draw(id) {
  const s = rows('servers').get(id),
    t = now();
  if (!s) return unknown(id);
  const mine = list('tasks').filter(r => r.server === id),
    running = mine.filter(r => r.state === 'running'),
    ended = mine.filter(r => r.end != null);
  const alive = new Set(running.map(r => r.id));
  for (const task of chosen) if (!alive.has(task)) chosen.delete(task);
  const n = chosen.size,
    name = serverName(id, s.node);
  const facts = [
    `pid ${s.pid}`,
    `${N(s.done)} done of ${N(s.submitted)} submitted`,
    `${size(s.memory)} of memory, ${size(s.peak)} at most`,
    s.queued ? `${plural(s.queued, 'task')} given ahead` : '',
  ]
    .filter(Boolean)
    .join(' · ');
  return [
    h('div', { key: 'crumbs' }, crumbs(h('a', { href: '#/cluster' }, 'Cluster'), nodeLink(s.node), h('span', null, s.port))),
    h(
      'div',
      { key: 'head' },
      head(
        name,
        [serverChip(s), ' ', facts, ' · ', h('a', { href: link({ server: id }, 'log') }, 'log')],
        toggleServer(s),
        restartServer(s),
        deed(n ? `Terminate ${N(n)}…` : 'Terminate…', {
          c: '.danger',
          id: 'terminate',
          off: !n,
          title: n ? '' : 'Select tasks in the table first',
          on: () =>
            terminate(
              running.filter(r => chosen.has(r.id)),
              () => chosen.clear(),
            ),
        }),
      ),
    ),
    h(
      'section.card.space',
      { key: 'running' },
      h(
        'header',
        null,
        h('h2', null, 'Running'),
        h('span.sub', null, running.length ? `${plural(running.length, 'task')} in this process` : ''),
        h('div.acts.hp', null, btn('Columns', { on: e => columnsPopover(e.currentTarget, 'r') })),
      ),
      running.length
        ? table('r', columns(t, running), running, { key: r => r.id, sort: '-dur', mark: r => (chosen.has(r.id) ? '.sel' : '') })
        : h('p.none', { key: 'none' }, s.running ? `${plural(s.running, 'task')} told, not listed yet.` : 'Nothing runs here now.'),
    ),
    lanesCard('What it did', o => o.id === id),
    h(
      'section.card',
      { key: 'ended' },
      h(
        'header',
        null,
        h('h2', null, 'Ended here'),
        h(
          'span.sub',
          null,
          `${N(ended.length)} of ${N(s.done + s.failed)} are kept · `,
          h('a', { href: link({ server: id }, 'tasks') }, 'with filters'),
        ),
      ),
      ended.length
        ? table(
            'e',
            historyColumns(t).filter(c => c.k !== 'node'),
            ended,
            { key: r => r.id, sort: '-start', stream: true },
          )
        : h('p.none', { key: 'none' }, 'None of the kept tasks ended here.'),
    ),
  ];
}

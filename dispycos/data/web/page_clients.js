/* Clients: who uses the cluster, who waits for it, and how much each has used. */

import { h, icon } from './dom.js';
import { chart, curves, startOf } from './charts.js';
import { get, go, link } from './route.js';
import { range, rangeLinks } from './ranges.js';
import { btn, card, chip, clientLink, dim, head, nodeLink, nodeName, searchField } from './parts.js';
import { failuresOf } from './page_node.js';
import { download } from './overlays.js';
import { emptyPage } from './empty.js';
import { csv, table } from './table.js';
import { endLease } from './actions.js';
import { list, meta, now, rows } from './stream.js';
import { dur, N, plural, when } from './text.js';

export const tables = ['meta', 'nodes', 'clients', 'samples', 'leases'];
const TOKENS = ['accent', 'series-3', 'series-2', 'quiet-fill'];

/* ------------------------------------------------------------ use over time */
function usage(m, t) {
  const [span] = range(),
    samples = list('samples'),
    from = startOf(samples, t, span),
    used = new Map();
  for (const s of samples)
    if (s.t >= t - span) for (const [id, n] of Object.entries(s.by_client || {})) used.set(id, (used.get(id) || 0) + n);
  const ids = [...used.keys()].sort((a, b) => used.get(b) - used.get(a)),
    shown = ids.slice(0, TOKENS.length - (ids.length > TOKENS.length ? 1 : 0)),
    rest = ids.slice(shown.length);
  const names = [...shown, ...(rest.length ? ['rest'] : [])];
  const at = (s, id) => (id === 'rest' ? rest.reduce((n, r) => n + (s.by_client?.[r] || 0), 0) : s.by_client?.[id] || 0);
  const data = curves(samples, t, t - from, m.poll_sec, names, group =>
    names.map(id => group.reduce((n, s) => n + at(s, id), 0) / group.length),
  );
  const text = id => (id === 'rest' ? plural(rest.length, 'other client') : rows('clients').get(id)?.name || id);
  const legend = h(
    'span.legend',
    null,
    names.map((id, i) => h('span', { key: id }, h('i', { '--cf': `var(--${TOKENS[i]})` }), text(id))),
  );
  const save = btn(
    'CSV',
    {
      c: '.sm.hp',
      title: 'Servers in use by client, second by second',
      on: () => download('usage.csv', usageCsv(samples), 'text/csv'),
    },
    icon('i-down', 14),
  );
  return card(
    'Servers in use',
    [legend, rangeLinks(), save],
    h(
      'div.body',
      null,
      names.length
        ? chart({
            data,
            series: names.map((id, i) => ({ label: text(id), token: TOKENS[i] })),
            stacked: true,
            from,
            to: t,
            least: Math.max(1, m.servers),
            fmt: N,
            height: 190,
            label: 'Servers in use by client',
          })
        : h('p.sub', null, 'No client had a server in this time.'),
    ),
  );
}

function usageCsv(samples) {
  const ids = [...new Set(samples.flatMap(s => Object.keys(s.by_client || {})))];
  return csv(
    [
      ['time', s => new Date(s.t * 1000).toISOString()],
      ...ids.map(id => [
        rows('clients').get(id)?.name ? `${rows('clients').get(id).name} (${id})` : id,
        s => s.by_client?.[id] || 0,
      ]),
    ],
    samples,
  );
}

/* ------------------------------------------------------------ tables */
const CHIPS = { active: ['running', 'active'], queued: ['queued', 'waits'], ended: ['ended', 'ended'], silent: ['lost', 'silent'] };

function stateOf(c) {
  const [glyph, word] = CHIPS[c.state] || ['idle', c.state],
    k = chip(glyph, c.state === 'queued' && c.place != null ? `waits, place ${c.place}` : word);
  if (c.text) k.props.title = c.text;
  return k;
}

const next = () =>
  list('clients')
    .filter(c => c.state === 'queued')
    .sort((a, b) => (a.place ?? 1e9) - (b.place ?? 1e9))[0]?.name;
const RANK = { active: 0, silent: 1, queued: 2, ended: 3 };

const columns = t => [
  {
    k: 'name',
    t: 'Client',
    v: c => c.name,
    f: c => [clientLink(c.id, c.name), ' ', h('span.sub', null, c.host)],
    title: c => `${c.name}, process ${c.pid} on ${c.host}`,
    c: '.title',
    w: 14,
  },
  { k: 's', t: 'State', v: c => RANK[c.state] * 1000 + (c.place || 0), f: stateOf, c: '.state', w: 9 },
  { k: 'srv', t: 'Servers', v: c => c.servers, f: c => N(c.servers), num: 1, w: 5.5 },
  { k: 'run', t: 'Running', v: c => c.running, f: c => N(c.running), num: 1, w: 5.5 },
  { k: 'q', t: 'Queued', v: c => c.queued, f: c => N(c.queued), num: 1, w: 6 },
  { k: 'done', t: 'Done', v: c => c.done, f: c => N(c.done), num: 1, w: 7 },
  {
    k: 'err',
    t: 'Failed',
    v: c => c.failed + c.lost,
    f: c => (c.failed + c.lost ? h('a', { href: link({ view: 'failures' }, 'tasks') }, N(c.failed + c.lost)) : '0'),
    num: 1,
    w: 5.5,
  },
  { k: 'cpu', t: 'CPU time', v: c => c.cpu_s, f: c => (c.cpu_s ? dur(c.cpu_s) : dim()), num: 1, c: '.s2', w: 8.5 },
  { k: 'since', t: 'Since', v: c => c.since, f: c => when(c.since, t), num: 1, c: '.p3', w: 8.5 },
  { k: 'ended', t: 'Ended', v: c => c.ended, f: c => (c.ended ? when(c.ended, t) : dim()), num: 1, c: '.p3', w: 8.5 },
  {
    k: 'acts',
    t: 'Actions',
    c: '.act.num',
    w: 7,
    f: c => h('span.rowacts', null, ['active', 'silent'].includes(c.state) ? endLease(c, next()) : null),
  },
];

const leaseColumns = t => [
  {
    k: 'client',
    t: 'Client',
    v: l => l.client,
    f: l => [clientLink(l.client, l.client), ' ', h('span.sub', null, l.host)],
    c: '.title',
    w: 14,
  },
  { k: 'node', t: 'Node', v: l => nodeName(l.node), f: l => nodeLink(l.node), w: 9 },
  { k: 'began', t: 'Began', v: l => l.began, f: l => when(l.began, t), num: 1, w: 9 },
  { k: 'lasted', t: 'Lasted', v: l => l.ended - l.began, f: l => dur(l.ended - l.began), num: 1, w: 7.5 },
  { k: 'done', t: 'Done', v: l => l.done, f: l => N(l.done), num: 1, w: 6 },
  { k: 'err', t: 'Failed', v: l => l.failed, f: l => N(l.failed), num: 1, w: 5 },
  { k: 'cpu', t: 'CPU time', v: l => l.cpu_s, f: l => dur(l.cpu_s), num: 1, w: 7.5 },
  { k: 'why', t: 'Failures', v: l => l.failed, f: failuresOf, title: failuresOf, c: '.wide' },
];

const LEASE_CSV = [
  ['client', l => l.client],
  ['host', l => l.host],
  ['node', l => l.node],
  ['began', l => l.began],
  ['ended', l => l.ended],
  ['done', l => l.done],
  ['failed', l => l.failed],
  ['cpu_s', l => l.cpu_s],
  ['failures', failuresOf],
];

/* What a client's row does not say of itself. */
const notes = found =>
  found
    .filter(c => c.text && c.state === 'ended')
    .slice(0, 3)
    .map(c => h('footer', { key: 'n' + c.id }, icon('queued'), h('span', null, `${c.name}: ${c.text}.`)));

export function draw() {
  const all = list('clients'),
    leases = list('leases'),
    m = meta(),
    t = now(),
    q = get('q').toLowerCase();
  if (!all.length && !leases.length) return [emptyPage('clients')];
  const found = all.filter(c => !q || `${c.name} ${c.host} ${c.id} ${c.state}`.toLowerCase().includes(q)),
    ended = leases.filter(l => !q || `${l.client} ${l.host} ${nodeName(l.node)}`.toLowerCase().includes(q));
  const count = state => all.filter(c => c.state === state).length,
    silent = count('silent');
  return [
    h(
      'div',
      { key: 'head' },
      head('Clients', [
        `${N(count('active'))} active, ${N(count('queued'))} ${count('queued') === 1 ? 'waits its' : 'wait their'} turn`,
        silent > 0 && `, ${N(silent)} silent`,
      ]),
    ),
    h('div.space', { key: 'usage' }, usage(m, t)),
    h(
      'section.card.space',
      { key: 'clients' },
      h(
        'header',
        null,
        h('h2', null, 'Clients'),
        h('span.sub', null, q ? `${N(found.length)} of ${N(all.length)}` : ''),
        h(
          'div.acts',
          null,
          searchField('Filter clients', get('q'), value => go({ q: value })),
        ),
      ),
      found.length
        ? table('c', columns(t), found, { key: c => c.id, sort: 's' })
        : h(
            'p.none',
            { key: 'none' },
            all.length
              ? ['No client matches. ', h('a', { href: '#/clients' }, `Show all ${N(all.length)}`)]
              : 'No client is here now.',
          ),
      notes(found),
    ),
    h(
      'section.card',
      { key: 'leases' },
      h(
        'header',
        null,
        h('h2', null, 'Ended leases'),
        h('span.sub', null, 'what each node did for each client; nodes keep the last 100'),
        h(
          'div.acts',
          null,
          btn(
            'CSV',
            { c: '.sm.hp', off: !ended.length, on: () => download('leases.csv', csv(LEASE_CSV, ended), 'text/csv') },
            icon('i-down', 14),
          ),
        ),
      ),
      ended.length
        ? table('l', leaseColumns(t), ended, { key: l => l.id, sort: '-began' })
        : h('p.none', { key: 'none' }, leases.length ? 'No lease matches.' : 'No lease has ended yet.'),
    ),
  ];
}

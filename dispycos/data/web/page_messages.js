/* Messages: which links there are, what goes direct and what is relayed. */

import { h, icon } from './dom.js';
import { get, go, link } from './route.js';
import { anyLink, choice, head, nodeName, searchField } from './parts.js';
import { emptyPage } from './empty.js';
import { table } from './table.js';
import { list, rows } from './stream.js';
import { dur, N, rate, size } from './text.js';

export const tables = ['meta', 'nodes', 'links', 'clients'];

const nameOf = id => rows('clients').get(id)?.name || nodeName(id);
const columns = [
  { k: 'from', t: 'From', v: l => nameOf(l.from), f: l => anyLink(l.from), c: '.title', w: 12 },
  { k: 'to', t: 'To', v: l => nameOf(l.to), f: l => anyLink(l.to), w: 12 },
  { k: 'way', t: 'Way', v: l => l.way, f: l => h('span.tag' + (l.way === 'direct' ? '.me' : ''), null, l.way), c: '.state', w: 11 },
  { k: 'n', t: 'Messages/s', v: l => l.messages, f: l => rate(l.messages), num: 1, w: 8 },
  { k: 'bytes', t: 'Bytes/s', v: l => l.bytes, f: l => size(l.bytes), num: 1, w: 8 },
  {
    k: 'rtt',
    t: 'Round trip',
    v: l => l.rtt,
    f: l => (l.rtt == null ? '–' : l.rtt < 0.1 ? `${(l.rtt * 1000).toFixed(1)} ms` : dur(l.rtt)),
    num: 1,
    w: 8,
  },
  { k: 'waiting', t: 'Waiting to go', v: l => l.waiting, f: l => N(l.waiting), num: 1, w: 8 },
  { k: 'total', t: 'In all', v: l => l.total_messages, f: l => N(l.total_messages), num: 1, c: '.p2', w: 9 },
];

export function draw() {
  const all = list('links'),
    q = get('q').toLowerCase(),
    way = get('way');
  if (!all.length) return [emptyPage('messages')];
  const direct = all.filter(l => l.way === 'direct').length,
    sum = name => all.reduce((n, l) => n + (l[name] || 0), 0);
  const found = all.filter(
    l =>
      (!q || `${nameOf(l.from)} ${nameOf(l.to)} ${l.way}`.toLowerCase().includes(q)) &&
      (!way || (l.way === 'direct') === (way === 'direct')),
  );
  return [
    h('div', { key: 'head' }, head('Messages', `${rate(sum('messages'))} per second, ${size(sum('bytes'))} per second`)),
    h(
      'div.filters',
      { key: 'filters', role: 'search' },
      searchField('From, to, way', get('q'), value => go({ q: value })),
      choice(
        'way',
        'Direct and relayed',
        [
          ['direct', 'Direct'],
          ['relayed', 'Relayed'],
        ],
        way,
        go,
      ),
    ),
    h(
      'section.card',
      { key: 'links' },
      h('header', null, h('h2', null, 'Links'), h('span.sub', null, `${N(direct)} direct, ${N(all.length - direct)} relayed`)),
      found.length
        ? table('m', columns, found, { key: l => l.id, sort: '-n' })
        : h('p.none', { key: 'none' }, 'No link matches. ', h('a', { href: link({}, 'messages') }, `Show all ${N(all.length)}`)),
      h('footer', null, icon('queued'), 'Messages both ways, bytes of those that the first one sends; counted by it.'),
    ),
  ];
}

/* Actors: whose mailbox grows. */

import { h, icon } from './dom.js';
import { spark } from './spark.js';
import { get, go } from './route.js';
import { chip, dim, functionLink, head, nodeLink, nodeName, searchField, serverLink, taskLink } from './parts.js';
import { emptyPage } from './empty.js';
import { table } from './table.js';
import { list, table as told } from './stream.js';
import { dur, N, natural, plural, rate } from './text.js';

export const tables = ['meta', 'nodes', 'actors', 'clients'];
const KEPT = 40,
  OLD_S = 30,
  MANY = 100;

/* Lengths of mailboxes since this page was opened: the present alone does not tell who grows. */
const lengths = new Map();
let seen = -1;

function remember(actors) {
  const version = told('actors').version;
  if (version === seen) return;
  seen = version;
  const there = new Set();
  for (const a of actors) {
    there.add(a.id);
    const old = lengths.get(a.id);
    if (!old) lengths.set(a.id, [a.mailbox]);
    else {
      old.push(a.mailbox);
      if (old.length > KEPT) old.shift();
    }
  }
  for (const id of lengths.keys()) if (!there.has(id)) lengths.delete(id);
}

const grows = a => {
  const l = lengths.get(a.id);
  return a.mailbox > MANY && l.length > 4 && l.at(-1) > l[0] * 1.02;
};
const title = a => (a.name ? h('span.tag.me', null, a.name) : a.task ? taskLink(a.task) : h('span.sub', null, 'local task'));

const columns = () => [
  { k: 'name', t: 'Actor', v: a => a.name || '~' + a.id, f: title, c: '.title', w: 12 },
  { k: 'fn', t: 'Function', v: a => a.function, f: a => (a.function ? functionLink(a.function) : dim()), c: '.s2', w: 14 },
  {
    k: 'node',
    t: 'Where',
    v: a => a.node && natural(nodeName(a.node)),
    f: a => (a.server ? serverLink(a.server, a.node) : a.node ? nodeLink(a.node) : h('a', { href: '#/clients' }, 'client')),
    w: 10,
  },
  {
    k: 'box',
    t: 'Mailbox',
    v: a => a.mailbox,
    num: 1,
    w: 11,
    f: a => {
      const l = lengths.get(a.id) || [];
      return h(
        'span.cell',
        null,
        l.length > 2 && l.some(Boolean)
          ? spark(l, grows(a) ? 'queued-fill' : 'quiet-fill', { zero: true, label: 'Length of the mailbox' })
          : null,
        h('b', null, N(a.mailbox)),
      );
    },
  },
  {
    k: 'age',
    t: 'Oldest',
    v: a => a.oldest,
    f: a => (a.oldest == null ? dim() : a.oldest > OLD_S ? chip('queued', dur(a.oldest)) : dur(a.oldest)),
    num: 1,
    w: 7,
  },
  { k: 'rate', t: 'Taken/s', v: a => a.rate, f: a => rate(a.rate), num: 1, w: 7 },
];

const box = (name, text) =>
  h(
    'label.opt',
    { key: name },
    h('input', { type: 'checkbox', checked: Boolean(get(name)), onchange: e => go({ [name]: e.target.checked ? '1' : null }) }),
    text,
  );

export function draw() {
  const all = list('actors'),
    q = get('q').toLowerCase();
  if (!all.length) return [emptyPage('actors')];
  remember(all);
  const found = all.filter(
    a =>
      (!q || `${a.name} ${a.function} ${a.task} ${a.node ? nodeName(a.node) : 'client'}`.toLowerCase().includes(q)) &&
      (!get('named') || a.name) &&
      (!get('mail') || a.mailbox > 0),
  );
  const growing = all.filter(grows);
  return [
    h('div', { key: 'head' }, head('Actors', `${N(all.length)} alive, ${N(all.filter(a => a.name).length)} named`)),
    h(
      'div.filters',
      { key: 'filters', role: 'search' },
      searchField('Name, function, node', get('q'), value => go({ q: value })),
      box('named', 'named only'),
      box('mail', 'with mail only'),
    ),
    h(
      'section.card',
      { key: 'actors' },
      h(
        'header',
        null,
        h('h2', null, 'Mailboxes'),
        h(
          'span.sub',
          null,
          growing.length === 1
            ? ['one grows: ', h('b', null, growing[0].name || growing[0].id), `, ${N(growing[0].mailbox)} wait`]
            : growing.length
              ? `${plural(growing.length, 'mailbox', 'mailboxes')} grow`
              : 'none grows',
        ),
      ),
      found.length
        ? table('a', columns(), found, { key: a => a.id, sort: '-box' })
        : h('p.none', { key: 'none' }, 'No actor matches. ', h('a', { href: '#/actors' }, `Show all ${N(all.length)}`)),
      h('footer', null, icon('queued'), 'Mailboxes are asked only while this page is open.'),
    ),
  ];
}

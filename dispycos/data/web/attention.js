/* What is wrong, worst first, and what happened lately. */

import { h, icon } from './dom.js';
import { link } from './route.js';
import { clientLink, few, functionLink, nodeLink, nodeName, serverLink } from './parts.js';
import { list, now, rows } from './stream.js';
import { ago, clock, N, plural } from './text.js';

const SHOWN = 5,
  TIGHT = 0.9,
  RECENT_S = 900;

/* [{state, words, sub, age}] of everything that asks for a look. */
export function troubles() {
  const t = now(),
    found = [],
    nodes = list('nodes');
  const some = (state, of, one, many, sub) => {
    if (!of.length) return;
    const oldest = Math.min(...of.map(n => n.seen ?? t));
    if (of.length <= 2)
      for (const n of of)
        found.push({
          key: state + n.id,
          state,
          words: ['Node ', nodeLink(n.id), ' ', one],
          sub: sub(n),
          age: state === 'lost' ? t - n.seen : null,
        });
    else
      found.push({
        key: state,
        state,
        words: [
          `${N(of.length)} nodes ${many}: `,
          few(
            of.map(n => n.id),
            id => nodeLink(id),
          ),
        ],
        sub: `of ${plural(nodes.length, 'node')}`,
        age: state === 'lost' ? t - oldest : null,
      });
  };
  some(
    'lost',
    nodes.filter(n => n.state === 'lost'),
    'is silent',
    'are silent',
    n => [n.text || 'not heard of', n.running ? `; ${plural(n.running, 'task')} ran there` : ''],
  );
  for (const f of list('failures').toSorted((a, b) => b.last - a.last)) {
    found.push({
      key: 'f' + f.id,
      state: f.state,
      words: [h('a', { href: link({ view: 'failures', open: f.id }, 'tasks') }, f.error), ' in ', functionLink(f.function)],
      sub: `${N(f.count)} since ${clock(f.first)}${f.nodes.length ? ` on ${plural(f.nodes.length, 'node')}` : ''}`,
      age: t - f.last,
    });
  }
  for (const e of list('events')
    .filter(e => e.kind === 'died' && t - e.t < RECENT_S)
    .slice(-3)
    .reverse()) {
    found.push({
      key: 'd' + e.n,
      state: 'lost',
      words: ['Server ', e.server ? serverLink(e.server, e.node) : 'process', ' died'],
      sub: h('a', { href: link({ view: 'deaths' }, 'tasks') }, e.text),
      age: t - e.t,
    });
  }
  some(
    'queued',
    nodes.filter(n => n.memory_total && n.memory != null && 1 - n.memory / n.memory_total > TIGHT),
    'is short of memory',
    'are short of memory',
    n => `${Math.round((n.memory / n.memory_total) * 100)} % free`,
  );
  some(
    'suspended',
    nodes.filter(n => n.state === 'suspended'),
    'is suspended',
    'are suspended',
    n => `${n.text ? n.text + '; ' : ''}${plural(n.servers, 'server')} take nothing new`,
  );
  some(
    'suspended',
    nodes.filter(n => n.state === 'resting'),
    'takes nothing new',
    'take nothing new',
    n => n.text || n.hours,
  );
  return found;
}

export const troubleCard = found =>
  h(
    'section.card.c4.att',
    { key: 'att' },
    h('header', null, h('h2', null, 'Needs attention'), h('div.acts', null, h('span.sub', null, found.length || 'nothing'))),
    h(
      'div',
      { key: 'what' },
      found.length
        ? h(
            'ul.alist',
            { key: 'list' },
            found
              .slice(0, SHOWN)
              .map(f =>
                h(
                  'li',
                  { 'data-s': f.state, key: f.key },
                  icon(f.state, 12),
                  h('b', null, f.words),
                  h('span.t', null, f.age == null ? '' : ago(f.age)),
                  h('span.sub', null, f.sub),
                ),
              ),
          )
        : h('p.calmly', { key: 'calm' }, icon('done', 12), 'All is well: no node is silent, no task failed.'),
      found.length > SHOWN &&
        h(
          'p.moreof',
          { key: 'more' },
          `and ${found.length - SHOWN} more: `,
          h('a', { href: link({ view: 'failures' }, 'tasks') }, 'failures'),
          ', ',
          h('a', { href: link({ 'sort.n': 'state' }) }, 'nodes by state'),
        ),
    ),
    lately(),
  );

function lately() {
  const last = list('events')
    .slice(-20)
    .sort((a, b) => b.t - a.t || b.n - a.n)
    .slice(0, 5);
  return (
    last.length > 0 &&
    h(
      'div.lately',
      { key: 'lately' },
      h('h2.later', null, 'Lately'),
      h(
        'ul.ev',
        null,
        last.map(e => h('li', { key: e.n }, h('span.sub', null, clock(e.t)), h('span.cut', { title: e.text }, worded(e)))),
      ),
    )
  );
}

/* The names in its text are links; if they are not in there, they stand before it. */
function worded(e) {
  const name = [
    e.server && rows('servers').get(e.server)?.name,
    e.node && e.text.split(/[ :]/).find(word => word.startsWith(`${nodeName(e.node)}/`)),
    e.node && nodeName(e.node),
    e.client && rows('clients').get(e.client)?.name,
  ].find(one => one && e.text.includes(one));
  if (!name) return [whose(e), ' ', e.text];
  const i = e.text.indexOf(name),
    at = e.server ? serverLink(e.server, e.node, name) : e.node ? nodeLink(e.node, name) : clientLink(e.client, name);
  return [e.text.slice(0, i), at, e.text.slice(i + name.length)];
}

const whose = e =>
  e.server
    ? serverLink(e.server, e.node)
    : e.node
      ? nodeLink(e.node)
      : e.client && rows('clients').has(e.client)
        ? clientLink(e.client)
        : null;

/* Events as marks on curves. */
const TOKENS = { joined: 'done', left: 'quiet', lost: 'lost', died: 'lost', suspended: 'quiet', resumed: 'done' };
const WORDS = { joined: 'joined', left: 'left', lost: 'silent', died: 'died', suspended: 'suspended', resumed: 'resumed' };
export const marksOf = (from, name) =>
  list('events')
    .filter(e => e.t >= from && TOKENS[e.kind])
    .map(e => ({ t: e.t, token: TOKENS[e.kind], text: `${name(e)} ${WORDS[e.kind]}`.trim() }));

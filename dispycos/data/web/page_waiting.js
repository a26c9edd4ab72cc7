/* View of the tasks page: who waits, and why. */

import { h, icon } from './dom.js';
import { link } from './route.js';
import { clientLink, functionLink, glyph, nodeLink, taskName } from './parts.js';
import { popover } from './overlays.js';
import { list, meta, now } from './stream.js';
import { table } from './table.js';
import { dur, N, octets, plural } from './text.js';

/* Which glyph a reason has: the state of what stands in the way. */
const REASONS = {
  servers: ['running', 'servers are busy'],
  place: ['lost', 'the place asked for'],
  suspended: ['suspended', 'suspended'],
  none: ['lost', 'no server'],
  cluster: ['queued', 'other clients first'],
};
const reasonOf = reason => REASONS[reason] || ['queued', reason];
const NODES = 8;

/* What each node says to it, as far as its row tells. */
function nodeWords(n) {
  if (n.state === 'lost') return [n.text || 'not heard of', n.seen ? ` for ${dur(now() - n.seen)}` : ''].join('');
  if (n.state === 'running') return `${n.busy ?? Math.min(n.running, n.servers)} of ${plural(n.servers, 'server')} busy`;
  return [n.state, n.text, n.hours].filter(Boolean).join(': ');
}

const RANK = { lost: 0, suspended: 1, resting: 2, starting: 3, closed: 4, idle: 5, running: 6 };

export function whyPopover(at, task) {
  popover(at, () => {
    const group = list('waiting').find(w => task.why?.endsWith(w.text));
    const nodes = list('nodes').toSorted(
      (a, b) => (RANK[a.state] ?? 9) - (RANK[b.state] ?? 9) || (octets(a.addr) < octets(b.addr) ? -1 : 1),
    );
    return [
      h('h2', null, 'Why is it waiting?'),
      h('p.sub', null, h('span.fn', null, task.function), ` ${taskName(task.id)} · one of ${N(meta().queued)} queued`),
      h('p.verdict', null, task.why || 'Its client has not said why.'),
      group &&
        h(
          'p.sub.foot',
          { key: 'group' },
          `${plural(group.count, 'task')} ${group.count === 1 ? 'waits' : 'wait'} for this reason.`,
        ),
      h(
        'ul.why',
        null,
        nodes
          .slice(0, NODES)
          .map(n =>
            h(
              'li',
              { key: n.id, 'data-s': n.state === 'running' ? 'running' : glyph(n.state) },
              icon(n.state === 'running' ? 'running' : glyph(n.state), 11),
              nodeLink(n.id),
              h('span.sub', null, nodeWords(n)),
            ),
          ),
      ),
      nodes.length > NODES && h('p.sub', { key: 'more' }, `and ${plural(nodes.length - NODES, 'more node')}`),
      !nodes.length && h('p.sub', { key: 'no' }, 'There is no node: type ', h('code', null, 'dispycos node'), ' on a machine.'),
      meta().rate > 0 &&
        h('p.sub.foot', { key: 'rate' }, `${dur(meta().queued / meta().rate)} for the whole queue at the present rate.`),
    ];
  });
}

const whyButton = task =>
  h(
    'button.more',
    { type: 'button', 'aria-haspopup': 'dialog', onclick: e => whyPopover(e.currentTarget, task) },
    h('span.cut', null, task.why || 'why?'),
    icon('chev', 8),
  );

const groupColumns = t => [
  { k: 'count', t: 'Tasks', v: w => w.count, f: w => N(w.count), num: 1, w: 5 },
  {
    k: 'reason',
    t: 'Reason',
    v: w => w.reason,
    f: w => h('span.why1', { 'data-s': reasonOf(w.reason)[0] }, icon(reasonOf(w.reason)[0]), ' ', reasonOf(w.reason)[1]),
    w: 12,
    c: '.title',
  },
  { k: 'text', t: 'In words', f: w => w.text, title: w => w.text, c: '.wide' },
  {
    k: 'oldest',
    t: 'Oldest waits',
    v: w => (w.oldest == null ? null : t - w.oldest),
    f: w => (w.oldest == null ? '–' : dur(t - w.oldest)),
    num: 1,
    w: 7,
  },
];

const columns = t => [
  { k: 'place', t: 'Place', v: r => r.place, f: r => N(r.place), w: 4.5, c: '.p2' },
  {
    k: 'fn',
    t: 'Task',
    v: r => r.function,
    f: r => [functionLink(r.function), ' ', h('span.args', { title: r.id }, taskName(r.id))],
    c: '.title',
    w: 14,
  },
  { k: 'args', t: 'Arguments', f: r => h('span.args', null, r.args ?? '–'), title: r => r.args, c: '.wide', may: true },
  { k: 'client', t: 'Client', v: r => r.client, f: r => clientLink(r.client), w: 8, c: '.p2' },
  { k: 'since', t: 'Waits', v: r => t - r.submitted, f: r => dur(t - r.submitted), num: 1, w: 6 },
  { k: 'why', t: 'Why is it waiting?', v: r => r.why, f: whyButton, w: 22, c: '.reason' },
];

/* `queued` are the first of the queue, in its order; fits() lets some of them in. */
export function waitingCards(queued, fits) {
  const m = meta(),
    t = now(),
    groups = list('waiting');
  const places = queued.map((row, i) => ({ ...row, place: i + 1 })),
    found = places.filter(fits);
  if (!m.queued && !queued.length)
    return [
      h(
        'section.card',
        { key: 'queue' },
        h('header', null, h('h2', null, 'Waiting')),
        h('p.none', null, 'Nobody waits: every task that was submitted has a server.'),
      ),
    ];
  return [
    groups.length > 0 &&
      h(
        'section.card.space',
        { key: 'groups' },
        h('header', null, h('h2', null, 'Why they wait'), h('span.sub', null, plural(groups.length, 'reason'))),
        table('g', groupColumns(t), groups, { key: w => w.id, sort: '-count' }),
      ),
    h(
      'section.card',
      { key: 'queue' },
      h(
        'header',
        null,
        h('h2', null, 'Queue'),
        h(
          'span.sub',
          null,
          `${queued.length < m.queued ? `the first ${N(queued.length)} of ${N(m.queued)}` : plural(m.queued, 'task')}${found.length < queued.length ? `, ${N(found.length)} match` : ''}`,
        ),
      ),
      found.length
        ? table('w', columns(t), found, { key: r => r.id, sort: 'place' })
        : h('p.none', { key: 'none' }, 'None of these matches. ', h('a', { href: link({ view: 'waiting' }, 'tasks') }, 'Show all')),
    ),
  ];
}

/* Views of the tasks page: failures by function and exception, and death certificates. */

import { h, icon } from './dom.js';
import { spark } from './spark.js';
import { get, go, link } from './route.js';
import { few, functionLink, nodeLink, nodeName, serverLink } from './parts.js';
import { certificate } from './certificate.js';
import { list, meta, now, table } from './stream.js';
import { N, when } from './text.js';

const BINS = 40,
  HOUR = 3600,
  CERTIFICATES = 50;

/* Of each group, how many of the kept tasks failed in each fortieth of the last hour. */
let counted = -1,
  histories = new Map();
function historyOf(id) {
  const t = table('tasks'),
    end = now();
  if (t.version !== counted) {
    counted = t.version;
    histories = new Map();
    for (const task of t.rows.values()) {
      const i = BINS - 1 - Math.floor(((end - task.end) / HOUR) * BINS);
      if (!task.failure || task.end == null || i < 0 || i >= BINS) continue;
      if (!histories.has(task.failure)) histories.set(task.failure, new Array(BINS).fill(0));
      histories.get(task.failure)[i] += 1;
    }
  }
  return histories.get(id) || null;
}

const lines = text => text.replace(/\n+$/, '').split('\n');

/* The last place is where to look, the last line what happened. */
function trace(text) {
  const all = lines(text),
    last = all.findLastIndex(l => /^\s+File /.test(l));
  return h(
    'pre.tb',
    null,
    all.map((l, i) => h('div' + (i === all.length - 1 ? '.exc' : last >= 0 && i >= last ? '.hot' : ''), { key: i }, l || ' ')),
  );
}

function group(f, deaths) {
  const open = get('open') === f.id,
    history = historyOf(f.id),
    mine = deaths.filter(d => f.state === 'lost' && f.servers?.includes(d.server));
  return h(
    'details.fail',
    { key: f.id, open, 'data-s': f.state },
    h(
      'summary',
      {
        onclick: e => {
          if (e.target.closest('a')) return;
          e.preventDefault();
          go({ open: open ? null : f.id });
        },
      },
      icon('chev'),
      h('span.cnt', null, N(f.count)),
      h(
        'div.cut',
        null,
        h('div.cut', null, h('b', null, f.error), ' in ', functionLink(f.function)),
        h('div.sub.cut', { title: f.text }, f.text),
      ),
      history ? spark(history, f.state + '-fill', { bars: true, base: true, label: 'How often, in the last hour' }) : h('span.sub'),
      h('div.sub', null, h('div', null, 'last ', when(f.last, now())), h('div', null, 'first ', when(f.first, now()))),
      h('div.sub.cut', null, f.nodes.length > 2 ? `on ${N(f.nodes.length)} nodes` : few(f.nodes, id => nodeLink(id))),
    ),
    open &&
      h(
        'div.fbody',
        { key: 'body' },
        h(
          'p.sub',
          null,
          'On ',
          few(f.nodes, id => nodeLink(id), 12),
          f.servers?.length ? [', servers ', few(f.servers, id => serverLink(id), 4)] : null,
          '. ',
          h('a', { href: link({ view: null, open: null, state: f.state, function: f.function }) }, 'Its tasks'),
          f.trace ? `. One traceback of ${N(f.count)}:` : '.',
        ),
        f.trace ? trace(f.trace) : null,
        f.text && !f.trace ? h('pre.tb', null, h('div.exc', null, `${f.error}: ${f.text}`)) : null,
        mine.slice(0, 5).map(certificate),
      ),
  );
}

export function failuresCard(filter) {
  const m = meta(),
    all = list('failures'),
    found = all.filter(
      f =>
        (!filter.function || f.function === filter.function) &&
        (!filter.node || f.nodes.includes(filter.node)) &&
        (!filter.q || `${f.function} ${f.error} ${f.text} ${f.nodes.map(nodeName).join(' ')}`.toLowerCase().includes(filter.q)),
    );
  found.sort((a, b) => b.count - a.count || b.last - a.last);
  const ended = m.done + m.failed + m.lost + m.cancelled;
  return h(
    'section.card',
    { key: 'failures' },
    h(
      'header',
      null,
      h('h2', null, 'Grouped by function and exception'),
      h('span.sub', null, `${N(m.failed)} failed, ${N(m.lost)} lost, of ${N(ended)} ended`),
      h('div.acts', null, h('span.sub.hp', null, 'bars: the last hour of the tasks that are kept')),
    ),
    found.length
      ? found.map(f => group(f, list('deaths')))
      : h(
          'p.none',
          { key: 'none' },
          all.length
            ? ['No failure matches. ', h('a', { href: link({ view: 'failures' }, 'tasks') }, `Show all ${N(all.length)}`)]
            : 'No task has failed, none was lost.',
        ),
  );
}

export function deathsCard(filter) {
  const all = list('deaths').toSorted((a, b) => b.time - a.time),
    found = all.filter(
      d =>
        (!filter.node || d.node === filter.node) &&
        (!filter.q || `${d.server} ${nodeName(d.node)} ${d.text} ${(d.lines || []).join(' ')}`.toLowerCase().includes(filter.q)),
    );
  return h(
    'section.card',
    { key: 'deaths' },
    h(
      'header',
      null,
      h('h2', null, 'Death certificates'),
      h(
        'span.sub',
        null,
        found.length > CERTIFICATES ? `the last ${CERTIFICATES} of ${N(found.length)}` : 'of server processes, newest first',
      ),
    ),
    found.length
      ? h('div.certs', { key: 'certs' }, found.slice(0, CERTIFICATES).map(certificate))
      : h(
          'p.none',
          { key: 'none' },
          all.length
            ? ['No certificate matches. ', h('a', { href: link({ view: 'deaths' }, 'tasks') }, `Show all ${N(all.length)}`)]
            : 'No server process has died.',
        ),
  );
}

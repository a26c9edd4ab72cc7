/* Tasks: history with its filters and lanes, failures, deaths, who waits, functions. */

import { h, icon } from './dom.js';
import { get, go, goTo, link, where } from './route.js';
import { btn, chip, choice, deed, dim, functionLink, searchField, serverLink, serverName, taskName } from './parts.js';
import { columnsPopover } from './options.js';
import { download } from './overlays.js';
import { csv, narrow, sorted, table } from './table.js';
import { deathsCard, failuresCard } from './page_failures.js';
import { waitingCards, whyPopover } from './page_waiting.js';
import { lanesCard } from './lanes.js';
import { emptyPage } from './empty.js';
import { openStack } from './stack.js';
import { stackButton, terminate, terminateWhere } from './actions.js';
import { list, meta, now, table as told } from './stream.js';
import { capital, clock, dur, N, natural, rate, share, size, when } from './text.js';

export const tables = ['meta', 'nodes', 'servers', 'tasks', 'functions', 'failures', 'deaths', 'waiting', 'events', 'clients'];

const STATES = ['running', 'queued', 'done', 'failed', 'lost', 'cancelled'];
const LONGER = [
  ['1', 'over 1 s'],
  ['10', 'over 10 s'],
  ['60', 'over 1 min'],
  ['600', 'over 10 min'],
];
const RANGES = [
  ['60', 'Last minute'],
  ['300', 'Last 5 min'],
  ['900', 'Last 15 min'],
  ['1800', 'Last 30 min'],
];
const FILTERS = ['q', 'function', 'node', 'state', 'longer', 'range', 'server'];

/* ------------------------------------------------------------ which ones */
const read = () => Object.fromEntries(FILTERS.map(k => [k, k === 'q' ? get(k).toLowerCase() : get(k)]));
const isSet = () => FILTERS.some(get);

function textFits(task, q) {
  if (q[0] === '#') {
    const id = task.id.toLowerCase();
    return id === q.slice(1) || id.endsWith('.' + q.slice(1));
  }
  return `${task.function} ${task.args ?? ''} ${task.server ? serverName(task.server, task.node) : ''} ${task.error}`
    .toLowerCase()
    .includes(q);
}

/* A predicate for the filters that are set. */
function fitting(f, t) {
  const tests = [];
  if (f.state) tests.push(task => task.state === f.state);
  else if (!f.q) tests.push(task => task.state !== 'queued'); // they have a view of their own
  if (f.function) tests.push(task => task.function === f.function);
  if (f.node) tests.push(task => task.node === f.node);
  if (f.server) tests.push(task => task.server === f.server);
  if (f.longer) tests.push(task => (task.run ?? (task.start == null ? 0 : t - task.start)) > Number(f.longer));
  if (f.range) tests.push(task => (task.end ?? t) >= t - Number(f.range));
  if (f.q) tests.push(task => textFits(task, f.q));
  return task => tests.every(test => test(task));
}

let cache = { key: '', rows: [] };
function matching(fits) {
  const key = told('tasks').version + ' ' + where().q;
  if (cache.key !== key) cache = { key, rows: list('tasks').filter(fits) };
  return cache.rows;
}

/* ------------------------------------------------------------ history */
const runOf = (task, t) => task.run ?? (task.start == null ? null : (task.end ?? t) - task.start);

function act(task) {
  if (task.state === 'running') return stackButton(task, openStack);
  if (task.state === 'queued') return btn('Why', { c: '.sm.ghost', on: e => whyPopover(e.currentTarget, task) });
  return task.failure ? h('a.btn.sm.ghost', { href: link({ view: 'failures', open: task.failure }, 'tasks') }, 'Why') : null;
}

export const historyColumns = t => [
  {
    k: 'fn',
    t: 'Task',
    v: r => r.function,
    f: r => [functionLink(r.function), ' ', h('span.args', { title: r.id }, taskName(r.id))],
    title: r => r.function,
    c: '.title',
    w: 13,
  },
  { k: 's', t: 'State', v: r => r.state, f: r => chip(r.state), c: '.state', w: 6.5 },
  {
    k: 'args',
    t: 'Arguments',
    f: r => h('span.args', null, r.error || (r.args ?? '…')),
    title: r =>
      r.error ? `${r.error}\n${r.args ?? ''}` : (r.args ?? 'Arguments are known of tasks that ran while somebody looked'),
    c: '.wide',
    may: true,
  },
  {
    k: 'node',
    t: 'Server',
    v: r => r.server && natural(serverName(r.server, r.node)),
    f: r => (r.server ? serverLink(r.server, r.node) : dim()),
    c: '.s2',
    w: 8.5,
  },
  {
    k: 'start',
    t: 'Started',
    v: r => r.start ?? r.end ?? Infinity,
    f: r => (r.start == null ? dim(r.end == null ? 'not yet' : '–') : clock(r.start, !narrow())),
    num: 1,
    w: 7,
  },
  {
    k: 'q',
    t: 'Waited',
    v: r => r.queue ?? (r.start == null ? t - r.submitted : null),
    f: r => dur(r.queue ?? (r.start == null ? t - r.submitted : null)),
    num: 1,
    c: '.p2',
    w: 5.5,
  },
  { k: 'dur', t: 'Ran', v: r => runOf(r, t), f: r => dur(runOf(r, t)), num: 1, w: 5.75 },
  { k: 'cs', t: 'CPU time', v: r => r.cpu_s, f: r => dur(r.cpu_s), num: 1, c: '.p2', w: 5.75 },
  { k: 'peak', t: 'Peak memory', v: r => r.peak || null, f: r => size(r.peak || null), num: 1, c: '.p2', w: 6.75 },
  { k: 'acts', t: 'Actions', f: act, c: '.act.num', w: 5.5 },
];

function facets(m) {
  const state = get('state');
  return h(
    'nav.facets',
    { 'aria-label': 'State', key: 'facets' },
    STATES.map(s =>
      h(
        'a.facet',
        {
          key: s,
          href: s === 'queued' ? link({ view: 'waiting', state: null }) : link({ state: state === s ? null : s }),
          'data-s': s,
          'aria-current': state === s ? 'true' : null,
        },
        icon(s),
        capital(s),
        h('b', null, N(m[s])),
      ),
    ),
  );
}

function keptWords(m) {
  const t = told('tasks'),
    shown = list('tasks').filter(r => r.end != null).length,
    all = Math.max(t.total, m.done + m.failed + m.lost + m.cancelled);
  if (shown >= all) return null;
  const dropped = t.dropped_until ? `; older ones dropped at ${when(t.dropped_until, now())}` : '';
  return h(
    'footer',
    { key: 'kept' },
    icon('queued'),
    h(
      'span',
      null,
      h('b', null, N(shown)),
      ' of ',
      h('b', null, N(all)),
      ` ended tasks are kept${dropped}. Counters, groups and functions count all of them.`,
    ),
  );
}

/* Queued ones beyond the first 500 are not listed: a count is only shown where it is known to be true. */
function queuedMatching(f, m) {
  if (f.q || f.node || f.server || f.longer || f.range) return null;
  return f.function ? (list('functions').find(r => r.function === f.function)?.queued ?? null) : m.queued;
}

function endAll(rows, f, m) {
  if (f.state === 'queued') {
    if (f.server || f.longer || f.range) return null; // what the client cannot filter by
    const n = queuedMatching(f, m),
      words = [f.function && ` of ${f.function}`, f.q && ` with “${get('q')}” in their text`].filter(Boolean).join('');
    return deed(n == null ? 'Cancel all that match…' : `Cancel ${N(n)}…`, {
      c: '.danger',
      off: n === 0,
      on: () =>
        terminateWhere(
          { state: 'queued', function: f.function, node: f.node, text: get('q') },
          n == null ? 'all matching' : N(n),
          words,
        ),
      title: 'All queued ones that the filter lets in',
    });
  }
  const running = rows.filter(r => r.state === 'running');
  return isSet() && running.length > 0
    ? deed(`Terminate ${N(running.length)}…`, {
        c: '.danger',
        on: () => terminate(running),
        title: 'All running ones that the filter lets in',
      })
    : null;
}

const CSV = [
  ['id', r => r.id],
  ['client', r => r.client],
  ['function', r => r.function],
  ['arguments', r => r.args],
  ['state', r => r.state],
  ['node', r => r.node],
  ['server', r => r.server],
  ['submitted', r => r.submitted],
  ['start', r => r.start],
  ['end', r => r.end],
  ['run_s', r => r.run],
  ['queue_s', r => r.queue],
  ['cpu_s', r => r.cpu_s],
  ['peak_bytes', r => r.peak],
  ['attempt', r => r.attempt],
  ['error', r => r.error],
];

function history(m, f, t) {
  const rows = matching(fitting(f, t)),
    all = list('tasks').length;
  const laneFits = s => (!f.node || s.node === f.node) && (!f.server || s.id === f.server);
  return [
    facets(m),
    lanesCard('Timeline', laneFits),
    h(
      'section.card',
      { key: 'history' },
      h(
        'header',
        null,
        h('h2', null, 'History'),
        h('span.sub', null, isSet() ? `${N(rows.length)} of ${N(all)} listed ones match` : 'newest first'),
        h('div.acts.hp', null, btn('Columns', { on: e => columnsPopover(e.currentTarget, 't') })),
      ),
      rows.length
        ? table('t', historyColumns(t), rows, { key: r => r.id, sort: '-start', stream: true })
        : h('p.none', { key: 'none' }, 'Nothing matches this filter. ', h('a', { href: '#/tasks' }, 'Clear it')),
      keptWords(m),
    ),
  ];
}

/* ------------------------------------------------------------ functions */
const ended = r => r.done + r.failed + r.lost + r.cancelled;
const functionColumns = [
  { k: 'fn', t: 'Function', v: r => r.function, f: r => functionLink(r.function), c: '.title' },
  { k: 'running', t: 'Running', v: r => r.running, f: r => N(r.running), num: 1, w: 6 },
  { k: 'queued', t: 'Queued', v: r => r.queued, f: r => N(r.queued), num: 1, w: 6 },
  { k: 'ended', t: 'Ended', v: ended, f: r => N(ended(r)), num: 1, w: 7 },
  { k: 'rate', t: 'Per second', v: r => r.rate, f: r => rate(r.rate), num: 1, w: 6.5 },
  {
    k: 'err',
    t: 'Errors',
    v: r => r.failed + r.lost,
    f: r =>
      r.failed + r.lost ? h('a', { href: link({ view: 'failures', function: r.function }, 'tasks') }, N(r.failed + r.lost)) : '0',
    num: 1,
    w: 5.5,
  },
  {
    k: 'er',
    t: 'Error share',
    v: r => (ended(r) ? (r.failed + r.lost) / ended(r) : null),
    f: r => share(r.failed + r.lost, ended(r)),
    num: 1,
    w: 6.5,
  },
  { k: 'p50', t: 'Run p50', v: r => r.run_p50, f: r => dur(r.run_p50), num: 1, w: 6 },
  { k: 'p99', t: 'Run p99', v: r => r.run_p99, f: r => dur(r.run_p99), num: 1, w: 6.5 },
  { k: 'q50', t: 'Queue p50', v: r => r.queue_p50, f: r => dur(r.queue_p50), num: 1, w: 6.5, c: '.p2' },
  { k: 'q99', t: 'Queue p99', v: r => r.queue_p99, f: r => dur(r.queue_p99), num: 1, w: 6.5, c: '.p2' },
  { k: 'cpu', t: 'CPU time', v: r => r.cpu_s, f: r => dur(r.cpu_s), num: 1, w: 7, c: '.p2' },
];

function functions(m, f) {
  const all = list('functions'),
    rows = all.filter(r => (!f.function || r.function === f.function) && (!f.q || r.function.toLowerCase().includes(f.q)));
  return [
    h(
      'section.card',
      { key: 'functions' },
      h('header', null, h('h2', null, 'Functions'), h('span.sub', null, `all since ${when(m.since, now())}`)),
      rows.length
        ? table('f', functionColumns, rows, { key: r => r.function, sort: '-ended' })
        : h(
            'p.none',
            { key: 'none' },
            all.length
              ? ['No function matches. ', h('a', { href: link({ view: 'functions' }, 'tasks') }, 'Show all')]
              : 'No task has been submitted yet.',
          ),
    ),
  ];
}

/* ------------------------------------------------------------ the page */
function views(view, m) {
  const deaths = list('deaths').filter(d => !d.expected).length;
  const tab = (v, text, n) =>
    h(
      'a',
      { key: v, href: link({ view: v || null, state: null, open: null }), 'aria-current': view === v ? 'page' : null },
      text,
      n ? h('span.n', null, N(n)) : null,
    );
  return h(
    'div.scrollx',
    null,
    h(
      'nav.seg',
      { 'aria-label': 'Views' },
      tab('', 'History'),
      tab('failures', 'Failures', m.failed + m.lost),
      tab('deaths', 'Deaths', deaths),
      tab('waiting', 'Waiting', m.queued),
      tab('functions', 'Functions', list('functions').length),
    ),
  );
}

function filters(view) {
  const pick = (name, label, options) => choice(name, label, options, get(name), changes => goTo(link(changes)));
  const timed = view === '' ? [pick('longer', 'Any duration', LONGER), pick('range', 'Any time', RANGES)] : [null, null];
  const names = list('functions')
    .map(r => r.function)
    .sort()
    .map(f => [f, f]);
  return h(
    'div.filters',
    { role: 'search', key: 'filters' },
    searchField('Text in arguments, #id, host', get('q'), value => go({ q: value })),
    pick('function', 'All functions', names),
    pick('node', 'All nodes', nodeOptions()),
    ...timed,
    get('server') && h('span.tag.me.big', { key: 'server' }, 'server ', serverLink(get('server'))),
    isSet() && h('a.btn.ghost', { key: 'clear', href: link({ view: view || null }, 'tasks') }, 'Clear'),
  );
}

let nodesTold = -1,
  nodesMade = [];
export function nodeOptions() {
  const t = told('nodes');
  if (t.rows.size !== nodesTold) {
    nodesTold = t.rows.size;
    nodesMade = sorted(list('nodes'), n => natural(n.name)).map(n => [n.id, n.name]);
  }
  return nodesMade;
}

export function draw() {
  const m = meta(),
    view = ['failures', 'deaths', 'waiting', 'functions'].includes(get('view')) ? get('view') : '',
    f = read(),
    t = now();
  if (!m.submitted && !list('tasks').length) return [emptyPage('tasks')];
  const queued =
    view === 'waiting'
      ? list('tasks')
          .filter(r => r.state === 'queued')
          .sort((a, b) => a.submitted - b.submitted)
      : [];
  const content = {
    '': () => history(m, f, t),
    failures: () => [failuresCard(f)],
    deaths: () => [deathsCard(f)],
    functions: () => functions(m, f),
    waiting: () => waitingCards(queued, fitting({ ...f, state: 'queued' }, t)),
  }[view]();
  const all = view === '' ? endAll(cache.rows, f, m) : view === 'waiting' ? endAll([], { ...f, state: 'queued' }, m) : null;
  return [
    h(
      'div.head',
      { key: 'head' },
      h('h1', null, 'Tasks'),
      views(view, m),
      h(
        'div.acts',
        null,
        all,
        btn(
          'CSV',
          { c: '.hp', on: () => download('tasks.csv', csv(CSV, view === '' ? cache.rows : list('tasks')), 'text/csv') },
          icon('i-down', 14),
        ),
      ),
    ),
    filters(view),
    content,
  ];
}

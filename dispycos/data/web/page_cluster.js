/* Cluster: the sum first, then what is wrong, then the nodes. */

import { h, icon } from './dom.js';
import { spark } from './spark.js';
import { chart, curves, grown, mean, startOf } from './charts.js';
import { link } from './route.js';
import { range, rangeLinks } from './ranges.js';
import { card, nodeName, serverName } from './parts.js';
import { marksOf, troubleCard, troubles } from './attention.js';
import { list, meta, now, goneText, table as told } from './stream.js';
import { nodesCard } from './nodes.js';
import { noNodes } from './empty.js';
import { clock, dur, N, percent, plural, rate, share } from './text.js';

export const tables = ['meta', 'nodes', 'samples', 'events', 'failures'];
const sinceWords = (from, t, span, words) => (t - from < span * 0.95 ? `since ${clock(from)}` : `last ${words}`);

/* ------------------------------------------------------------ the sum */
function stat(name, state, value, words, values, token, href, o) {
  return h(
    'a',
    { href, 'data-s': state, key: name },
    h('span.k', null, state && icon(state), name),
    h('span.v', null, value),
    h('span.d', null, words),
    spark(values.length > 1 ? values : [], token, { label: name, ...o }),
  );
}

function median(values) {
  const a = values.filter(v => v != null).sort((x, y) => x - y);
  return a.length ? a[Math.floor(a.length / 2)] : null;
}

/* How the queue moves, per second, over the last minute. */
function drift(samples, t) {
  const old = samples.find(s => s.t >= t - 60),
    last = samples.at(-1);
  if (!old || !last || last.t - old.t < 10) return '';
  const d = (last.queued - old.queued) / (last.t - old.t);
  return Math.abs(d) < 0.05 ? 'stays as it is' : `${d > 0 ? 'grows' : 'shrinks'} by ${rate(Math.abs(d))}/s`;
}

/* Curves of all that the page shows, made once for each sample. */
const LEVELS = ['rate', 'running', 'queued', 'cpu'],
  COUNTERS = ['done', 'failed', 'lost'],
  CURVES = [...LEVELS, 'memory', ...COUNTERS];
let made = { stamp: '' };

function history(m, t) {
  const samples = list('samples'),
    span = range()[0],
    stamp = `${told('samples').version} ${span}`;
  if (made.stamp !== stamp) {
    const from = startOf(samples, t, span);
    const [times, ...values] = curves(samples, t, t - from, m.poll_sec, CURVES, (g, last) => [
      ...LEVELS.map(n => mean(g, n)),
      mean(
        g.filter(s => s.memory).map(s => ({ used: (s.memory_used / s.memory) * 100 })),
        'used',
      ),
      ...COUNTERS.map(n => grown(g, last, n)),
    ]);
    made = { stamp, from, to: t, times, ...Object.fromEntries(CURVES.map((n, i) => [n, values[i]])) };
  }
  return made;
}

function sum(m, samples, past, t, words) {
  const of = name => past[name].filter(v => v != null);
  const rates = of('rate'),
    minute = samples.find(s => s.t >= t - 75 && s.t <= t - 55),
    ended = m.done + m.failed + m.lost + m.cancelled;
  const lastLost = Math.max(
    0,
    ...list('failures')
      .filter(f => f.state === 'lost')
      .map(f => f.last),
  );
  const failures = link({ view: 'failures' }, 'tasks');
  return h(
    'section.sum',
    { 'aria-label': 'The sum', key: 'sum' },
    stat(
      'Tasks per second',
      null,
      rate(m.rate),
      rates.length > 2 ? `median ${rate(median(rates))} ${sinceWords(past.from, t, range()[0], words)}` : 'ended',
      rates,
      'accent',
      link({ view: 'functions' }, 'tasks'),
      { zero: true },
    ),
    stat(
      'Running',
      'running',
      N(m.running),
      `${m.servers_busy === m.running ? '' : `on ${N(m.servers_busy)} `}of ${plural(m.servers, 'server')}`,
      of('running'),
      'running',
      link({ state: 'running' }, 'tasks'),
      { zero: true },
    ),
    stat(
      'Queued',
      'queued',
      N(m.queued),
      m.queued ? drift(samples, t) || 'wait for a server' : 'nobody waits',
      of('queued'),
      'queued',
      link({ view: 'waiting' }, 'tasks'),
      { zero: true },
    ),
    stat(
      'Done',
      'done',
      N(m.done),
      ended ? `${share(m.done, ended)} of all ended` : 'none yet',
      of('done'),
      'done',
      link({ state: 'done' }, 'tasks'),
      { zero: true },
    ),
    stat(
      'Failed',
      'failed',
      N(m.failed),
      m.failed ? `${share(m.failed, ended)}${minute ? `, ${N(m.failed - minute.failed)} last minute` : ''}` : 'none',
      of('failed'),
      'failed-fill',
      failures,
      { bars: true },
    ),
    stat(
      'Lost',
      'lost',
      N(m.lost),
      lastLost ? `last at ${clock(lastLost)}` : m.lost ? share(m.lost, ended) : 'none',
      of('lost'),
      'lost-fill',
      failures,
      { bars: true },
    ),
    flow(m),
  );
}

function flow(m) {
  const parts = [
    ['done', m.done],
    ['failed', m.failed + m.lost],
    ['cancelled', m.cancelled],
    ['running', m.running],
    ['queued', m.queued],
  ].filter(p => p[1] > 0);
  const left = m.queued + m.running;
  const ahead = goneText()
    ? `stands still since ${clock(now())}`
    : !left
      ? 'all is done'
      : m.rate > 0
        ? ['at this rate all done in ', h('b', null, dur(left / m.rate))]
        : 'nothing ends now';
  return h(
    'div.flow',
    null,
    h('span', null, h('b', null, N(m.submitted)), ' submitted'),
    h(
      'div.sbar',
      { role: 'img', 'aria-label': 'Share of done, failed, cancelled, running and queued' },
      parts.map(([s, v]) => h('i', { key: s, 'data-s': s, '--v': v, title: `${N(v)} ${s}` })),
    ),
    m.submitted ? h('span', null, ahead) : null,
  );
}

/* ------------------------------------------------------------ charts */
const eventName = e => (e.server ? serverName(e.server, e.node) : e.node ? nodeName(e.node) : '');

function charts(m, past, found) {
  const words = range()[1],
    used = m.memory ? (m.memory_used / m.memory) * 100 : null,
    { from, to, stamp } = past;
  return h(
    'div.grid',
    { key: 'charts' },
    h(
      'div.stackcol.c8',
      { key: 'curves' },
      card(
        'Tasks per second',
        [h('span.legend', null, h('span', null, h('i.k1'), 'ended')), rangeLinks()],
        h(
          'div.body',
          null,
          chart({
            data: [past.times, past.rate],
            series: [{ label: 'ended per second', token: 'accent' }],
            from,
            to,
            stamp,
            fmt: rate,
            ticks: v => (Number.isInteger(v) ? N(v) : rate(v)),
            least: 1,
            height: 176,
            events: marksOf(from, eventName),
            label: `Tasks ended per second, ${sinceWords(from, to, range()[0], words)}, with events`,
          }),
        ),
      ),
      card(
        'Use of the cluster',
        h(
          'span.legend',
          null,
          h('span', null, h('i.k1'), 'CPU ' + percent(m.cpu)),
          h('span', null, h('i.k2'), 'memory ' + percent(used)),
        ),
        h(
          'div.body',
          null,
          chart({
            data: [past.times, past.cpu, past.memory],
            series: [
              { label: 'CPU', token: 'accent' },
              { label: 'memory', token: 'series-2', dash: [5, 3] },
            ],
            from,
            to,
            stamp,
            max: 100,
            fmt: percent,
            height: 116,
            label: 'CPU and memory of all nodes in per cent',
          }),
        ),
      ),
    ),
    troubleCard(found),
  );
}

/* ------------------------------------------------------------ the page */
export function draw() {
  const m = meta(),
    nodes = list('nodes'),
    t = now();
  if (!nodes.length && !m.submitted) return [h('h1.vh', null, 'Cluster'), noNodes()];
  const past = history(m, t);
  return [
    h('h1.vh', null, 'Cluster'),
    sum(m, list('samples'), past, t, range()[1]),
    charts(m, past, troubles()),
    nodesCard(nodes, m, t),
  ];
}

/* Log: what tasks print and log, live; searched with the lines around each hit; only what is seen is drawn. */

import { h, icon } from './dom.js';
import { get, go, goTo, link } from './route.js';
import { btn, choice, functionLink, head, nodeName, searchField, serverLink, serverName } from './parts.js';
import { nodeOptions } from './page_tasks.js';
import { download } from './overlays.js';
import { emptyPage } from './empty.js';
import { redraw } from './loop.js';
import { list, meta, now, table as told } from './stream.js';
import { clock, N, plural, when } from './text.js';

export const tables = ['meta', 'nodes', 'log'];
const RANK = { debug: 0, print: 1, info: 1, warning: 2, error: 3, critical: 3 },
  LEVELS = [
    ['debug', 'Debug'],
    ['', 'Info'],
    ['warning', 'Warning'],
    ['error', 'Error'],
  ];
const AROUND = [
    ['0', 'Hits only'],
    ['5', '5 lines around'],
    ['20', '20 lines around'],
  ],
  LINE = 19.2,
  SPARE = 20;

/* ------------------------------------------------------------ which lines */
const where = l => (l.server ? serverName(l.server, l.node) : l.node ? nodeName(l.node) : (l.from ?? ''));
const textOf = l => `${clock(l.t, true)} ${l.level.padEnd(7)} ${where(l)} ${l.function || l.logger || ''} ${l.text}`;

function kept(lines) {
  const least = RANK[get('level')] ?? 1,
    logger = get('logger'),
    node = get('node'),
    server = get('server');
  return lines.filter(
    l =>
      (RANK[l.level] ?? 1) >= least &&
      (!logger || l.logger === logger) &&
      (!node || l.node === node) &&
      (!server || l.server === server),
  );
}

/* Hits with `around` lines on each side; numbers stand for how many lines are left out between. */
function aroundHits(lines, q, around) {
  const hits = lines.map(l => `${l.text} ${where(l)} ${l.function ?? ''} ${l.logger ?? ''}`.toLowerCase().includes(q)),
    near = new Uint8Array(lines.length);
  let n = 0;
  hits.forEach((hit, i) => {
    if (hit) {
      n += 1;
      near.fill(1, Math.max(0, i - around), i + around + 1);
    }
  });
  const shown = [];
  let gap = 0;
  lines.forEach((l, i) => {
    if (near[i]) {
      if (gap) shown.push({ gap, n: 'g' + l.n });
      gap = 0;
      shown.push(hits[i] ? { ...l, hit: true } : l);
    } else gap += 1;
  });
  if (gap) shown.push({ gap, n: 'gend' });
  return [shown, n];
}

/* ------------------------------------------------------------ the window */
const box = { el: null, cols: 120, stuck: true, top: 0, narrow: false, touched: 0 };

function measure() {
  const probe = document.createElement('span');
  probe.textContent = '0'.repeat(100);
  box.el.append(probe);
  const wide = probe.getBoundingClientRect().width / 100;
  probe.remove();
  box.narrow = innerWidth < 860;
  const rest = box.narrow ? 30 : 35 + 92 + 52 + 132 + 128 + 40;
  box.cols = Math.max(20, Math.floor((box.el.clientWidth - rest) / wide));
}

const sized = new ResizeObserver(() => {
  if (box.el) {
    measure();
    redraw();
  }
});
const life = {
  make(el) {
    box.el = el;
    box.stuck = true;
    sized.observe(el);
    requestAnimationFrame(() => {
      if (box.el) {
        measure();
        redraw();
      }
    });
    return box;
  },
  change() {
    if (box.stuck) requestAnimationFrame(toEnd);
  },
  drop() {
    sized.disconnect();
    box.el = null;
  },
};
const toEnd = () => {
  if (box.el && box.stuck) box.el.scrollTop = box.el.scrollHeight;
};

const touch = () => {
  box.touched = performance.now();
};

function scrolled() {
  const el = box.el,
    wasStuck = box.stuck;
  if (!el) return;
  if (box.stuck && performance.now() - box.touched > 1000) {
    toEnd();
    return;
  } // lines came: nobody scrolled
  box.stuck = el.scrollTop + el.clientHeight >= el.scrollHeight - LINE * 2;
  if (box.stuck !== wasStuck || Math.abs(el.scrollTop - box.top) > (SPARE / 2) * LINE) redraw();
}

/* A text of fixed width breaks where we can foretell, so that lines far away need not be drawn to know their height. */
function heightOf(l) {
  if (l.gap) return LINE * 2;
  let n = 0;
  for (const part of l.text.split('\n')) n += Math.max(1, Math.ceil(part.length / box.cols));
  return (n + (box.narrow ? 1 : 0)) * LINE + (box.narrow ? 6 : 0);
}

function windowOf(shown) {
  const tops = new Float64Array(shown.length + 1);
  shown.forEach((l, i) => {
    tops[i + 1] = tops[i] + heightOf(l);
  });
  const high = box.el?.clientHeight || innerHeight,
    all = tops[shown.length];
  const top = box.stuck || !box.el ? Math.max(0, all - high) : box.el.scrollTop;
  box.top = top;
  let first = tops.findIndex(y => y > top) - 1 - SPARE,
    last = tops.findIndex(y => y > top + high);
  first = Math.max(0, first);
  last = last < 0 ? shown.length : Math.min(shown.length, last + SPARE);
  return { first, last, above: tops[first], below: all - tops[last] };
}

/* ------------------------------------------------------------ drawing */
function marked(text, q) {
  if (!q) return text;
  const out = [],
    low = text.toLowerCase();
  let from = 0,
    i;
  while ((i = low.indexOf(q, from)) >= 0 && out.length < 200) {
    out.push(text.slice(from, i), h('mark', null, text.slice(i, i + q.length)));
    from = i + q.length;
  }
  return [...out, text.slice(from)];
}

const line = (l, q) =>
  l.gap
    ? h('div.gapline', { key: l.n }, `${plural(l.gap, 'line')} between`)
    : h(
        'div' + (l.hit ? '.hit' : ''),
        { key: l.n, 'data-l': l.level === 'critical' ? 'error' : l.level },
        h('span.ts', null, clock(l.t, true)),
        h('span.lv', null, l.level),
        h('span.src', null, l.server ? serverLink(l.server, l.node) : where(l)),
        h('span.src', { title: l.logger }, l.function ? functionLink(l.function) : l.logger),
        h('span', null, marked(l.text, l.hit ? q : '')),
      );

const level = (value, text) =>
  h('a', { key: text, href: link({ level: value || null }), 'aria-current': get('level') === value ? 'true' : null }, text);

function lines(shown, q) {
  const w = windowOf(shown);
  return h(
    'div.log',
    {
      key: 'log',
      tabindex: '0',
      role: 'log',
      'aria-live': 'off',
      'aria-label': 'Log lines',
      life,
      onscroll: scrolled,
      onwheel: touch,
      ontouchmove: touch,
      onkeydown: touch,
      onpointerdown: touch,
    },
    h('div.pad', { key: 'above', '--h': w.above + 'px' }),
    shown.slice(w.first, w.last).map(l => line(l, q)),
    h('div.pad', { key: 'below', '--h': w.below + 'px' }),
  );
}

function keptWords(all) {
  const t = told('log'),
    oldest = all[0];
  return t.total > all.length
    ? h(
        'span',
        null,
        h('b', null, N(all.length)),
        ' of ',
        h('b', null, N(t.total)),
        ` lines are kept; older ones dropped at ${when(oldest.t, now())}.`,
      )
    : h('span', null, `All ${plural(all.length, 'line')} since ${when(meta().since, now())}.`);
}

export function draw() {
  const all = list('log'),
    q = get('q').toLowerCase();
  if (!all.length && !told('log').total) return [emptyPage('log')];
  const those = kept(all),
    around = get('around') === '' ? 1 : Number(get('around'));
  const [shown, hits] = q ? aroundHits(those, q, around) : [those, 0];
  const loggers = [...new Set(all.map(l => l.logger).filter(Boolean))].sort().map(l => [l, l]);
  const pick = (name, label, options) => choice(name, label, options, get(name), changes => goTo(link(changes)));
  const some = ['q', 'level', 'logger', 'node', 'server'].some(get);
  const follow = btn(box.stuck ? 'Following' : 'Follow', {
    pressed: String(box.stuck),
    title: 'Stay at the newest line',
    on: () => {
      touch();
      box.stuck = !box.stuck;
      toEnd();
      redraw();
    },
  });
  const save = btn(
    'Download',
    {
      title: 'The lines that are shown, as text',
      on: () =>
        download(
          'log.txt',
          shown
            .filter(l => !l.gap)
            .map(textOf)
            .join('\n') + '\n',
        ),
    },
    icon('i-down', 14),
  );
  return [
    h(
      'div',
      { key: 'head' },
      head(
        'Log',
        `output of all tasks, ${N(those.length)}${those.length < all.length ? ` of ${N(all.length)}` : ''} lines`,
        follow,
        save,
      ),
    ),
    h(
      'div.filters',
      { key: 'filters', role: 'search' },
      searchField(
        'Search the log',
        get('q'),
        value => go({ q: value }),
        q ? h('span.sub.nowrap', null, plural(hits, 'hit')) : null,
      ),
      h(
        'nav.seg',
        { 'aria-label': 'Lowest level' },
        LEVELS.map(([value, text]) => level(value, text)),
      ),
      pick('logger', 'All loggers', loggers),
      pick('node', 'All nodes', nodeOptions()),
      q && pick('around', '1 line around', AROUND),
      get('server') && h('span.tag.me.big', { key: 'server' }, 'server ', serverLink(get('server'))),
      some && h('a.btn.ghost', { key: 'clear', href: '#/log' }, 'Clear'),
    ),
    h(
      'section.card',
      { key: 'card' },
      shown.length ? lines(shown, q) : h('p.none', { key: 'none' }, 'No line matches. ', h('a', { href: '#/log' }, 'Show all')),
      h('footer', null, icon('queued'), keptWords(all)),
    ),
  ];
}

/* The frame: which page is open, the bar above it, keys, theme; it draws whenever something was told. */

import { h, icon, patch } from './dom.js';
import { onMove, goTo, where } from './route.js';
import { drawWith, redraw, redrawOld } from './loop.js';
import { goneText, known, line, meta, now, onData, read } from './stream.js';
import { begin, session } from './session.js';
import { repaint } from './canvas.js';
import { closeDrawer, closePopover, drawOverlays, help, hideTip, isDialogOpen, toast } from './overlays.js';
import { optionsPopover } from './options.js';
import { nodeName, serverName } from './parts.js';
import { loading } from './empty.js';
import { capital, clock, N } from './text.js';
import * as cluster from './page_cluster.js';
import * as node from './page_node.js';
import * as server from './page_server.js';
import * as tasks from './page_tasks.js';
import * as actors from './page_actors.js';
import * as messages from './page_messages.js';
import * as log from './page_log.js';
import * as clients from './page_clients.js';

const $ = id => document.getElementById(id);
const PAGES = { cluster, node, server, tasks, actors, messages, log, clients };
const NAV = ['cluster', 'tasks', 'actors', 'messages', 'log', 'clients'];
const pageName = () => (PAGES[where().page] ? where().page : 'cluster');

/* ------------------------------------------------------------ the bar */
function drawBar(name, m) {
  const current = name === 'node' || name === 'server' ? 'cluster' : name,
    bad = m ? m.failed + m.lost : 0;
  patch(
    document.querySelector('.tabs'),
    NAV.map(k =>
      h(
        'a',
        { key: k, href: '#/' + k, 'aria-current': k === current ? 'page' : null },
        icon('i-' + k, 16),
        h('span', null, capital(k)),
        k === 'tasks' && bad > 0 && h('span.n.hp', { 'aria-label': `${bad} failed` }, bad > 9999 ? '9,999+' : N(bad)),
      ),
    ),
  );
  patch(
    $('cluster'),
    m ? m.name : '',
    m?.insecure &&
      h(
        'span.chip.left',
        { 'data-s': 'queued', title: 'The cluster was started with --insecure: anybody in this network may use it.' },
        'insecure',
      ),
  );
  const on = line.state !== 'live' || goneText() ? 'gone' : 'live';
  $('live').dataset.on = on;
  patch(
    $('live').querySelector('span'),
    m?.kind === 'replay'
      ? 'recording'
      : on === 'gone'
        ? m
          ? 'last state'
          : line.state === 'connecting'
            ? 'connecting'
            : 'no line'
        : `live · ${m.poll_sec} s`,
  );
}

/* Why the page stands still, or null. */
function trouble(m) {
  if (line.state === 'refused') return [line.refused.error + ' ', line.refused.remedy];
  const back = meta()?.kind === 'client' ? '.' : '; the page goes on by itself when it is back.';
  if (goneText()) return [goneText() + ' ', 'This is the last state' + back];
  if (line.state === 'broken')
    return m
      ? [
          `No word from the monitor since ${clock(line.since ?? now())}. `,
          'This is the last state; the page goes on by itself when it is back.',
        ]
      : ['The monitor does not answer. ', 'This page tries again every few seconds.'];
  return null;
}

function drawBanner(m) {
  const words = trouble(m),
    el = $('banner');
  el.hidden = !words;
  document.body.classList.toggle('gone', Boolean(words && m));
  if (words) patch(el, icon('lost', 12), h('div', null, h('b', null, words[0]), h('span', null, words[1])));
}

/* ------------------------------------------------------------ drawing */
const refusedPage = words => h('div.empty', { key: 'refused' }, h('h1', null, words.error), h('p', null, words.remedy));

/* A row that nobody foresaw must not leave an old page that looks alive. */
function content(page) {
  try {
    return page.draw(where().arg);
  } catch (error) {
    console.error(error);
    return h(
      'div.empty',
      { key: 'failed' },
      h('h1', null, 'This page cannot show what it was told'),
      h('p', null, `${error.message}. The other pages go on; please report this with the browser’s console.`),
    );
  }
}

function draw() {
  const name = pageName(),
    page = PAGES[name],
    m = meta(),
    ready = m && page.tables.every(known);
  drawBar(name, m);
  drawBanner(m);
  const notes = m?.notes?.length ? h('p.notes', { key: 'notes' }, m.notes.join(' · ')) : null;
  patch(
    $('main'),
    session.refused
      ? refusedPage(session.refused)
      : ready
        ? [content(page), notes]
        : line.state === 'refused'
          ? refusedPage(line.refused)
          : loading(),
  );
  drawOverlays();
  const who = name === 'node' ? nodeName(where().arg) : name === 'server' ? serverName(where().arg) : capital(name);
  document.title = `${who} · dispycos`;
}

let open = '';
const scrolls = new Map(); // where the reader was, by address

function moved(other) {
  hideTip();
  if (other) {
    closePopover();
    closeDrawer();
  }
  const w = where(),
    at = w.page + '/' + w.arg;
  read(PAGES[pageName()].tables);
  if (other && at !== open) {
    const to = came === 'link' ? 0 : scrolls.get(location.hash) || 0;
    patch($('main')); // another page is not the old one with other words
    draw();
    scrollTo(0, to);
    $('main').focus({ preventScroll: true });
  }
  open = at;
  came = '';
  redraw();
}

let came = ''; // 'link' when the reader clicked, '' for back and forward
addEventListener(
  'click',
  e => {
    if (e.target.closest?.('a[href^="#"]')) {
      scrolls.set(location.hash, scrollY);
      came = 'link';
    }
  },
  true,
);
history.scrollRestoration = 'manual';

/* ------------------------------------------------------------ theme and keys */
const THEMES = ['system', 'light', 'dark'],
  root = document.documentElement;

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(root.dataset.theme || 'system') + 1) % 3];
  if (theme === 'system') delete root.dataset.theme;
  else root.dataset.theme = theme;
  try {
    localStorage.theme = theme;
  } catch {
    /* a private window keeps nothing */
  }
  $('theme').title = `Theme: ${theme} (t)`;
  repaint();
  toast(`Theme: ${theme}`);
}

const GO = {
  c: 'cluster',
  t: 'tasks',
  f: 'tasks?view=failures',
  w: 'tasks?view=waiting',
  a: 'actors',
  m: 'messages',
  l: 'log',
  u: 'clients',
};
let went = 0;

addEventListener('keydown', e => {
  if (e.key === 'Escape') return closeDrawer();
  if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) || isDialogOpen()) return;
  if (Date.now() - went < 1200) {
    went = 0;
    if (GO[e.key]) {
      came = 'link';
      goTo('#/' + GO[e.key]);
      e.preventDefault();
    }
  } else if (e.key === 'g') went = Date.now();
  else if (e.key === '/') {
    const f = $('filter');
    if (f) {
      f.focus();
      f.select();
      e.preventDefault();
    }
  } else if (e.key === '?') help();
  else if (e.key === 't') nextTheme();
});

$('theme').onclick = nextTheme;
$('helpb').onclick = help;
$('live').onclick = e => optionsPopover(e.currentTarget);
document.querySelector('.skip').onclick = e => {
  e.preventDefault();
  $('main').focus();
};
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);

let themed;
addEventListener('beforeprint', () => {
  themed = root.dataset.theme;
  root.dataset.theme = 'light';
  repaint();
}); // paper is white
addEventListener('afterprint', () => {
  if (themed) root.dataset.theme = themed;
  else delete root.dataset.theme;
  repaint();
});

/* ------------------------------------------------------------ start */
drawWith(draw);
onMove(moved);
onData(() => {
  if (session.refused && line.state === 'live')
    begin()
      .catch(() => {})
      .then(redraw);
  redraw();
});
setInterval(() => {
  if (line.state === 'live' && !goneText()) redrawOld();
}, 1000); // ages grow although nothing was told
begin()
  .catch(() => {
    /* nobody there yet: the stream says so and tries again */
  })
  .finally(redraw);
moved(false);

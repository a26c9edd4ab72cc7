/* What lies over the page: the drawer, dialogs, popovers, the tip and the toast. */

import { h, icon, patch } from './dom.js';
import { btn } from './parts.js';
import { redraw } from './loop.js';

const $ = id => document.getElementById(id);

/* ------------------------------------------------------------ toast and tip */
let fading = 0;
export function toast(text) {
  const el = $('toast');
  el.textContent = text;
  el.hidden = false;
  clearTimeout(fading);
  fading = setTimeout(
    () => {
      el.hidden = true;
    },
    Math.max(2600, text.length * 60),
  );
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast('Copied');
  } catch {
    toast('The browser lets nobody copy on a page without TLS; select the text instead.');
  }
}

/* A file made here, for the reader to keep. */
export function download(name, text, kind = 'text/plain') {
  const a = document.createElement('a');
  a.href = URL.createObjectURL(new Blob([text], { type: kind }));
  a.download = name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 1000);
}

export function showTip(x, y, ...kids) {
  const tip = $('tip');
  patch(tip, ...kids);
  tip.hidden = false;
  tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - tip.offsetWidth - 8)) + 'px';
  tip.style.top = (y + 16 + tip.offsetHeight > innerHeight ? y - tip.offsetHeight - 10 : y + 16) + 'px';
}
export const hideTip = () => {
  $('tip').hidden = true;
};

/* ------------------------------------------------------------ the drawer */
let drawn = null,
  opener = null; // view() gives {title, sub, body, foot}

export function openDrawer(view) {
  if (!drawn) opener = document.activeElement;
  drawn = view;
  drawOverlays();
  $('drawer').hidden = false;
  $('drawer').querySelector('header button').focus();
}

export function closeDrawer() {
  if (!drawn) return;
  drawn.end?.();
  drawn = null;
  $('drawer').hidden = true;
  if (opener?.isConnected) opener.focus();
}

/* ------------------------------------------------------------ popovers */
let popped = null,
  closedAt = 0,
  closedOf = null;
$('pop').addEventListener('toggle', e => {
  if (e.newState !== 'closed') return;
  closedAt = Date.now();
  closedOf = popped?.at;
  popped = null;
});

/* view() gives the children; a second click on the same place closes. */
export function popover(at, view) {
  if (closedOf === at && Date.now() - closedAt < 250) return;
  const pop = $('pop');
  popped = { at, view };
  patch(pop, view());
  pop.showPopover();
  const r = at.getBoundingClientRect(),
    b = pop.getBoundingClientRect();
  pop.style.left = Math.max(12, Math.min(r.right - b.width, innerWidth - b.width - 12)) + 'px';
  pop.style.top = (r.bottom + 8 + b.height > innerHeight - 8 ? Math.max(8, r.top - b.height - 8) : r.bottom + 8) + 'px';
  (pop.querySelector('select, input, a') || pop).focus({ preventScroll: true });
}
export const closePopover = () => {
  if (popped) $('pop').hidePopover();
};

export function drawOverlays() {
  if (popped) patch($('pop'), popped.view());
  if (!drawn) return;
  const { title, sub, body, foot } = drawn();
  patch(
    $('drawer'),
    h(
      'header',
      null,
      h('div.grow', null, h('h2', { id: 'drawer-t' }, title), h('p.sub', null, sub)),
      btn('', { c: '.ghost.icon.sm', on: closeDrawer, label: 'Close' }, icon('i-close', 16)),
    ),
    h('div.body', null, body),
    foot && h('footer', null, foot),
  );
}

/* ------------------------------------------------------------ dialogs */
const show = (...kids) => {
  patch($('dlg'), ...kids);
  $('dlg').showModal();
};
export const isDialogOpen = () => $('dlg').open;

/* Before something irreversible: the safe button has the focus, the other one names the number. */
export function confirm({ title, text, list, keep = 'Keep running', verb, run }) {
  const d = $('dlg');
  show(
    h('header', { id: 'dlg-t' }, title),
    h('div.body', null, h('p', null, text), list && h('div.list', null, list)),
    h(
      'footer',
      null,
      btn(keep, { on: () => d.close() }),
      btn(verb, {
        c: '.danger.main',
        on: () => {
          d.close();
          run();
        },
      }),
    ),
  );
  d.querySelector('footer .btn').focus();
}

/* Words that must not fade by themselves. */
export function say(title, text, list) {
  const d = $('dlg');
  show(
    h('header', { id: 'dlg-t' }, title),
    h('div.body', null, h('p', null, text), list && h('div.list', null, list)),
    h('footer', null, btn('Close', { on: () => d.close() })),
  );
  d.querySelector('footer .btn').focus();
}

const KEYS = [
  ['/', 'filter'],
  ['g c', 'Cluster'],
  ['g t', 'Tasks'],
  ['g f', 'Failures'],
  ['g w', 'Waiting'],
  ['g a', 'Actors'],
  ['g m', 'Messages'],
  ['g l', 'Log'],
  ['g u', 'Clients (usage)'],
  ['t', 'light, dark, system'],
  ['Esc', 'close'],
  ['?', 'this help'],
  ['← →', 'move the timeline'],
  ['+ - 0', 'zoom it, reset'],
];

export function help() {
  const d = $('dlg');
  show(
    h('header', { id: 'dlg-t' }, 'Keyboard'),
    h(
      'div.body',
      null,
      h(
        'div.keys',
        null,
        KEYS.map(([keys, what]) =>
          h(
            'div',
            { key: keys },
            h('span', null, what),
            h(
              'span',
              null,
              keys.split(' ').map(k => h('kbd', null, k)),
            ),
          ),
        ),
      ),
    ),
    h(
      'footer',
      null,
      h('span.sub.grow', null, 'In a terminal: ', h('code', null, 'dispycos top')),
      btn('Close', { on: () => d.close() }),
    ),
  );
  d.querySelector('footer .btn').focus();
}

addEventListener('resize', () => {
  closePopover();
  redraw();
});

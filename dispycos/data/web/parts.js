/* The small parts of which pages are made: chips, links to each name, buttons, cards. */

import { h, icon } from './dom.js';
import { link } from './route.js';
import { meta, rows } from './stream.js';
import { barred } from './session.js';

/* The normal state is quiet: no tint. */
const CALM = new Set(['done', 'running', 'idle']);
export const chip = (state, text) =>
  h('span.chip' + (CALM.has(state) ? '.calm' : ''), { 'data-s': state }, icon(state), text || state);

const NODE_STATES = {
  running: ['done', 'ready'],
  idle: ['idle', 'idle'],
  suspended: ['suspended', 'suspended'],
  lost: ['lost', 'lost'],
  starting: ['queued', 'starting'],
  closed: ['ended', 'given back'],
  resting: ['suspended', 'resting'],
};
const SERVER_STATES = { ...NODE_STATES, running: ['running', 'running'], ended: ['ended', 'ended'] };
export const glyph = state => (NODE_STATES[state] || ['idle'])[0];

function stateChip(states, row, text) {
  const [glyph, word] = states[row.state] || ['idle', row.state];
  const left = row.state === 'closed' && row.text === 'it has left' && 'left';
  const c = chip(glyph, text || left || word);
  if (row.text) c.props.title = row.text;
  return c;
}
export const nodeChip = (row, text) => stateChip(NODE_STATES, row, text);
export const serverChip = row => stateChip(SERVER_STATES, row);

/* ------------------------------------------------------------ names are links */
const path = (page, id) => '#/' + page + '/' + encodeURIComponent(id).replaceAll('%3A', ':');
const cut = (id, at) => {
  const i = String(id).lastIndexOf(':');
  return i < 0 ? [String(id), ''] : [id.slice(0, i), id.slice(i + 1)][at];
};

export const nodeName = id => rows('nodes').get(id)?.name || cut(id, 0);
export const nodePath = id => path('node', id);
const serverPath = id => path('server', id);
export const nodeLink = (id, text) => h('a', { href: nodePath(id) }, text || nodeName(id));

/* oak:51391: the name of the machine says more than its address. */
export function serverName(id, node) {
  const home = node || rows('servers').get(id)?.node;
  return home ? `${nodeName(home)}:${cut(id, 1)}` : String(id);
}
export const serverLink = (id, node, text) => h('a', { href: serverPath(id) }, text || serverName(id, node));
export const functionLink = name => h('a.fn', { href: link({ function: name }, 'tasks') }, name);

/* #1190442; with the client before it where several clients are seen. */
export const taskName = id => '#' + (meta()?.kind === 'client' ? String(id).split('.').pop() : id);
export const taskLink = id => h('a', { href: link({ q: '#' + id }, 'tasks'), title: id }, taskName(id));
export const clientLink = (id, text) => h('a', { href: link({ q: text || id }, 'clients') }, text || clientName(id));
const clientName = id => rows('clients').get(id)?.name || (meta()?.kind === 'client' ? meta().name : String(id));

/* Whatever has an id at the end of a link: node, server or client. */
export function anyLink(id) {
  if (rows('nodes').has(id)) return nodeLink(id);
  if (rows('servers').has(id) || /:\d+(~\w+)?$/.test(id)) return serverLink(id);
  return rows('clients').has(id) ? clientLink(id) : h('span', null, id);
}

/* ------------------------------------------------------------ controls */
export const btn = (text, o = {}, ...kids) =>
  h(
    'button.btn' + (o.c || ''),
    {
      type: 'button',
      onclick: o.on,
      title: o.title,
      'aria-label': o.label,
      disabled: Boolean(o.off),
      'aria-pressed': o.pressed,
      key: o.key,
      id: o.id,
    },
    ...kids,
    text,
  );

/* A button that changes the cluster: it says why it cannot, when it cannot. */
export function deed(text, o = {}, ...kids) {
  const why = barred() || o.why;
  return btn(text, { ...o, off: Boolean(why) || o.off, title: why || o.title }, ...kids);
}

/* A choice in the address: '' is the first one, and no choice. */
export function choice(name, label, options, current, on) {
  const all = current && !options.some(o => o[0] === current) ? [...options, [current, current]] : options; // of the address, and not seen yet
  return h(
    'select' + (current ? '.set' : ''),
    { 'aria-label': label, onchange: e => on({ [name]: e.target.value }), value: current },
    h('option', { value: '' }, label),
    all.map(([value, text]) => h('option', { value, key: value }, text)),
  );
}

export const card = (title, acts, ...kids) =>
  h('section.card', null, h('header', null, h('h2', null, title), acts && h('div.acts', null, acts)), ...kids);
export const head = (title, sub, ...acts) =>
  h('div.head', null, h('h1', null, title), sub && h('span.sub', null, sub), acts.length ? h('div.acts', null, acts) : null);
export const crumbs = (...parts) =>
  h(
    'nav.crumbs',
    { 'aria-label': 'Path' },
    parts.flatMap((x, i) => (i ? [icon('chev', 8), x] : [x])),
  );
export const kv = facts =>
  h(
    'dl.kv',
    null,
    Object.entries(facts)
      .filter(([, v]) => v != null)
      .map(([k, v]) => h('div', { key: k }, h('dt', null, k), h('dd', null, v))),
  );
export const meter = (used, hot = 0.82) =>
  h('span.meter' + (used > hot ? '.hot' : ''), null, h('i', { '--v': Math.min(1, Math.max(0, used)).toFixed(3) }));
export const dim = (text = '–', title) => h('span.dim', { title }, text);
export const searchField = (label, value, on, more) =>
  h(
    'label.field',
    { key: 'search' },
    icon('i-search', 14),
    h('input', { id: 'filter', type: 'search', placeholder: label, 'aria-label': label, value, oninput: e => on(e.target.value) }),
    more || h('kbd.hp', null, '/'),
  );

/* Names in a row, the first few: "ash, elm and 5 more". */
export function few(ids, one, limit = 2) {
  const shown = ids.slice(0, limit).flatMap((id, i) => [i ? ', ' : '', one(id)]);
  return ids.length > limit ? [...shown, ` and ${ids.length - limit} more`] : shown;
}

/* Text that a program in a terminal would take. */
export const command = (text, copied) =>
  h('div.cmd', null, h('code', null, text), btn('Copy', { c: '.sm.ghost', on: () => copied(text) }));

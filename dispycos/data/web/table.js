/* Tables: rows keyed and patched, sorted by the address, columns that can go, only what is seen is drawn. */

import { h, icon } from './dom.js';
import { get, go, where } from './route.js';
import { redraw } from './loop.js';
import { plural } from './text.js';

const WINDOW_FROM = 200,
  SPARE = 12,
  ROW_PX = 34,
  CARDS = 50;
export const narrow = () => innerWidth < 860;

const states = new Map(); // table id -> what is remembered between two drawings
const stateOf = id => {
  let s = states.get(id);
  if (!s)
    states.set(
      id,
      (s = { id, el: null, order: [], choice: '', source: null, result: null, cards: CARDS, first: 0, last: 0, columns: [] }),
    );
  return s;
};

const life = {
  make(el, s) {
    s.el = el;
    return s;
  },
  change() {},
  drop(s) {
    s.el = null;
    s.order = [];
    s.source = null;
    s.cards = CARDS;
  },
};

/* ------------------------------------------------------------ columns and order */
export const columnsOf = id => stateOf(id).columns;
export const hiddenColumns = id =>
  get('hide.' + id)
    .split(',')
    .filter(Boolean);

export function hideColumn(id, key, hide) {
  const off = new Set(hiddenColumns(id));
  hide ? off.add(key) : off.delete(key);
  go({ ['hide.' + id]: [...off].join(',') });
}

/* ['addr', true]: the column, and whether the greatest comes first. */
function sorting(id, usual) {
  const choice = get('sort.' + id) || usual || '';
  return [choice.replace(/^-/, ''), choice[0] === '-'];
}

/* Unknown values come last, whatever the direction. */
export function sorted(rows, value, down) {
  const pairs = rows.map(row => [value(row), row]),
    sign = down ? -1 : 1;
  pairs.sort(([x], [y]) => (x == null) - (y == null) || (x < y ? -sign : x > y ? sign : 0));
  return pairs.map(pair => pair[1]);
}

function nextSort(column, key, down) {
  if (column.k !== key) return (column.num ? '-' : '') + column.k;
  return down ? column.k : '-' + column.k;
}

/* ------------------------------------------------------------ holding still */
let byMouse = false; // a finger leaves :hover where it was
addEventListener(
  'pointermove',
  e => {
    byMouse = e.pointerType === 'mouse';
  },
  { passive: true },
);

/* While somebody points at rows, has the focus there, marks text or reads further down, no row jumps. */
function isHeld(s, stream) {
  const body = s.el?.querySelector('tbody');
  if (!body) return false;
  if (byMouse && body.matches(':hover')) return true;
  if (body.contains(document.activeElement) && document.activeElement.matches(':focus-visible')) return true;
  const marked = getSelection();
  if (!marked.isCollapsed && body.contains(marked.anchorNode)) return true;
  return stream && s.el.getBoundingClientRect().top < -ROW_PX * 2;
}

/* The rows in the order they had, without those that went; and how many are not among them yet. */
function heldOrder(s, rows, key) {
  const there = new Map(rows.map(row => [key(row), row])),
    kept = [];
  for (const k of s.order) if (there.has(k)) kept.push(there.get(k));
  return [kept, there.size - kept.length];
}

function ordered(s, rows, columns, o) {
  const [key, down] = sorting(s.id, o.sort),
    column = columns.find(c => c.k === key);
  const w = where(),
    choice = w.page + w.arg + '?' + w.q;
  if (s.source === rows && s.choice === choice) return s.result; // drawn again, by scrolling: nothing has moved
  s.source = rows;
  let late = 0;
  if (s.choice === choice && s.order.length && isHeld(s, o.stream)) [rows, late] = heldOrder(s, rows, o.key);
  else if (column) rows = sorted(rows, column.v, down);
  s.choice = choice;
  s.order = rows.map(o.key);
  return (s.result = [rows, late]);
}

/* ------------------------------------------------------------ the window */
function visible(s, n) {
  if (n <= WINDOW_FROM) return [0, n];
  const box = s.el?.querySelector('tbody')?.getBoundingClientRect();
  const above = box ? Math.floor(-box.top / ROW_PX) : 0;
  const first = Math.max(0, Math.min(above - SPARE, n - 1)),
    fits = Math.ceil(innerHeight / ROW_PX);
  return [first & ~1, Math.min(n, Math.max(first, 0) + fits + 2 * SPARE)];
}

addEventListener(
  'scroll',
  () => {
    for (const s of states.values()) {
      if (!s.el) continue;
      const box = s.el.getBoundingClientRect();
      if (narrow()) {
        if (s.cards < s.order.length && box.bottom < innerHeight + 1500) {
          s.cards += CARDS;
          redraw();
        }
      } else if (s.order.length > WINDOW_FROM) {
        const [first, last] = visible(s, s.order.length);
        if (Math.abs(first - s.first) >= SPARE / 2 || Math.abs(last - s.last) >= SPARE / 2) redraw();
      }
    }
  },
  { passive: true },
);

const spacer = (key, rows, columns) =>
  rows > 0 && h('tr.space', { key, 'aria-hidden': 'true', '--h': rows * ROW_PX + 'px' }, h('td', { colspan: columns }));

/* ------------------------------------------------------------ the parts */
function header(id, columns, key, down) {
  return h(
    'thead',
    null,
    h(
      'tr',
      null,
      columns.map(c =>
        h(
          'th' + (c.num ? '.num' : '') + (c.c || ''),
          {
            key: c.k,
            scope: 'col',
            '--w': c.w && c.w + 'rem',
            'aria-sort': c.k === key && c.v ? (down ? 'descending' : 'ascending') : null,
          },
          c.v
            ? h(
                'button',
                { type: 'button', title: c.about, onclick: () => go({ ['sort.' + id]: nextSort(c, key, down) }) },
                c.t,
                icon('tri', 8),
              )
            : c.head || (c.k === 'acts' ? h('span.vh', null, c.t) : c.t),
        ),
      ),
    ),
  );
}

/* Cards have no header to click on. */
function phoneSort(id, columns, key, down) {
  const can = columns.filter(c => c.v);
  return h(
    'div.phonesort',
    null,
    h(
      'select',
      { 'aria-label': 'Sort by', value: key, onchange: e => go({ ['sort.' + id]: (down ? '-' : '') + e.target.value }) },
      can.map(c => h('option', { value: c.k, key: c.k }, c.t)),
    ),
    h(
      'button.btn.sm',
      { type: 'button', onclick: () => go({ ['sort.' + id]: (down ? '' : '-') + key }) },
      down ? 'greatest first' : 'least first',
    ),
  );
}

const cell = (c, row) => {
  const shown = c.f ? c.f(row) : c.v(row);
  return h('td' + (c.num ? '.num' : '') + (c.c || ''), { key: c.k, 'data-label': c.t, title: c.title?.(row) }, shown);
};

/* A table of `rows`. Columns: k (name), t (heading), v (value to sort by), f (what is shown), num, c (classes), w (width in rem).
   Options: key, sort (usual order), stream (rows come at the top: who reads on is not disturbed), mark (classes of a row). */
export function table(id, columns, rows, o) {
  const s = stateOf(id),
    off = hiddenColumns(id);
  s.columns = columns;
  const shown = columns.filter(c => !off.includes(c.k)),
    [key, down] = sorting(id, o.sort);
  const [all, late] = ordered(s, rows, columns, o);
  let first = 0,
    last = all.length;
  if (narrow()) last = Math.min(last, s.cards);
  else [first, last] = visible(s, all.length);
  s.first = first;
  s.last = last;
  const mid = innerWidth < 1280,
    width = shown.reduce((sum, c) => sum + (mid && c.c?.includes('p3') ? 0 : c.w || 8), 0) * (mid ? 0.92 : 1);
  return [
    h(
      'div.tw',
      { life, arg: s, key: 't.' + id },
      phoneSort(id, shown, key, down),
      h(
        'table',
        { '--min': width + 'rem', 'aria-rowcount': all.length + 1 },
        header(id, shown, key, down),
        h(
          'tbody',
          null,
          spacer('above', first, shown.length),
          all.slice(first, last).map((row, i) =>
            h(
              'tr' + (o.mark?.(row) || ''),
              { key: o.key(row), 'aria-rowindex': first + i + 2 },
              shown.map(c => cell(c, row)),
            ),
          ),
          spacer('below', narrow() ? 0 : all.length - last, shown.length),
        ),
      ),
      narrow() &&
        last < all.length &&
        h('p.none', { key: 'more' }, `${last} of ${plural(all.length, 'row')}; the rest follows as you scroll`),
    ),
    late > 0 &&
      h('button.late', { key: 'late.' + id, type: 'button', onclick: () => release(s) }, `${plural(late, 'newer row')} · show`),
  ];
}

/* The order is made anew, from the top. */
function release(s) {
  s.choice = '';
  document.activeElement?.blur();
  getSelection().removeAllRanges();
  if (s.el.getBoundingClientRect().top < 0) scrollTo({ top: scrollY + s.el.getBoundingClientRect().top - 120 });
  redraw();
}

/* Rows as comma-separated values, by the columns that have a value. */
export function csv(columns, rows) {
  const quote = v => {
    const told = v == null ? '' : String(v);
    const text = typeof v === 'string' && /^[=+@-]/.test(told) ? `'${told}` : told; // no formula for whoever opens it in a spreadsheet
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = [columns.map(c => quote(c[0])), ...rows.map(row => columns.map(c => quote(c[1](row))))];
  return lines.map(line => line.join(',')).join('\n') + '\n';
}

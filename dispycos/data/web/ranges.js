/* How far back curves go: a choice in the address. */

import { h } from './dom.js';
import { get, link } from './route.js';

const RANGES = [
  [300, '5 min'],
  [900, '15 min'],
  [3600, '1 h'],
];
const USUAL = RANGES[1];

/* [seconds, words] */
export const range = () => RANGES.find(r => String(r[0]) === get('range')) || USUAL;

export const rangeLinks = () =>
  h(
    'nav.seg.sm',
    { 'aria-label': 'Time range' },
    RANGES.map(r =>
      h('a', { key: r[0], href: link({ range: r === USUAL ? null : r[0] }), 'aria-current': r === range() ? 'true' : null }, r[1]),
    ),
  );

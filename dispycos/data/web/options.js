/* Popovers in which the reader sets how the page looks and what is asked of the cluster. */

import { h } from './dom.js';
import { columnsOf, hiddenColumns, hideColumn } from './table.js';
import { popover } from './overlays.js';
import { barred, session } from './session.js';
import { setOption } from './actions.js';
import { list, meta } from './stream.js';

export function columnsPopover(at, id) {
  popover(at, () => [
    h('h2', null, 'Columns'),
    h('p.sub', null, 'The choice is in the address of the page.'),
    h(
      'div.form',
      null,
      columnsOf(id)
        .slice(1)
        .filter(c => c.v || c.may)
        .map(c =>
          h(
            'label.opt',
            { key: c.k },
            h('span.grow', null, c.t),
            h('input', {
              type: 'checkbox',
              checked: !hiddenColumns(id).includes(c.k),
              onchange: e => hideColumn(id, c.k, !e.target.checked),
            }),
          ),
        ),
    ),
  ]);
}

const POLLS = [1, 2, 5, 10, 30, 60];

export function optionsPopover(at) {
  popover(at, () => {
    const m = meta(),
      why = barred();
    if (!m) return [h('h2', null, 'This page'), h('p.sub', null, 'Nothing was heard of the monitor yet.')];
    const polls = POLLS.includes(m.poll_sec) ? POLLS : [...POLLS, m.poll_sec].sort((a, b) => a - b);
    return [
      h('h2', null, 'What is asked of the cluster'),
      h('p.sub', null, 'Only while somebody looks. It holds for everybody who reads here.'),
      h(
        'div.form',
        null,
        h(
          'label',
          null,
          'Poll interval',
          h(
            'select',
            { value: m.poll_sec, disabled: Boolean(why), onchange: e => setOption({ poll_sec: Number(e.target.value) }) },
            polls.map(s => h('option', { value: s, key: s }, s + ' s')),
          ),
        ),
        h(
          'label',
          null,
          'Show task arguments',
          h('input', {
            type: 'checkbox',
            checked: m.show_args,
            disabled: Boolean(why),
            onchange: e => setOption({ show_args: e.target.checked }),
          }),
        ),
        m.recording && h('div.row', { key: 'rec' }, 'Recorded in', h('code', null, m.recording)),
        h('div.row', null, 'You are', h('b', null, session.role || 'unknown')),
        h('div.row', null, 'dispycos', h('b', null, m.release)),
      ),
      why && h('p.verdict', { key: 'why' }, why),
      list('meta')
        .flatMap(r => r.notes || [])
        .map(note => h('p.sub', { key: note }, note)),
    ];
  });
}

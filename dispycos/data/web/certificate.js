/* Death certificates: how a server process ended, and what it had in its hands. */

import { h, icon } from './dom.js';
import { chip, few, kv, nodeLink, serverLink, taskLink } from './parts.js';
import { now } from './stream.js';
import { plural, size, when } from './text.js';

const linesOf = d => (typeof d.lines === 'string' ? d.lines.split('\n').filter(Boolean) : d.lines || []);

export function certificate(d) {
  const lines = linesOf(d);
  return h(
    'article.cert' + (d.expected ? '.expected' : ''),
    { 'data-s': d.expected ? 'ended' : 'lost', key: d.id },
    h(
      'h3',
      null,
      icon(d.expected ? 'ended' : 'lost', 12),
      h('span', null, serverLink(d.server, d.node)),
      d.expected ? chip('ended', 'ended as asked') : chip('lost', 'died'),
      h('span.sub', null, 'death certificate, ', when(d.time, now())),
    ),
    kv({
      Signal: d.signal ?? 'none',
      'Exit code': d.code ?? 'none',
      Node: d.node ? nodeLink(d.node) : 'gone',
      'Memory when last seen': d.memory == null ? 'nobody looked then' : size(d.memory),
      'Tasks it had': d.tasks?.length
        ? h(
            'span',
            null,
            few(d.tasks, id => taskLink(id), 4),
          )
        : 'none',
    }),
    h('p.cause', null, d.text),
    lines.length > 0 && [
      h('p.lbl', { key: 'lbl' }, `Its last ${plural(lines.length, 'line')}`),
      h(
        'pre.tb',
        { key: 'tb' },
        lines.map((line, i) => h('div', { key: i }, line)),
      ),
    ],
  );
}

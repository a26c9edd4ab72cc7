/* Death certificates: how a server process ended, and what it had in its hands. */

import { h, icon } from './dom.js';
import { chip, few, kv, nodeLink, serverLink, taskLink } from './parts.js';
import { now } from './stream.js';
import { plural, size, when } from './text.js';

const SIGNALS = {
  1: 'SIGHUP',
  2: 'SIGINT',
  3: 'SIGQUIT',
  4: 'SIGILL',
  6: 'SIGABRT',
  7: 'SIGBUS',
  8: 'SIGFPE',
  9: 'SIGKILL',
  11: 'SIGSEGV',
  13: 'SIGPIPE',
  15: 'SIGTERM',
};
const signal = d => (d.signal == null ? 'none' : `${SIGNALS[d.signal] || 'signal'} (${d.signal})`);

export function certificate(d) {
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
      Signal: signal(d),
      'Exit code': d.code ?? 'none',
      Node: nodeLink(d.node),
      'Memory when last seen': size(d.memory),
      'Tasks it had': d.tasks?.length
        ? h(
            'span',
            null,
            few(d.tasks, id => taskLink(id), 4),
          )
        : 'none',
    }),
    h('p.cause', null, d.text),
    d.lines?.length > 0 && [
      h('p.lbl', { key: 'lbl' }, `Its last ${plural(d.lines.length, 'line')}`),
      h(
        'pre.tb',
        { key: 'tb' },
        d.lines.map((line, i) => h('div', { key: i }, line)),
      ),
    ],
  );
}

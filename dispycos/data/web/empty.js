/* What a page says when it has nothing to show: what it will be, and what to do next. */

import { h, icon } from './dom.js';
import { copy } from './overlays.js';
import { command } from './parts.js';
import { list, meta, now } from './stream.js';
import { clock, ago } from './text.js';

const art = (id, size) => {
  const a = icon(id, size);
  a.names = 'art';
  return a;
};

const WORDS = {
  tasks: ['No task yet', 'Submit one from a program; it shows here at once.', 'python examples/dispycos_client1.py'],
  actors: ['Nobody has a mailbox yet', 'Every running task is an actor and appears here.', 'python examples/dispycos_client1.py'],
  messages: ['No links yet', 'They appear when tasks talk to each other or to the client.', 'python examples/dispycos_client1.py'],
  log: ['Nothing printed yet', 'What tasks print or log is shown here live.', 'python examples/dispycos_client1.py'],
  clients: ['No client yet', 'Start a program that makes a Client; it joins the queue.', 'python examples/dispycos_client1.py'],
};

export function emptyPage(page) {
  const [title, text, program] = WORDS[page];
  return h(
    'div.empty',
    { key: 'empty' },
    art('i-' + page, 40),
    h('h1', null, title),
    h('p', null, text),
    h('div.steps', null, h('div.cmdbox', null, command(program, copy))),
  );
}

const step = (n, text, program) => h('li', { key: n }, h('span.no', null, n), h('b', null, text), command(program, copy));

export function noNodes() {
  const m = meta(),
    refused = list('events')
      .filter(e => e.kind === 'note')
      .at(-1);
  return h(
    'div.empty',
    { key: 'empty' },
    art('i-logo', 56),
    h('h1', null, 'No nodes yet'),
    h('p', null, 'This page fills by itself as soon as one joins.'),
    h(
      'ol.steps',
      null,
      step('1', 'On each machine that shall compute, type', 'dispycos node'),
      step('2', 'The machines share one secret; see it here with', 'dispycos secret show'),
      step('3', 'In another network? Name this machine to the node', `dispycos node --peer ${location.hostname}`),
    ),
    h(
      'p.sub.foot',
      null,
      m && `Listening for nodes since ${clock(m.started)}. `,
      refused && `${ago(now() - refused.t)} ago: ${refused.text}`,
    ),
  );
}

export const loading = () => h('p.none.quiet', { key: 'loading' }, 'Waiting for the first word of the monitor…');

/* What a reader can do to the cluster, each with its words before and after. */

import { h, icon } from './dom.js';
import { act } from './session.js';
import { confirm, say, toast } from './overlays.js';
import { deed, nodeName, serverName } from './parts.js';
import { redraw } from './loop.js';
import { N, plural } from './text.js';

/* Do it and say what came of it; what was refused stays until it is read. */
async function doIt(action, ids, args, words) {
  try {
    const answer = await act(action, ids, args);
    if (answer.refused?.length)
      say(
        `${N(answer.refused.length)} of ${N(answer.refused.length + answer.done)} refused`,
        answer.text || 'The rest was done.',
        answer.refused.map(([id, text]) => h('div', { key: id }, h('code', null, id), ' ', text)),
      );
    else toast(answer.text || words);
  } catch (error) {
    say('That was not done', error.message);
  }
  redraw();
}

const lost =
  'Each gets a KeyboardInterrupt now and is ended by force 5 s later. What it has not returned is lost; its client is told.';

export function terminate(tasks, after) {
  const n = tasks.length;
  confirm({
    title: n === 1 ? 'Terminate this task?' : `Terminate ${N(n)} tasks?`,
    text: lost,
    verb: n === 1 ? 'Terminate' : `Terminate ${N(n)}`,
    list: [
      ...tasks
        .slice(0, 8)
        .map(t =>
          h(
            'div',
            { key: t.id },
            h('span.fn', null, t.function),
            h('span.args', null, `(${t.args ?? '…'})  ${t.server ? serverName(t.server, t.node) : 'queued'}`),
          ),
        ),
      n > 8 && h('div.sub', null, `and ${N(n - 8)} more`),
    ],
    run: () => {
      after?.();
      doIt(
        'terminate',
        tasks.map(t => t.id),
        {},
        `Asked the client to terminate ${plural(n, 'task')}`,
      );
    },
  });
}

/* All that the filter says, also those that are not listed here. */
export function terminateWhere(filter, count, words) {
  confirm({
    title: `Cancel ${count} queued tasks?`,
    text: `All that are queued${words}, also those not listed here. They never begin; their client is told.`,
    keep: 'Keep them',
    verb: `Cancel ${count}`,
    run: () => doIt('terminate_where', [], { filter }, 'Asked the client to cancel them'),
  });
}

/* ------------------------------------------------------------ nodes and servers */
const asked = new Map(); // id -> the state it had when we asked

function ask(action, row, words) {
  asked.set(row.id, row.state);
  setTimeout(() => {
    asked.delete(row.id);
    redraw();
  }, 5000);
  doIt(action, [row.id], {}, words);
}

/* Suspend or resume, whichever it is now. */
function toggleButton(row, name, c = '') {
  const off = row.state === 'suspended',
    can = off || ['running', 'idle', 'resting', 'starting'].includes(row.state);
  const waits = asked.get(row.id) === row.state;
  return deed(off ? 'Resume' : 'Suspend', {
    c,
    off: waits,
    why: can ? '' : `${name} is ${row.state}`,
    label: `${off ? 'Resume' : 'Suspend'} ${name}`,
    title: off ? `${name} takes tasks again` : `${name} takes no new tasks; what runs there ends`,
    on: () =>
      ask(off ? 'resume' : 'suspend', row, off ? `${name} takes tasks again` : `${name} takes no new tasks; what runs there ends`),
  });
}

export const toggleNode = (row, c) => toggleButton(row, nodeName(row.id), c);
export const toggleServer = (row, c) => toggleButton(row, serverName(row.id, row.node), c);

export const closeNode = row =>
  deed('Close…', {
    c: '.danger',
    why: ['lost', 'closed'].includes(row.state) ? `${row.name} is ${row.state}` : '',
    on: () =>
      confirm({
        title: `Close ${row.name}?`,
        text: `It takes nothing new. Its ${plural(row.running, 'running task')} may end first; then its ${plural(row.servers, 'server')} ${row.servers === 1 ? 'leaves' : 'leave'} this client. The node itself stays and can be used again.`,
        verb: 'Close the node',
        run: () => doIt('close', [row.id], {}, `Asked ${row.name} to close`),
      }),
  });

export const restartServer = row =>
  deed('Restart…', {
    why: ['lost', 'ended'].includes(row.state) ? `It is ${row.state}` : '',
    on: () =>
      confirm({
        title: `Restart ${serverName(row.id, row.node)}?`,
        text: `It takes nothing new. Its ${plural(row.running, 'running task')} may end first; then a new process takes its place.`,
        verb: 'Restart the server',
        run: () => doIt('restart', [row.id], {}, 'Asked for a new process'),
      }),
  });

export const endLease = (client, nextOne) =>
  deed('End lease…', {
    c: '.sm.ghost.danger',
    on: () =>
      confirm({
        title: `End the lease of ${client.name}?`,
        text: `Its ${plural(client.servers, 'server')} ${client.servers === 1 ? 'is' : 'are'} given ${nextOne ? `to the next client, ${nextOne}` : 'back'}. ${plural(client.running, 'running task')} ${client.running === 1 ? 'is' : 'are'} ended.`,
        verb: 'End the lease',
        run: () => doIt('end_lease', [client.id], {}, 'Asked for the end of the lease'),
      }),
  });

export const setOption = changes => doIt('options', [], changes, 'Changed for everybody who reads here');

export const stackButton = (task, on, c = '.sm.ghost') =>
  h(
    'button.btn' + c,
    { type: 'button', onclick: () => on(task), 'aria-label': `Stack of ${task.function} #${task.id}` },
    icon('i-stack', 14),
    'Stack',
  );

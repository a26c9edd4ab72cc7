/* The drawer with the live stack of a running task, looked at once a second. */

import { h } from './dom.js';
import { closeDrawer, copy, openDrawer } from './overlays.js';
import { btn, chip, deed, functionLink, kv, serverLink, taskName } from './parts.js';
import { stackOf } from './session.js';
import { now, rows } from './stream.js';
import { redraw } from './loop.js';
import { terminate } from './actions.js';
import { ago, dur, plural, size } from './text.js';

const EVERY_MS = 1000;

/* Open it for a task's row, or for {id, function, server, node} of one that is known by name only. */
export function openStack(task) {
  const seen = { last: null, error: '', samples: 0, counts: new Map(), paused: false, ended: false };
  const view = () => drawn(rows('tasks').get(task.id) || task, seen);
  view.end = () => {
    seen.ended = true;
  };
  openDrawer(view);
  sample(task.id, seen);
}

async function sample(id, seen) {
  if (!seen.paused) {
    try {
      seen.last = await stackOf(id);
      seen.samples += 1;
      for (const key of new Set(seen.last.frames.map(keyOf))) seen.counts.set(key, (seen.counts.get(key) || 0) + 1);
      seen.error = '';
    } catch (error) {
      seen.error = error.message;
    }
  }
  if (seen.ended) return;
  redraw();
  const over = seen.error && rows('tasks').get(id)?.state !== 'running';
  if (!over)
    setTimeout(() => {
      if (!seen.ended) sample(id, seen);
    }, EVERY_MS);
}

const keyOf = f => `${f.file}\0${f.function}`;
const how = (task, t) =>
  task.state === 'running' || !task.state ? `running for ${dur(t - (task.start ?? t))}` : `${task.state} after ${dur(task.run)}`;

function drawn(task, seen) {
  const t = now(),
    last = seen.last;
  return {
    title: h('span', null, 'Live stack ', functionLink(task.function), ' ', h('span.args', null, taskName(task.id))),
    sub: h(
      'span',
      null,
      task.server ? serverLink(task.server, task.node) : null,
      ` · ${how(task, t)}`,
      last && ` · sampled ${ago(Math.max(0, t - last.at))} ago`,
    ),
    body: [
      kv({
        State: chip(task.state || 'running'),
        'CPU time': dur(task.cpu_s),
        'Peak memory': size(task.peak),
        Waited: dur(task.queue),
      }),
      seen.error && h('p.verdict', { key: 'error' }, seen.error),
      last ? frames(last, seen) : !seen.error && h('p.none.quiet', { key: 'wait' }, 'Asking the server…'),
    ],
    foot: [
      btn(seen.paused ? 'Go on' : 'Pause', {
        title: 'Looked at once a second',
        on: () => {
          seen.paused = !seen.paused;
          redraw();
        },
      }),
      btn('Copy', { off: !last, on: () => copy(last.text) }),
      h('span.grow'),
      deed('Terminate…', {
        c: '.danger',
        why: task.state && task.state !== 'running' ? `It is ${task.state}` : '',
        on: () => terminate([task], closeDrawer),
      }),
    ],
  };
}

/* The innermost first: there it is just now. */
const frames = (last, seen) =>
  last.frames.length === 0
    ? h('pre.tb', { key: 'text' }, last.text)
    : h(
        'ol.frames',
        { key: 'frames' },
        last.frames
          .toReversed()
          .map((f, i) =>
            h(
              'li' + (i ? '' : '.topf'),
              { key: i },
              h(
                'div.f',
                null,
                h('b', null, f.function),
                h('span.sub.cut', { title: f.file }, `${f.file}:${f.line}`),
                h(
                  'span.pct',
                  null,
                  `in ${Math.round((seen.counts.get(keyOf(f)) / seen.samples) * 100)} % of ${plural(seen.samples, 'sample')}`,
                ),
              ),
              f.code && h('pre', null, h('div' + (i ? '' : '.at'), null, h('i', null, f.line), f.code)),
            ),
          ),
      );

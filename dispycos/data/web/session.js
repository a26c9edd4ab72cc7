/* Who the reader is, and what he asks the monitor to do. */

import { meta, goneText, line } from './stream.js';

export const session = { role: '', csrf: '', release: '', refused: null };

/* Learn role and CSRF token. What is refused is kept in words. */
export async function begin() {
  const answer = await fetch('api/v1/session');
  if (!answer.ok) {
    session.refused = await words(answer);
    return;
  }
  Object.assign(session, await answer.json(), { refused: null });
}

async function words(answer) {
  try {
    return await answer.json();
  } catch {
    return { error: `The monitor answered ${answer.status} ${answer.statusText}.`, remedy: 'Load the page again.' };
  }
}

/* Why nothing can be done from here, or ''. */
export function barred() {
  if (meta()?.kind === 'replay') return 'This is a recording: nothing in it can be changed.';
  if (session.role === 'viewer') return 'You may look, not act: the URL for operators was printed beside this one.';
  if (line.state !== 'live') return 'There is no line to the monitor now.';
  return goneText() ? 'The client has ended: there is nobody to act.' : '';
}

/* {done, refused: [[id, text]], text}; raises an Error with words. */
export async function act(action, ids, args) {
  let answer;
  try {
    if (!session.csrf) await begin();       // clicked before the first answer was here
    answer = await fetch('api/v1/actions', {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-Dispycos-CSRF': session.csrf },
      body: JSON.stringify({ action, ids, args }),
    });
  } catch {
    throw new Error('No answer from the monitor; whether it was done is unknown.');
  }
  if (!answer.ok) {
    const { error, remedy } = await words(answer);
    throw new Error([error, remedy].filter(Boolean).join(' '));
  }
  return answer.json();
}

export async function stackOf(task) {
  let answer;
  try {
    answer = await fetch('api/v1/stack/' + encodeURIComponent(task));
  } catch {
    throw new Error('No answer from the monitor.');
  }
  if (!answer.ok) throw new Error((await words(answer)).error);
  return answer.json();
}

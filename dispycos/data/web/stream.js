/* What the monitor says: tables of rows, kept up to date by server-sent events, and how the line is. */

const RETRY_MS = 2000,
  SILENCE_MS = 20000,
  UNSEEN_MS = 60000;

const tables = new Map(); // name -> {rows: Map(key -> row), total, kept, dropped_until, version}
const listeners = [];

export const line = { state: 'connecting', gone: '', refused: null, since: null }; // connecting, live, broken, refused

const NONE = { rows: new Map(), total: 0, kept: 0, dropped_until: null, version: 0, listed: 0, list: [] };
export const table = name => tables.get(name) || NONE;
export const rows = name => table(name).rows;
/* Its rows; the same array until something is told of them. */
export function list(name) {
  const t = table(name);
  if (t.listed !== t.version) {
    t.listed = t.version;
    t.list = [...t.rows.values()];
  }
  return t.list;
}
export const known = name => tables.has(name);
export const meta = () => rows('meta').get('cluster') || null;
export const onData = f => listeners.push(f);

const tell = () => listeners.forEach(f => f());

/* ------------------------------------------------------------ time */
let told = 0,
  heard = 0; // the monitor's clock, and ours at that moment

/* The monitor's time now, in seconds since the epoch; it stands still with the last state. */
export function now() {
  if (!told) return Date.now() / 1000;
  const live = line.state === 'live' && !goneText() && meta()?.kind !== 'replay';
  return told + (live ? Math.min((performance.now() - heard) / 1000, 60) : 0);
}

export const goneText = () => line.gone || meta()?.gone || '';

/* ------------------------------------------------------------ applying */
let coming = null; // tables of a snapshot that comes in several pieces, until the last of them

/* A long snapshot comes in pieces, each but the last with `more`: so no piece holds up the page for long. */
function apply(message, whole) {
  if (whole && !coming) coming = new Map();
  for (const [name, part] of Object.entries(message.tables)) {
    const old = tables.get(name);
    let t = coming ? coming.get(name) : old;
    if (!t) (coming || tables).set(name, (t = { rows: new Map(), version: old ? old.version : 0 }));
    for (const key of part.del || []) t.rows.delete(key);
    for (const key in part.set || {}) t.rows.set(key, part.set[key]);
    for (const fact of ['total', 'kept', 'dropped_until']) if (fact in part) t[fact] = part[fact];
    t.version += 1;
  }
  if (message.more) return false;
  for (const [name, t] of coming || []) tables.set(name, t);
  coming = null;
  told = message.now;
  heard = performance.now();
  line.gone = '';
  line.state = 'live';
  return true;
}

/* ------------------------------------------------------------ the line */
let source = null,
  wanted = '',
  resume = '',
  timer = 0,
  last = 0;

function open() {
  close();
  const since = resume ? '&since=' + encodeURIComponent(resume) : '';
  coming = null;
  source = new EventSource(`api/v1/stream?tables=${wanted}${since}`);
  const hear = whole => event => {
    last = performance.now();
    if (!apply(JSON.parse(event.data), whole)) return;
    resume = event.lastEventId;
    tell();
  };
  source.addEventListener('snapshot', hear(true));
  source.addEventListener('delta', hear(false));
  source.addEventListener('gone', event => {
    last = performance.now();
    line.gone = JSON.parse(event.data).text;
    tell();
  });
  source.onopen = () => {
    coming = null;
  };
  source.onerror = () => broke(source.readyState === EventSource.CLOSED);
  last = performance.now();
}

function close() {
  clearTimeout(timer);
  if (source) source.close();
  source = null;
}

/* The browser dials again by itself, except after an answer that is no stream: then we ask what is wrong. */
function broke(closed) {
  if (line.state === 'live') {
    line.since = now();
    line.state = 'broken';
  } else if (line.state === 'connecting') line.state = 'broken';
  tell();
  if (!closed) return;
  close();
  timer = setTimeout(async () => {
    line.refused = await refusal();
    if (line.refused) line.state = 'refused';
    open();
    tell();
  }, RETRY_MS);
}

/* {error, remedy} if we are not let in, else null. */
async function refusal() {
  try {
    const answer = await fetch('api/v1/session');
    return answer.status === 401 || answer.status === 403 ? await answer.json() : null;
  } catch {
    return null;
  } // nobody there: the line is broken, which is said already
}

/* Read these tables from now on. What was read before stays until the new snapshot is there. */
export function read(names) {
  const next = [...names].sort().join(',');
  if (next === wanted) return;
  wanted = next;
  resume = ''; // other tables: no delta between them
  open();
}

setInterval(async () => {
  if (!source || line.state !== 'live' || goneText() || performance.now() - last < SILENCE_MS) return;
  last = performance.now(); // a sleeping computer's line is dead without a word
  try {
    await fetch('api/v1/session', { signal: AbortSignal.timeout(5000) });
  } catch {
    broke(true);
  }
}, 5000);

/* Nobody pays when nobody looks: a page in the background lets go of its line. */
let unseen = 0;
document.addEventListener('visibilitychange', () => {
  clearTimeout(unseen);
  if (document.hidden) unseen = setTimeout(close, UNSEEN_MS);
  else if (wanted && !source) open();
});

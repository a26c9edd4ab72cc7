/* Of memory, disk and swap only the present is told: what came before is remembered from the opening of the page on. */

import { onData, rows } from './stream.js';

const KEPT = 180,
  EVERY_S = 5,
  NAMES = ['memory', 'disk', 'swap'];
const kept = new Map(); // node id -> {t, memory, disk, swap}: lists of the same length

function remember() {
  for (const n of rows('nodes').values()) {
    let past = kept.get(n.id);
    if (!past) kept.set(n.id, (past = { t: [], memory: [], disk: [], swap: [] }));
    if (n.seen == null || n.seen < (past.t.at(-1) ?? 0) + EVERY_S) continue;
    past.t.push(n.seen);
    for (const name of NAMES) past[name].push(n[name] ?? null);
    if (past.t.length > KEPT) [past.t, ...NAMES.map(name => past[name])].forEach(a => a.shift());
  }
  for (const id of kept.keys()) if (!rows('nodes').has(id)) kept.delete(id);
}

/* Up to the present: {t, memory, disk, swap}. */
export function historyOf(n) {
  const past = kept.get(n.id) || { t: [], memory: [], disk: [], swap: [] };
  const now = n.seen != null && n.seen > (past.t.at(-1) ?? 0);
  return Object.fromEntries(
    Object.entries(past).map(([name, a]) => [name, now ? [...a, name === 't' ? n.seen : (n[name] ?? null)] : a]),
  );
}

onData(remember);

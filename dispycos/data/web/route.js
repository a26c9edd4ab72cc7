/* Where the reader is: page, argument and choices, all of them in the hash of the address. */

let hash = null,
  place = null;

/* {page, arg, q}: '#/server/10.20.4.11%3A51307?sort.t=-start'. */
export function where() {
  if (hash !== null) return place;
  hash = location.hash;
  const [path, query] = hash.slice(1).split('?'),
    parts = path.split('/').filter(Boolean);
  place = { page: parts[0] || 'cluster', arg: parts[1] ? safely(parts[1]) : '', q: new URLSearchParams(query || '') };
  return place;
}

function safely(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  } // a hash that somebody typed
}

export const get = name => where().q.get(name) || '';

/* The address of this page with some choices changed; null takes one away. */
export function link(changes, base) {
  const w = where(),
    q = new URLSearchParams(base === undefined ? w.q : '');
  for (const [name, value] of Object.entries(changes))
    value == null || value === '' || value === false ? q.delete(name) : q.set(name, value);
  const query = q.toString().replaceAll('%3A', ':').replaceAll('%2C', ',');
  const path = base ?? [w.page, ...(w.arg ? [encodeURIComponent(w.arg)] : [])].join('/');
  return '#/' + path + (query ? '?' + query : '');
}

const listeners = [];
export const onMove = f => listeners.push(f);

/* Choices made by typing and dragging replace the entry of the history, so that "back" leaves the page. */
export function go(changes) {
  history.replaceState(history.state, '', link(changes));
  hash = null;
  listeners.forEach(f => f(false));
}

export const goTo = address => {
  location.hash = address;
};

addEventListener('hashchange', () => {
  hash = null;
  listeners.forEach(f => f(true));
});

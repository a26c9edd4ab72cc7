/* Elements from data: h() describes, patch() makes the document the same. Text only ever becomes text nodes. */

const SVG = 'http://www.w3.org/2000/svg';
const shapes = new Map(); // 'span.chip.calm' -> ['span', 'chip calm']

function shapeOf(tag) {
  let shape = shapes.get(tag);
  if (!shape) {
    const [name, ...names] = tag.split('.');
    shapes.set(tag, (shape = [name || 'div', names.join(' ')]));
  }
  return shape;
}

const DRAWN = new Set(['svg', 'use', 'path']);
const isNode = x => x !== null && typeof x === 'object' && x.isNode === true;

/* One element. Props: attributes, on… handlers, --… variables, `key` (who it is among its siblings) and
   `life` ({make, change, drop} of something that draws by itself, told `arg`). */
export function h(tag, props, ...kids) {
  if (props != null && (typeof props !== 'object' || isNode(props) || Array.isArray(props))) {
    kids.unshift(props);
    props = null;
  }
  const [name, names] = shapeOf(tag);
  return { isNode: true, name, names, props: props || {}, kids: kids.flat(9), key: props?.key, el: null };
}

export const icon = (id, size = 10) => h('svg', { width: size, height: size, 'aria-hidden': 'true' }, h('use', { href: '#' + id }));

/* ------------------------------------------------------------ properties */
const PROPERTIES = new Set(['checked', 'disabled', 'open', 'selected', 'indeterminate']);

function setProp(el, name, value) {
  if (name === 'key' || name === 'life' || name === 'arg') return;
  if (name.startsWith('on')) el[name] = value ?? null;
  else if (name === 'value' && 'value' in el) {
    if (el !== document.activeElement || el.tagName === 'SELECT') el.value = value ?? '';
  } else if (PROPERTIES.has(name)) el[name] = Boolean(value);
  else if (name.startsWith('--')) value == null ? el.style.removeProperty(name) : el.style.setProperty(name, value);
  else if (value == null || value === false) el.removeAttribute(name);
  else el.setAttribute(name, value === true ? '' : value);
}

function patchProps(el, old, now) {
  for (const name in old) if (!(name in now)) setProp(el, name, null);
  for (const name in now) {
    const value = now[name];
    // What a reader can change himself is compared with the element, the rest with what was set last.
    if (name === 'checked' || name === 'open' ? el[name] !== Boolean(value) : old[name] !== value) setProp(el, name, value);
  }
}

/* ------------------------------------------------------------ elements */
function make(node) {
  if (!isNode(node)) return document.createTextNode(node);
  const { name, names, props, kids } = node;
  const el = DRAWN.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
  node.el = el;
  if (names) el.setAttribute('class', names);
  patchKids(el, [], kids); // options before the value of their select
  for (const key in props) setProp(el, key, props[key]);
  if (props.life) node.state = props.life.make(el, props.arg);
  return el;
}

function change(old, now) {
  const el = (now.el = old.el);
  if (old.names !== now.names) el.setAttribute('class', now.names);
  patchKids(el, old.kids, now.kids);
  patchProps(el, old.props, now.props);
  if (now.props.life) {
    now.state = old.state;
    now.props.life.change(now.state, el, now.props.arg);
  }
}

function drop(node) {
  if (!isNode(node)) return;
  node.props.life?.drop(node.state);
  node.kids.forEach(drop);
}

const isThere = kid => kid != null && kid !== false && kid !== true;
const keyOf = (kid, i) => (isNode(kid) && kid.key != null ? 'k' + kid.key : i);
const isAlike = (a, b) => (isNode(a) ? isNode(b) && a.name === b.name && a.props.life === b.props.life : !isNode(b));

/* Texts remember their node in the list of their parent, since a string cannot. */
function patchKids(el, before, kids) {
  const old = new Map(),
    texts = el.texts || (el.texts = new Map()),
    fresh = new Map();
  before.forEach((kid, i) => {
    if (isThere(kid)) old.set(keyOf(kid, i), kid);
  });
  const keep = new Map();
  kids.forEach((kid, i) => {
    if (!isThere(kid)) return;
    const key = keyOf(kid, i),
      was = old.get(key);
    if (was !== undefined && isAlike(was, kid)) {
      keep.set(key, was);
      old.delete(key);
    }
  });
  for (const [key, kid] of old) {
    // first what goes, so that the rest need not move
    (isNode(kid) ? kid.el : texts.get(key)).remove();
    drop(kid);
  }
  let at = el.firstChild;
  kids.forEach((kid, i) => {
    if (!isThere(kid)) return;
    const key = keyOf(kid, i),
      was = keep.get(key);
    let node;
    if (was === undefined) node = make(kid);
    else if (isNode(kid)) {
      if (was !== kid) change(was, kid);
      node = kid.el;
    } else {
      node = texts.get(key);
      if (node.data !== String(kid)) node.data = kid;
    }
    if (!isNode(kid)) fresh.set(key, node);
    if (node === at) at = at.nextSibling;
    else el.insertBefore(node, at);
  });
  el.texts = fresh;
}

/* Make the children of `el` what `kids` says; elements with the same key stay, with their focus and scroll. */
export function patch(el, ...kids) {
  const now = kids.flat(9),
    focused = document.activeElement;
  patchKids(el, el.drawn || [], now);
  el.drawn = now;
  if (focused !== document.activeElement && focused?.isConnected) focused.focus({ preventScroll: true }); // a moved row lets go of it
}

/* One drawing a frame, however much was told meanwhile. */

let due = false, draw = () => {};

export const drawWith = f => { draw = f; };

export function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => { due = false; draw(); });
}

/* One drawing a frame, however much was told meanwhile. */

let due = false,
  draw = () => {},
  last = 0;

export const drawWith = f => {
  draw = f;
};

export function redraw() {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    last = performance.now();
    draw();
  });
}

/* Unless it was drawn just now. */
export const redrawOld = () => {
  if (performance.now() - last > 700) redraw();
};

// Draws, moves and resizes the region of interest on the picture, in pixels of the picture.

const MIN_SIDE = 8; // as edge_runtime/screen/saved_regions.py: MIN_REGION_SIDE
const HANDLE = 26; // CSS pixels around a corner that a finger takes hold of
const STEPS = 50; // by which the arrow keys divide the width of the picture
const CORNERS = [[0, 0], [1, 0], [0, 1], [1, 1]];
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The region while somebody draws it. `onDrawn` gets every box that is complete, as [x, y, w, h]. */
export class RegionEditor {
  #screen;
  #picture;
  #frame; // the element that shows the box
  #onDrawn;
  #box = null; // [x, y, w, h], not rounded
  #drag = null; // {kind, from, box}: what moves, where it began, and the box before
  #held = false; // whether the box is not yet that of the session
  #pictured = false;

  constructor(screen, picture, frame, onDrawn) {
    this.#screen = screen;
    this.#picture = picture;
    this.#frame = frame;
    this.#onDrawn = onDrawn;
    this.active = false;
    screen.addEventListener("pointerdown", (event) => this.#begin(event));
    screen.addEventListener("pointermove", (event) => this.#move(event));
    screen.addEventListener("pointerup", (event) => this.#end(event, true));
    screen.addEventListener("pointercancel", (event) => this.#end(event, false));
  }

  /** The box in whole pixels, or null. */
  get box() {
    if (!this.#box) return null;
    const [x, y, w, h] = this.#box;
    const [left, top] = [Math.round(x), Math.round(y)];
    return [left, top, Math.round(x + w) - left, Math.round(y + h) - top];
  }

  get size() {
    return [this.#picture.width, this.#picture.height];
  }

  start() {
    this.active = true;
    this.#held = false;
    this.#screen.dataset.drawing = "";
    this.#screen.focus({ preventScroll: true }); // away from a button that Enter would press
  }

  stop() {
    this.active = this.#held = false;
    this.#drag = null;
    delete this.#screen.dataset.drawing;
    this.#frame.hidden = true;
  }

  /** Takes the region of the session, unless somebody draws; `pictured`: whether one is seen. */
  update(region, pictured) {
    this.#pictured = pictured;
    if (!pictured && this.#drag) this.#end(null, false);
    if (!this.#drag && !this.#held) this.#box = region;
    this.#render();
  }

  /** The session has answered: from now on its region is shown. */
  settle() {
    this.#held = false;
  }

  /** Handles a key; returns whether it was one of the region's. */
  key(event) {
    if (!this.active || !this.#pictured) return false;
    const [width, height] = this.size;
    if (event.key === "Enter" && this.#box && event.target.tagName !== "BUTTON") {
      this.#give();
      return true;
    }
    const arrow = ARROWS[event.key];
    if (!arrow) return false;
    const step = width / STEPS;
    const [dx, dy] = [arrow[0] * step, arrow[1] * step];
    if (!this.#box) this.#box = [0.375 * width, 0.375 * height, 0.25 * width, 0.25 * height];
    else if (event.shiftKey) this.#box = this.#resized(this.#box, [1, 1], dx, dy);
    else this.#box = this.#shifted(this.#box, dx, dy);
    this.#held = true;
    this.#render();
    return true;
  }

  /** Where the picture lies in the window: its left and top edge, and CSS pixels a pixel. */
  #place() {
    const { left, top, width, height } = this.#picture.getBoundingClientRect();
    const [w, h] = this.size;
    const scale = Math.min(width / w, height / h);
    return { left: left + (width - w * scale) / 2, top: top + (height - h * scale) / 2, scale };
  }

  /** The pixel of the picture under a pointer, within the picture. */
  #pixel({ clientX, clientY }) {
    const { left, top, scale } = this.#place();
    const [w, h] = this.size;
    return [clamp((clientX - left) / scale, 0, w), clamp((clientY - top) / scale, 0, h)];
  }

  #begin(event) {
    if (!this.active || !this.#pictured || this.#drag || event.button) return;
    event.preventDefault();
    this.#screen.setPointerCapture(event.pointerId);
    const from = this.#pixel(event);
    const reach = HANDLE / this.#place().scale;
    this.#drag = { kind: "new", from, box: this.#box, pointer: event.pointerId };
    if (!this.#box) return;
    const [x, y, w, h] = this.#box;
    const near = ([i, j]) => Math.hypot(from[0] - x - i * w, from[1] - y - j * h);
    const corner = CORNERS.reduce((a, b) => (near(b) < near(a) ? b : a));
    const inside = from[0] > x && from[0] < x + w && from[1] > y && from[1] < y + h;
    // A small box can still be moved: only the outer part of a corner takes hold of it.
    const taken = inside ? Math.min(reach, w / 4, h / 4) : reach;
    if (near(corner) <= taken) this.#drag.kind = corner;
    else if (inside) this.#drag.kind = "move";
  }

  #move(event) {
    if (!this.#drag || event.pointerId !== this.#drag.pointer) return;
    const { kind, from, box } = this.#drag;
    const to = this.#pixel(event);
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    if (kind === "move") this.#box = this.#shifted(box, dx, dy);
    else if (kind !== "new") this.#box = this.#resized(box, kind, dx, dy);
    else if (Math.abs(dx) >= MIN_SIDE && Math.abs(dy) >= MIN_SIDE) {
      this.#box = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.abs(dx), Math.abs(dy)];
    }
    this.#render();
  }

  #end(event, complete) {
    if (!this.#drag || (event && event.pointerId !== this.#drag.pointer)) return;
    const { box } = this.#drag;
    this.#drag = null;
    if (complete && this.#box !== box) this.#give();
    else this.#box = box;
    this.#render();
  }

  #give() {
    this.#held = true;
    this.#onDrawn(this.box);
  }

  #shifted([x, y, w, h], dx, dy) {
    const [width, height] = this.size;
    return [clamp(x + dx, 0, width - w), clamp(y + dy, 0, height - h), w, h];
  }

  /** The box with one corner moved, no smaller than MIN_SIDE. */
  #resized([x, y, w, h], [right, lower], dx, dy) {
    const [width, height] = this.size;
    const side = (from, length, end, moves, by) => {
      if (moves) return [from, clamp(length + by, MIN_SIDE, end - from)];
      const start = clamp(from + by, 0, from + length - MIN_SIDE);
      return [start, from + length - start];
    };
    const [left, wide] = side(x, w, width, right, dx);
    const [top, tall] = side(y, h, height, lower, dy);
    return [left, top, wide, tall];
  }

  #render() {
    const visible = this.active && this.#pictured && this.#box !== null;
    this.#frame.hidden = !visible;
    if (!visible) return;
    const { left, top, scale } = this.#place();
    const around = this.#screen.getBoundingClientRect();
    const [x, y, w, h] = this.#box;
    this.#frame.style.left = `${left - around.left + x * scale}px`;
    this.#frame.style.top = `${top - around.top + y * scale}px`;
    this.#frame.style.width = `${w * scale}px`;
    this.#frame.style.height = `${h * scale}px`;
  }
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}

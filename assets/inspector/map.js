// Draws a picture, as the game made it of a state, from above.

const MARGIN = 24;
const MARK_PIXELS_MIN = 12;

export class Map2d {
  constructor(canvas) {
    this.canvas = canvas;
    this.picture = null;
    this.bounds = null;
    this.zoom = 1;
    this.pan = [0, 0];
    this.pointers = new Map();
    this.asked = false;
    this.readColours();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      this.readColours();
      this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.listen();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["white", "grey", "dark", "red", "green", "blue", "yellow", "magenta", "cyan", "brown"];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--t-${name}`).trim()]));
    this.halo = style.getPropertyValue("--map").trim();
  }

  /** Another room: what was seen of the last one counts no more. */
  leave() {
    [this.picture, this.bounds] = [null, null];
    this.reset();
  }

  show(picture) {
    this.picture = picture;
    this.grow();
    this.draw();
  }

  reset() {
    [this.zoom, this.pan] = [1, [0, 0]];
    this.draw();
  }

  /** The bounds of all that ever stood on the map, so that it does not tremble. */
  grow() {
    for (const { at, form } of this.picture?.shapes ?? []) {
      const half = form.block?.half ?? form.haze?.half ?? [form.disc?.radius ?? 0.5, form.disc?.radius ?? 0.5];
      const [left, low, right, high] = this.bounds ?? [Infinity, Infinity, -Infinity, -Infinity];
      this.bounds = [
        Math.min(left, at[0] - half[0]), Math.min(low, at[1] - half[1]),
        Math.max(right, at[0] + half[0]), Math.max(high, at[1] + half[1]),
      ];
    }
  }

  /** From the game's units to pixels of the page. */
  view() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [left, low, right, high] = this.bounds ?? [0, 0, 1, 1];
    const margin = Math.min(MARGIN, width / 12);
    const whole = Math.min((width - 2 * margin) / Math.max(right - left, 0.1), (height - 2 * margin) / Math.max(high - low, 0.1));
    const scale = Math.max(whole, 0.01) * this.zoom;
    const focus = this.zoom > 1 ? this.picture?.focus : null;
    const [x, y] = focus ?? [(left + right) / 2, (low + high) / 2];
    return { scale, x: width / 2 - x * scale + this.pan[0], y: height / 2 + y * scale + this.pan[1], width, height };
  }

  draw() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.paint();
    });
  }

  paint() {
    const view = this.view();
    const ratio = devicePixelRatio || 1;
    const [wide, tall] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== tall) [this.canvas.width, this.canvas.height] = [wide, tall];
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, view.width, view.height);
    const shapes = this.picture?.shapes ?? [];
    shapes.filter((shape) => shape.form.mark === undefined).forEach((shape) => this.fill(pen, view, shape));
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    shapes.filter((shape) => shape.form.mark !== undefined).forEach((shape) => this.write(pen, view, shape));
    this.canvas.dataset.shapes = String(shapes.length);
  }

  fill(pen, { scale, x, y }, { at, form, tint }) {
    const [left, top] = [x + at[0] * scale, y - at[1] * scale];
    pen.fillStyle = this.colours[tint] ?? this.colours.white;
    const box = form.block ?? form.haze;
    if (box) {
      pen.globalAlpha = form.haze ? 0.22 : 0.9;
      const half = [Math.max(box.half[0] * scale, 0.75), Math.max(box.half[1] * scale, 0.75)];
      pen.fillRect(left - half[0], top - half[1], 2 * half[0], 2 * half[1]);
    } else if (form.disc) {
      pen.globalAlpha = 0.28;
      pen.beginPath();
      pen.arc(left, top, Math.max(form.disc.radius * scale, 2), 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  write(pen, { scale, x, y }, { at, form, tint }) {
    const text = form.mark;
    if (text === "") return;
    const pixels = Math.max(MARK_PIXELS_MIN, Math.min(scale * 0.95, 28));
    pen.font = `600 ${pixels}px ui-monospace, Menlo, Consolas, monospace`;
    const place = [x + at[0] * scale, y - at[1] * scale];
    // Readable on whatever stands beneath.
    pen.strokeStyle = this.halo;
    pen.lineWidth = 2.5;
    pen.strokeText(text, ...place);
    pen.fillStyle = this.colours[tint] ?? this.colours.white;
    pen.fillText(text, ...place);
  }

  zoomBy(factor, at) {
    const before = this.zoom;
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.5), 24);
    if (at) {
      const grown = this.zoom / before;
      const middle = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
      this.pan = this.pan.map((pan, axis) => (at[axis] - middle[axis]) * (1 - grown) + pan * grown);
    }
    this.draw();
  }

  panBy(right, down) {
    this.pan = [this.pan[0] + right, this.pan[1] + down];
    this.draw();
  }

  listen() {
    const at = (event) => [event.offsetX, event.offsetY];
    this.canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * 0.0015), at(event));
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, at(event));
    });
    this.canvas.addEventListener("pointermove", (event) => {
      const before = this.pointers.get(event.pointerId);
      if (!before) return;
      const now = at(event);
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const reach = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
        this.zoomBy(reach(now) / Math.max(reach(before), 1), [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2]);
      } else {
        this.panBy(now[0] - before[0], now[1] - before[1]);
      }
      this.pointers.set(event.pointerId, now);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
  }
}

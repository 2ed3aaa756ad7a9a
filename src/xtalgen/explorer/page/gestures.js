// Mouse, pen and touch gestures on the map: drag, wheel, pinch, click, lasso.

export class Gestures {
  constructor(map) {
    this.map = map;
    this.pointers = new Map();
    const { canvas } = map;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.up(event));
    canvas.addEventListener("pointerleave", () => this.hover(-1));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    canvas.addEventListener("dblclick", (event) => map.zoom(2.5, ...this.at(event), false));
  }

  at(event) {
    const box = this.map.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.0016;
    this.map.zoom(Math.exp(-event.deltaY * lines * speed), ...this.at(event));
  }

  down(event) {
    const { map } = this;
    map.canvas.focus({ preventScroll: true });
    map.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.at(event));
    map.actions.hover(-1);
    this.far = false;
    this.begun = this.at(event);
    if (this.pointers.size === 1 && (map.lassoMode || event.shiftKey)) map.path = [map.toData(...this.at(event))];
    if (this.pointers.size === 2) map.path = null;
  }

  move(event) {
    const { map } = this;
    const at = this.at(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) return event.pointerType === "touch" ? undefined : this.hover(map.nearest(...at), at);
    if (Math.hypot(at[0] - this.begun[0], at[1] - this.begun[1]) > 4) this.far = true;
    if (this.pointers.size === 2) this.pinch(event.pointerId, at);
    else if (map.path) {
      map.path.push(map.toData(...at));
      map.draw();
    } else if (this.far) {
      map.canvas.classList.add("dragging");
      map.pan(at[0] - before[0], at[1] - before[1]);
    }
    this.pointers.set(event.pointerId, at);
  }

  pinch(id, at) {
    const [other] = [...this.pointers].filter(([found]) => found !== id).map(([, place]) => place);
    const before = this.pointers.get(id);
    const apart = (place) => Math.max(10, Math.hypot(place[0] - other[0], place[1] - other[1]));
    this.far = true;
    this.map.pan((at[0] - before[0]) / 2, (at[1] - before[1]) / 2);
    this.map.zoom(apart(at) / apart(before), (at[0] + other[0]) / 2, (at[1] + other[1]) / 2);
  }

  up(event) {
    const { map } = this;
    if (!this.pointers.delete(event.pointerId)) return;
    map.canvas.classList.remove("dragging");
    const path = map.path;
    map.path = null;
    if (path && path.length > 3) map.actions.lasso(path);
    else if (!this.far && event.type === "pointerup") {
      const found = map.nearest(...this.at(event), event.pointerType === "touch" ? 26 : 14);
      if (found >= 0) map.actions.choose(found);
    }
    map.draw();
  }

  hover(i, at = [0, 0]) {
    const { map } = this;
    map.canvas.classList.toggle("over", i >= 0);
    if (i !== map.hovered) {
      map.hovered = i;
      map.draw();
    }
    map.actions.hover(i, ...at);
  }
}

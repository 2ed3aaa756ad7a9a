// The list of the crystals shown: sortable, walked by keys. Only the rows in sight exist.

import { setColour } from "./colours.js";
import { $, counted, formulaNodes, make } from "./dom.js";

const ROW = 44; // pixels; a row is a touch target
const SPARE = 6; // rows beyond those in sight, each way
const ALWAYS = ["formula", "space_group"];

// Returns the indices of the visible crystals in the order of a column; unknown values come last either way.
export function sorted(crystals, visible, { by, down }) {
  const key = sortKey(crystals, by);
  const found = [];
  const keys = new Array(crystals.n);
  for (let i = 0; i < crystals.n; i++) {
    if (!visible[i]) continue;
    found.push(i);
    keys[i] = key(i);
  }
  const sign = down ? -1 : 1;
  return found.sort((a, b) => {
    const [first, second] = [keys[a], keys[b]];
    if (first === second) return a - b;
    if (first === null) return 1;
    if (second === null) return -1;
    return first < second ? -sign : sign;
  });
}

function sortKey(crystals, by) {
  if (by === "formula") return (i) => crystals.formulas[i] || null;
  if (by === "id") return (i) => crystals.ids[i];
  if (by === "set") return (i) => crystals.set[i];
  if (by === "space_group") return (i) => crystals.spg_num[i] || null;
  return (i) => crystals.value(by, i);
}

export class ResultList {
  constructor(app) {
    this.app = app;
    this.scroller = $("rows");
    this.body = make("div", { class: "body" });
    this.scroller.append(this.body);
    this.active = 0;
    this.scroller.addEventListener("scroll", () => this._rows());
    this.scroller.addEventListener("keydown", (event) => this._key(event));
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this._choose(Number(row.dataset.place), true);
    });
    $("sort").addEventListener("change", () => this.sort($("sort").value, false));
    new ResizeObserver(() => this._rows()).observe(this.scroller);
    this._choices();
  }

  // The third column can be any property; sorting by it is what its menu and its head do.
  _choices() {
    const columns = [...this.app.crystals.columns.values()].filter(({ kind, yes }) => kind === "number" || yes);
    const named = [["id", "id"], ["set", "set"], ...columns.map(({ name, label }) => [name, label])];
    $("sort").replaceChildren(...named.map(([value, label]) => make("option", { value }, label)));
    for (const button of document.querySelectorAll("#list [data-sort]")) {
      button.addEventListener("click", () => {
        const { by, down } = this.app.state.sort;
        const wanted = button.dataset.sort || $("sort").value;
        this.sort(wanted, wanted === by && !down);
      });
    }
    this.third = this.app.state.sort.by;
  }

  sort(by, down) {
    if (!ALWAYS.includes(by)) this.third = by;
    this.app.state.sort = { by, down };
    this.app.order = null;
    this.scroller.scrollTop = 0;
    this.draw();
  }

  draw() {
    const order = this.app.results();
    const { by, down } = this.app.state.sort;
    $("sort").value = this.third;
    for (const button of document.querySelectorAll("#list [data-sort]")) {
      const own = (button.dataset.sort || this.third) === by;
      button.dataset.direction = own ? (down ? "down" : "up") : "";
    }
    const direction = down ? "falling" : "rising";
    const label = `${counted(order.length)} crystals by ${by.replace(/_/g, " ")}, ${direction}`;
    this.scroller.setAttribute("aria-label", label);
    this.body.style.height = `${order.length * ROW}px`;
    $("list-empty").hidden = order.length > 0;
    this.mark();
  }

  // Shows which crystal is chosen and scrolls to it.
  mark() {
    const at = this.app.results().indexOf(this.app.state.chosen);
    if (at >= 0) {
      this.active = at;
      const { scroller } = this;
      const top = at * ROW;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      if (top + ROW > scroller.scrollTop + scroller.clientHeight) {
        scroller.scrollTop = top + ROW - scroller.clientHeight;
      }
    } else this.active = 0;
    this._rows();
  }

  _rows() {
    const order = this.app.results();
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - SPARE);
    const last = Math.min(order.length, first + Math.ceil(this.scroller.clientHeight / ROW) + 2 * SPARE);
    const rows = [];
    for (let place = first; place < last; place++) rows.push(this._row(order[place], place, order.length));
    this.body.replaceChildren(...rows);
    this.scroller.setAttribute("aria-activedescendant", order.length ? `row-${this.active}` : "");
  }

  _row(i, place, total) {
    const { crystals, state } = this.app;
    const dot = make("i", { style: `background:${setColour(crystals.setOf(i))}`, title: crystals.setOf(i).name });
    const name = make("span", { class: "name" }, [
      make("b", {}, formulaNodes(crystals.formulas[i])),
      make("small", {}, crystals.ids[i]),
    ]);
    const group = crystals.spg_num[i] ? `${crystals.header.space_groups[crystals.spg_num[i]]}` : "–";
    const selected = String(i === state.chosen);
    const attributes = { id: `row-${place}`, role: "option", "aria-selected": selected, "data-place": place };
    const counts = { "aria-setsize": total, "aria-posinset": place + 1 };
    const style = `top:${place * ROW}px`;
    return make("div", { ...attributes, ...counts, style }, [
      dot,
      name,
      make("span", {}, group),
      make("span", { class: "value" }, this._text(i)),
    ]);
  }

  _text(i) {
    const { crystals } = this.app;
    if (this.third === "id") return crystals.ids[i];
    if (this.third === "set") return crystals.setOf(i).name;
    return crystals.text(this.third, i) ?? "–";
  }

  _choose(place, open) {
    this.active = place;
    this.app.choose(this.app.results()[place], { centre: true, open });
  }

  // Arrows, Page up and down, Home and End walk; Enter opens the crystal.
  _key(event) {
    const last = this.app.results().length - 1;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / ROW) - 1);
    const { active } = this;
    const fresh = this.app.results()[active] !== this.app.state.chosen; // the first key goes to the marked row itself
    const targets = {
      ...{ ArrowDown: fresh ? active : active + 1, ArrowUp: active - 1, PageDown: active + page },
      ...{ PageUp: active - page, Home: 0, End: last, Enter: active },
    };
    if (last < 0 || !Object.hasOwn(targets, event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    this._choose(Math.min(last, Math.max(0, targets[event.key])), event.key === "Enter");
  }
}

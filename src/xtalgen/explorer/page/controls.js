// Buttons, fields and sliders.

import { axisColumns } from "./axes.js";
import { symmetricCif } from "./cif.js";
import { isDark } from "./colours.js";
import { $, counted, fixed, isPressed, make, setPressed } from "./dom.js";
import { copy, save, say } from "./export.js";
import { helpRows } from "./keys.js";
import { scoreTable } from "./panels.js";

export function connect(app) {
  filterControls(app);
  mapControls(app);
  crystalControls(app);
}

function on(id, action, kind = "click") {
  $(id).addEventListener(kind, action);
}

function filterControls(app) {
  on("query", () => app.change({ query: $("query").value }), "input");
  on("colour", () => app.change({ colour: $("colour").value, categories: new Set() }), "change");
  on("all-sets", () => app.change({ sets: new Set() }));
  on("no-flags", () => app.change({ flags: new Set(), hull: null }));
  on("dim", () => app.change({ dim: $("dim").checked }), "change");
  on("across", () => app.arrange(...axesChosen(app, "across")), "change");
  on("up", () => app.arrange(...axesChosen(app, "up")), "change");
  on("no-notice", () => {
    $("notice").hidden = true;
  });
  on("hull", () => app.change({ hull: hullLimit(Number($("hull").value)) }), "input");
  on("lasso", () => app.setLasso(!app.map.lassoMode));
  on("unlasso", () => app.change({ lasso: null }));
  on("csv", () => save("crystals.csv", app.csv(), "text/csv"));
}

// Both axes are properties, or neither: the second one starts with a property that is not the first.
function axesChosen({ crystals, state }, changed) {
  const across = $("across").value;
  if (!across) return ["", ""];
  const others = axisColumns(crystals).filter(({ name }) => name !== across);
  const up = changed === "up" ? $("up").value : state.y || others[0]?.name || across;
  return [across, up];
}

// The slider goes from -0.2 to 0.8 eV/atom; its right end is no limit.
function hullLimit(at) {
  return at === 100 ? null : at / 100 - 0.2;
}

function mapControls(app) {
  const { map } = app;
  on("zoom-in", () => map.zoom(1.7, undefined, undefined, false));
  on("zoom-out", () => map.zoom(1 / 1.7, undefined, undefined, false));
  on("fit", () => map.fit());
  on("theme", () => app.theme(isDark() ? "light" : "dark"));
  on("help", () => $("about").showModal());
}

function crystalControls(app) {
  const { crystals, state } = app;
  on("previous", () => app.step(-1));
  on("next", () => app.step(1));
  on("stage", () => app.stage(Number($("stage").value)), "input");
  for (const option of ["supercell", "spin", "conventional", "polyhedra"]) {
    on(option, () => {
      setPressed(option, !isPressed(option));
      for (const view of [app.view, app.otherView]) view.set(option, isPressed(option));
    });
  }
  on("compare", () => app.pin(state.pinned < 0 ? state.chosen : -1));
  on("full", () => app.fill(!isPressed("full")));
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement) app.fill(false);
  });
  const fileName = () =>
    `${crystals.formulas[state.chosen]}-${crystals.ids[state.chosen]}`.replace(/[^A-Za-z0-9._-]/g, "_");
  on("copy", () => copy(app.cif(), "CIF copied"));
  on("download", () => save(`${fileName()}.cif`, app.cif(), "chemical/x-cif"));
  on("symmetric", () => {
    const text = symmetricCif(crystals, state.chosen);
    if (text) save(`${fileName()}-symmetric.cif`, text, "chemical/x-cif");
    else say("Its atoms obey no space group beyond P 1 closely enough. “Save CIF” lists them all.", 4000);
  });
  on("link", () => copy(location.href, "Link copied"));
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.addEventListener("click", () => app.tab(tab.dataset.tab));
  }
}

// Fills the static parts: texts, scores, choices of colour and filters.
export function fillPage(app) {
  const { header, columns } = app.crystals;
  const paragraphs = (lines) => lines.map((line) => make("p", {}, line));
  $("notes").replaceChildren(...paragraphs(header.notes));
  $("sources").replaceChildren(...paragraphs(header.sources));
  $("keys").replaceChildren(...helpRows());
  fillScores(header);
  const options = Object.entries(app.colourings).map(([value, { label }]) => make("option", { value }, label));
  $("colour").replaceChildren(...options);
  const axes = axisColumns(app.crystals).map(({ name, label }) => make("option", { value: name }, label));
  $("across").replaceChildren(make("option", { value: "" }, "similarity (map)"), ...axes);
  $("up").replaceChildren(...axes.map((option) => option.cloneNode(true)));
  const filters = [...columns.values()].filter((column) => column.filter);
  $("flags").replaceChildren(...filters.map((column) => filterButton(app, column)));
  const hasHull = columns.has("e_above_hull");
  $("flags").parentElement.hidden = !filters.length && !hasHull;
  $("hull").parentElement.hidden = !hasHull;
}

// The scores; their colours depend on the theme.
export function fillScores(header) {
  $("scores").replaceChildren(...scoreTable(header));
}

function filterButton(app, { name, yes }) {
  const button = make("button", { "data-flag": name, "aria-pressed": "false" }, yes);
  button.addEventListener("click", () => {
    const flags = new Set(app.state.flags);
    if (!flags.delete(name)) flags.add(name);
    app.change({ flags });
  });
  return button;
}

// Shows the state in the controls.
export function showState({ crystals, drawn, map, state }) {
  const { generated, references, unplaced } = tallied(crystals, map);
  $("count").textContent = `${counted(generated[0])} of ${counted(generated[1])} crystals`;
  $("references").textContent = references[1]
    ? `+ ${counted(references[0])} of ${counted(references[1])} reference`
    : "";
  $("map").classList.toggle("plotted", Boolean(map.axes));
  $("embedding").textContent = map.axes ? axesText(map.axes, unplaced) : crystals.header.embedding;
  $("message").textContent = emptyText(crystals, drawn, map.visible);
  if ($("query").value !== state.query) $("query").value = state.query;
  $("colour").value = state.colour;
  $("across").value = state.x;
  $("up").value = state.y;
  for (const part of document.querySelectorAll(".up")) part.hidden = !state.x;
  for (const button of $("flags").children) {
    button.setAttribute("aria-pressed", String(state.flags.has(button.dataset.flag)));
  }
  $("hull").value = state.hull === null ? 100 : Math.round((state.hull + 0.2) * 100);
  $("hull-label").textContent = state.hull === null ? "any" : `≤ ${fixed(state.hull, 2, "eV/atom")}`;
  $("unlasso").hidden = !state.lasso;
  $("dim").checked = state.dim;
}

// Crystals shown and all, of the generated and of the reference sets, and those without a place.
function tallied(crystals, { visible, placed }) {
  const generated = [0, 0];
  const references = [0, 0];
  let unplaced = 0;
  for (let i = 0; i < crystals.n; i++) {
    const counts = crystals.setOf(i).reference ? references : generated;
    counts[0] += visible[i];
    counts[1]++;
    unplaced += 1 - placed[i];
  }
  return { generated, references, unplaced };
}

function axesText(axes, unplaced) {
  const spread = axes.some(({ whole }) => whole) ? "Whole numbers are spread a little. " : "";
  return `${spread}${unplaced ? `${counted(unplaced)} crystals without these values are not drawn.` : ""}`;
}

function emptyText(crystals, drawn, visible) {
  if (!crystals.n) return "There are no crystals in these sets.";
  if (visible.includes(1)) return "";
  if (drawn.includes(1)) return "No crystal matches the search and filters: all are dimmed. Press Esc to clear them.";
  return "No crystal matches the search and filters. Press Esc to clear them.";
}

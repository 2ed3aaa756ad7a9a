// Buttons, fields and sliders.

import { isDark } from "./colours.js";
import { $, counted, fixed, isPressed, make, setPressed } from "./dom.js";
import { copy, save } from "./export.js";
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
  on("hull", () => app.change({ hull: hullLimit(Number($("hull").value)) }), "input");
  on("lasso", () => app.setLasso(!app.map.lassoMode));
  on("unlasso", () => app.change({ lasso: null }));
  on("csv", () => save("crystals.csv", app.csv(), "text/csv"));
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
  const { crystals, state, view } = app;
  on("previous", () => app.step(-1));
  on("next", () => app.step(1));
  on("stage", () => view.show(state.chosen, Number($("stage").value), true), "input");
  on("supercell", () => {
    setPressed("supercell", !isPressed("supercell"));
    view.setRepeat(isPressed("supercell") ? 2 : 1);
  });
  on("spin", () => {
    setPressed("spin", !isPressed("spin"));
    view.setSpin(isPressed("spin"));
  });
  on("copy", () => copy(app.cif(), "CIF copied"));
  on("download", () => {
    const name = `${crystals.formulas[state.chosen]}-${crystals.ids[state.chosen]}.cif`;
    save(name.replace(/[^A-Za-z0-9._-]/g, "_"), app.cif(), "chemical/x-cif");
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
  $("embedding").textContent = header.embedding;
  $("notes").replaceChildren(...paragraphs(header.notes));
  $("sources").replaceChildren(...paragraphs(header.sources));
  $("keys").replaceChildren(...helpRows());
  $("scores").replaceChildren(...scoreTable(header));
  const options = Object.entries(app.colourings).map(([value, { label }]) => make("option", { value }, label));
  $("colour").replaceChildren(...options);
  const filters = [...columns.values()].filter((column) => column.filter);
  $("flags").replaceChildren(...filters.map((column) => filterButton(app, column)));
  const hasHull = columns.has("e_above_hull");
  $("flags").parentElement.hidden = !filters.length && !hasHull;
  $("hull").parentElement.hidden = !hasHull;
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
export function showState({ crystals, map, nGenerated, state }, shown) {
  $("count").textContent = `${counted(shown)} of ${counted(nGenerated)} crystals`;
  $("message").textContent = emptyText(crystals, map.visible);
  if ($("query").value !== state.query) $("query").value = state.query;
  $("colour").value = state.colour;
  for (const button of $("flags").children) {
    button.setAttribute("aria-pressed", String(state.flags.has(button.dataset.flag)));
  }
  $("hull").value = state.hull === null ? 100 : Math.round((state.hull + 0.2) * 100);
  $("hull-label").textContent = state.hull === null ? "any" : `≤ ${fixed(state.hull, 2, "eV/atom")}`;
  $("unlasso").hidden = !state.lasso;
}

function emptyText(crystals, visible) {
  if (!crystals.n) return "There are no crystals in these sets.";
  if (visible.some((value) => value)) return "";
  return "No crystal matches the search and filters. Press Esc to clear them.";
}

// The keyboard shortcuts and their help.

import { $, make } from "./dom.js";

const HELP = [
  ["N, P", "next and previous crystal of the list"],
  ["Arrows, Enter", "in the list: walk through the crystals, open one"],
  ["R", "switch between as sampled and relaxed"],
  ["V, 2", "conventional cell, 2×2×2 cells"],
  ["O", "coordination polyhedra"],
  ["S", "spin"],
  ["M", "keep this crystal to compare it with a second one"],
  ["F", "full screen"],
  ["C, D", "copy or download the CIF"],
  ["K", "copy a link to this crystal"],
  ["L", "lasso (or Shift and drag)"],
  ["/", "search"],
  ["+, −", "zoom in or out"],
  ["0", "show the whole map"],
  ["Arrows", "on the map: move it"],
  ["T", "switch between light and dark"],
  ["Esc", "one step back: full screen, card, lasso, crystal, search and filters"],
  ["?", "this help"],
];

export function helpRows() {
  return HELP.map(([key, what]) => make("tr", {}, [make("td", {}, make("kbd", {}, key)), make("td", {}, what)]));
}

// Listens to keys pressed outside input fields.
export function listen(app) {
  const actions = actionsOf(app);
  document.addEventListener("keydown", (event) => {
    const { target, key } = event;
    const arrowInRange = target.matches("input") && key.startsWith("Arrow");
    const typing = target.matches("input[type=search], select") || arrowInRange;
    if (key === "Escape" && typing) target.blur();
    if (typing || event.ctrlKey || event.metaKey || event.altKey || $("about").open) return;
    const action = actions[key] || actions[key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function actionsOf(app) {
  const click = (id) => () => $(id).click();
  const ofCrystal = (id) => () => {
    if (app.state.chosen >= 0) $(id).click();
  };
  return {
    n: () => app.step(1),
    p: () => app.step(-1),
    r: () => app.flipStage(),
    2: ofCrystal("supercell"),
    s: ofCrystal("spin"),
    v: ofCrystal("conventional"),
    o: ofCrystal("polyhedra"),
    m: ofCrystal("compare"),
    f: ofCrystal("full"),
    c: ofCrystal("copy"),
    d: ofCrystal("download"),
    k: ofCrystal("link"),
    l: click("lasso"),
    t: click("theme"),
    "/": () => $("query").focus(),
    "?": click("help"),
    "+": click("zoom-in"),
    "=": click("zoom-in"),
    "-": click("zoom-out"),
    0: click("fit"),
    ArrowLeft: () => app.map.pan(60, 0),
    ArrowRight: () => app.map.pan(-60, 0),
    ArrowUp: () => app.map.pan(0, 60),
    ArrowDown: () => app.map.pan(0, -60),
    Escape: () => app.back(),
  };
}

// The facts of one crystal, and the table of scores.

import { setColour } from "./colours.js";
import { $, counted, fixed, formulaNodes, make } from "./dom.js";
import { fromElsewhere } from "./legend.js";

// Facts of a crystal as [name, text or node, class]. `goTo` opens another crystal on the page; without it the
// short list for the hover card is returned.
export function facts(crystals, i, goTo = null) {
  const { header } = crystals;
  const hull = crystals.value("e_above_hull", i);
  const target = (at) => (at >= 0 ? crystalLink(crystals, at, goTo) : null);
  const rows = [
    ["space group", crystals.spaceGroup(i)],
    ["energy above hull", hullText(crystals, i), hull !== null && hull <= header.metastable_below ? "good" : ""],
    ["verdict", verdicts(crystals, i).join(" · ")],
    ["validity", crystals.value("valid", i) ? "valid" : null, "good"],
    [crystals.setOf(i).reference ? "status" : "not valid", crystals.reasons(i).join("; "), "bad"],
    ["matches", header.matches[crystals.match[i]]],
    ["nearest known", target(crystals.nearest[i])],
    ["duplicate of", target(crystals.duplicate_of[i])],
  ];
  const places = goTo ? ["card", "panel"] : ["card"];
  for (const { name, label, shown } of crystals.columns.values()) {
    if (places.includes(shown)) rows.push([label, crystals.text(name, i)]);
  }
  if (goTo) rows.push(["relaxation", relaxationText(crystals, i)], ...cellFacts(crystals, i));
  return rows
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value, kind]) => [name, value, kind ?? ""]);
}

function crystalLink(crystals, at, goTo) {
  const name = `${crystals.formulas[at]} · ${crystals.ids[at]}`;
  if (!goTo) return name;
  const anchor = make("a", { href: "#", role: "button" }, name);
  anchor.addEventListener("click", (event) => {
    event.preventDefault();
    goTo(at);
  });
  return anchor;
}

function hullText(crystals, i) {
  const hull = crystals.value("e_above_hull", i);
  const before = crystals.hullBefore(i);
  if (hull === null) return null;
  return (before === null ? "" : `${fixed(before, 3)} → `) + fixed(hull, 3, "eV/atom");
}

function verdicts(crystals, i) {
  const columns = [...crystals.columns.values()].filter(({ shown }) => shown === "verdict");
  const needed = columns.filter(({ implied_by: other }) => !other || !crystals.value(other, i));
  const known = needed.map(({ name }) => crystals.text(name, i)).filter((text) => text !== null);
  const judged = !crystals.columns.has("stable") || crystals.value("stable", i) !== null;
  return judged || crystals.setOf(i).reference ? known : [...known, "stability not evaluated"];
}

function relaxationText(crystals, i) {
  const steps = crystals.value("n_steps", i);
  if (steps === null) return null;
  return [`${steps} steps`, crystals.text("converged", i)].filter((text) => text !== null).join(", ");
}

function cellFacts(crystals, i) {
  if (!crystals.n_atoms[i]) return [];
  const cell = crystals.cell(i);
  const joined = (values, digits) => values.map((value) => value.toFixed(digits)).join(", ");
  return [
    ["a, b, c", `${joined(cell.slice(0, 3), 3)} Å`],
    ["α, β, γ", `${joined(cell.slice(3), 1)}°`],
    ["volume", fixed(crystals.volume(i), 1, "Å³")],
  ];
}

// The hover card.
export function card(crystals, i) {
  const formula = make("span", {}, formulaNodes(crystals.formulas[i]));
  const title = make("h3", {}, [formula, make("small", {}, crystals.setOf(i).name)]);
  const rows = facts(crystals, i).flatMap(([name, value, kind]) => [
    make("dt", {}, name),
    make("dd", { class: kind }, value),
  ]);
  return [title, make("small", {}, crystals.ids[i]), make("dl", {}, rows)];
}

// The scores of all sets: under each metric one row per set, so that any number of sets can be read in a narrow panel.
export function scoreTable(header) {
  const sets = header.sets.filter((set) => set.metrics);
  if (!sets.length) return [make("p", { class: "empty" }, "These sets have no metrics.")];
  const metrics = header.metrics.filter((metric) => sets.some((set) => set.metrics[metric.name]));
  const meanings = Object.entries(header.marks).filter(([mark]) =>
    sets.some((set) => Object.values(set.marks).includes(mark)),
  );
  const legend = meanings.map(([mark, meaning]) => `${mark} ${meaning}. `).join("");
  const note = `${legend}↑ higher is better, ↓ lower. Shares are of all crystals requested; intervals and bars are 95 %.`;
  return [
    make("p", { class: "note" }, note),
    make(
      "table",
      { class: "sizes" },
      make(
        "tbody",
        {},
        sets.map((set) => sizeRow(set, sets)),
      ),
    ),
    make("table", { class: "scores" }, [
      make("colgroup", {}, [make("col", { class: "names" }), make("col"), make("col", { class: "bars" })]),
      ...metrics.map((metric) => scoreRows(metric, sets)),
    ]),
  ];
}

// A set with its number of crystals, and where it comes from if that differs.
function sizeRow(set, sets) {
  const origin = fromElsewhere(sets) ? `${set.origin}, ` : "";
  return make("tr", {}, [nameCell(set), make("td", {}, `${origin}n = ${counted(set.n)}`)]);
}

function nameCell(set) {
  const parts = set.name.split(/(?<=[/_])/).flatMap((part) => [part, make("wbr")]);
  return make("th", { scope: "row" }, [make("i", { style: `background:${setColour(set)}` }), ...parts]);
}

function scoreRows(metric, sets) {
  const unit = metric.percent || !metric.unit ? "" : ` (${metric.unit})`;
  const arrow = metric.better === "higher" ? "↑" : "↓";
  const text = [metric.definition, metric.reference].filter(Boolean).join(" ");
  const better = metric.better === "higher" ? "Higher is better." : "Lower is better.";
  const title = make("summary", {}, `${metric.label}${unit} ${arrow}`);
  const head = make(
    "th",
    { colspan: 3, scope: "rowgroup" },
    make("details", {}, [title, make("p", {}, `${text} ${better}`)]),
  );
  const known = sets.map((set) => set.metrics[metric.name]).filter((score) => score && score.value !== null);
  const bounds = known.flatMap(({ value, low, high }) => [value, low ?? value, high ?? value]);
  const ends = [Math.min(0, ...bounds), Math.max(...bounds, metric.percent ? 0.01 : 1e-9)];
  return make("tbody", {}, [
    make("tr", {}, head),
    ...sets.map((set) => scoreRow(metric, set, set.metrics[metric.name], ends)),
  ]);
}

function scoreRow(metric, set, score, ends) {
  if (!score) return null;
  if (score.value === null) {
    return make("tr", {}, [nameCell(set), make("td", { colspan: 2, class: "reason" }, score.reason || "–")]);
  }
  const mark = set.marks[metric.name];
  const [value, low, high] = [score.value, score.low, score.high].map((number) => scoreText(metric, number));
  const interval = low === null ? null : make("small", {}, `${low.replace(" %", "")} – ${high.replace(" %", "")}`);
  const title = score.n === null ? null : `n = ${score.n}`;
  return make("tr", {}, [
    nameCell(set),
    make("td", { class: mark && mark !== "≈" ? "best" : null, title }, [
      make("span", {}, value + (mark ? ` ${mark}` : "")),
      " ",
      interval,
    ]),
    make("td", { class: "bar" }, intervalBar(score, ends, setColour(set))),
  ]);
}

// A dot at the value on the line of its interval, all sets of a metric on one scale.
function intervalBar({ value, low, high }, [from, to], colour) {
  const at = (number) => 3 + (94 * (number - from)) / (to - from || 1);
  const [left, right] = [at(low ?? value), at(high ?? value)];
  const line = `left:${left.toFixed(1)}%;width:${(right - left).toFixed(1)}%;background:${colour}`;
  return make("div", { class: "interval", "aria-hidden": "true" }, [
    make("i", { style: line }),
    make("b", { style: `left:${at(value).toFixed(1)}%;background:${colour}` }),
  ]);
}

function scoreText(metric, value) {
  if (value === null) return null;
  return metric.percent ? `${(100 * value).toFixed(1)} %` : Number(value.toPrecision(3)).toString();
}

// Fills the panel of the chosen crystal, beside the pinned one unless that is -1. `goTo` opens another crystal.
export function describe(crystals, chosen, pinned, goTo) {
  const compared = pinned >= 0 ? [pinned, chosen] : [chosen];
  $("formula").replaceChildren(...formulaNodes(crystals.formulas[chosen]));
  $("other-formula").replaceChildren(...(pinned >= 0 ? formulaNodes(crystals.formulas[pinned]) : []));
  const lists = compared.map((i) => [
    ["id", crystals.ids[i]],
    ["set", crystals.setOf(i).name],
    ...facts(crystals, i, goTo),
  ]);
  const names = lists.length > 1 ? merged(lists) : lists[0].map(([name]) => name);
  const rows = names.map((name) => {
    const found = lists.map((list) => list.find(([other]) => other === name) ?? [name, "–", ""]);
    const cells = found.map(([, value, kind]) => make("td", { class: kind || null }, value));
    return make("tr", {}, [make("th", { scope: "row" }, name), ...cells]);
  });
  $("facts").replaceChildren(...rows);
  const { colour } = crystals.header.elements;
  const dot = (z) => make("i", { style: `background:${colour[z]}` });
  const present = new Set(compared.flatMap((i) => crystals.parts[i].map(([z]) => z)));
  $("elements").replaceChildren(...[...present].map((z) => make("span", {}, [dot(z), crystals.symbol(z)])));
  $("stages").hidden = !compared.some((i) => crystals.moved[i]);
  $("stage").value = 1;
  for (const id of ["copy", "download", "supercell", "spin", "conventional", "polyhedra", "symmetric", "full"]) {
    $(id).disabled = !crystals.n_atoms[chosen];
  }
}

// Names of two lists, those of the second that the first lacks after the name that they follow.
function merged([first, second]) {
  const names = first.map(([name]) => name);
  let place = 0;
  for (const [name] of second) {
    const at = names.indexOf(name);
    if (at < 0) names.splice(place++, 0, name);
    else place = at + 1;
  }
  return names;
}

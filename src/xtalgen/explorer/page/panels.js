// The facts of one crystal, and the table of scores.

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
  return needed.map(({ name }) => crystals.text(name, i)).filter((text) => text !== null);
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

// The scores of all sets: one row per metric, its definition as a tooltip.
export function scoreTable(header) {
  const sets = header.sets.filter((set) => set.metrics);
  if (!sets.length) return [make("p", { class: "empty" }, "These sets have no metrics.")];
  const metrics = header.metrics.filter((metric) => sets.some((set) => set.metrics[metric.name]));
  const origin = (set) => (fromElsewhere(sets) ? `${set.origin}, ` : "");
  const heads = sets.map((set) => make("th", {}, [set.name, make("small", {}, `${origin(set)}n = ${counted(set.n)}`)]));
  const head = make("tr", {}, [make("th", {}, ""), ...heads]);
  const body = metrics.map((metric) => scoreRow(metric, sets));
  const meanings = Object.entries(header.marks).filter(([mark]) =>
    sets.some((set) => Object.values(set.marks).includes(mark)),
  );
  const legend = meanings.map(([mark, meaning]) => `${mark} ${meaning}. `).join("");
  return [
    make("table", {}, [make("thead", {}, head), make("tbody", {}, body)]),
    make(
      "p",
      { class: "note" },
      `${legend}↑ higher is better, ↓ lower. Shares are of all crystals requested; intervals are 95 %. Hover a name for its definition.`,
    ),
  ];
}

function scoreRow(metric, sets) {
  const unit = metric.percent || !metric.unit ? "" : ` (${metric.unit})`;
  const better = metric.better === "higher" ? "Higher is better." : "Lower is better.";
  const title = `${metric.definition} ${better} ${metric.reference}`;
  const arrow = metric.better === "higher" ? "↑" : "↓";
  const head = make("th", { scope: "row", title }, `${metric.label}${unit} ${arrow}`);
  return make("tr", {}, [
    head,
    ...sets.map((set) => scoreCell(metric, set.metrics[metric.name], set.marks[metric.name])),
  ]);
}

function scoreCell(metric, score, mark) {
  if (!score) return make("td", {}, "");
  if (score.value === null) return make("td", { title: score.reason }, "–");
  const [value, low, high] = [score.value, score.low, score.high].map((number) => scoreText(metric, number));
  const interval = low === null ? null : make("small", {}, `${low.replace(" %", "")} – ${high.replace(" %", "")}`);
  const title = score.n === null ? null : `n = ${score.n}`;
  return make("td", { class: mark && mark !== "≈" ? "best" : null, title }, [
    value + (mark ? ` ${mark}` : ""),
    interval,
  ]);
}

function scoreText(metric, value) {
  if (value === null) return null;
  return metric.percent ? `${(100 * value).toFixed(1)} %` : Number(value.toPrecision(3)).toString();
}

// Fills the panel of the selected crystal. `goTo` opens another crystal.
export function describe(crystals, i, goTo) {
  $("formula").replaceChildren(...formulaNodes(crystals.formulas[i]));
  const rows = [["id", crystals.ids[i]], ["set", crystals.setOf(i).name], ...facts(crystals, i, goTo)];
  const cells = ([name, value, kind]) => [
    make("th", { scope: "row" }, name),
    make("td", { class: kind || null }, value),
  ];
  $("facts").replaceChildren(...rows.map((row) => make("tr", {}, cells(row))));
  const { colour } = crystals.header.elements;
  const dot = (z) => make("i", { style: `background:${colour[z]}` });
  $("elements").replaceChildren(...crystals.parts[i].map(([z]) => make("span", {}, [dot(z), crystals.symbol(z)])));
  $("stages").hidden = !crystals.moved[i];
  $("stage").value = 1;
  for (const id of ["copy", "download", "supercell", "spin"]) $(id).disabled = !crystals.n_atoms[i];
}

// What is said about a crystal, and the table of scores.

const YES = [["unique", "first of its kind", "a duplicate"], ["novel", "novel", "known"], ["stable", "stable", null], ["metastable", "metastable", "not metastable"]];
const fixed = (value, digits, unit = "") => (value === null || Number.isNaN(value) ? null : `${value.toFixed(digits).replace("-", "−")}${unit ? ` ${unit}` : ""}`);

// Formula with its numbers as subscripts.
function formulaNodes(text) {
  return text ? text.split(/(\d+)/).filter(Boolean).map((part) => (/^\d/.test(part) ? make("sub", {}, part) : part)) : ["no geometry"];
}

// Facts as [name, text or node, class]; `goTo` makes names of other crystals on the page into links.
function facts(crystals, i, goTo = null) {
  const found = [], add = (name, value, kind = "") => { if (value !== null && value !== undefined && value !== "") found.push([name, value, kind]); };
  const set = crystals.set_of(i), before = crystals.hullBefore(i), hull = crystals.hull(i);
  const reasons = crystals.reasons(i), name = (at) => `${crystals.formulas[at]} · ${crystals.ids[at]}`;
  const link = (at) => {
    if (!goTo) return name(at);
    const anchor = make("a", { href: "#", role: "button" }, name(at));
    anchor.addEventListener("click", (event) => { event.preventDefault(); goTo(at); });
    return anchor;
  };
  add("space group", crystals.spaceGroup(i));
  add("energy above hull", hull === null ? null : `${before === null ? "" : `${fixed(before, 3)} → `}${fixed(hull, 3, "eV/atom")}`, hull <= crystals.header.metastable_below ? "good" : "");
  const verdicts = YES.map(([flag, yes, no]) => ({ true: yes, false: no }[crystals.flag(flag, i)])).filter(Boolean);
  add("verdict", [...(crystals.flag("sun", i) ? ["S.U.N."] : crystals.flag("msun", i) ? ["M.S.U.N."] : []), ...verdicts.filter((word, k, all) => !(word === "metastable" && all.includes("stable")))].join(" · "));
  if (crystals.flag("valid", i) === true) add("validity", "valid", "good");
  add(set.reference ? "" : "not valid", reasons.join("; "), "bad");
  const match = crystals.match ? crystals.match[i] : 0;
  if (match) add("matches", crystals.header.matches[match]);
  const nearest = crystals.nearest ? crystals.nearest[i] : MISSING;
  if (nearest >= 0) add("nearest known", link(nearest));
  const twin = crystals.duplicate_of ? crystals.duplicate_of[i] : MISSING;
  if (twin >= 0) add("duplicate of", link(twin));
  add("matches its target", { true: "yes", false: "no" }[crystals.flag("matched", i)]);
  if (goTo) {
    add("moved by relaxation", fixed(crystals.number("rmsd", i, 1e-3), 2, "Å"));
    const steps = crystals.number("n_steps", i, 1), converged = crystals.flag("converged", i);
    add("relaxation", steps === null ? null : `${steps} steps, ${converged ? "converged" : "not converged"}`);
  }
  add("atoms", crystals.n_atoms[i] || null);
  add("density", fixed(crystals.density[i], 2, "g/cm³"));
  if (goTo && crystals.n_atoms[i]) {
    const cell = crystals.cell(i);
    add("a, b, c", `${cell.slice(0, 3).map((value) => value.toFixed(3)).join(", ")} Å`);
    add("α, β, γ", `${cell.slice(3).map((value) => value.toFixed(1)).join(", ")}°`);
    add("volume", fixed(crystals.volume(i), 1, "Å³"));
  }
  return found;
}

function card(crystals, i) {
  const title = make("h3", {}, [make("span", {}, formulaNodes(crystals.formulas[i])), make("small", {}, crystals.set_of(i).name)]);
  return [title, make("small", {}, crystals.ids[i]), make("dl", {}, facts(crystals, i).flatMap(([name, value, kind]) => [make("dt", {}, name), make("dd", { class: kind }, value)]))];
}

// The scores of all sets: one row per metric, its definition on hover.
function scoreTable(header) {
  const sets = header.sets.filter((set) => set.metrics);
  if (!sets.length) return [make("p", { class: "empty" }, "No metrics were given with these sets.")];
  const rows = header.metrics.filter((metric) => sets.some((set) => set.metrics[metric.name]));
  const write = (metric, value) => (metric.percent ? `${(100 * value).toFixed(1)} %` : Number(value.toPrecision(3)).toString());
  const body = rows.map((metric) => {
    const values = sets.map((set) => set.metrics[metric.name]);
    const known = values.filter((found) => found && found.value !== null).map((found) => found.value);
    const best = known.length > 1 ? Math[metric.better === "higher" ? "max" : "min"](...known) : null;
    const unit = metric.percent || !metric.unit ? "" : ` (${metric.unit})`;
    return make("tr", {}, [
      make("th", { scope: "row", title: `${metric.definition} ${metric.better} is better. ${metric.reference}` }, metric.label + unit),
      ...values.map((found) => {
        if (!found) return make("td", {}, "");
        if (found.value === null) return make("td", { title: found.reason }, "–");
        const interval = found.low === null ? null : make("small", {}, `${write(metric, found.low).replace(" %", "")} – ${write(metric, found.high).replace(" %", "")}`);
        return make("td", { class: found.value === best ? "best" : null, title: found.n === null ? null : `n = ${found.n}` }, [write(metric, found.value), interval]);
      }),
    ]);
  });
  const head = make("tr", {}, [make("th", {}, ""), ...sets.map((set) => make("th", {}, [set.name, make("small", {}, `n = ${set.n.toLocaleString("en")}`)]))]);
  return [make("table", {}, [make("thead", {}, head), make("tbody", {}, body)]), make("p", { class: "note" }, "Of all crystals asked for, with 95 % intervals. Hover a name for its definition.")];
}

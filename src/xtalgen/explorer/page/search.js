// Search and filters. The search takes formulas, elements, "not", chemical systems, space groups and parts of ids.

import { commonDivisor } from "./data.js";

// Returns a predicate on crystal indices, or null when the text is empty.
function parseSearch(text, crystals) {
  const symbols = crystals.header.elements.symbol.map((symbol, z) => [symbol.toLowerCase(), z]);
  const known = new Map(symbols.filter(([, z]) => z));
  const words = text.replace(/,/g, " ").split(/\s+/).filter(Boolean);
  const tests = [];
  let negate = false;
  for (const word of words) {
    if (/^(not|without)$/i.test(word)) {
      negate = true;
      continue;
    }
    if (/^(and|with|&|\+)$/i.test(word)) continue;
    const minus = /^[-!−]/.test(word);
    const test = parseWord(minus ? word.slice(1) : word, crystals, known);
    if (test) tests.push(negate || minus ? (i) => !test(i) : test);
  }
  return tests.length ? (i) => tests.every((test) => test(i)) : null;
}

function parseWord(word, crystals, known) {
  if (!word) return null;
  const group = /^(?:sg|spg|spacegroup)[:=]?(\d{1,3})$/i.exec(word);
  if (group) return (i) => crystals.spg_num[i] === Number(group[1]);
  if (known.has(word.toLowerCase()) && word.length < 3) {
    const z = known.get(word.toLowerCase());
    return (i) => crystals.parts[i].some((part) => part[0] === z);
  }
  const system = word.split(/[-–]/);
  if (system.length > 1 && system.every((part) => known.has(part.toLowerCase()))) {
    const wanted = new Set(system.map((part) => known.get(part.toLowerCase())));
    const within = (parts) => parts.length === wanted.size && parts.every(([z]) => wanted.has(z));
    return (i) => within(crystals.parts[i]);
  }
  const formula = parseFormula(word, known);
  if (formula) {
    const key = formulaKey(formula);
    return (i) => crystals.parts[i].length === formula.size && formulaKey(new Map(crystals.parts[i])) === key;
  }
  const needle = word.toLowerCase();
  return (i) => crystals.ids[i].toLowerCase().includes(needle) || crystals.setOf(i).name.toLowerCase().includes(needle);
}

// Returns atomic number → count of a formula such as LiCoO2, Ca(OH)2 or Fe₂O₃; null when it is not a formula.
function parseFormula(word, known) {
  const text = word.replace(/[₀-₉]/g, (digit) => String(digit.codePointAt(0) - 0x2080));
  if (!/^(?:[A-Z][a-z]?\d*|[()]\d*)+$/.test(text)) return null;
  const stack = [new Map()];
  for (const [, symbol, count, bracket, times] of text.matchAll(/([A-Z][a-z]?)(\d*)|([()])(\d*)/g)) {
    if (symbol) {
      if (!known.has(symbol.toLowerCase())) return null;
      const top = stack[stack.length - 1];
      const z = known.get(symbol.toLowerCase());
      top.set(z, (top.get(z) || 0) + Number(count || 1));
    } else if (bracket === "(") stack.push(new Map());
    else {
      if (stack.length < 2) return null;
      const inner = stack.pop();
      const top = stack[stack.length - 1];
      for (const [z, found] of inner) top.set(z, (top.get(z) || 0) + found * Number(times || 1));
    }
  }
  return stack.length === 1 && stack[0].size ? stack[0] : null;
}

function formulaKey(counts) {
  const divisor = commonDivisor(counts.values());
  return [...counts]
    .sort((a, b) => a[0] - b[0])
    .map(([z, count]) => `${z}:${count / divisor}`)
    .join(" ");
}

// Returns two predicates on crystals: `present`, whether its set and category are switched on, and `found`, whether it
// is what search, filters and lasso ask for. Flags and energies apply only to generated crystals.
export function crystalFilter(crystals, state, colouring, inside) {
  const search = parseSearch(state.query, crystals);
  const categories = colouring.sets ? new Set() : state.categories;
  const flags = [...state.flags];
  const judged = (i) => {
    if (!flags.every((name) => crystals.value(name, i))) return false;
    if (state.hull === null) return true;
    const hull = crystals.value("e_above_hull", i);
    return hull !== null && hull <= state.hull + 1e-9;
  };
  return {
    present: (i) => !state.sets.has(crystals.set[i]) && !(categories.size && categories.has(colouring.of(i))),
    found: (i) => (!inside || inside(i)) && (crystals.setOf(i).reference || judged(i)) && (!search || search(i)),
  };
}

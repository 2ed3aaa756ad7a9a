"""Follows one parameter of a function through the calls of the package.

    python benchmarks/walk.py xtalgen.stages.evaluate:evaluate settings --list

The value is what the parameter holds and what is taken from it by attribute or index, not what calls return. A place
is a function that gets it as an argument, or a method that uses a field that holds it. A climb is a call back into a
module that is on the way already. A name is a variable of a place that holds the value. Methods called on the value
are counted apart: there its choices are applied.
"""

import argparse
import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCES = Path(__file__).parents[1] / "src"
Place = tuple[str, str]  # a module, and in it a function, a class or a method
Function = ast.FunctionDef | ast.ClassDef


@dataclass
class Code:
    """The functions, classes and methods of a package, and what each module imports from it."""

    defined: dict[Place, Function] = field(default_factory=dict)
    imported: dict[str, dict[str, Place]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Code":
        """Returns the code below a folder."""
        code = cls()
        for path in sorted(folder.rglob("*.py")):
            module = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
            tree = ast.parse(path.read_text(encoding="utf-8"))
            code.imported[module] = {
                alias.asname or alias.name: (node.module, alias.name)
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and node.module
                for alias in node.names
            }
            for node in tree.body:
                if isinstance(node, Function):
                    code.defined[module, node.name] = node
                    code.defined |= {(module, f"{node.name}.{each.name}"): each for each in methods(node)}
        return code

    def called(self, module: str, function: ast.expr) -> Place | None:
        """Returns what a call in a module runs; a method where only one class has it. None where that is not told."""
        place = None
        if isinstance(function, ast.Name):
            here = (module, function.id)
            place = here if here in self.defined else self.imported[module].get(function.id)
        elif isinstance(function, ast.Attribute):
            owner = self.imported[module].get(function.value.id) if isinstance(function.value, ast.Name) else None
            place = (".".join(owner), function.attr) if owner else None
            if place not in self.defined:
                named = [each for each in self.defined if each[1].endswith(f".{function.attr}")]
                place = named[0] if len(named) == 1 else None
        return place if place in self.defined else None


def methods(node: Function) -> list[ast.FunctionDef]:
    """Returns the methods of a class."""
    return [each for each in node.body if isinstance(each, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []


def parameters(node: Function) -> list[str]:
    """Returns the names of a function's parameters, or of a class's fields, in order."""
    if isinstance(node, ast.ClassDef):
        return [each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and _is_name(each.target)]
    names = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
    return names[1:] if names[:1] in (["self"], ["cls"]) else names


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


@dataclass
class Walk:
    """What was found on the way of a value."""

    code: Code
    places: set[Place] = field(default_factory=set)
    climbs: set[tuple[Place, Place]] = field(default_factory=set)
    names: set[tuple[Place, str]] = field(default_factory=set)
    asked: set[str] = field(default_factory=set)
    seen: set[tuple[Place, frozenset[str]]] = field(default_factory=set)

    def visit(self, place: Place, given: Iterable[str], way: tuple[str, ...]) -> None:
        """Follows the value from a place that gets it under the names `given`."""
        state = (place, frozenset(given))
        if state in self.seen:
            return
        self.seen.add(state)
        self.places.add(place)
        node = self.code.defined[place]
        if isinstance(node, ast.FunctionDef):
            self._follow(place, node, set(given), (), way)
            return
        self.names |= {(place, name) for name in given}
        for method in methods(node):
            if any(_is_field(each, given) for each in ast.walk(method)):
                self._follow((place[0], f"{node.name}.{method.name}"), method, set(), tuple(given), way)

    def _follow(
        self, place: Place, node: ast.FunctionDef, names: set[str], fields: tuple[str, ...], way: tuple[str, ...]
    ) -> None:
        self.places.add(place)
        while more := {*self._bound(place[0], node, names, fields)} - names:
            names |= more
        self.names |= {(place, name) for name in names}
        for call in (each for each in ast.walk(node) if isinstance(each, ast.Call)):
            if isinstance(call.func, ast.Attribute) and holds(call.func.value, names, fields):
                self.asked.add(f"{place[1]}: {ast.unparse(call.func)}")
            target = self.code.called(place[0], call.func)
            if target is None:
                continue
            order = parameters(self.code.defined[target])
            given = {
                order[i] if i < len(order) else "*" for i, each in enumerate(call.args) if holds(each, names, fields)
            }
            given |= {each.arg or "**" for each in call.keywords if holds(each.value, names, fields)}
            if given:
                other = target[0] != place[0]
                if other and target[0] in way:
                    self.climbs.add((place, target))
                self.visit(target, given, (*way, target[0]) if other else way)

    def _bound(self, module: str, node: ast.FunctionDef, names: set[str], fields: tuple[str, ...]) -> Iterator[str]:
        """Yields the variables of a function that are set to the value, or to an object made of it."""
        for each in ast.walk(node):
            if isinstance(each, ast.NamedExpr) and holds(each.value, names, fields):
                yield each.target.id
            elif isinstance(each, ast.Assign):
                pairs = [(target, each.value) for target in each.targets]
                for target, value in list(pairs):
                    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                        pairs += zip(target.elts, value.elts, strict=False)
                for target, value in pairs:
                    if isinstance(target, ast.Name) and (
                        holds(value, names, fields) or self._is_made_of(module, value, names, fields)
                    ):
                        yield target.id

    def _is_made_of(self, module: str, value: ast.expr, names: set[str], fields: tuple[str, ...]) -> bool:
        if not isinstance(value, ast.Call):
            return False
        made = self.code.called(module, value.func)
        given = [*value.args, *(each.value for each in value.keywords)]
        is_class = made is not None and isinstance(self.code.defined[made], ast.ClassDef)
        return is_class and any(holds(each, names, fields) for each in given)


def _is_field(node: ast.AST, fields: Iterable[str]) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self" and node.attr in fields


def holds(node: ast.expr | None, names: set[str], fields: tuple[str, ...] = ()) -> bool:
    """Whether an expression is the value or a part of it, or holds it in a tuple, list or dictionary."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
        return _is_field(node, fields) or holds(node.value, names, fields)
    inner: list[ast.expr] = []
    if isinstance(node, ast.Tuple | ast.List):
        inner = node.elts
    elif isinstance(node, ast.Dict):
        inner = node.values
    elif isinstance(node, ast.IfExp):
        inner = [node.body, node.orelse]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        inner = [node.left, node.right]
    return any(holds(each, names, fields) for each in inner)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("function", help="MODULE:FUNCTION")
    parser.add_argument("parameter")
    parser.add_argument("--sources", type=Path, default=SOURCES, help="folder that holds the package")
    parser.add_argument("--list", action="store_true", help="name every place")
    chosen = parser.parse_args()
    module, _, function = chosen.function.partition(":")
    walk = Walk(Code.read(chosen.sources))
    walk.visit((module, function), [chosen.parameter], (module,))
    modules = {place[0] for place in walk.places}
    sys.stdout.write(
        f"{len(walk.places)} places in {len(modules)} modules, {len(walk.climbs)} climbs, {len(walk.names)} names; "
        f"{len(walk.asked)} methods called on the value\n"
    )
    if chosen.list:
        sys.stdout.writelines(f"  {place[0]}: {place[1]}\n" for place in sorted(walk.places))
        sys.stdout.writelines(f"  {asked}\n" for asked in sorted(walk.asked))

"""The syntax of CIF 1.1 (Hall, Allen & Brown, Acta Cryst. A47, 655, 1991): data blocks, items, loops, numbers.

More lenient than the standard, as many files need: data_ may be indented, a dot in DDLm and mmCIF names
(_cell.length_a) equals an underscore, a fraction (1/3) is a number.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import TextIOBase
from itertools import chain, islice

from xtalgen.io.entries import MAX_MEMBER_BYTES, CrystalError, Entry

TOKEN = re.compile(
    r"^;(?P<field>[^\n]*(?:\n(?!;)[^\n]*)*)\n;"  # a text field: from a semicolon that begins a line to the next one
    r"|\#[^\n]*"  # a comment
    r"|'(?P<single>(?:[^'\n]|'(?=\S))*)'(?=\s|$)"  # a quote inside a quoted text is not followed by white space
    r"|\"(?P<double>(?:[^\"\n]|\"(?=\S))*)\"(?=\s|$)"
    r"|(?P<word>\S+)",
    re.MULTILINE,
)
NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eEdD]([+-]?\d+))?(?:\(\d*\)?)?")
FRACTION = re.compile(r"([+-]?\d+)/(\d+)")
ITEM = re.compile(r"^\s*(data_|_\w)", re.IGNORECASE | re.MULTILINE)
CRYSTAL = re.compile(r"\s*_(cell[_.]length|atom_site[_.])", re.IGNORECASE)
PLACEHOLDERS = ("", ".", "?")
PIECE = 1 << 16  # characters
LEADING = 1 << 20  # characters of a file among which the first item of a CIF must be


@dataclass
class Block:
    """The items of a data block by lower-case name; loops hold one list per name, single items a list of one.

    broken: names of loops whose values do not fill their columns; repeated: names given twice with different values.
    """

    items: dict[str, list[str]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)

    def column(self, *names: str) -> list[str] | None:
        """Returns the values of the first of the names that the block has, None when it has none."""
        return next((self.items[name] for name in names if name in self.items), None)

    def value(self, *names: str) -> str:
        """Returns the first value of the first of the names that has one; "" for none and for placeholders."""
        values = (self.items[name][0] for name in names if self.items.get(name))
        return next((value.strip() for value in values if value.strip() not in PLACEHOLDERS), "")


def split_cif(stream: TextIOBase, name: str) -> Iterator[Entry]:
    """Yields one entry per data block that describes a crystal; a block's label counts where there are several.

    Raises ValueError for a long text in whose first million characters there is nothing of a CIF.
    """
    _check_beginning(stream)
    stream.seek(0)
    fields = has_text_fields(stream)
    stream.seek(0)
    blocks = iterate_blocks((line.rstrip("\n") for line in stream), fields)
    first = list(islice(blocks, 2))
    for label, block in chain(first, blocks):
        yield _entry(f"{name}:{label}" if len(first) > 1 else name, block)


def _check_beginning(stream: TextIOBase) -> None:
    read = 0
    while piece := stream.read(PIECE):
        read += len(piece)
        if ITEM.search(piece):
            return
        if read >= LEADING:
            raise ValueError("its first MB holds no data block and no item: not a CIF. Check what the file is.")


def _entry(name: str, block: str) -> Entry:
    if len(block) > MAX_MEMBER_BYTES:
        return Entry(name, "broken", f"longer than {MAX_MEMBER_BYTES} characters")
    return Entry(name, "cif", block)


def split_blocks(text: str) -> list[tuple[str, str]]:
    """Returns name and text of each data block that describes a crystal, in order.

    Blocks without cell and atoms (publication data) are left out, unless there is no other; a text without data_ is
    one block without a name.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return list(iterate_blocks(lines, has_text_fields(lines)))


def has_text_fields(lines: Iterable[str]) -> bool:
    """Whether semicolon lines open and close text fields: of an odd number it cannot be told which open one."""
    return sum(line.startswith(";") for line in lines) % 2 == 0


def iterate_blocks(lines: Iterable[str], fields: bool) -> Iterator[tuple[str, str]]:
    """Yields what `split_blocks` returns, block by block, from the lines of a file and `has_text_fields` of them."""
    others: list[tuple[str, str]] = []  # blocks without a crystal, kept until one has one
    name, kept, is_crystal, begun, found, inside = "", list[str](), False, False, False, False
    for line in lines:
        if fields and line.startswith(";"):
            inside = not inside
        elif not inside and line.lstrip()[:5].lower() == "data_":
            if begun and is_crystal:
                yield name, "\n".join(kept) + "\n"
                found, others = True, []
            elif begun and not found:
                others.append((name, "\n".join(kept) + "\n"))
            name, kept, is_crystal, begun = line.lstrip()[5:].strip(), [], False, True
        elif not inside and CRYSTAL.match(line):
            is_crystal = True
        kept.append(line)
    if is_crystal or not begun:
        yield name, "\n".join(kept) + "\n"
    elif not found:
        yield from [*others, (name, "\n".join(kept) + "\n")]


def read_block(text: str) -> Block:
    """Returns the items of the text of one data block."""
    block = Block()
    names: list[str] = []  # of the current loop or item
    values: list[str] = []
    in_loop = False
    for quoted, token in _tokens(text):
        lowered = token.lower()
        if not quoted and (lowered.startswith(("_", "data_", "save_")) or lowered in ("loop_", "global_", "stop_")):
            if in_loop and token[0] == "_" and not values:
                names.append(_tag(lowered))
                continue
            _close(block, names, values)
            in_loop = lowered == "loop_"
            names, values = [_tag(lowered)] if token[0] == "_" else [], []
        else:
            values.append(token)
    _close(block, names, values)
    return block


def read_number(text: str) -> float:
    """Returns a number, its uncertainty in brackets left out, or a fraction. Raises ValueError on anything else."""
    match = NUMBER.fullmatch(text.strip())
    if match:
        return float(f"{match[1]}e{match[2]}" if match[2] else match[1])
    match = FRACTION.fullmatch(text.strip())
    if match and int(match[2]):
        return int(match[1]) / int(match[2])
    raise ValueError(f"{text!r} is not a number")


def count_decimals(text: str) -> int:
    """Returns the number of digits after the decimal point."""
    match = NUMBER.fullmatch(text.strip())
    return len(match[1].partition(".")[2]) if match else 16  # a fraction is exact


def _tokens(text: str) -> Iterator[tuple[bool, str]]:
    for match in TOKEN.finditer(text):
        kind = match.lastgroup
        if kind:  # comments have none
            yield kind != "word", match[kind]


def _tag(name: str) -> str:
    return name.replace(".", "_")


def _close(block: Block, names: list[str], values: list[str]) -> None:
    """Stores the values of a loop or item."""
    width = len(names)
    if not width:
        return
    if len(values) % width or (width == 1 and not values):
        block.broken.update(names)
    for index, name in enumerate(names):
        column = values[index::width]
        if block.items.setdefault(name, column) != column:
            block.repeated.add(name)


def check_items(block: Block, prefixes: tuple[str, ...]) -> None:
    """Raises CrystalError when an item that begins with one of the prefixes was cut off or is given twice."""
    for name in sorted(block.broken):
        if name.startswith(prefixes):
            raise CrystalError("unparsable", f"cut off or damaged: the values of {name} do not fill its loop")
    for name in sorted(block.repeated):
        if name.startswith(prefixes):
            raise CrystalError("unparsable", f"{name} is given twice, with different values")

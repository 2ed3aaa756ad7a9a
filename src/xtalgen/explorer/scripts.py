"""Bundles the page's JavaScript modules into one script, since a page opened from disk may not import files."""

import re
from pathlib import Path

PAGE = Path(__file__).parent / "page"
_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let)\b)", re.MULTILINE)


def bundle(start: str = "app.js") -> str:
    """Returns the module `start` and all its imports, each once and after the modules it imports.

    The modules share one scope, so their top-level names must differ. The only form of import is `import { a, b } from
    "./c.js"`.
    """
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        if name in parts:
            return
        text = (PAGE / name).read_text(encoding="utf-8")
        parts[name] = ""  # set before its imports, so that circular imports end
        for imported in _IMPORT.findall(text):
            add(imported[1])
        del parts[name]
        parts[name] = _EXPORT.sub("", _IMPORT.sub("", text)).strip()

    add(start)
    return "\n\n".join(f"// {name}\n{text}" for name, text in parts.items())

"""Runs the cells of a notebook without Jupyter, and stores what they show.

python tests/helpers/notebook.py examples/notebook.ipynb    # writes its outputs again
"""

import ast
import contextlib
import io
import json
import sys
from pathlib import Path


def run(notebook):
    """Returns the outputs of each code cell, as notebooks store them: printed text, then the value of the last line."""
    scope, outputs = {}, []
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(cells, start=1):
        tree, text = ast.parse("".join(cell["source"])), io.StringIO()
        last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(text):
            exec(compile(tree, "<cell>", "exec"), scope)  # noqa: S102
            value = None if last is None else eval(compile(last, "<cell>", "eval"), scope)  # noqa: S307
        shown = [{"name": "stdout", "output_type": "stream", "text": lines(text.getvalue())}] if text.getvalue() else []
        if value is not None:
            data = {"text/plain": lines(repr(value))}
            if hasattr(value, "_repr_html_"):
                data = {"text/html": lines(value._repr_html_()), "text/plain": [type(value).__name__]}
            shown.append({"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"})
        outputs.append(shown)
    return outputs


def lines(text):
    return text.splitlines(keepends=True)


def main():
    file = Path(sys.argv[1])
    notebook = json.loads(file.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, (cell, shown) in enumerate(zip(code, run(notebook), strict=True), start=1):
        cell |= {"execution_count": count, "outputs": shown}
    file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

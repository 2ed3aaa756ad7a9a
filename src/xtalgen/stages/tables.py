"""Stage `tables`: all numbers of the experiment on one page, a pure function of the metrics files.

Markdown for reading, CSV in long format for further processing.
"""

from pathlib import Path

from xtalgen.metrics.result_file import read_evaluations
from xtalgen.report.long_csv import long_csv
from xtalgen.report.markdown import markdown
from xtalgen.report.published import read_published
from xtalgen.runtime.atomic import write_text


def write_tables(evaluations: list[Path], *, out_markdown: Path, out_csv: Path, published: bool) -> None:
    """Writes the tables of the given metrics files, rows in the order given.

    published: append published values of the same data sets, marked as such. The same files give the same bytes. Raises
    ContractError when a file is not a metrics file or none is given.
    """
    rows = read_evaluations(evaluations)
    known = {row.dataset for row in rows}
    others = [row for row in read_published() if row.dataset in known] if published else []
    write_text(out_markdown, markdown(rows, others))
    write_text(out_csv, long_csv(rows, others))

"""Stage `curves`: the learning curve of one training as an SVG, also of one that was killed half-way."""

from pathlib import Path

from xtalgen.report.learning_curve import draw, read_log
from xtalgen.runtime.atomic import write_bytes


def draw_curves(log: Path, *, out: Path) -> None:
    """Draws the learning curve of a log to an SVG; the same log gives the same bytes.

    Its title is the log's last two folders, RUN/TASK. Raises ValueError when the file is no training log.
    """
    drawing = draw(read_log(log), title="/".join(log.resolve().parts[-3:-1]))
    write_bytes(out, drawing)

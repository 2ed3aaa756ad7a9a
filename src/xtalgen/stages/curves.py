"""Stage `curves`: draws the learning curve of one training as an SVG, whether or not the training has finished."""

from pathlib import Path

from xtalgen.report.learning_curve import draw, read_log
from xtalgen.runtime.atomic import write_bytes


def draw_curves(log: Path, *, out: Path) -> None:
    """Draws the learning curve of a log to an SVG; the same log gives the same bytes.

    The title is the last two folders of the log's path, RUN/TASK. Raises ValueError when the file is not a training
    log.
    """
    drawing = draw(read_log(log), title="/".join(log.resolve().parts[-3:-1]))
    write_bytes(out, drawing)

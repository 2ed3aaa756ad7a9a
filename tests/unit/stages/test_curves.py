"""Learning curves: whole, half-written, empty and broken logs."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import curves as script
from xtalgen.report.learning_curve import draw, read_log, summary
from xtalgen.stages.curves import draw_curves

HEAD = "epoch,step,seconds,loss,loss_coords,val_loss,lr,skipped,samples_per_s\n"
ROWS = "0,10,1.5,2.5,1.0,,0.001,0,100\n1,20,3.0,,,2.2,0.001,10,100\n2,30,4.5,1.5,0.7,,0.001,0,120\n"


def log_file(folder, text):
    path = folder / "flowmm" / "dng" / "log.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def lines(svg):
    """Returns the number of points of each drawn curve."""
    root = ET.fromstring(svg)  # noqa: S314 - our own drawing
    paths = root.iter("{http://www.w3.org/2000/svg}path")
    return [path.get("d").count("L") + 1 for path in paths if "stroke-linecap" in path.get("style", "")]


def test_columns_are_read_with_gaps(tmp_path):
    log = read_log(log_file(tmp_path, HEAD + ROWS))
    assert log["step"].tolist() == [10, 20, 30]
    assert np.isnan(log["loss"]).tolist() == [False, True, False]
    assert log["val_loss"][1] == 2.2
    assert log.parts == ["loss_coords"]
    assert np.isnan(log["no such column"]).all()


def test_half_written_row_of_a_killed_training_is_left_out(tmp_path):
    path = log_file(tmp_path, HEAD + ROWS + "3,40,6.0,0.1")
    assert read_log(path)["step"].tolist() == [10, 20, 30]
    draw_curves(path, out=tmp_path / "curve.svg")
    assert (tmp_path / "curve.svg").read_text().endswith("</svg>\n")


def test_row_cut_in_its_last_number_is_left_out(tmp_path):
    # "1" may be the beginning of "120": only the end of the line says that a row is whole.
    assert read_log(log_file(tmp_path, HEAD + ROWS + "3,40,6.0,1.0,0.5,,0.001,0,1"))["step"][-1] == 30


def test_resumed_training_replaces_its_steps(tmp_path):
    log = read_log(log_file(tmp_path, HEAD + ROWS + "1,20,3.1,2.0,0.9,2.0,0.001,0,100\n"))
    assert log["step"].tolist() == [10, 20, 30]
    assert log["loss"].tolist() == [2.5, 2.0, 1.5]


def test_same_log_same_bytes_without_a_date(tmp_path):
    log = read_log(log_file(tmp_path, HEAD + ROWS))
    first, second = draw(log, title="a/b"), draw(log, title="a/b")
    assert first == second
    assert b"<dc:date>" not in first


def test_curve_holds_the_points(tmp_path):
    few = draw(read_log(log_file(tmp_path, HEAD + ROWS)), title="")
    many = HEAD + "".join(f"{i},{i},{i},{2 + np.cos(i)},1,,0.001,0,100\n" for i in range(50))
    assert len(draw(read_log(log_file(tmp_path, many)), title="")) > len(few)
    assert 3 in lines(few)


def test_long_logs_are_smoothed(tmp_path):
    noisy = "".join(f"{i},{i},{i},{1 + (i % 2)},,,0.001,0,100\n" for i in range(1000))
    drawing = draw(read_log(log_file(tmp_path, HEAD + noisy)), title="")
    assert b"opacity: 0.2" in drawing


@pytest.mark.parametrize(
    "row", ["", "0,1,1,nan,nan,,0.001,5,0\n", "0,1,1,-2.5,0.0,-2,0.001,0,9\n", "0,1,1,inf,1,,,,\n"]
)
def test_odd_logs_are_drawn_without_warning(tmp_path, row, recwarn):
    drawing = draw(read_log(log_file(tmp_path, HEAD + row)), title="x")
    assert drawing.startswith(b"<?xml")
    assert not recwarn.list


def test_summary_states_the_facts(tmp_path):
    text = summary(read_log(log_file(tmp_path, HEAD + ROWS)))
    assert text == ("epoch 2 · best validation 2.2 at step 20 · 100 crystals/s · 4 s · steps skipped as not finite: 10")
    assert summary(read_log(log_file(tmp_path, HEAD))) == "nothing logged yet"


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "step,los"])
def test_other_files_are_refused(tmp_path, text):
    with pytest.raises(ValueError, match=re.escape("log.csv: not a training log: columns `step` and `loss`")):
        read_log(log_file(tmp_path, text))


def test_command_line(tmp_path):
    path = log_file(tmp_path, HEAD + ROWS)
    script.main(["--log", str(path), "--out", str(tmp_path / "new" / "curve.svg")])
    assert (tmp_path / "new" / "curve.svg").stat().st_size > 5000
    with pytest.raises(SystemExit, match=r"error: .*none"):
        script.main(["--log", str(tmp_path / "none.csv"), "--out", str(tmp_path / "c.svg")])


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "log.csv").write_bytes(b"\x80\x04\x95\n")
    with pytest.raises(ValueError, match=r"log\.csv: not a training log"):
        read_log(tmp_path / "log.csv")

"""Compares the trainings that `records/campaign.py` left in a folder: one row for each set of samples, as Markdown.

    PYTHONPATH=src python records/trials.py --data DATA --out OUT

Predictions (a set with targets) are compared with the validation split of `--data`, one each; other sets are judged by
themselves. 95 % intervals. Nothing is filtered. Trials are compared on the validation split only.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import wasserstein_distance

from xtalgen.crystals import read_crystals, read_metadata, read_table
from xtalgen.metrics.distributions import num_elems
from xtalgen.metrics.statistics.intervals import rate
from xtalgen.metrics.validity import judge
from xtalgen.structure.geometry import usable
from xtalgen.structure.matcher import match_targets

HEAD = """run, set, parameters, CPU s, steps, crystals seen, validation loss, n, usable (%), structure valid (%),
composition valid (%), match rate unfiltered (%), both valid (%), RMSE unfiltered, W elements, s per 1000"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with val.parquet")
    parser.add_argument("--out", type=Path, required=True, help="folder that campaign.py wrote")
    parser.add_argument("--only", nargs="*", help="names of runs; by default all")
    options = parser.parse_args()
    val = read_crystals(options.data / "val.parquet")
    head = HEAD.replace("\n", " ").split(", ")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for folder in sorted(options.out.iterdir()):
        if (folder / "training.json").exists() and folder.name in (options.only or [folder.name]):
            for table in sorted(folder.glob("*.parquet")):
                print("| " + " | ".join(row(folder, table, val)) + " |", flush=True)


def row(folder: Path, table: Path, val: list) -> list[str]:
    """Returns the cells of a set of samples."""
    facts = json.loads((folder / "training.json").read_text())
    crystals = read_crystals(table)
    seconds = float(read_metadata(read_table(table)).get("seconds", "nan"))
    valid = judge(crystals)
    seen = facts["steps"] * facts["config"]["batch_size"]
    facts_of_run = [f"{facts['parameters']:,}", f"{facts['seconds']:.0f}", f"{facts['steps']:,}", f"{seen:,}"]
    shares = [share([usable(crystal) for crystal in crystals]), share(valid.structure), share(valid.composition)]
    matched = matching(crystals, valid.both, val)
    loss, cost = f"{facts['best_val_loss']:.4g}", f"{1000 * seconds / len(crystals):.0f}"
    return [
        *(folder.name, table.stem, *facts_of_run, loss),
        *(str(len(crystals)), *shares, *matched, distance(crystals, val), cost),
    ]


def share(flags: list[bool] | np.ndarray) -> str:
    """Returns a percentage with its 95 % interval."""
    found = rate(int(np.sum(flags)), len(flags))
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def matching(crystals: list, valid: np.ndarray, val: list) -> list[str]:
    """Returns match rates and RMSE of predictions; nothing for crystals without targets."""
    places = {crystal.id: place for place, crystal in enumerate(val)}
    own = [places.get(crystal.info.get("target_id")) for crystal in crystals]
    if None in own:
        return ["", "", ""]
    targets_valid = judge([val[place] for place in own]).both
    with tempfile.TemporaryDirectory() as work:
        found = match_targets(crystals, val, own, work=Path(work), key="", workers=1, timeout=60.0).own
    matched = np.isfinite(found)
    near = f"{found[matched].mean():.3f}" if matched.any() else "none"
    return [share(matched), share(matched & valid & targets_valid), near]


def distance(crystals: list, val: list) -> str:
    """Returns the Wasserstein distance of the numbers of elements of usable crystals to the validation split's."""
    numbers = [[num_elems(crystal) for crystal in side if usable(crystal)] for side in (crystals, val)]
    return f"{wasserstein_distance(*numbers):.3f}" if numbers[0] else "none"


if __name__ == "__main__":
    main()

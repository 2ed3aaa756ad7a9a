"""Times and sizes of the explorer: building the page, opening it in headless Chromium, hovering.

PYTHONPATH=src:tests/helpers python benchmarks/explorer.py --crystals 2000 20000
PYTHONPATH=src:tests/helpers python benchmarks/explorer.py --crystals 200000 --plane
The crystals are DiffCSP's samples of MP-20 if ../shared/data has them, otherwise five prototypes. All have a geometry
before relaxation, which is the worst case. --plane: principal components instead of UMAP.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from browser import Browser, find_chromium
from made_sets import crystal
from xtalgen.crystals import Crystal, to_table, write_table
from xtalgen.explorer import projection
from xtalgen.explorer.crystal_sets import Files
from xtalgen.stages.explorer import Options, write_explorer
from xtalgen.structure.lattice import lattice_from_parameters

SAMPLES = Path(__file__).parents[2] / "shared/data/samples/diffcsp_mp_20.npz"
HOVER = """(() => {
  const {map} = explorer, times = [];
  for (let k = 0; k < 400; k++) {
    const begun = performance.now();
    const found = map.nearest(...map.toScreen((k * 7919) % explorer.crystals.n));
    if (found >= 0) explorer.hover(found, 10, 10);
    times.push(performance.now() - begun);
  }
  times.sort((a, b) => a - b);
  return [times[200], times[395]];
})()"""
PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"


def real_crystals(count):
    if not SAMPLES.is_file():
        return [crystal(index, f"made-{index}") for index in range(count)]
    data = dict(np.load(SAMPLES))  # read once: the archive unpacks an array at every access
    ends = np.cumsum(data["num_atoms"])
    lattices = lattice_from_parameters(data["lengths"].astype(float), data["angles"].astype(float))
    rows = []
    for index in range(count):
        pick = index % len(ends)
        atoms = slice(ends[pick] - data["num_atoms"][pick], ends[pick])
        places = data["frac_coords"][atoms].astype(float) % 1.0
        rows.append(Crystal(f"diffcsp-{index}", "ok", lattices[pick], places, data["atom_types"][atoms].astype("u1")))
    return rows


def write(folder, count):
    generator = np.random.default_rng(0)
    rows = real_crystals(count)
    relaxed, described = [], []
    centres = generator.normal(size=(40, 64)) * 3
    for row in rows:
        moved = (row.frac_coords + 0.008 * generator.normal(size=row.frac_coords.shape)) % 1.0
        above = float(generator.gamma(1.2, 0.12) - 0.03)
        flags = {
            name: bool(generator.random() < share) for name, share in (("valid", 0.9), ("unique", 0.9), ("novel", 0.8))
        }
        info = {"e_above_hull": above, "stable": above <= 0, "metastable": above <= 0.1, **flags}
        lattice = row.lattice * (1 + 0.02 * generator.normal())
        relaxed.append(Crystal(row.id, "ok", lattice, moved, row.atomic_numbers, info))
        vector = centres[generator.integers(40)] + generator.normal(size=64)
        info = {"descriptor": vector.astype("f4"), "spg_num": 1 + int(generator.integers(230))}
        described.append(Crystal(row.id, "ok", row.lattice, row.frac_coords, row.atomic_numbers, info))
    kinds = dict.fromkeys(("stable", "metastable", "valid", "unique", "novel"), pa.bool_())
    write_table(to_table(rows), folder / "sample.parquet")
    write_table(to_table(relaxed, {"e_above_hull": pa.float64(), **kinds}), folder / "evaluated.parquet")
    described_kinds = {"descriptor": pa.list_(pa.float32()), "spg_num": pa.int64()}
    write_table(to_table(described, described_kinds), folder / "embedding.parquet", embedding="random clusters")
    return Files("bench/dng", *(folder / f"{name}.parquet" for name in ("evaluated", "sample", "embedding")))


def measure(count, folder):
    files = write(folder, count)
    page = folder / "page.html"
    times = {}
    for name in ("first build", "build, positions kept"):
        begun, cpu = time.perf_counter(), time.process_time()
        options = Options(max_crystals=None, max_reference=None)
        write_explorer([files], [], options=options, umap=projection.UmapConfig(), cache=folder / "cache", out=page)
        times[name] = f"{time.perf_counter() - begun:.1f} s wall, {time.process_time() - cpu:.1f} s CPU"
    times["page"] = f"{page.stat().st_size / 1e6:.2f} MB"
    if find_chromium() is None:
        return times | {"browser": "no Chromium program"}
    browser = Browser(1400, 860)
    try:
        begun = time.perf_counter()
        browser.open(page)
        times["opened, all points drawn"] = f"{time.perf_counter() - begun:.2f} s"
        times["first paint"] = f"{browser.run(PAINT) or float('nan'):.0f} ms"
        times["hover (median, 99 %)"] = "{:.2f}, {:.2f} ms".format(*browser.run(HOVER))
        begun = time.perf_counter()
        browser.run("explorer.choose(0)")
        browser.wait("document.querySelector('#scene canvas') && explorer.view.shown === 0")
        times["first crystal in 3D"] = f"{time.perf_counter() - begun:.2f} s"
    finally:
        browser.close()
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--plane", action="store_true", help="principal components in place of UMAP")
    args = parser.parse_args()
    if args.plane:
        projection.FEWEST = 10**9
    for count in args.crystals:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({"crystals": count, **measure(count, Path(folder))}, indent=1), flush=True)


if __name__ == "__main__":
    main()

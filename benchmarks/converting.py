"""Reading and writing large files: seconds, seconds until progress is shown, and peak memory of all processes together.

    python benchmarks/converting.py [--crystals 50000] [--from cif.zip] [--to parquet] [--workers 2]
    python benchmarks/converting.py --frames 1000000
    python benchmarks/converting.py --rubbish 1000

The file is made of the embedded crystals, again and again, under names of their own. --frames: an extended XYZ file of
so many cells of two atoms. --rubbish: so many MB of text that is of no format, under every suffix of a text.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import termios
import threading
import time
import zipfile
from pathlib import Path

import psutil

from xtalgen.datasets.embedded import all_records
from xtalgen.io.structure_files import FORMATS, read_crystal
from xtalgen.io.writers.encoding import to_cif, to_frame, to_json

FRAME = '2\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3\nNa 0 0 0\nCl 2 2 {z}\n'
LOREM = "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore.\n"
SUFFIXES = {"parquet": ".parquet", "extxyz": ".extxyz", "cif": ".zip", "jsonl": ".jsonl", "csv": ".csv", "ase": ".db"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=50_000)
    parser.add_argument("--from", dest="source", choices=MAKERS, default="cif.zip")
    parser.add_argument("--to", choices=SUFFIXES, default="parquet")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--frames", type=int, help="cells of two atoms in an extended XYZ file")
    parser.add_argument("--rubbish", type=int, help="MB of a text that is of no format")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.rubbish:
            for suffix in sorted(suffix for suffix, form in FORMATS.items() if not form.binary):
                path = write_rubbish(Path(folder) / f"mine{suffix}", arguments.rubbish)
                measure(path, Path(folder) / "out.parquet", arguments)
                path.unlink()
            return
        made = "extxyz" if arguments.frames else arguments.source
        path = Path(folder) / f"mine.{made.split('.')[-1]}"
        make_frames(path, arguments.frames) if arguments.frames else MAKERS[made](path, arguments.crystals)
        measure(path, Path(folder) / f"out{SUFFIXES[arguments.to]}", arguments)


def measure(path, out, arguments):
    """Runs the command under a terminal, so that it shows its progress, and prints what it took."""
    words = ["convert", path, "--to", arguments.to, "--out", out, "--workers", arguments.workers, "--json"]
    terminal, inside = os.openpty()
    termios.tcsetwinsize(inside, (24, 120))
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "xtalgen", *map(str, words)], stdout=subprocess.PIPE, stderr=inside, text=True
    )
    os.close(inside)
    seen = []
    threading.Thread(target=watch, args=(terminal, started, seen), daemon=True).start()
    peak = largest = 0
    while process.poll() is None:
        sizes = sizes_of(process.pid)
        peak, largest = max(peak, sum(sizes)), max(largest, *sizes, 0)
        time.sleep(0.2)
    seconds = time.perf_counter() - started
    said = process.stdout.read()
    facts = json.loads(said) if process.returncode == 0 else {}
    size = path.stat().st_size / 1e6
    first = f"{seen[0][0]:.1f} s" if seen else "never"
    print(f"{path.name} ({size:,.0f} MB) to {arguments.to}: {seconds:.1f} s, something shown after {first}")
    print(f"  peak memory of all processes {peak / 2**20:,.0f} MB, of the largest {largest / 2**20:,.0f} MB")
    print(f"  read {facts['read']:,}, written {facts['written']:,}" if facts else f"  {seen[-1][1].strip()[-300:]}")


def watch(terminal, started, seen):
    while True:
        try:
            text = os.read(terminal, 65536).decode(errors="replace")
        except OSError:
            return
        if text.strip():
            seen.append((time.perf_counter() - started, text))


def sizes_of(identifier):
    """Returns the resident memory (bytes) of a process and of all that it started."""
    try:
        process = psutil.Process(identifier)
        return [one.memory_info().rss for one in (process, *process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return [0]


def crystals(n):
    """Yields a name and a crystal, n times; the embedded ones come again and again."""
    found = [read_crystal(record.text) for record in all_records()]
    for index in range(n):
        yield f"mp-{index}", index % len(found), found[index % len(found)]


def texts(n, encode):
    """Yields a name and the text of a crystal, n times; each text is made once."""
    made = {}
    for name, place, crystal in crystals(n):
        if place not in made:
            made[place] = encode(crystal)
        yield name, made[place]


def make_cif_zip(path, n):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts(n, to_cif):
            archive.writestr(f"{name}.cif", text)


def make_csv(path, n):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["material_id", "structure"])
        writer.writerows(texts(n, to_json))


def make_extxyz(path, n):
    with path.open("w") as file:
        file.writelines(text for _, text in texts(n, to_frame))


def make_frames(path, n):
    with path.open("w") as file:
        file.writelines(FRAME.format(z=index / n) for index in range(n))


def write_rubbish(path, megabytes):
    piece = LOREM * 10_000
    with path.open("w") as file:
        for _ in range(megabytes * 1_000_000 // len(piece)):
            file.write(piece)
    return path


MAKERS = {"cif.zip": make_cif_zip, "csv": make_csv, "extxyz": make_extxyz}

if __name__ == "__main__":
    main()

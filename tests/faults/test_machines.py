"""Machines that lack what a run needs: a GPU, memory; numbers and potentials that fail; networks that break."""

import functools
import hashlib
import importlib
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from ase.build import bulk

from drill import CHECKPOINT, SAMPLES, same
from toy_potential import save_tiny_mace
from xtalgen.crystals import Crystal, read_crystals, to_table, write_table
from xtalgen.runtime.download import fetch
from xtalgen.structure.lattice import wrap


def test_what_a_machine_lacks(copy, reference, report):
    import torch

    if not torch.cuda.is_available():
        line = copy.refusal("--config", "device=cuda", "--", CHECKPOINT, said="PyTorch sees no GPU here")
        report("no GPU where the configuration wants one", f"refused: {line}")
    huge = {"steps": 2, "batch_size": 400_000}
    copy.configure(sample__per_target=100_000, sample__chunk=400_000, runs__tiny__sample=huge)
    line = copy.refusal(SAMPLES, said="Out of memory", prefix=("prlimit", f"--as={6 * 1024**3}"))
    report("out of memory in sampling (ulimit -v 6 GB)", f"refused: {line}")
    copy.configure(runs__tiny__train__learning_rate=1000.0, runs__tiny__train__max_bad_steps=5)
    line = copy.refusal(CHECKPOINT, said=r"error: .*not finite")
    report("loss is NaN", f"refused: {line}")
    copy.configure()
    copy.run()
    same(copy.folder, reference)


def misbehave(_module, arguments):
    """Hook of a checkpoint: what each element does to the potential."""
    present = arguments[0]["node_attrs"].sum(dim=0)  # elements in order: O, Mg, S, Ca, Se, Te
    if present[2] > 0:
        raise RuntimeError("the potential throws")
    if present[3] > 0:
        raise MemoryError("no more memory")
    if present[4] > 0:
        os._exit(7)
    if present[5] > 0:
        time.sleep(600)


def test_a_potential_that_fails(tmp_path, report, monkeypatch):
    monkeypatch.setattr("xtalgen.relaxation.runner.GRACE", 1.0)
    numbers = (8, 12, 16, 20, 34, 52)
    file = save_tiny_mace(tmp_path / "bad.model", numbers, misbehave, (-1.0,) * len(numbers))
    rows = []
    for formula in ("MgO", "MgS", "CaO", "MgSe", "MgTe"):
        atoms = bulk(formula, "rocksalt", a=4.3)
        places = wrap(atoms.get_scaled_positions())
        rows.append(Crystal(formula, "ok", np.array(atoms.cell.array), places, atoms.numbers.astype(np.uint8)))
    write_table(to_table(rows), tmp_path / "in.parquet")
    words = [
        "--crystals",
        "in.parquet",
        "--potential",
        str(file),
        "--sha256",  # a model with a hook is opened only under the digest that its owner names
        hashlib.sha256(file.read_bytes()).hexdigest(),
        "--fmax",
        "0.05",
        "--max-steps",
        "2",
        "--timeout",
        "4",
    ]
    monkeypatch.chdir(tmp_path)
    importlib.import_module("relax").main([*words, "--device", "cpu", "--work", "work", "--out", "out.parquet"])
    wanted = ["ok", "potential_failure", "out_of_memory", "crash", "timeout"]
    found = read_crystals(tmp_path / "out.parquet")
    assert [row.status for row in found] == wanted
    assert [row.id for row in found] == [row.id for row in rows]
    report("a potential that throws, runs out of memory, kills its process, hangs", f"survived: rows are {wanted}")


def test_a_broken_download(tmp_path, report, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    content = np.random.default_rng(0).bytes(200_000)

    class Breaks(BaseHTTPRequestHandler):
        requests = 0

        def do_GET(self):
            Breaks.requests += 1
            start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(content[start : len(content) if Breaks.requests > 2 else start + 60_000])
            self.close_connection = True

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Breaks)
    threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01), daemon=True).start()
    out, url, sha256 = (
        tmp_path / "mp.csv",
        f"http://127.0.0.1:{server.server_port}/",
        hashlib.sha256(content).hexdigest(),
    )
    fetch(url, out, sha256=sha256, pause=0.01)
    assert out.read_bytes() == content
    report("connection lost twice while downloading", f"survived: {Breaks.requests} requests, resumed")
    for harmed in (content[:1000], b"x" + content[1:]):
        out.write_bytes(harmed)
        fetch(url, out, sha256=sha256, pause=0.01)
        assert out.read_bytes() == content
    report("downloaded file cut off or altered", "survived: fetched again")
    server.shutdown()

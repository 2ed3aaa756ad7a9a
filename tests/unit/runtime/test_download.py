import functools
import gzip
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
import requests

from xtalgen.datasets.sources import git_blob_id
from xtalgen.runtime import download
from xtalgen.runtime.download import DownloadError, fetch

CONTENT = np.random.default_rng(0).bytes(300_000)
BLOB = git_blob_id(CONTENT)


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; `server.plan` says how the next requests fail, `server.ranges` whether parts are served."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers.get("Range"))
        step = server.plan.pop(0) if server.plan else "ok"
        if isinstance(step, int):
            return self.answer(step, b"no")
        start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.headers["Range"] else 0
        if not start or not server.ranges:
            return self.answer(200, CONTENT, cut=step)
        if start >= len(CONTENT):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(CONTENT)}"})
        first = start + 1 if step == "other range" else start
        span = f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"
        return self.answer(206, CONTENT[start:], {"Content-Range": span}, cut=step)

    def answer(self, status, body, headers=None, cut="ok"):
        if cut == "gzip":
            body = gzip.compress(body)
            headers = {**(headers or {}), "Content-Encoding": "gzip"}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if cut == "drop":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.plan, server.asked, server.ranges = [], [], True
    server.url = f"http://127.0.0.1:{server.server_port}/file.csv"
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def get(server, tmp_path):
    out = tmp_path / "folder" / "file.csv"

    def run(**options):
        fetch(server.url, out, **{"git_blob_id": BLOB, "pause": 0.01, **options})
        return out

    run.out = out
    run.part = out.with_name("file.csv.part")
    return run


def test_whole_file_arrives_and_nothing_else(get, server):
    assert get().read_bytes() == CONTENT
    assert [path.name for path in get.out.parent.iterdir()] == ["file.csv"]
    assert server.asked == [None]


def test_a_file_that_is_there_is_not_fetched_again(get, server):
    get()
    get()
    get(git_blob_id=None)
    assert len(server.asked) == 1


def test_a_wrong_file_that_is_there_is_replaced(get):
    get.out.parent.mkdir()
    get.out.write_bytes(b"old")
    assert get().read_bytes() == CONTENT


def test_dropped_connection_is_resumed_where_it_broke(get, server):
    server.plan = ["drop", "drop"]
    assert get().read_bytes() == CONTENT
    assert server.asked[0] is None
    assert len(server.asked) == 3
    assert all(asked and asked != "bytes=0-" for asked in server.asked[1:])


def test_a_killed_download_is_resumed(get, server):
    get.out.parent.mkdir()
    get.part.write_bytes(CONTENT[:1000])
    assert get().read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]
    assert not get.part.exists()


def test_without_range_support_it_starts_again(get, server):
    server.ranges = False
    server.plan = ["drop"]
    assert get().read_bytes() == CONTENT
    assert server.asked[1].startswith("bytes=")


def test_another_range_than_asked_for_is_not_appended(get, server):
    get.out.parent.mkdir()
    get.part.write_bytes(CONTENT[:1000])
    server.plan = ["other range"]
    assert get().read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


def test_a_part_that_is_already_whole_is_taken(get, server):
    get.out.parent.mkdir()
    get.part.write_bytes(CONTENT)
    assert get().read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_part_that_is_too_long_is_thrown_away(get, server):
    get.out.parent.mkdir()
    get.part.write_bytes(CONTENT + b"more")
    assert get().read_bytes() == CONTENT
    assert server.asked[-1] is None


def test_a_part_of_another_version_is_thrown_away(get, server):
    get.out.parent.mkdir()
    get.part.write_bytes(b"x" * 1000)
    assert get().read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_overloaded_servers_are_asked_again(get, server, status):
    server.plan = [status, status]
    assert get().read_bytes() == CONTENT
    assert len(server.asked) == 3


def test_pauses_grow_and_attempts_run_out(get, server, monkeypatch):
    pauses = []
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=pauses.append))  # other threads sleep too
    server.plan = [503] * 100
    with pytest.raises(DownloadError, match=r"file\.csv: cannot download http.*503.*5 attempts.*HTTPS_PROXY"):
        get(pause=1.0)
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    assert not get.out.exists()


def test_progress_renews_the_attempts(get, server):
    server.plan = ["drop"] * 8
    assert get().read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_refusals_are_not_repeated(get, server, status):
    server.plan = [status]
    with pytest.raises(DownloadError, match=rf"answered {status}.*--source"):
        get()
    assert len(server.asked) == 1


def test_wrong_content_is_removed_and_both_sums_named(get, server):
    wanted = "0" * 40
    with pytest.raises(DownloadError) as caught:
        get(git_blob_id=wanted)
    message = str(caught.value)
    assert all(text in message for text in (str(get.out), wanted, BLOB, server.url, "removed", "--source"))
    assert list(get.out.parent.iterdir()) == []
    assert len(server.asked) == 1


def test_sha256_is_checked_too(get):
    assert get(git_blob_id=None, sha256=hashlib.sha256(CONTENT).hexdigest()).exists()
    get.out.unlink()
    with pytest.raises(DownloadError, match="sha256"):
        get(sha256="0" * 64)
    assert not get.out.exists()


def test_compressed_transfer_is_unpacked(get, server):
    server.plan = ["gzip"]
    assert get().read_bytes() == CONTENT


def test_no_server_at_all(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(DownloadError, match=r"the connection failed.*Check the network"):
        fetch(f"http://127.0.0.1:{port}/x", tmp_path / "x", pause=0.001)


def test_a_bad_address_is_no_matter_of_trying_again(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "time", SimpleNamespace(sleep=lambda _: pytest.fail("tried again")))
    with pytest.raises(DownloadError, match="Check the address"):
        fetch("htp:/nowhere", tmp_path / "x")


def test_proxies_of_the_environment_are_used(get, server, monkeypatch):
    seen = []
    send = requests.adapters.HTTPAdapter.send

    def spy(self, request, **options):
        seen.append(options["proxies"].get("http"))
        return send(self, request, **{**options, "proxies": {}})

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", spy)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    get()
    assert seen == ["http://proxy.example:3128"]

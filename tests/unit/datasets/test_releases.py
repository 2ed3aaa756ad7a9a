"""Released samples: what is fetched, and what is said of a file beside its numbers."""

import functools
import json
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from xtalgen.datasets.releases import Release, describe_release, fetch_release, read_release
from xtalgen.datasets.sources import git_blob_id
from xtalgen.runtime.download import DownloadError, check_answer

RELEASE = Release(licence="MIT", citation="A. Nobody", address="https://example.org/x/samples.csv", n=3)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves the folder `there`."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/samples.csv").write_bytes(b"cif\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path / "there"))
    thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_fetched_and_verified(server, tmp_path):
    good = Release("MIT", "A. Nobody", address=f"{server}/samples.csv", git_blob_id=git_blob_id(b"cif\n"))
    file = fetch_release("mine", good, tmp_path / "raw")
    assert (file.name, file.read_bytes()) == ("samples.csv", b"cif\n")
    other = Release("MIT", "A. Nobody", address=f"{server}/samples.csv", sha256="0" * 64)
    with pytest.raises(DownloadError, match=r"sha256 .*expected 000.*`released: \{mine: \{source: …\}\}`"):
        fetch_release("mine", other, tmp_path / "raw")
    assert not list((tmp_path / "raw").iterdir())


def test_whether_a_file_can_be_fetched_is_told_without_fetching_it(server):
    check_answer(f"{server}/samples.csv")
    with pytest.raises(DownloadError, match=r"cannot reach .*/gone\.csv \(the server answered 404"):
        check_answer(f"{server}/gone.csv")
    with pytest.raises(DownloadError, match=r"cannot reach http://127\.0\.0\.1:9/x .*Check the network"):
        check_answer("http://127.0.0.1:9/x")


def test_a_copy_that_is_not_the_published_file_says_so(tmp_path):
    copy = tmp_path / "copy.npz"
    copy.write_bytes(b"other")
    facts, caveat = describe_release(Release("MIT", "A. Nobody", sha256="0" * 64, n=3, caveat="filtered"), copy, 3)
    assert caveat == "filtered | read from a copy that is not the published file"
    assert json.loads(facts["released"]) == {
        "caveat": "filtered", "citation": "A. Nobody", "file": "copy.npz", "licence": "MIT", "n": 3, "relaxed": "none",
        "sha256": "0" * 64,
    }  # fmt: skip
    _, caveat = describe_release(Release("MIT", "A. Nobody", git_blob_id=git_blob_id(b"other"), limit=2, n=4), copy, 3)
    assert caveat == "3 crystals, the published file has 4 | the first 2 of 3 crystals"
    assert describe_release(Release("MIT", "A. Nobody", n=3), copy, 3)[1] == ""


def test_an_entry_is_read_from_json_and_nothing_unknown_is_accepted():
    assert read_release('{"licence": "MIT", "citation": "A. Nobody", "limit": 5}').limit == 5
    assert RELEASE.file == "samples.csv"
    for text in ('{"licence": "MIT"}', '{"licence": "MIT", "citation": "A", "licens": "x"}'):
        with pytest.raises(ValueError, match="no description of a release"):
            read_release(text)

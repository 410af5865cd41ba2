"""Fetching weights over HTTP, with a publisher on this machine that has the faults of real ones."""

import errno
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from publisher import Page, Publisher, empty_home, kept

import zoo.fetch
from zoo.weights_entry import WeightsEntry, WeightsError, locate

BODY = b"PK" + np.random.default_rng(0).bytes(299_998)
NO_HASH = {"sha256": None, "md5": None}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    return empty_home(monkeypatch, tmp_path)


def entry_of(url, body=BODY, file="net.npz", **fields):
    known = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
    return WeightsEntry(**{"name": "voc", "file": file, "classes": ("a",), "url": url, **known, **fields})


def refused(entry, pattern):
    with pytest.raises(WeightsError, match=pattern) as caught:
        locate(entry)
    assert "'voc'" in str(caught.value)
    return str(caught.value)


def run_locate(url, **popen):
    code = (
        "import sys, hashlib; from zoo.weights_entry import WeightsEntry, locate; print('ready', flush=True);"
        f"print(locate(WeightsEntry('voc', 'net.npz', {hashlib.sha256(BODY).hexdigest()!r}, {len(BODY)}, url={url!r})))"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **popen)


def test_a_file_is_fetched_once_and_stamped(home):
    with Publisher({"/net.npz": BODY}) as publisher:
        entry = entry_of(publisher.url("/net.npz"))
        assert locate(entry).read_bytes() == BODY
        assert locate(entry) == home / "net.npz"
        assert len(publisher.seen) == 1
    assert kept(home) == ["net.npz", "net.npz.checked"]


def test_md5_alone_will_do(home):
    with Publisher({"/net.npz": BODY}) as publisher:
        url = publisher.url("/net.npz")
        refused(entry_of(url, sha256=None, md5="0" * 32), f"MD5 {hashlib.md5(BODY).hexdigest()}, not 0000")
        assert kept(home) == []
        assert locate(entry_of(url, sha256=None, md5=hashlib.md5(BODY).hexdigest())).read_bytes() == BODY


def test_redirects_are_followed_to_http_only(home):
    pages = {"/a": Page(redirect="/net.npz"), "/net.npz": BODY, "/b": Page(redirect="file:///etc/hostname")}
    with Publisher(pages) as publisher:
        refused(entry_of(publisher.url("/b")), r"/b: .*file://")
        assert locate(entry_of(publisher.url("/a"))).read_bytes() == BODY


@pytest.mark.parametrize("url", ["ftp://host/net.npz", "file:///net.npz", "net.npz"])
def test_only_http_addresses_can_be_registered(url):
    with pytest.raises(ValueError, match="url="):
        entry_of(url)


# What the publisher does wrong for good, and what the message says of it.
WRONG = {
    "hash": (Page(BODY[::-1]), {}, rf"SHA-256 {hashlib.sha256(BODY[::-1]).hexdigest()}, not .*not"),
    "shorter": (Page(BODY[:-1]), {}, "it serves 299,999 bytes, not 300,000"),
    "shorter, no length": (Page(BODY[:-1], length=False, ranges=False), {}, "sent 299,999 of 300,000 bytes"),
    "longer, no length": (Page(BODY + b"x", length=False), {}, "more than the 300,000 bytes"),
    "page": (
        Page(b"<!DOCTYPE html>\n<title>Sign in</title>", "text/html"),
        {},
        "HTML page titled 'Sign in'.*text/html",
    ),
    "page, no hash": (Page(b"<html><p>Too many", "image/png"), {**NO_HASH, "size": None}, "an HTML page came"),
    "text": (Page(b"quota exceeded\n", "text/plain"), {**NO_HASH, "size": None}, "text that begins 'quota exceeded"),
    "pointer": (Page(b"version https://git-lfs.github.com/spec/v1\noid"), {}, "Git LFS pointer"),
    "empty": (Page(b""), {**NO_HASH, "size": None}, "empty"),
    "no zip": (Page(BODY), NO_HASH, "no whole zip archive"),
    "no hdf5": (Page(b"\x89HDF\r\n\x1a\n" + BODY[8:]), {**NO_HASH, "file": "net.h5"}, "no whole HDF5 file"),
    "gone": (Page(statuses=[404] * 9), {}, "answers 404"),
    "down": (Page(statuses=[503] * 9), {}, "answers 503.*after 3 tries"),
    "cut, no ranges": (Page(BODY, cuts=[100_000] * 9, ranges=False), {}, "connection broke .*after 3 tries"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_by_name_and_leaves_nothing(home, case):
    page, fields, pattern = WRONG[case]
    with Publisher({"/net.npz": page}) as publisher:
        entry = entry_of(publisher.url("/net.npz"), **fields)
        message = refused(entry, re.compile(pattern, re.DOTALL))
    assert entry.url in message
    assert str(home / entry.file) in message
    assert str(entry.expected) in message
    assert kept(home) == []


def test_errors_that_pass_are_tried_again(home):
    with Publisher({"/net.npz": Page(BODY, statuses=[503, 429])}) as publisher:
        assert locate(entry_of(publisher.url("/net.npz"))).read_bytes() == BODY
        assert len(publisher.seen) == 3


def test_the_server_says_how_long_to_wait(home, monkeypatch):
    waits = []
    monkeypatch.setattr("zoo.fetch.time.sleep", waits.append)
    monkeypatch.setattr("zoo.fetch.WAITS", (1.0, 2.0, 4.0))
    with Publisher({"/net.npz": Page(BODY, statuses=[429, 503, 503], retry_after=["3", "", "9999"])}) as publisher:
        locate(entry_of(publisher.url("/net.npz")))
    assert waits == [3.0, 2.0, 60.0]


def test_a_broken_transfer_goes_on_where_it_was(home):
    with Publisher({"/net.npz": Page(BODY, cuts=[100_000, 70_000])}) as publisher:
        assert locate(entry_of(publisher.url("/net.npz"))).read_bytes() == BODY
        assert publisher.ranges == [None, "bytes=100000-", "bytes=170000-"]
        assert publisher.seen[1][2]["If-Range"] == '"one"'
    assert kept(home) == ["net.npz", "net.npz.checked"]


def test_the_next_call_goes_on_after_all_tries_failed(home):
    page = Page(BODY, cuts=[100_000, 0, 0])
    with Publisher({"/net.npz": page}) as publisher:
        entry = entry_of(publisher.url("/net.npz"))
        refused(entry, "100,000 bytes are kept")
        assert [name.split("/")[0] for name in kept(home)] == [".parts", ".parts"]
        assert locate(entry).read_bytes() == BODY
        assert publisher.ranges[-1] == "bytes=100000-"
    assert kept(home) == ["net.npz", "net.npz.checked"]


def test_tries_that_bring_much_do_not_count(home, monkeypatch):
    monkeypatch.setattr(zoo.fetch, "_PROGRESS", 30_000)
    with Publisher({"/net.npz": Page(BODY, cuts=[40_000] * 6)}) as publisher:
        assert locate(entry_of(publisher.url("/net.npz"))).read_bytes() == BODY
        assert len(publisher.seen) == 7


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": '"two"'}, {"etag": '"two"', "if_range": False}])
def test_begins_anew_without_ranges_or_when_the_file_has_changed(home, change):
    # In this format nothing inside the file would tell that two versions were put together.
    with Publisher({"/net.onnx": Page(BODY[::-1], cuts=[100_000, 0, 0])}) as publisher:
        entry = entry_of(publisher.url("/net.onnx"), file="net.onnx", **NO_HASH)
        refused(entry, "bytes are kept")
        publisher.pages["/net.onnx"] = Page(BODY, **change)
        assert locate(entry).read_bytes() == BODY
        assert publisher.ranges[3] == "bytes=100000-"


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_validator_and_hash_nothing_is_put_together(home, etag):
    with Publisher({"/net.npz": Page(good_npz(), etag=etag, cuts=[100_000])}) as publisher:
        assert locate(entry_of(publisher.url("/net.npz"), good_npz(), **NO_HASH)).read_bytes() == good_npz()
        assert publisher.ranges == [None, None]


def test_a_resumed_file_with_a_wrong_hash_is_fetched_from_its_beginning(home):
    page = Page(BODY[::-1], etag=None, cuts=[100_000, 0, 0])
    with Publisher({"/net.npz": page}) as publisher:
        refused(entry_of(publisher.url("/net.npz")), "bytes are kept")
        page.body = BODY
        assert locate(entry_of(publisher.url("/net.npz"))).read_bytes() == BODY
        assert publisher.ranges[3:] == ["bytes=100000-", None]


def test_a_page_in_between_does_not_cost_what_was_fetched(home):
    whole = Page(BODY, cuts=[100_000, 0, 0])
    with Publisher({"/net.npz": whole}) as publisher:
        entry = entry_of(publisher.url("/net.npz"))
        refused(entry, "bytes are kept")
        publisher.pages["/net.npz"] = Page(b"<html><title>Log in to the train's network</title>", etag=None)
        refused(entry, "HTML page titled .Log in")
        publisher.pages["/net.npz"] = whole
        assert locate(entry).read_bytes() == BODY
        assert publisher.ranges[-1] == "bytes=100000-"


def test_a_file_that_became_shorter_is_fetched_from_its_beginning(home):
    page = Page(BODY + BODY, cuts=[400_000, 0, 0], if_range=False)
    with Publisher({"/net.npz": page}) as publisher:
        refused(entry_of(publisher.url("/net.npz"), size=None), "400,000 bytes are kept")
        page.body = BODY
        assert locate(entry_of(publisher.url("/net.npz"), size=None)).read_bytes() == BODY
        assert publisher.ranges[3:] == ["bytes=400000-", None]


def test_a_part_that_is_complete_is_only_checked(home):
    with Publisher({"/net.npz": Page(BODY, cuts=[100_000, 0, 0])}) as publisher:
        entry = entry_of(publisher.url("/net.npz"))
        refused(entry, "bytes are kept")
        next(p for p in (home / ".parts").iterdir() if p.suffix == ".npz").write_bytes(BODY)
        assert locate(entry).read_bytes() == BODY
        assert len(publisher.seen) == 3


def test_killed_in_mid_download_the_next_call_ends_well(home):
    page = Page(BODY, hold=200_000)
    with Publisher({"/net.npz": page}) as publisher:
        with run_locate(publisher.url("/net.npz")) as process:
            deadline = time.monotonic() + 180
            while not any(p.stat().st_size > 150_000 for p in home.glob(".parts/*.npz")):
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert not (home / "net.npz").exists()
        page.hold = None
        assert locate(entry_of(publisher.url("/net.npz"))).read_bytes() == BODY
        assert re.fullmatch(r"bytes=1[5-9]\d{4}-", publisher.ranges[1])
        assert len(publisher.seen) == 2
    assert kept(home) == ["net.npz", "net.npz.checked"]


def test_eight_processes_fetch_once(home):
    page = Page(BODY, hold=1000)
    with Publisher({"/net.npz": page}) as publisher:
        processes = [run_locate(publisher.url("/net.npz")) for _ in range(8)]
        try:
            assert [process.stdout.readline() for process in processes] == ["ready\n"] * 8
            page.released.set()
            ends = [process.communicate(timeout=180)[0].strip() for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert ends == [str(home / "net.npz")] * 8
        assert len(publisher.seen) == 1
    assert (home / "net.npz").read_bytes() == BODY


def test_a_disk_that_fills_up_leaves_nothing(home, monkeypatch):
    class Full(io.FileIO):
        def write(self, data):
            if self.tell() > 100_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data)

    monkeypatch.setattr(zoo.fetch, "open", lambda path, mode: Full(path, mode), raising=False)
    with Publisher({"/net.npz": BODY}) as publisher:
        refused(entry_of(publisher.url("/net.npz")), r"No space left.*net\.npz was written.* 300,000 bytes.*ZOO_HOME")
    assert kept(home) == []


def test_room_is_asked_for_before_the_first_byte(home, monkeypatch):
    monkeypatch.setattr("zoo.cache.shutil.disk_usage", lambda path: SimpleNamespace(free=299_999))
    with Publisher({"/net.npz": BODY}) as publisher:
        refused(entry_of(publisher.url("/net.npz")), r"needs 300,000 bytes, but .* only 299,999 free.*ZOO_HOME")
    assert kept(home) == []


def test_without_network_the_error_says_what_to_put_where(home):
    with Publisher({}) as publisher:
        url = publisher.url("/net.npz")
    entry = entry_of(url)  # nobody listens there any more
    message = refused(entry, r"no connection \(.*refused\), after 3 tries")
    for part in (url, "300,000 bytes", entry.sha256, f"put it at {home / 'net.npz'}"):
        assert part in message
    (home / "net.npz").write_bytes(BODY)
    assert locate(entry) == home / "net.npz"


def test_offline_means_no_network_at_all(home, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with Publisher({"/net.npz": BODY}) as publisher:
        monkeypatch.setenv("ZOO_MIRROR", publisher.address)
        entry = entry_of(publisher.url("/net.npz"))
        message = refused(entry, "ZOO_OFFLINE")
        assert publisher.seen == []
        for part in (entry.url, "300,000 bytes", entry.sha256, str(home / "net.npz")):
            assert part in message
        monkeypatch.setenv("ZOO_OFFLINE", "0")
        locate(entry)
        monkeypatch.setenv("ZOO_OFFLINE", "1")
        assert locate(entry).read_bytes() == BODY


def test_the_mirror_is_asked_first_then_the_publisher(home, monkeypatch):
    with Publisher({"/zoo/net.npz": BODY}) as mirror, Publisher({"/dir/v1.npz": BODY, "/b.npz": BODY}) as publisher:
        monkeypatch.setenv("ZOO_MIRROR", mirror.address.replace("//", "//user:secret@") + "/zoo/")
        assert locate(entry_of(publisher.url("/dir/v1.npz"))).read_bytes() == BODY
        assert publisher.seen == []
        locate(entry_of(publisher.url("/b.npz"), file="b #1.npz"))
        assert [path for _, path, _ in mirror.seen] == ["/zoo/net.npz", "/zoo/b%20%231.npz"]
        assert [path for _, path, _ in publisher.seen] == ["/b.npz"]
        message = refused(entry_of(publisher.url("/c.npz"), file="c.npz"), "404")
        assert mirror.url("/zoo/c.npz") in message
        assert publisher.url("/c.npz") in message
        assert "secret" not in message
    monkeypatch.setenv("ZOO_MIRROR", "/mnt/mirror")
    with pytest.raises(WeightsError, match=r"ZOO_MIRROR is '/mnt/mirror'.*http"):
        locate(entry_of(publisher.url("/c.npz"), file="c.npz"))


def test_what_a_mirror_has_wrong_the_publisher_gives(home, monkeypatch):
    with Publisher({"/net.npz": BODY[::-1]}) as mirror, Publisher({"/net.npz": BODY}) as publisher:
        monkeypatch.setenv("ZOO_MIRROR", mirror.address)
        assert locate(entry_of(publisher.url("/net.npz"))).read_bytes() == BODY
    assert kept(home) == ["net.npz", "net.npz.checked"]


def test_proxies_of_the_environment_are_used(home, monkeypatch):
    with Publisher({"/net.npz": BODY}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.address)
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        url = "http://publisher.invalid/net.npz"
        assert locate(entry_of(url)).read_bytes() == BODY
        assert [path for _, path, _ in proxy.seen] == [url]
        refused(entry_of("https://publisher.invalid/b.npz", file="b.npz"), "403")
        assert proxy.seen[-1][:2] == ("CONNECT", "publisher.invalid:443")


def test_the_bar_is_for_terminals(home, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with Publisher({"/a.npz": BODY, "/b.npz": Page(BODY, statuses=[503])}) as publisher:
        locate(entry_of(publisher.url("/a.npz"), file="a.npz"))
        assert capsys.readouterr() == ("", "")
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "120")
        locate(entry_of(publisher.url("/b.npz"), file="b.npz"))
    assert "b.npz" in sys.stderr.getvalue()
    assert "300.0/300.0 kB" in sys.stderr.getvalue()
    assert "answers 503 Service Unavailable; trying again" in sys.stderr.getvalue()
    assert capsys.readouterr().out == ""


def test_nothing_heavy_is_imported():
    code = (
        "import sys, zoo.fetch, zoo.weights_entry; "
        "sys.exit(', '.join({'tensorflow', 'keras', 'h5py', 'rich'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def good_npz():
    """The bytes of a whole .npz file of about 300 kB."""
    file = io.BytesIO()
    np.savez(file, weights=np.frombuffer(BODY, "uint8"))
    return file.getvalue()

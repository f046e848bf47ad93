"""Fetching against a server that behaves badly: nothing wrong ever stands at the destination."""

from __future__ import annotations

import hashlib
import io
import socket
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from sclong.errors import FetchError
from sclong.io import fetch as fetch_module
from sclong.io.download import AddressError
from sclong.io.fetch import fetch, fetch_many
from sclong.io.sources import Source, local_path

BODY = bytes(hashlib.sha256(b"body").digest() * 9_000)  # 288,000 bytes
WRONG = bytes(len(BODY))


@dataclass
class Server:
    """What the server does (`cut_first` and so on count requests down), and what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cut_first: int = 0
    cut_at: int = 100_000
    short_first: int = 0
    status_first: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    say_range: bool = True
    range_shift: int = 0
    vanishing: set[str] = field(default_factory=set)
    chunked: bool = False
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    @property
    def asked_ranges(self) -> list[str | None]:
        return [span for _, span in self.requests]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, **self.state.headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True

    def do_GET(self) -> None:
        state = self.state
        span = self.headers.get("Range")
        state.requests.append((unquote(self.path), span))
        state.gate.wait(5)
        if state.status_first:
            return self._head(state.status_first.pop(0), {"Content-Length": "0"})
        path = unquote(self.path)
        body = state.files.pop(path, None) if path in state.vanishing else state.files.get(path)
        if body is None:
            return self._head(404, {"Content-Length": "0"})
        start = int(span.removeprefix("bytes=").removesuffix("-")) if span and state.ranges else 0
        if start >= len(body) > 0:
            return self._head(416, {"Content-Range": f"bytes */{len(body)}", "Content-Length": "0"})
        rest = body[start:]
        headers = {"Content-Length": str(len(rest))}
        if start and state.say_range:
            headers["Content-Range"] = f"bytes {start + state.range_shift}-{len(body) - 1}/{len(body)}"
        if state.short_first:
            state.short_first -= 1
            rest = rest[: state.cut_at]
            headers["Content-Length"] = str(len(rest))
        if state.chunked:
            del headers["Content-Length"]
            headers["Transfer-Encoding"] = "chunked"
            rest = f"{len(rest):x}\r\n".encode() + rest + b"\r\n0\r\n\r\n"
        self._head(206 if start else 200, headers)
        if state.cut_first:
            state.cut_first -= 1
            rest = rest[: state.cut_at]
        self.wfile.write(rest)
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server(files={"/file.bin": BODY})
    state.gate.set()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def row(url: str, body: bytes = BODY, access: str = "public", file: str = "file.bin") -> Source:
    return Source("set", file, access, url, f"sha256:{hashlib.sha256(body).hexdigest()}", len(body), "CC0", "Somebody")


@pytest.fixture
def source(server: Server) -> Source:
    return row(f"{server.url}/file.bin")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data/sources/set/file.bin"


def get(source: Source, target: Path, **options: object) -> Path:
    return fetch(source, target, **{"backoff_s": 0.0, "timeout_s": 5.0, **options})  # type: ignore[arg-type]


def folder(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def mirror_of(path: Path, body: bytes, file: str = "file.bin") -> Path:
    (path / "set").mkdir(parents=True)
    (path / "set" / file).write_bytes(body)
    return path


# ------------------------------------------------------------- a good server


def test_a_file_is_fetched_whole_and_alone(server: Server, source: Source, target: Path) -> None:
    assert get(source, target) == target
    assert target.read_bytes() == BODY
    assert folder(target.parent) == ["file.bin"]
    assert server.asked_ranges == [None]


def test_a_right_file_is_kept_and_nothing_is_asked(server: Server, source: Source, target: Path) -> None:
    get(source, target)
    before = target.stat()
    get(source, target)
    assert len(server.requests) == 1
    assert (target.stat().st_ino, target.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_wrong_file_is_replaced_by_the_right_one(server: Server, source: Source, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(WRONG)
    get(source, target)
    assert target.read_bytes() == BODY


def test_chunked_answers_without_a_length_are_read(server: Server, source: Source, target: Path) -> None:
    server.chunked = True
    assert get(source, target).read_bytes() == BODY


def test_a_name_with_blanks_and_percent(server: Server, tmp_path: Path) -> None:
    name = "1.Drug list 100%#2.csv"
    server.files = {f"/mirror/set/{name}": BODY}
    source = row("mirror-only: somewhere", access="mirror", file=name)
    assert get(source, tmp_path / name, mirror=f"{server.url}/mirror/").read_bytes() == BODY


# -------------------------------------------------------- cut, short, busy


def test_cut_connections_are_resumed_by_range(server: Server, source: Source, target: Path) -> None:
    server.cut_first = 2
    assert get(source, target, retries=1).read_bytes() == BODY
    assert server.asked_ranges == [None, "bytes=100000-", "bytes=200000-"]


def test_a_cut_chunked_answer_is_resumed(server: Server, source: Source, target: Path) -> None:
    server.chunked, server.cut_first = True, 1
    assert get(source, target).read_bytes() == BODY
    assert len(server.requests) == 2
    assert server.asked_ranges[1] is not None


def test_a_server_that_does_not_say_which_bytes_it_sends_starts_over(
    server: Server, source: Source, target: Path
) -> None:
    server.say_range, server.cut_first = False, 1
    assert get(source, target).read_bytes() == BODY
    assert server.asked_ranges == [None, "bytes=100000-", None]


def test_a_short_content_length_is_not_taken_for_the_whole(server: Server, source: Source, target: Path) -> None:
    server.short_first = 1
    assert get(source, target).read_bytes() == BODY
    assert server.asked_ranges == [None, "bytes=100000-"]


def test_a_server_that_ignores_range_is_read_from_the_start(server: Server, source: Source, target: Path) -> None:
    server.ranges, server.cut_first = False, 1
    assert get(source, target).read_bytes() == BODY
    assert server.asked_ranges == [None, "bytes=100000-"]


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server: Server, source: Source, target: Path) -> None:
    server.ranges, server.cut_first = False, 10**6
    with pytest.raises(FetchError, match=r"ended after 100000 of 288000 bytes \(3 requests without progress\)"):
        get(source, target, retries=2)
    assert len(server.requests) == 4
    assert folder(target.parent) == ["file.bin.part"]


def test_what_came_before_a_failure_is_not_fetched_again(server: Server, source: Source, target: Path) -> None:
    server.cut_first, server.vanishing = 1, {"/file.bin"}
    with pytest.raises(FetchError, match="HTTP 404"):
        get(source, target)
    assert folder(target.parent) == ["file.bin.part"]
    server.files["/file.bin"] = BODY
    assert get(source, target).read_bytes() == BODY
    assert server.asked_ranges[-1] == "bytes=100000-"
    assert folder(target.parent) == ["file.bin"]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_transient_statuses_are_retried(server: Server, source: Source, target: Path, status: int) -> None:
    server.status_first = [status, status]
    assert get(source, target, retries=2).read_bytes() == BODY
    assert len(server.requests) == 3


def test_retries_end(server: Server, source: Source, target: Path) -> None:
    server.status_first = [503] * 10
    with pytest.raises(FetchError, match="HTTP 503"):
        get(source, target, retries=2)
    assert len(server.requests) == 3


def test_waits_double_and_heed_retry_after(
    server: Server, source: Source, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("sclong.io.download.time.sleep", waits.append)
    server.status_first = [503, 503, 503]
    get(source, target, backoff_s=1.0)
    assert waits == [1.0, 2.0, 4.0]
    waits.clear()
    target.unlink()
    server.status_first, server.headers = [429], {"Retry-After": "7"}
    get(source, target, backoff_s=1.0)
    assert waits == [7.0]


@pytest.mark.parametrize("status", [404, 403, 410])
def test_final_statuses_are_not_retried(server: Server, source: Source, target: Path, status: int) -> None:
    server.status_first = [status] * 5
    with pytest.raises(FetchError) as caught:
        get(source, target)
    assert len(server.requests) == 1
    assert f"{source.url}: HTTP {status}" in str(caught.value)
    assert folder(target.parent) == []


def test_a_silent_server_is_retried(server: Server, source: Source, target: Path) -> None:
    server.gate.clear()
    threading.Timer(0.4, server.gate.set).start()
    assert get(source, target, timeout_s=0.15, retries=20).read_bytes() == BODY
    assert len(server.requests) > 1


# -------------------------------------------------------------- wrong bytes


def test_wrong_bytes_are_discarded_and_both_hashes_named(server: Server, source: Source, target: Path) -> None:
    server.files["/file.bin"] = WRONG
    with pytest.raises(FetchError) as caught:
        get(source, target)
    assert server.asked_ranges == [None, None]
    message = str(caught.value)
    for word in (source.hash.partition(":")[2], hashlib.sha256(WRONG).hexdigest(), source.url, "curl", str(target)):
        assert word in message
    assert folder(target.parent) == []


def test_a_longer_file_is_wrong(server: Server, source: Source, target: Path) -> None:
    server.files["/file.bin"] = BODY + b"x"
    with pytest.raises(FetchError, match="more than the expected 288000"):
        get(source, target)
    assert folder(target.parent) == []


def test_the_old_file_survives_a_failure(server: Server, source: Source, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"old")
    server.files["/file.bin"] = WRONG
    with pytest.raises(FetchError, match="left as it was"):
        get(source, target)
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("stale", [WRONG[:5_000], BODY + b"more", WRONG], ids=["other start", "too long", "full"])
def test_a_stale_part_costs_one_more_request(server: Server, source: Source, target: Path, stale: bytes) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("file.bin.part").write_bytes(stale)
    assert get(source, target).read_bytes() == BODY
    assert server.asked_ranges[-1] is None
    assert folder(target.parent) == ["file.bin"]


def test_a_range_beyond_the_servers_file_starts_over(server: Server, source: Source, target: Path) -> None:
    server.files["/file.bin"] = BODY[:1_000]
    target.parent.mkdir(parents=True)
    target.with_name("file.bin.part").write_bytes(BODY[:2_000])
    with pytest.raises(FetchError):
        get(source, target, retries=0)
    assert server.asked_ranges[:2] == ["bytes=2000-", None]


def test_a_range_that_is_not_the_one_asked_for_starts_over(server: Server, source: Source, target: Path) -> None:
    server.cut_first, server.range_shift = 1, 5
    assert get(source, target).read_bytes() == BODY
    assert server.asked_ranges == [None, "bytes=100000-", None]


def test_a_whole_part_needs_no_request(server: Server, source: Source, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("file.bin.part").write_bytes(BODY)
    assert get(source, target).read_bytes() == BODY
    assert server.requests == []


# ------------------------------------------------------------------ mirrors


def test_a_mirror_folder_is_asked_first(server: Server, source: Source, target: Path, tmp_path: Path) -> None:
    assert get(source, target, mirror=mirror_of(tmp_path / "mirror", BODY)).read_bytes() == BODY
    assert server.requests == []
    assert folder(target.parent) == ["file.bin"]


def test_an_http_mirror_is_asked_first(server: Server, source: Source, target: Path) -> None:
    server.files["/m/set/file.bin"] = BODY
    get(source, target, mirror=f"{server.url}/m")
    assert [path for path, _ in server.requests] == ["/m/set/file.bin"]


@pytest.mark.parametrize("kind", ["folder", "http"])
def test_a_corrupt_mirror_falls_to_the_origin(
    server: Server, source: Source, target: Path, tmp_path: Path, kind: str
) -> None:
    server.files["/m/set/file.bin"] = WRONG
    mirror = mirror_of(tmp_path / "mirror", WRONG) if kind == "folder" else f"{server.url}/m"
    assert get(source, target, mirror=mirror).read_bytes() == BODY
    assert server.requests[-1][0] == "/file.bin"
    assert folder(target.parent) == ["file.bin"]


def test_bytes_of_a_cut_mirror_are_continued_at_the_origin(server: Server, source: Source, target: Path) -> None:
    server.files["/m/set/file.bin"] = BODY
    server.cut_first, server.vanishing = 1, {"/m/set/file.bin"}
    assert get(source, target, mirror=f"{server.url}/m").read_bytes() == BODY
    assert server.requests[-1] == ("/file.bin", "bytes=100000-")


def test_every_address_and_its_reason_is_named(server: Server, source: Source, target: Path, tmp_path: Path) -> None:
    server.files = {}
    mirror = mirror_of(tmp_path / "mirror", WRONG)
    with pytest.raises(FetchError) as caught:
        get(source, target, mirror=mirror)
    assert f"{mirror}/set/file.bin: wrong bytes" in caught.value.found
    assert f"{source.url}: HTTP 404" in caught.value.found


def test_mirror_only_without_a_mirror_says_so(target: Path) -> None:
    with pytest.raises(FetchError, match="no public address has these bytes, only a mirror"):
        get(row("mirror-only: converted", access="mirror"), target)


def test_a_refused_connection_is_not_retried(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("sclong.io.download.time.sleep", lambda _: pytest.fail("waited"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FetchError, match="ConnectionRefusedError"):
        get(row(f"http://127.0.0.1:{port}/file.bin"), target)


# ------------------------------------------------------------------ offline


class SocketOpenedError(Exception):
    """A test that forbids sockets saw one."""


@pytest.fixture
def no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object, **kwargs: object) -> None:
        raise SocketOpenedError

    monkeypatch.setattr(socket, "socket", forbidden)
    monkeypatch.setattr(fetch_module, "_pip_download", forbidden)


ADDRESSES = {"public": "http://127.0.0.1:9/f", "package": "pypi:a==1#b", "mirror": "mirror-only: x"}


@pytest.mark.usefixtures("no_socket")
@pytest.mark.parametrize("access", ADDRESSES)
def test_offline_opens_no_socket(target: Path, tmp_path: Path, access: str) -> None:
    source = row(ADDRESSES[access], access=access)
    for mirror in (None, "http://127.0.0.1:9/m"):
        with pytest.raises(FetchError):
            get(source, target, offline=True, mirror=mirror)
    get(source, target, offline=True, mirror=mirror_of(tmp_path / "mirror", BODY))
    get(source, target, offline=True)
    assert target.read_bytes() == BODY


@pytest.mark.usefixtures("no_socket")
@pytest.mark.parametrize("access", ["public", "package"])
def test_the_guard_of_the_test_above_works(target: Path, access: str) -> None:
    with pytest.raises(SocketOpenedError):
        get(row(ADDRESSES[access], access=access), target)


@pytest.mark.usefixtures("no_socket")
def test_offline_lists_everything_that_is_missing_at_once(tmp_path: Path) -> None:
    rows = [replace(row(url, access=access), id=access) for access, url in ADDRESSES.items()]
    here = replace(rows[0], id="here")
    sources = {s.key: s for s in [*rows, here]}
    local_path(here, tmp_path).parent.mkdir(parents=True)
    local_path(here, tmp_path).write_bytes(BODY)
    with pytest.raises(FetchError) as caught:
        fetch_many(sources, sources, tmp_path, offline=True)
    assert "3 of 4 files could not be had (offline)" in caught.value.found
    for source in rows:
        assert f"  {source.key}\n    url:     {source.url}\n    hash:    {source.hash}" in caught.value.found
        assert str(local_path(source, tmp_path)) in caught.value.found
    assert "  here/file.bin\n" not in caught.value.found


# ------------------------------------------------------------ several, disk


def test_many_go_on_after_a_failure(server: Server, source: Source, tmp_path: Path) -> None:
    bad = replace(source, file="bad.bin", url=f"{server.url}/bad.bin")
    good = replace(source, id="later")
    sources = {s.key: s for s in (bad, source, good)}
    with pytest.raises(FetchError, match="1 of 3 files") as caught:
        fetch_many(sources, sources, tmp_path, backoff_s=0)
    assert "HTTP 404" in caught.value.found
    assert local_path(good, tmp_path).read_bytes() == BODY
    server.files["/bad.bin"] = BODY
    assert fetch_many(sources, sources, tmp_path) == [local_path(s, tmp_path) for s in sources.values()]
    assert [path for path, _ in server.requests].count("/file.bin") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full to stand for a full disk")
def test_a_full_disk_is_told_with_bytes(server: Server, source: Source, target: Path) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("file.bin.part").symlink_to("/dev/full")
    with pytest.raises(FetchError) as caught:
        get(source, target)
    assert "disk is full" in caught.value.found
    assert f"needs {len(BODY)} bytes" in caught.value.found
    assert "free" in caught.value.found
    assert not target.exists()


def test_a_folder_that_is_none_is_told(server: Server, source: Source, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(FetchError, match="cannot be written"):
        get(source, tmp_path / "data/file.bin")


def test_two_at_once_fetch_one_file_once(server: Server, source: Source, target: Path) -> None:
    server.gate.clear()
    threads = [threading.Thread(target=get, args=(source, target)) for _ in range(2)]
    for thread in threads:
        thread.start()
    threading.Timer(0.2, server.gate.set).start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert target.read_bytes() == BODY
    assert folder(target.parent) == ["file.bin"]


# ----------------------------------------------------------------- packages


MEMBER = "demo_pkg/data/terms 1.obo"


def wheel(path: Path) -> Path:
    """Write a wheel that pip accepts."""
    archive = path / "demo_pkg-1.0-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("demo_pkg/__init__.py", "")
        out.writestr(MEMBER, BODY)
        out.writestr("demo_pkg-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-pkg\nVersion: 1.0\n")
        out.writestr("demo_pkg-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        out.writestr("demo_pkg-1.0.dist-info/RECORD", "")
    return archive


def sdist(path: Path) -> Path:
    archive = path / "demo_pkg-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as out:
        entry = tarfile.TarInfo(f"demo_pkg-1.0/{MEMBER}")
        entry.size = len(BODY)
        out.addfile(entry, io.BytesIO(BODY))
    return archive


@pytest.fixture
def package() -> Source:
    return row(f"pypi:demo-pkg==1.0#{MEMBER}", access="package")


def pip_gives(monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]) -> list[str]:
    asked: list[str] = []

    def download(requirement: str, path: Path) -> Path:
        asked.append(requirement)
        return make(path)

    monkeypatch.setattr(fetch_module, "_pip_download", download)
    return asked


@pytest.mark.parametrize("make", [wheel, sdist])
def test_a_member_of_a_package(
    package: Source, target: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Path]
) -> None:
    asked = pip_gives(monkeypatch, make)
    assert get(package, target).read_bytes() == BODY
    assert asked == ["demo-pkg==1.0"]
    assert folder(target.parent) == ["file.bin"]


def test_a_package_without_the_member_or_with_other_bytes(
    package: Source, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pip_gives(monkeypatch, wheel)
    with pytest.raises(FetchError, match="has no member demo_pkg/other"):
        get(replace(package, url="pypi:demo-pkg==1.0#demo_pkg/other"), target)
    with pytest.raises(FetchError, match="wrong bytes"):
        get(replace(package, hash="sha256:" + "0" * 64), target)
    assert folder(target.parent) == []


def test_what_pip_says_is_passed_on(package: Source, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(requirement: str, path: Path) -> Path:
        raise AddressError("pip download failed: ERROR: No matching distribution found")

    monkeypatch.setattr(fetch_module, "_pip_download", fails)
    with pytest.raises(FetchError, match="No matching distribution") as caught:
        get(package, target)
    assert "pip download --no-deps demo-pkg==1.0" in caught.value.action


def test_pip_itself_without_network(
    package: Source, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pip", reason=f"{sys.executable} has no pip")
    shelf = tmp_path / "shelf with blanks"
    shelf.mkdir()
    wheel(shelf)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", shelf.as_uri())
    assert get(package, target).read_bytes() == BODY
    with pytest.raises(FetchError, match=r"No matching distribution found for demo-pkg==2\.0"):
        get(replace(package, url=f"pypi:demo-pkg==2.0#{MEMBER}"), target.with_name("other"))

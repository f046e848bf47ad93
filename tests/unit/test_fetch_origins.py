"""Origins beyond one pinned file: other hashes, trust on first use, members of archives, walls, several addresses."""

from __future__ import annotations

import hashlib
import io
import logging
import re
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sclong.errors import ConfigError, FetchError
from sclong.io import archives
from sclong.io.fetch import fetch, fetch_many
from sclong.io.hashes import file_hash
from sclong.io.lock import load_lock, lock_path
from sclong.io.missing import by_hand, missing_report
from sclong.io.sources import COLUMNS, Source, load_sources, split_archive

BODY = bytes(hashlib.sha256(b"body").digest() * 20_000)
PAGE = b"<!DOCTYPE html>\n<html><title>Are you a robot?</title></html>"


@dataclass
class Server:
    files: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    length: bool = True
    fail_first: int = 0
    sent: int = 0
    requests: list[str] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        state = self.state
        state.requests.append(self.path)
        if state.fail_first:
            state.fail_first -= 1
            self.send_error(503)
            return
        body = state.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        status, headers = state.status.get(self.path, 200), {}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span and state.ranges and status == 200:
            start, stop = int(span[1]), min(int(span[2] or len(body)) + 1, len(body))
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
            body, status = body[start:stop], 206
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if state.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(body)
            state.sent += len(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    state = Server(files={"/file.bin": BODY})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def row(url: str, digest: str = "", size: int | None = None, access: str = "public") -> Source:
    return Source("set", "file.bin", access, url, digest, size, "CC0", "Somebody")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data/sources/set/file.bin"


def get(source: Source, target: Path, **options: object) -> Path:
    return fetch(source, target, **{"backoff_s": 0.0, "timeout_s": 5.0, **options})  # type: ignore[arg-type]


def hash_of(kind: str, body: bytes = BODY) -> str:
    if kind == "gitblob":
        body = b"blob %d\0" % len(body) + body
    return f"{kind}:{hashlib.new('sha1' if kind == 'gitblob' else kind, body).hexdigest()}"


# ------------------------------------------------------------------ hashes


@pytest.mark.parametrize("kind", ["sha256", "sha512", "md5", "gitblob"])
@pytest.mark.parametrize("size", [len(BODY), None])
def test_each_kind_of_hash_pins_a_file(server: Server, target: Path, kind: str, size: int | None) -> None:
    get(row(f"{server.url}/file.bin", hash_of(kind), size), target)
    assert target.read_bytes() == BODY
    server.files["/file.bin"] = BODY[::-1]
    target.unlink()
    with pytest.raises(FetchError, match=f"found {kind} "):
        get(row(f"{server.url}/file.bin", hash_of(kind), size), target)
    assert not target.exists()


def test_a_git_blob_is_what_git_says(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BODY)
    done = subprocess.run(["git", "hash-object", "file"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert file_hash(tmp_path / "file", "gitblob") == f"gitblob:{done.stdout.strip()}"


@pytest.mark.parametrize("length", [True, False])
def test_a_file_of_unknown_size_is_read_to_its_end_and_resumed(server: Server, target: Path, length: bool) -> None:
    server.length = length
    target.parent.mkdir(parents=True)
    target.with_name("file.bin.part").write_bytes(BODY[:1000])
    get(row(f"{server.url}/file.bin", hash_of("sha256")), target)
    assert target.read_bytes() == BODY
    assert server.sent == len(BODY) - 1000


# ------------------------------------------------------------------ trust on first use


def table(path: Path, source: Source) -> Path:
    cells = ["" if getattr(source, c) is None else str(getattr(source, c)) for c in COLUMNS]
    path.write_text("\t".join(COLUMNS) + "\n" + "\t".join(cells) + "\n")
    return path


def test_a_file_without_a_hash_is_trusted_once_and_locked(
    server: Server, target: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(tmp_path / "sources.tsv", row(f"{server.url}/file.bin"))
    lock = lock_path(path)
    first = load_sources(path)["set/file.bin"]
    assert not first.pinned and not first.known_hash and "no hash is published" in first.expected
    with caplog.at_level(logging.WARNING, logger="sclong"):
        get(first, target, lock=lock)
    assert "commit that file" in caplog.text
    assert load_lock(lock) == {"set/file.bin": (hash_of("sha256"), len(BODY))}

    locked = load_sources(path)["set/file.bin"]
    assert (locked.hash, locked.known_hash, locked.known_bytes) == ("", hash_of("sha256"), len(BODY))
    server.files["/file.bin"] = BODY[::-1]
    target.unlink()
    with pytest.raises(FetchError, match="as locked at its first use"):
        get(locked, target, lock=lock)
    assert load_lock(lock) == {"set/file.bin": (hash_of("sha256"), len(BODY))}


def test_a_file_put_there_by_hand_is_locked_too_and_an_empty_one_is_not_the_file(
    server: Server, target: Path, tmp_path: Path
) -> None:
    target.parent.mkdir(parents=True)
    target.write_bytes(b"")
    lock = tmp_path / "sources.lock.tsv"
    get(row(f"{server.url}/file.bin"), target, lock=lock)
    assert target.read_bytes() == BODY
    lock.unlink()
    target.write_bytes(b"mine")
    get(row(f"{server.url}/file.bin"), target, lock=lock, offline=True)
    assert load_lock(lock)["set/file.bin"] == (hash_of("sha256", b"mine"), 4)


def test_a_damaged_lock_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "sources.tsv", row("https://example.org/file.bin"))
    for text in ("key\thash\n", "key\thash\tbytes\nset/file.bin\tsha256:12\t3\n"):
        lock_path(path).write_text(text)
        with pytest.raises(ConfigError, match=r"sources\.lock\.tsv"):
            load_sources(path)


def test_many_are_locked_in_one_file(server: Server, tmp_path: Path) -> None:
    other = Source("set", "other.bin", "public", f"{server.url}/file.bin", "", None, "CC0", "Somebody")
    sources = {s.key: s for s in (row(f"{server.url}/file.bin"), other)}
    fetch_many(sources, sources, tmp_path / "data", lock=tmp_path / "lock.tsv", backoff_s=0.0)
    assert set(load_lock(tmp_path / "lock.tsv")) == set(sources)


# ------------------------------------------------------------------ members of archives

MEMBERS = {"set/readme.txt": b"read me", "set/deep/file.bin": BODY, "set/big.bin": bytes(9_000_000)}


def zipped(compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, body in MEMBERS.items():
            archive.writestr(name, body)
    return out.getvalue()


def tarred(mode: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{mode}") as archive:
        for name, body in MEMBERS.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return out.getvalue()


def test_a_member_of_a_zip_is_read_by_ranges_and_the_rest_is_not_fetched(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "BLOCK_BYTES", 100_000)
    server.files["/a.zip"] = zipped(zipfile.ZIP_STORED)
    get(row(f"zip+{server.url}/a.zip#set/deep/file.bin", hash_of("sha256"), len(BODY)), target)
    assert target.read_bytes() == BODY
    assert server.sent < 1.5 * len(BODY) < len(server.files["/a.zip"])
    assert sorted(p.name for p in target.parent.iterdir()) == ["file.bin"]


@pytest.mark.parametrize("address", ["zip", "tar", "tar:gz", "tar:bz2", "tar:xz"])
def test_a_member_from_a_server_without_ranges_that_fails_at_first(server: Server, target: Path, address: str) -> None:
    form, _, mode = address.partition(":")
    server.files["/a"], server.ranges, server.fail_first = zipped() if form == "zip" else tarred(mode), False, 1
    get(row(f"{form}+{server.url}/a#set/deep/file.bin", hash_of("gitblob")), target)
    assert target.read_bytes() == BODY
    assert sorted(p.name for p in target.parent.iterdir()) == ["file.bin"]


@pytest.mark.parametrize("form", ["zip", "tar"])
def test_a_member_that_is_not_there_or_is_another_file(server: Server, target: Path, form: str) -> None:
    server.files["/a"] = zipped() if form == "zip" else tarred("gz")
    with pytest.raises(FetchError, match=r"has no member other/file\.bin; it has \.?/?set/deep/file\.bin"):
        get(row(f"{form}+{server.url}/a#other/file.bin", hash_of("sha256")), target)
    with pytest.raises(FetchError, match="wrong bytes"):
        get(row(f"{form}+{server.url}/a#set/readme.txt", hash_of("sha256"), len(BODY)), target)
    with pytest.raises(FetchError, match="more than the expected 10 bytes"):
        get(row(f"{form}+{server.url}/a#set/big.bin", hash_of("sha256"), 10), target)
    server.files["/a"] = server.files["/a"][:500]
    with pytest.raises(FetchError, match="cannot be read"):
        get(row(f"{form}+{server.url}/a#set/deep/file.bin", hash_of("sha256")), target, retries=0)
    assert not target.exists()


@pytest.mark.parametrize("address", ["zip", "tar:gz"])
def test_a_member_of_an_archive_whose_hash_is_published(
    server: Server, target: Path, tmp_path: Path, address: str
) -> None:
    form, _, mode = address.partition(":")
    server.files["/a"] = zipped() if form == "zip" else tarred(mode)
    pinned = f"archive-{hash_of('sha256', server.files['/a'])}"
    source = row(f"{form}+{server.url}/a#set/deep/file.bin", pinned)
    assert source.pinned and not source.known_hash and "from an archive with sha256" in source.expected
    get(source, target, lock=tmp_path / "lock.tsv")
    assert target.read_bytes() == BODY
    assert load_lock(tmp_path / "lock.tsv")["set/file.bin"][0] == hash_of("sha256")
    asked = len(server.requests)
    other = row(f"{form}+{server.url}/a#set/readme.txt", pinned)
    get(other, target.with_name("other"))
    assert target.with_name("other").read_bytes() == b"read me"
    assert len(server.requests) == asked, "the archive is kept for its other members"

    server.files["/b"] = server.files["/a"] + b"x"
    wrong = row(f"{form}+{server.url}/b#set/deep/file.bin", f"archive-{hash_of('sha256', b'')}")
    with pytest.raises(FetchError, match="another archive"):
        get(wrong, target.with_name("third"))


def test_a_hash_of_an_archive_needs_an_archive(tmp_path: Path) -> None:
    path = table(tmp_path / "sources.tsv", row("https://example.org/file.bin", f"archive-{hash_of('sha256')}"))
    with pytest.raises(ConfigError, match="of an archive"):
        load_sources(path)


def test_an_archive_bomb_is_refused(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "LARGEST_RATIO", 100)
    server.files["/a.zip"] = zipped()
    with pytest.raises(FetchError, match="archive bomb"):
        get(row(f"zip+{server.url}/a.zip#set/big.bin"), target)
    monkeypatch.setattr(archives, "LARGEST_RATIO", 2000)
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 1000)
    with pytest.raises(FetchError, match="more than the expected 1000 bytes"):
        get(row(f"zip+{server.url}/a.zip#set/deep/file.bin"), target)


# ------------------------------------------------------------------ walls, and other addresses


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 202, "HTTP 202"),
        (BODY, 202, "HTTP 202"),
        (b"", 204, "HTTP 204"),
        (b"", 403, "HTTP 403"),
        (b"", 200, "empty"),
        (PAGE, 200, "html page"),
        (b"\xef\xbb\xbf \n<HTML>", 200, "html page"),
    ],
)
@pytest.mark.parametrize("form", ["", "zip+", "tar+"])
def test_a_wall_is_named_and_another_address_is_tried(
    server: Server, target: Path, body: bytes, status: int, word: str, form: str
) -> None:
    server.files["/wall"], server.status["/wall"] = body, status
    member = "#set/deep/file.bin" if form else ""
    server.files["/good"] = {"": BODY, "zip+": zipped(), "tar+": tarred("gz")}[form]
    wall, good = f"{form}{server.url}/wall{member}", f"{form}{server.url}/good{member}"
    with pytest.raises(FetchError) as caught:
        get(row(wall, hash_of("sha256")), target, retries=0)
    if form != "tar+" or status != 200:
        assert word in caught.value.found
    assert "curl --fail --location" in caught.value.action
    get(row(f"{wall} {good}", hash_of("sha256")), target, retries=0)
    assert target.read_bytes() == BODY


def test_a_html_file_is_no_wall(server: Server, target: Path) -> None:
    server.files["/page.html"] = PAGE
    get(row(f"{server.url}/page.html"), target)
    assert target.read_bytes() == PAGE


# ------------------------------------------------------------------ what people read


def test_commands_by_hand_fail_loudly_and_unpack(tmp_path: Path) -> None:
    body = tmp_path / "body.bin"
    assert by_hand(row("https://e.org/a b"[:15]), body).startswith("curl --fail --location ")
    assert "unzip -p" in by_hand(row("zip+https://e.org/a.zip#m/n.csv"), body)
    command = by_hand(row("tar+https://e.org/a.tar.gz#m/n.csv"), body)
    assert "tar --extract --to-stdout" in command and "m/n.csv" in command
    assert split_archive("https://e.org/a+b#c") == ("", "https://e.org/a+b#c", "")


def test_a_report_of_missing_files_says_that_nothing_is_published() -> None:
    text = missing_report(["set/file.bin"], {"set/file.bin": row("https://e.org/a")}, "data")
    assert "none is published" in text and "not published" in text

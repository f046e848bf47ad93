"""The table of sources: what is refused, what is here, what the message for missing files says."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sclong.errors import ConfigError, FetchError
from sclong.io.missing import missing_error, missing_report
from sclong.io.sources import COLUMNS, availability, fault, load_sources, local_path

SHA = "sha256:" + "ab" * 32
GOOD = {
    "web": ["web", "a b.csv", "public", "https://example.org/a%20b.csv", SHA, "10", "CC0", "Somebody 2020"],
    "pkg": ["pkg", "m.obo", "package", "pypi:Some.Pkg==1.0#some/m.obo", SHA, "0", "MIT", "Somebody"],
    "own": ["own", "x.npz", "mirror", "mirror-only: converted", SHA, "7", "CC-BY-4.0", "Somebody"],
}
KEYS = ["web/a b.csv", "pkg/m.obo", "own/x.npz"]


def write(path: Path, rows: list[list[str]], end: str = "\n") -> Path:
    path.write_bytes("".join("\t".join(row) + end for row in [list(COLUMNS), *rows]).encode())
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "sources.tsv", list(GOOD.values()))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_rows_are_read_as_they_are(tmp_path: Path, end: str) -> None:
    sources = load_sources(write(tmp_path / "sources.tsv", list(GOOD.values()), end))
    assert list(sources) == KEYS
    assert [s.kind for s in sources.values()] == ["https", "pypi", "mirror"]
    web, pkg, _ = sources.values()
    assert web.address == "source:web/a b.csv"
    assert (web.bytes, web.citation) == (10, "Somebody 2020")
    assert pkg.package_member == ("Some.Pkg==1.0", "some/m.obo")
    assert local_path(web, "data") == Path("data/sources/web/a b.csv")


@pytest.mark.parametrize(
    ("column", "value", "word"),
    [
        ("access", "private", "private"),
        ("url", "ftp://example.org/a", "ftp://"),
        ("url", "https://example.org/a b.csv", "blanks between"),
        ("url", "pypi:pkg#member", "pypi:pkg#member"),
        ("url", "mirror-only: something", "access public"),
        ("hash", "sha256:" + "ab" * 31, "hexadecimal digits"),
        ("hash", "sha256:" + "AB" * 32, "lower case"),
        ("hash", "ab" * 32, "gitblob:"),
        ("url", "https://example.org/a ftp://example.org/a", "several"),
        ("bytes", "-1", "'-1'"),
        ("bytes", "1e6", "'1e6'"),
        ("file", "../../passwd", "no path"),
        ("file", "..", "no path"),
        ("id", "", "no path"),
    ],
)
def test_a_wrong_cell_is_refused_with_its_line(tmp_path: Path, column: str, value: str, word: str) -> None:
    row = list(GOOD["web"])
    row[COLUMNS.index(column)] = value
    path = write(tmp_path / "sources.tsv", [GOOD["pkg"], row])
    with pytest.raises(ConfigError) as caught:
        load_sources(path)
    assert "line 3" in str(caught.value)
    assert word in str(caught.value)


def test_a_row_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    other = list(GOOD["web"])
    other[COLUMNS.index("bytes")] = "11"
    with pytest.raises(ConfigError, match=r"line 4: 'web/a b\.csv' appears twice"):
        load_sources(write(tmp_path / "sources.tsv", [GOOD["web"], GOOD["pkg"], other]))


def test_wrong_columns_short_rows_and_no_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="8 cells"):
        load_sources(write(tmp_path / "short.tsv", [GOOD["web"][:-1]]))
    (tmp_path / "columns.tsv").write_text("id\tfile\n")
    with pytest.raises(ConfigError, match="columns"):
        load_sources(tmp_path / "columns.tsv")
    with pytest.raises(ConfigError, match="no table"):
        load_sources(tmp_path / "absent.tsv")


def test_availability_without_opening_a_socket(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    sources = load_sources(table)
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    (mirror / "own").mkdir(parents=True)

    def seen(mirror: str | Path | None = None, offline: bool = False) -> list[str]:
        return list(availability(KEYS, sources, data, mirror, offline).values())

    assert seen() == ["fetchable", "fetchable", "missing"]
    assert seen(offline=True) == ["missing"] * 3
    assert seen(mirror="https://mirror.example.org") == ["fetchable"] * 3
    assert seen(mirror="https://mirror.example.org", offline=True) == ["missing"] * 3
    (mirror / "own/x.npz").write_bytes(b"x")
    assert seen(mirror=mirror) == ["fetchable", "fetchable", "mirror"]
    assert seen(mirror=str(mirror), offline=True) == ["missing", "missing", "mirror"]
    here = local_path(sources["web/a b.csv"], data)
    here.parent.mkdir(parents=True)
    for wrong in (b"", b"x"):  # an empty or a short file is not the file
        here.write_bytes(wrong)
        assert seen(mirror=mirror, offline=True) == ["missing", "missing", "mirror"]
    here.write_bytes(b"0123456789")
    assert seen(mirror=mirror, offline=True) == ["here", "missing", "mirror"]


def test_a_mirror_that_is_not_there_is_an_error(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        availability(KEYS, load_sources(table), tmp_path, tmp_path / "mirrro")


def test_an_unknown_key_names_the_nearest(table: Path) -> None:
    with pytest.raises(ConfigError, match=r"write 'pkg/m\.obo'"):
        availability(["pkg/n.obo"], load_sources(table), "data")


def test_the_report_says_all_that_is_needed_to_act_by_hand(table: Path) -> None:
    sources = load_sources(table)
    text = missing_report(KEYS, sources, "data")
    for source in sources.values():
        for fact in (source.key, source.url, source.hash, str(source.bytes), source.licence):
            assert fact in text
        assert str(local_path(source, "data")) in text
    assert "--output 'data/sources/web/a b.csv' https://example.org/a%20b.csv" in text
    assert "pip download --no-deps Some.Pkg==1.0" in text
    error = missing_error(KEYS, sources, "data", "offline:")
    assert isinstance(error, FetchError)
    assert error.found == f"offline:\n{text}"


def test_the_table_of_the_repository_loads(root: Path) -> None:
    sources = load_sources(root / "config/sources.tsv")
    assert len(sources) >= 178
    assert {s.kind for s in sources.values()} == {"https", "pypi", "mirror"}


def test_reading_the_table_imports_nothing_heavy(root: Path) -> None:
    code = "import sys, sclong.io.sources as s; s.load_sources(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(root / "config/sources.tsv")],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
    )
    assert not {"torch", "pandas", "numpy", "urllib.request", "socket"} & set(done.stdout.split())


@pytest.mark.mirror
def test_the_mirror_has_the_files_of_the_table(root: Path, mirror: Path) -> None:
    wrong, seen = [], 0
    for source in load_sources(root / "config/sources.tsv").values():
        path = mirror / source.id / source.file
        if not path.is_file():
            continue
        seen += 1
        small = path.stat().st_size < 2_000_000
        if fault(path, source) is not None if small else path.stat().st_size != source.bytes:
            wrong.append(source.key)
    assert seen
    assert not wrong

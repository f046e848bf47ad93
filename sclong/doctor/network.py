"""Checks of what files come from: the mirror, public hosts, the Census."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from sclong.doctor.findings import Case, Finding, Head
from sclong.doctor.machine import _clock
from sclong.errors import listing
from sclong.io.download import WALL, is_page
from sclong.io.sources import availability, is_http, split_archive

CENSUS = "https://census.cellxgene.cziscience.com/cellxgene-census/v1/release.json"
PYPI = "https://pypi.org/simple/"
HOSTS = 3
HTTP_CLOCK_S = 60.0


def addresses(case: Case) -> list[str]:
    """Return addresses to try: a file of each of the first hosts of files, the package index, the Census."""
    below = case.plan.paths.fetched("sources") + "/"
    keys = [path.removeprefix(below) for job in case.jobs if job.rule == "fetch" for path in job.outputs]
    config, sources = case.plan.config, case.plan.sources
    known = sorted(key for key in keys if key in sources)
    far = availability(known, sources, config.data_dir, _folder_that_is_there(config.mirror), config.offline)
    rows = [sources[key] for key in known if far[key] == "fetchable"]  # a mirror folder needs no network
    first: dict[str, str] = {}
    for row in rows:
        if row.kind == "https":
            url = split_archive(row.urls[0])[1]
            first.setdefault(urlsplit(url).netloc, url)
    out = list(first.values())[:HOSTS]
    out += [PYPI] if any(row.kind == "pypi" for row in rows) else []
    census = case.plan.config.corpus.census
    if census is not None and census.uri is None and any(job.rule.startswith("census") for job in case.jobs):
        out.append(CENSUS)
    return out


def _folder_that_is_there(mirror: str | None) -> str | None:
    """Return the mirror, None where it is not there: that is a finding of its own."""
    return mirror if mirror and (is_http(mirror) or Path(mirror).expanduser().is_dir()) else None


def check_mirror(case: Case) -> list[Finding]:
    """See whether the mirror and the hosts of the plan's files answer, and what their clocks say."""
    config, out = case.plan.config, []
    if config.mirror and not is_http(config.mirror):
        there = Path(config.mirror).expanduser().is_dir()
        out.append(
            Finding("mirror", "ok", f"{config.mirror} is there")
            if there
            else Finding(
                "mirror",
                "error",
                f"no folder {config.mirror}",
                "the folder that 'mirror' names",
                "correct 'mirror' in config/config.yaml",
            )
        )
    if config.offline:
        return [*out, Finding("network", "ok", "offline: true; nothing was asked")]
    urls = ([str(config.mirror)] if is_http(config.mirror) else []) + addresses(case)
    if not urls:
        return [*out, Finding("network", "ok", "nothing has to be fetched; nothing was asked")]
    clocks = []
    for url in urls:
        finding, answer = _ask(case, url)
        out.append(finding)
        if answer is not None and answer.clock is not None:
            clocks.append((urlsplit(url).netloc, answer.clock - case.tools.now()))
    if clocks:
        host, ahead = max(clocks, key=lambda pair: abs(pair[1]))
        out.append(_clock(host, ahead, HTTP_CLOCK_S))
    return out


def _ask(case: Case, url: str) -> tuple[Finding, Head | None]:
    host = urlsplit(url).netloc
    try:
        answer = case.tools.head(url)
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        return (
            Finding(
                "network",
                "error",
                f"{host}: {reason}",
                "an answer",
                "run where there is a network (rule fetch runs on the login node), set https_proxy, or name a mirror: "
                "--config mirror=FOLDER",
            ),
            None,
        )
    page = url not in (CENSUS, PYPI) and is_page(url, answer.start)
    if answer.status in (200, 206) and answer.start and not page:
        return Finding("network", "ok", f"{host} answers"), answer
    if answer.status < 400:
        sent = "an html page" if page else f"HTTP {answer.status} and {'some' if answer.start else 'no'} bytes"
        return (
            Finding(
                "network",
                "error",
                f"{host}: {sent} in place of the file at {url}: {WALL}",
                "the first bytes of the file",
                f"fetch it elsewhere (curl --fail --location --output FILE {url}) and name the folder as mirror",
            ),
            answer,
        )
    return (
        Finding(
            "network",
            "warning",
            f"{host} answers {answer.status} to {url}",
            "the file",
            "open the address in a browser",
        ),
        answer,
    )


def check_hashes(case: Case) -> list[Finding]:
    """List files of the plan for which no hash is published: what is locked, and what is trusted at its first use."""
    below = case.plan.paths.fetched("sources") + "/"
    keys = sorted({p.removeprefix(below) for job in case.jobs for p in job.outputs if job.rule == "fetch"})
    rows = [case.plan.sources[key] for key in keys if key in case.plan.sources]
    loose = [row for row in rows if not row.pinned]
    if not loose:
        return [Finding("hashes", "ok", f"a hash is published for each of {len(rows)} files to fetch")]
    locked = [row.key for row in loose if row.known_hash]
    new = [row.key for row in loose if not row.known_hash]
    out = [Finding("hashes", "ok", f"locked at their first use: {listing(locked)}")] if locked else []
    if new:
        out.append(
            Finding(
                "hashes",
                "warning",
                f"no hash is published for {listing(new)}: they are trusted when they are first fetched",
                "bytes that everybody can compare",
                "commit config/sources.lock.tsv after the first run",
            )
        )
    return out


__all__ = ["addresses", "check_hashes", "check_mirror"]

"""Open the CELLxGENE Census: a public release or a copy; what goes wrong is explained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sclong.config.sections import CensusConfig
from sclong.errors import FetchError, listing

if TYPE_CHECKING:
    import tiledbsoma

ORGANISM = "homo_sapiens"
BUCKET = "cellxgene-census-public-us-west-2"
"""Where the SOMA data of public releases are, in Amazon's region us-west-2; no key is needed."""
BUILT = {"2024-07-01": "2024-05-20"}
"""Releases whose census_build_date is another date than their name."""
COUNTS_FROM = f"census_data/{ORGANISM}/ms/RNA/X/raw"
MEMORY = {
    # for each column that is read: cellxgene_census takes 1 GiB, with a higher peak (docs/census.md)
    "soma.init_buffer_bytes": str(64 * 2**20),
    "py.init_buffer_bytes": str(64 * 2**20),
    # what TileDB may hold of tiles; its own limit is 10 GiB
    "sm.mem.total_budget": str(2**30),
}
"""TileDB settings that bound memory; ``census.tiledb`` of the configuration is laid over them."""


@contextmanager
def open_census(config: CensusConfig) -> Iterator[tiledbsoma.Collection]:
    """Open the Census for reading: a public release by its version, or a copy by its address.

    Parameters
    ----------
    config
        ``uri`` if given, else ``version``.

    Yields
    ------
    tiledbsoma.Collection
        The Census; closed at the end.

    Raises
    ------
    FetchError
        The packages are not installed, there is no connection, no such release, no Census at the address, or a copy of
        another release than ``version``.
    """
    place = config.uri or f"release {config.version}"
    try:
        import cellxgene_census
    except ImportError as error:
        raise FetchError(
            f"the CELLxGENE Census ({place}) is needed, and its package cannot be imported ({error})",
            "pip install -c envs/constraints.txt -e '.[census]'",
            "install it, or put your own files into corpus.sources of the preset; presets demo and small need neither",
        ) from None
    try:
        census = cellxgene_census.open_soma(
            census_version=config.version, uri=config.uri, tiledb_config={**MEMORY, **config.tiledb}
        )
    except soma_errors() as error:
        raise FetchError(
            f"the CELLxGENE Census ({place}) cannot be opened: {first_line(error)}",
            "a folder or bucket with a copy of the Census"
            if config.uri
            else f"a connection to census.cellxgene.cziscience.com and to the bucket s3://{BUCKET} (region us-west-2)",
            "correct corpus.census.uri"
            if config.uri
            else "try again with a network, or name a copy of the Census in corpus.census.uri",
        ) from error
    except ValueError as error:  # of a version that the directory of releases does not have
        raise FetchError(
            f"the CELLxGENE Census has no release {config.version!r} (or has withdrawn it): {first_line(error)}",
            "a release that cellxgene_census.get_census_version_directory() lists",
            "correct corpus.census.version",
        ) from error
    with census:
        _require_census(census, config, place)
        yield census


def address(config: CensusConfig) -> str:
    """Return where a Census is: the address of the copy, or what the public directory of releases says of the release.

    Raises
    ------
    FetchError
        The directory has no such release or does not answer, or it names another bucket than `BUCKET`.
    """
    import cellxgene_census

    if config.uri:
        return config.uri
    try:
        found = str(cellxgene_census.get_census_version_description(config.version)["soma"]["uri"])
    except Exception as error:  # of the package, of requests, of what it read
        raise FetchError(
            f"the directory of releases does not say where release {config.version} is: {first_line(error)}",
            "an answer of census.cellxgene.cziscience.com",
            "try again with a network, correct corpus.census.version, or name a copy in corpus.census.uri",
        ) from error
    if not found.startswith(f"s3://{BUCKET}/"):
        raise FetchError(
            f"release {config.version} is at {found}",
            f"the bucket s3://{BUCKET}",
            "the Census has moved: try corpus.census.uri: with that address, and tiledb: {vfs.s3.region: its region}",
        )
    return found


def probe(config: CensusConfig) -> str:
    """Read a little of a Census, and say what was read.

    Raises
    ------
    FetchError
        See :func:`open_census` and :func:`address`.
    """
    with open_census(config) as census, reading("the list of data sets of the Census"):
        datasets = census["census_info"]["datasets"].count
    return f"release {config.version} at {address(config)}: {datasets} data sets"


def human(census: tiledbsoma.Collection) -> tiledbsoma.Experiment:
    """Return the human part of the Census."""
    return census["census_data"][ORGANISM]


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn errors of TileDB and of the network into a FetchError that names what was read."""
    try:
        yield
    except soma_errors() as error:
        raise FetchError(
            f"{what} cannot be read: {first_line(error)}",
            "a Census that is whole, and a connection that holds",
            "run the command again: what was read is kept; if it happens again, check the copy of the Census",
        ) from error


def soma_errors() -> tuple[type[Exception], ...]:
    """Return what TileDB-SOMA and the network raise."""
    import tiledbsoma

    return OSError, RuntimeError, tiledbsoma.SOMAError


def first_line(error: BaseException) -> str:
    """Return what an error says, without the lines on where in the package it arose."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__


def _require_census(census: tiledbsoma.Collection, config: CensusConfig, place: str) -> None:
    try:
        with reading(f"the Census ({place})"):
            human(census).ms["RNA"].X["raw"]
            summary = census["census_info"]["summary"].read().concat().to_pandas().set_index("label")["value"]
    except (KeyError, AttributeError) as error:
        raise FetchError(
            f"{place} is no CELLxGENE Census: it has {listing(census)}, and no {first_line(error)}",
            f"census_info/summary and {COUNTS_FROM}",
            "give the folder that holds census_info and census_data",
        ) from error
    built = summary.get("census_build_date")
    if config.uri and built not in (None, config.version, BUILT.get(config.version)):
        raise FetchError(
            f"{place} is a copy of release {built} of the Census",
            f"release {config.version} (corpus.census.version)",
            f'write version: "{built}", or give the address of the other release',
        )

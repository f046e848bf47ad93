"""Read human cells of the CELLxGENE Census."""

from __future__ import annotations

from pathlib import Path

from sclong.errors import FetchError
from sclong.io.files import atomic_path

CENSUS_VERSION = "2023-12-15"


def download_tissue(tissue: str, path: str | Path, census_version: str = CENSUS_VERSION) -> None:
    """Write the primary human cells of one tissue as h5ad with raw counts.

    One tissue is held in memory.

    Parameters
    ----------
    tissue
        Value of the Census column ``tissue_general``.
    path
        File to write.
    census_version
        Pinned release of the Census.

    Raises
    ------
    FetchError
        When the package is not installed, or the Census cannot be reached.
    """
    try:
        import cellxgene_census
    except ModuleNotFoundError:
        raise FetchError(
            f"tissue {tissue!r} of the CELLxGENE Census is needed; the package cellxgene-census is not installed",
            "pip install -c envs/constraints.txt -e '.[census]'",
            "install it, or put your own h5ad files into corpus.sources of the preset; preset demo needs neither",
        ) from None
    try:
        with cellxgene_census.open_soma(census_version=census_version) as census:
            adata = cellxgene_census.get_anndata(
                census,
                organism="Homo sapiens",
                obs_value_filter=f"tissue_general == '{tissue}' and is_primary_data == True",
            )
    except (OSError, RuntimeError) as error:
        raise FetchError(
            f"tissue {tissue!r} of the CELLxGENE Census {census_version} could not be read ({error})",
            f"a connection to census.cellxgene.cziscience.com, or {path} already in place",
            "try again with a network, or put your own h5ad files into corpus.sources of the preset; presets demo and "
            "small need no Census",
        ) from error
    adata.var_names = adata.var["feature_id"].astype(str)
    with atomic_path(path) as tmp:
        adata.write_h5ad(tmp)

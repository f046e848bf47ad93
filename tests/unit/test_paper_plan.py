"""Preset paper: what it plans, and that its inputs are the rows that the published files have."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest

from sclong.io.sources import COLUMNS, load_sources
from sclong.plan.plan import Plan, make_plan

HEADLINE = ("norman", "l1000", "deepcdr", "drug_combination", "grn", "pancreas")
PUBLISHED = {
    "norman": {"gears_norman/perturb_processed.h5ad"},
    "adamson": {"gears_adamson/perturb_processed.h5ad"},
    "replogle_k562": {"gears_replogle_k562/perturb_processed.h5ad"},
    "replogle_rpe1": {"gears_replogle_rpe1/perturb_processed.h5ad"},
    "pancreas": {"scib_pancreas/human_pancreas_norm_complexBatch.h5ad"},
    "grn": {"beeline_hesc/ExpressionData.csv", "beeline_networks/hESC-ChIP-seq-network.csv"},
    "grn_hhep_chip_1000": {"beeline_hhep/ExpressionData.csv", "beeline_hhep/GeneOrdering.csv"},
    "grn_deepsem_500_string": {f"deepsem_hesc_500_string_set/{part}.csv" for part in ("data", "label")},
    "grn_deepsem_500_chip": {f"deepsem_hesc_500_chip_set/{part}.csv" for part in ("data", "label")},
    "l1000": {f"deepce_signatures/signature_{part}.csv" for part in ("train", "dev", "test")}
    | {"transigen/modz_x1.pickle", "transigen/landmark_geneinfo.csv"},
    "deepcdr": {
        "deepcdr_omics/genomic_expression_561celllines_697genes_demap_features.csv",
        "deepcdr_omics/genomic_mutation_34673_demap_features.csv",
        "deepcdr/genomic_methylation_561celllines_808genes_demap_features.csv",
    },
}
"""Benchmark -> published files that its data set must be made of."""


@pytest.fixture(scope="module")
def paper(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """The plan of preset paper, with the rows of config/sources_new.tsv where that table is still apart."""
    folder = tmp_path_factory.mktemp("paper")
    shutil.copytree(root / "config", folder / "config")
    new = folder / "config" / "sources_new.tsv"
    if new.is_file() and "sha256" in COLUMNS:
        with open(folder / "config" / "sources.tsv", "a") as out:
            for row in csv.DictReader(new.open(), delimiter="\t", quoting=csv.QUOTE_NONE):
                url = re.sub(r"^(zip|tar)\+", "", row["url"].split()[0])
                cells = [row["id"], row["file"], row["access"], url, "0" * 64, row["bytes"] or "0"]
                out.write("\t".join([*cells, row["licence"], row["citation"]]) + "\n")
    return make_plan(
        {
            "preset": "paper",
            "cards_dir": str(folder / "config"),
            "data_dir": str(folder / "data"),
            "results_dir": str(folder / "results"),
            "mirror": None,
        }
    )


def keys(plan: Plan, benchmark: str) -> set[str]:
    """Rows of sources.tsv that a benchmark's data set is made of."""
    values = plan.data[benchmark].inputs.values()
    addresses = [a for value in values for a in (value if isinstance(value, list) else [value])]
    return {a.removeprefix("source:") for a in addresses if a.startswith("source:")}


def test_nothing_is_blocked(paper: Plan) -> None:
    assert paper.blocked == {}


@pytest.mark.parametrize("name", HEADLINE)
def test_every_headline_benchmark_is_planned(paper: Plan, name: str) -> None:
    assert name in paper.data, paper.skipped.get(name)


@pytest.mark.parametrize("name", PUBLISHED)
def test_inputs_are_the_published_files(paper: Plan, name: str) -> None:
    assert PUBLISHED[name] <= keys(paper, name)


def test_gene_tables_start_from_gene2vec(paper: Plan) -> None:
    assert paper.config.gene2vec.vectors == "source:gene2vec/gene2vec_dim_200_iter_9_w2v.txt"


def test_what_is_left_out_has_no_public_address(paper: Plan) -> None:
    rows = load_sources(Path(paper.config.cards_dir) / "sources.tsv")
    for name in paper.skipped:
        for spec in paper.cards[name].alternatives("paper"):
            wanted = [a for v in spec.inputs.values() for a in (v if isinstance(v, list) else [v])]
            found = [rows[a.removeprefix("source:")].kind for a in wanted if a.startswith("source:")]
            assert "mirror" in found, f"{name} is left out, and every file of it is public"

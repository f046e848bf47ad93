"""Preset paper plans the paper: all six headline benchmarks, every public file fetched by a rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from sclong.io.sources import split_archive
from sclong.plan.availability import addresses_of
from sclong.plan.by_benchmark import by_benchmark
from sclong.plan.costs import Attempts, work_out
from sclong.plan.costs_text import as_table
from sclong.plan.jobs import Job
from sclong.plan.plan import Plan, make_plan

HEADLINES = {
    "norman": {"gears_norman/perturb_processed.h5ad"},
    "l1000": {
        *(f"deepce/signature_{part}.csv" for part in ("train", "dev", "test")),
        "transigen/modz_x1.pickle",
        "transigen/landmark_geneinfo.csv",
    },
    "deepcdr": {
        f"deepcdr/genomic_{what}_features.csv"
        for what in (
            "expression_561celllines_697genes_demap",
            "mutation_34673_demap",
            "methylation_561celllines_808genes_demap",
        )
    },
    "drug_combination": {"deepdds/new_labels_0_10.csv"},
    "grn": {"beeline_hesc/ExpressionData.csv", "beeline_networks/hESC-ChIP-seq-network.csv"},
    "pancreas": {"pancreas_scib/human_pancreas_norm_complexBatch.h5ad"},
}
FURTHER = {
    "adamson": "gears_adamson/perturb_processed.h5ad",
    "replogle_k562": "gears_replogle_k562/perturb_processed.h5ad",
    "replogle_rpe1": "gears_replogle_rpe1/perturb_processed.h5ad",
    "grn_hhep_chip": "beeline_hhep/ExpressionData.csv",
    "grn_hesc_string_500": "beeline_hesc/GeneOrdering.csv",
    "grn_mesc_lofgof_500": "beeline_networks/mESC-lofgof-network.csv",
}
NEEDS_A_MIRROR = {"deepcdr_ccle", "drug_combination_independent"}


@pytest.fixture(scope="module")
def plan(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    empty = tmp_path_factory.mktemp("paper")
    return make_plan({"preset": "paper", "results_dir": str(empty / "results"), "data_dir": str(empty / "data")}, root)


def keys(plan: Plan, benchmark: str) -> set[str]:
    return {a.removeprefix("source:") for a in addresses_of(plan.data[benchmark])}


def test_nothing_is_blocked_and_nothing_public_is_left_out(plan: Plan) -> None:
    assert not plan.blocked
    left_out = {name for name, why in plan.skipped.items() if "its card has no data" not in why}
    assert left_out == NEEDS_A_MIRROR
    assert all("without a public address" in plan.skipped[name] for name in left_out)


@pytest.mark.parametrize("benchmark", HEADLINES)
def test_headline_benchmarks_read_the_published_files(plan: Plan, benchmark: str) -> None:
    assert keys(plan, benchmark) >= HEADLINES[benchmark]
    assert all(a.startswith("source:") for a in addresses_of(plan.data[benchmark])), "nothing is put there by hand"


@pytest.mark.parametrize("benchmark", FURTHER)
def test_further_benchmarks_of_published_archives(plan: Plan, benchmark: str) -> None:
    assert FURTHER[benchmark] in keys(plan, benchmark)


def test_every_input_is_pinned_or_said_to_be_trusted(plan: Plan) -> None:
    used = {key for benchmark in plan.data for key in keys(plan, benchmark)}
    unpinned = {key for key in used if not plan.sources[key].pinned}
    assert unpinned == {
        f"gears_{name}/perturb_processed.h5ad" for name in ("adamson", "replogle_k562", "replogle_rpe1")
    }
    assert plan.config.gene2vec.vectors == "source:gene2vec/gene2vec_dim_200_iter_9_w2v.txt"
    assert plan.sources["gene2vec/gene2vec_dim_200_iter_9_w2v.txt"].hash.startswith("gitblob:9befda35")


def test_members_of_archives_have_the_published_paths(plan: Plan) -> None:
    def member(key: str) -> str:
        return split_archive(plan.sources[key].urls[0])[2]

    assert member("gears_norman/perturb_processed.h5ad") == "norman/perturb_processed.h5ad"
    assert member("beeline_hesc/ExpressionData.csv") == "BEELINE-data/inputs/scRNA-Seq/hESC/ExpressionData.csv"
    assert plan.sources["beeline_hesc/ExpressionData.csv"].archive_hash.startswith("sha256:1fc84949")


def test_rows_made_from_files_without_a_hash_say_so(plan: Plan) -> None:
    assert plan.unpinned_inputs("adamson") == "gears_adamson/perturb_processed.h5ad"
    assert plan.unpinned_inputs("norman") == plan.unpinned_inputs("grn") == ""


def test_the_plan_lists_each_benchmark_with_its_rows_and_files(plan: Plan) -> None:
    found = {b.benchmark: b for b in by_benchmark(plan)}
    assert set(found) == set(plan.benchmarks)
    norman = found["norman"]
    assert norman.models == len(plan.rows.models_of("norman")) and norman.bytes > 2_228_610_012
    assert any("released" in why for why in norman.not_run)
    assert found["adamson"].unknown_sizes == 1
    assert "without a public address" in found["deepcdr_ccle"].why
    text = as_table(work_out(plan, [Job("pretrain", 64, 256000, 2880, gpus=16)], Attempts(2)))
    assert "rows that do not run" in text and "sclong_released" in text
    assert all(f"days of training on {count} GPUs" in text for count in (8, 64, 256))

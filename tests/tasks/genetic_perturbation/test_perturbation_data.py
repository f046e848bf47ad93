"""Perturbation screens: gene sets, files in GEARS' layout, halves, cells of conditions and who may read them."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats

from sclong.errors import InputDataError
from sclong.seeding import rng
from sclong.tasks.genetic_perturbation.cells import ConditionCells, half_means
from sclong.tasks.genetic_perturbation.dataset import Profiles
from sclong.tasks.genetic_perturbation.genes import GeneSets, first_ranked, read_published
from sclong.tasks.genetic_perturbation.prepare import PrepareOptions, prepare_perturbations

LABELS = ["ctrl", "A+ctrl", "ctrl+B", "A+B"]
CELLS, N_GENES = 15, 30
GENES = [f"ENSG{i:011d}" for i in range(N_GENES)]
GEARS = {
    "value_kind": "log1p_cp10k",
    "symbol_column": "gene_name",
    "cell_type_column": "cell_type",
    "merge_orientations": False,
}


def gears_names() -> list[str]:
    return [f"K562_{label}_{'1+1' if '+' in label else '1'}" for label in LABELS]


def screen() -> anndata.AnnData:
    """Four conditions; gene 0 is expressed in control alone, gene 1 in A+ctrl alone, gene 2 nowhere."""
    draw = rng("small screen")
    base = 2 + draw.random(N_GENES) + np.arange(len(LABELS))[:, None] * draw.normal(0, 0.3, N_GENES)
    x = np.repeat(base, CELLS, axis=0) + draw.normal(0, 0.1, (len(LABELS) * CELLS, N_GENES))
    x[CELLS:, 0] = 0
    x[:CELLS, 1] = x[2 * CELLS :, 1] = x[:, 2] = 0
    obs = pd.DataFrame(
        {"condition": np.repeat(LABELS, CELLS), "condition_name": np.repeat(gears_names(), CELLS), "cell_type": "K562"},
        index=[f"c{i}" for i in range(len(x))],
    )
    symbols = ["A", *(f"S{i}" for i in range(1, N_GENES))]
    var = pd.DataFrame({"gene_name": symbols}, index=GENES)
    adata = anndata.AnnData(sparse.csr_matrix(np.maximum(x, 0).astype(np.float32)), obs=obs, var=var)
    return adata[draw.permutation(len(x))].copy()


def published(adata: anndata.AnnData) -> dict[str, dict[str, np.ndarray]]:
    """GEARS' fields, with rankings that no test could compute: by position, from the last gene down."""
    order = np.array(GENES[::-1])
    names = gears_names()[1:]
    return {
        "rank_genes_groups_cov_all": {n: order for n in names},
        "non_zeros_gene_idx": {n: np.arange(5, N_GENES) for n in names},
        "non_dropout_gene_idx": {n: np.arange(3, N_GENES) for n in names},
        "top_non_dropout_de_20": {n: order[1:21] for n in names},
        "top_non_zero_de_20": {n: order[2:22] for n in names},
    }


def prepared(adata: anndata.AnnData, folder: Path, **options: object) -> tuple[dict, Profiles, GeneSets]:
    adata.write_h5ad(folder / "raw.h5ad")
    facts = prepare_perturbations(folder / "raw.h5ad", PrepareOptions(**{**GEARS, **options}), folder)
    return facts, Profiles.read(folder), GeneSets.read(folder)


# ------------------------------------------------------------------------------------------------ gene sets


def test_gene_sets_by_hand() -> None:
    mean = np.array([[0.0, 0.0, 1.0, 2.0]])
    sets = GeneSets.computed(np.array([[0, 3, 1, 2]]), mean, np.array([1.0, 0.0, 0.0, 1.0]))
    np.testing.assert_array_equal(sets.non_zero, [[False, False, True, True]])
    np.testing.assert_array_equal(sets.non_dropout, [[False, True, True, True]])  # gene 1: a true zero
    assert list(sets.non_dropout_de(0)) == [3, 1, 2] and list(sets.top_non_zero[0, :3]) == [3, 2, -1]
    assert list(sets.top_ranked(0, 2)) == [0, 3] and list(sets.top_ranked(0, 3)) == [0, 1, 3]


def test_first_ranked_is_cut_and_padded() -> None:
    found = first_ranked(np.array([[2, 0, 1], [1, 2, 0]]), np.array([[True, True, True], [False, True, False]]), top=2)
    np.testing.assert_array_equal(found, [[2, 0], [1, -1]])


def test_computed_sets_of_a_screen(tmp_path: Path) -> None:
    adata = screen()
    facts, profiles, sets = prepared(adata, tmp_path)
    assert facts["gene_lists"] == "computed" and GENES[2] not in profiles.genes
    table = profiles.conditions
    assert dict(zip(table["label"], table["condition_name"], strict=True)) == dict(
        zip(LABELS[1:], gears_names()[1:], strict=True)
    )
    row = list(table["label"]).index("ctrl+B")
    column = {g: i for i, g in enumerate(profiles.genes)}
    assert not sets.non_zero[row, column[GENES[0]]] and not sets.non_dropout[row, column[GENES[0]]]
    assert not sets.non_zero[row, column[GENES[1]]] and sets.non_dropout[row, column[GENES[1]]]
    x = pd.DataFrame(adata.X.toarray(), columns=GENES)[list(profiles.genes)]
    of = [x[(adata.obs["condition"] == label).to_numpy()].to_numpy() for label in ("ctrl+B", "ctrl")]
    score = np.abs(stats.ttest_ind(*of, equal_var=False).statistic)
    expected = np.argsort(-np.nan_to_num(score), kind="stable")
    np.testing.assert_array_equal(sets.order[row, :20], expected[:20])


def test_names_of_conditions_need_one_cell_type(tmp_path: Path) -> None:
    adata = screen()
    adata.obs["cell_type"] = np.where(np.arange(adata.n_obs) < 9, "K562", "RPE1")
    with pytest.raises(InputDataError, match="2 cell types"):
        prepared(adata, tmp_path)


# --------------------------------------------------------------------------------------- GEARS' layout


def test_published_lists_are_preferred_and_compared(tmp_path: Path) -> None:
    adata = screen()
    adata.uns.update(published(adata))
    facts, profiles, sets = prepared(adata, tmp_path)
    assert facts["gene_lists"] == "published"
    genes = list(profiles.genes)  # gene 2 is expressed nowhere and dropped: positions after it move by one
    assert [genes[i] for i in sets.order[0]] == [g for g in GENES[::-1] if g != GENES[2]]
    assert [genes[i] for i in sets.non_dropout_de(1)] == GENES[::-1][1:21]
    assert [genes[i] for i in sets.top_non_zero[2]] == GENES[::-1][2:22]
    assert [genes[i] for i in np.flatnonzero(sets.non_zero[0])] == GENES[5:]
    assert [genes[i] for i in np.flatnonzero(sets.non_dropout[0])] == GENES[3:]
    assert 0 < facts["share_of_published_top20_ranked_also_computed"] < 1
    own = GeneSets.computed(sets.order, profiles.mean, profiles.control_mean)
    assert not np.array_equal(own.non_zero, sets.non_zero)
    de = pd.read_csv(tmp_path / "de_genes.tsv", sep="\t")
    assert list(de.loc[de["condition"] == "A+B", "gene"]) == GENES[::-1][1:21]


def test_computed_lists_on_request(tmp_path: Path) -> None:
    adata = screen()
    _, _, plain = prepared(adata, tmp_path)
    adata.uns.update(published(adata))
    facts, _, sets = prepared(adata, tmp_path, gene_lists="computed")
    assert facts["gene_lists"] == "computed"
    np.testing.assert_array_equal(sets.order, plain.order)


def test_published_names_of_the_file_count_before_those_made_here(tmp_path: Path) -> None:
    adata = screen()
    adata.uns.update(published(adata))
    facts, profiles, _ = prepared(adata, tmp_path, cell_type_column=None)
    assert facts["gene_lists"] == "published" and set(profiles.conditions["condition_name"]) == set(gears_names()[1:])


def test_published_lists_that_are_not_there_or_do_not_fit(tmp_path: Path) -> None:
    adata = screen()
    with pytest.raises(InputDataError, match="rank_genes_groups_cov_all"):
        prepared(adata, tmp_path, gene_lists="published")
    assert read_published(tmp_path / "raw.h5ad") == {}
    fields = published(adata)
    del fields["rank_genes_groups_cov_all"]["K562_A+B_1+1"]
    adata.uns.update(fields)
    with pytest.raises(InputDataError, match=r"no list for 1 conditions: 'K562_A\+B_1\+1'"):
        prepared(adata, tmp_path)
    fields["rank_genes_groups_cov_all"]["K562_A+B_1+1"] = np.array([*GENES[:5], "ELSE"])
    adata.uns.update(fields)
    with pytest.raises(InputDataError, match="'ELSE'"):
        prepared(adata, tmp_path)


# --------------------------------------------------------------------------------------- halves and cells


def test_halves_are_a_random_cut_of_the_cells(tmp_path: Path) -> None:
    adata = screen()
    _, profiles, _ = prepared(adata, tmp_path)
    a, b = CELLS - CELLS // 2, CELLS // 2
    np.testing.assert_allclose((a * profiles.half_a + b * profiles.half_b) / CELLS, profiles.mean, rtol=1e-4, atol=1e-6)
    assert np.abs(profiles.half_a - profiles.half_b).max() > 0.01
    _, again, _ = prepared(adata, tmp_path)
    np.testing.assert_array_equal(profiles.half_a, again.half_a)


def test_half_of_the_cells_errs_as_much_as_the_expectation_would() -> None:
    """The ceiling: variance of the mean of n cells; docs/tasks/genetic_perturbation.md says why."""
    cells = rng("ceiling").normal(size=(40, 20_000))  # 40 cells whose expectation is 0
    half, _ = half_means(sparse.csr_matrix(cells), np.full(40, "A"), ["A"])
    truth = cells.mean(axis=0)
    assert ((half[0] - truth) ** 2).mean() == pytest.approx((truth**2).mean(), rel=0.05)
    assert (truth**2).mean() == pytest.approx(1 / 40, rel=0.05)


def test_cells_of_a_condition(tmp_path: Path) -> None:
    adata = screen()
    _, profiles, _ = prepared(adata, tmp_path, max_cells_per_condition=CELLS - 2, max_control_cells=CELLS - 4)
    cells = ConditionCells(tmp_path / "cells.h5ad", ["A+ctrl"])
    kept = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert dict(kept.obs["sample"].value_counts()) == {"control": CELLS - 4, **{s: CELLS - 2 for s in LABELS[1:]}}
    embedded = anndata.read_h5ad(tmp_path / "expression.h5ad")  # one pool of control cells, with vectors or without
    assert list(embedded.obs_names) == list(kept.obs_names[kept.obs["sample"] == "control"])
    names = kept.obs_names[kept.obs["sample"] == "A+ctrl"]
    assert set(adata.obs.loc[names, "condition"]) == {"A+ctrl"}
    np.testing.assert_array_equal(cells.of("A+ctrl").toarray(), adata[names, profiles.genes].X.toarray())
    assert cells.control().shape == (CELLS - 4, N_GENES - 1) and cells.control().dtype == np.float32
    with pytest.raises(InputDataError, match=r"test sample 'A\+B'"):
        cells.of("A+B")
    with pytest.raises(InputDataError, match="no cells of sample 'C'"):
        cells.of("C")


def test_all_cells_of_a_condition_on_request(tmp_path: Path) -> None:
    prepared(screen(), tmp_path, max_cells_per_condition=None, max_control_cells=3)
    kept = anndata.read_h5ad(tmp_path / "cells.h5ad").obs["sample"].value_counts()
    assert dict(kept) == {"control": 3, **dict.fromkeys(LABELS[1:], CELLS)}


def test_cells_of_counts_are_normalised(tmp_path: Path) -> None:
    adata = screen()
    adata.X = sparse.csr_matrix(np.rint(adata.X.toarray()))
    adata.write_h5ad(tmp_path / "raw.h5ad")
    prepare_perturbations(tmp_path / "raw.h5ad", PrepareOptions(max_cells_per_condition=1000), tmp_path)
    control = ConditionCells(tmp_path / "cells.h5ad", []).control()
    np.testing.assert_allclose(np.expm1(control.toarray()).sum(1), 1e4, rtol=1e-4)
    np.testing.assert_allclose(control.mean(0).A1, Profiles.read(tmp_path).control_mean, rtol=1e-4)


def test_values_in_a_layer_that_the_card_names(tmp_path: Path) -> None:
    adata = screen()
    _, expected, _ = prepared(adata, tmp_path)
    adata.layers["logged"], adata.X = adata.X.copy(), adata.X * 3
    _, profiles, _ = prepared(adata, tmp_path, layer="logged")
    np.testing.assert_array_equal(profiles.mean, expected.mean)

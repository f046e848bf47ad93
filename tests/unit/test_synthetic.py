"""The simulated world: what is planted can be found, and nothing that should not give it away does."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_score

from sclong.errors import InputDataError
from sclong.io.files import sha256_tree
from sclong.world.drugs import LINES_PER_PAIR, N_COMBINED_DRUGS
from sclong.world.files import WORLD_FILES as LIGHT_WORLD_FILES
from sclong.world.simulation import PIECES, WORLD_FILES, build_world, simulate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    simulate(folder)
    return folder


@pytest.fixture(scope="module")
def genes(world: Path) -> pd.DataFrame:
    return tsv(world / "answer_key" / "genes.tsv")


def tsv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", keep_default_na=False)


def log1p_cp10k(counts: sp.spmatrix) -> np.ndarray:
    dense = np.asarray(counts.todense(), dtype=float)
    return np.log1p(1e4 * dense / dense.sum(axis=1, keepdims=True))


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1])


# ------------------------------------------------------------------ files


def test_every_file_is_written_and_no_other(world: Path) -> None:
    written = {p.name for p in world.iterdir() if p.is_file()}
    assert written == set(WORLD_FILES) == {f for files in PIECES for f in files}
    assert WORLD_FILES is LIGHT_WORLD_FILES


def test_same_seed_makes_the_same_bytes_and_another_seed_does_not(world: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again")
    assert sha256_tree(tmp_path / "again") == sha256_tree(world)
    simulate(tmp_path / "other", seed=1, only={"network.csv", "drugs.tsv"})
    for name in ("grn_expression.h5ad", "network.csv", "drugs.tsv"):
        assert (tmp_path / "other" / name).read_bytes() != (world / name).read_bytes()


def test_one_file_alone_is_the_same_as_among_all(world: Path, tmp_path: Path) -> None:
    simulate(tmp_path, only={"integration.h5ad", "drug_response.tsv"})
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == {"integration.h5ad", "drug_response.tsv"}
    for name in ("integration.h5ad", "drug_response.tsv"):
        assert (tmp_path / name).read_bytes() == (world / name).read_bytes()


def test_an_unknown_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match=r"did you mean 'drugs\.tsv'"):
        simulate(tmp_path, only={"drug.tsv"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("genes.csv", ["gene_id", "gene_name", "biotype", "chromosome", "start", "end"]),
        ("drugs.tsv", ["drug_id", "smiles"]),
        ("drug_response.tsv", ["drug_id", "cell_line", "tissue", "ln_ic50"]),
        ("drug_combination.tsv", ["drug1", "drug2", "cell", "label"]),
        ("network.csv", ["Gene1", "Gene2"]),
        ("tfs.csv", ["TF"]),
    ],
)
def test_tables_have_their_columns(world: Path, name: str, columns: list[str]) -> None:
    table = pd.read_csv(world / name, sep="\t" if name.endswith(".tsv") else ",")
    assert list(table.columns) == columns
    assert table.notna().all(axis=None)


@pytest.mark.parametrize(
    ("name", "columns", "cells"),
    [
        ("corpus_blood.h5ad", ["donor", "batch", "tissue", "cell_type", "assay"], 1300),
        ("corpus_liver.h5ad", ["donor", "batch", "tissue", "cell_type", "assay"], 1000),
        ("perturbation.h5ad", ["condition", "cell_type", "donor"], 2848),
        ("grn_expression.h5ad", ["time", "cell_type"], 500),
        ("integration.h5ad", ["batch", "cell_type"], 800),
        ("cell_lines.h5ad", ["tissue"], 24),
        ("signatures.h5ad", ["pert_id", "smiles", "cell_id", "dose_um"], 1120),
    ],
)
def test_h5ad_files_have_their_columns(world: Path, name: str, columns: list[str], cells: int) -> None:
    adata = ad.read_h5ad(world / name)
    assert list(adata.obs.columns) == columns
    assert adata.n_obs == cells
    assert adata.obs_names.is_unique and adata.var_names.is_unique
    if adata.obs.columns[0] not in ("tissue", "pert_id") and name != "corpus_liver.h5ad":
        assert sp.isspmatrix_csr(adata.X)
        assert (adata.X.data == np.round(adata.X.data)).all() and adata.X.min() >= 0


# ------------------------------------------------------------------ names


def test_gene_names_look_human(world: Path, genes: pd.DataFrame) -> None:
    assert len(genes) == 600 and genes["is_tf"].sum() == 40
    assert genes["gene_id"].map(lambda i: re.fullmatch(r"ENSG\d{11}", i) is not None).all()
    assert (genes["symbol"] == genes["symbol"].str.upper()).all()
    for column in ("gene_id", "symbol", "entrez_id"):
        assert genes[column].is_unique
    assert set(genes["biotype"]) == {"protein_coding", "lncRNA"}
    old = pd.concat([genes["previous"], genes["alias"]])
    assert not set(old[old != ""]) & set(genes["symbol"])
    assert old[old != ""].duplicated().sum() == 1  # one nickname that two genes share
    hgnc = tsv(world / "hgnc.tsv")
    assert (hgnc["Status"] == "Approved").sum() == 600 and len(hgnc) == 603


def test_a_symbol_does_not_tell_the_module(genes: pd.DataFrame) -> None:
    targets = genes[~genes["is_tf"] & (genes["module"] != "housekeeping")]
    family = targets["symbol"].str.replace(r"\d+", "", regex=True)
    shares = pd.crosstab(family, targets["module"], normalize="index").max(axis=1)
    assert shares[family.value_counts().index[family.value_counts() > 10]].max() < 0.5


def test_every_name_of_the_corpus_is_explained(world: Path, genes: pd.DataFrame) -> None:
    blood, liver = (ad.read_h5ad(world / f"corpus_{s}.h5ad") for s in ("blood", "liver"))
    kidney = pd.read_csv(world / "corpus_kidney.csv.gz", index_col=0)
    for source, names in (("blood", blood.var_names), ("liver", liver.var_names), ("kidney", kidney.index)):
        key = tsv(world / "answer_key" / f"names_corpus_{source}.tsv")
        assert list(key["name"]) == list(names)
        assert key.loc[key["kind"] != "spike-in", "gene_id"].isin(genes["gene_id"]).all()
    assert blood.var_names.str.fullmatch(r"ENSG\d{11}\.\d+").all()
    assert kidney.index.str.fullmatch(r"GeneID:\d+").all()

    by_symbol, by_id = genes.set_index("symbol"), genes.set_index("gene_id")
    key = tsv(world / "answer_key" / "names_corpus_liver.tsv")
    current = key[key["kind"].str.startswith("symbol")]
    assert (by_symbol.loc[current["name"], "gene_id"].to_numpy() == current["gene_id"]).all()
    old = key[key["kind"].str.startswith("old symbol")]
    of_gene = by_id.loc[old["gene_id"], ["previous", "alias"]].to_numpy()
    assert len(old) > 40 and (of_gene == old[["name"]].to_numpy()).any(axis=1).all()
    assert key["gene_id"][key["gene_id"] != ""].duplicated().sum() == 6  # in two columns each


def test_liver_keeps_its_counts_in_raw(world: Path) -> None:
    liver = ad.read_h5ad(world / "corpus_liver.h5ad")
    counts = liver.raw.X
    assert (counts.data == np.round(counts.data)).all()
    np.testing.assert_allclose(liver.X.toarray(), log1p_cp10k(counts), rtol=1e-5)


# ------------------------------------------------------------------ corpus


def test_corpus_has_donors_types_and_enough_genes_per_cell(world: Path) -> None:
    blood, liver = (ad.read_h5ad(world / f"corpus_{s}.h5ad") for s in ("blood", "liver"))
    kidney = tsv(world / "answer_key" / "cells_corpus_kidney.tsv")
    matrix = pd.read_csv(world / "corpus_kidney.csv.gz", index_col=0)
    assert list(matrix.columns) == list(kidney["cell"])
    donors = {*blood.obs["donor"], *liver.obs["donor"], *kidney["donor"]}
    assert len(donors) >= 12 and blood.n_obs + liver.n_obs + len(kidney) == 3000
    for counts in (blood.X.toarray(), liver.raw.X.toarray(), matrix.to_numpy().T):
        assert np.mean((counts > 0).sum(axis=1) >= 200) > 0.98
        assert 0.3 < np.mean(counts == 0) < 0.7


def test_silence_and_dropout_agree_with_the_counts(world: Path) -> None:
    blood = ad.read_h5ad(world / "corpus_blood.h5ad")
    with np.load(world / "answer_key" / "zeros_corpus_blood.npz", allow_pickle=False) as key:
        kind, cells, names = key["kind"], key["cells"], key["genes"]
    assert list(cells) == list(blood.obs_names)
    assert list(names) == list(blood.var_names.str.split(".").str[0])
    assert ((kind == 0) == (blood.X.toarray() > 0)).all()
    assert (kind == 1).mean() > 0.05 and (kind == 2).mean() > 0.1
    # Silence belongs to the cell type: within one, a gene is silent in every cell or in none.
    for cell_type in blood.obs["cell_type"].unique():
        silent = (kind[(blood.obs["cell_type"] == cell_type).to_numpy()] == 1).mean(axis=0)
        assert set(np.unique(silent)) == {0.0, 1.0}
    # A zero says little by itself: dropout hits genes that are otherwise seen in the same cell type.
    assert len(np.unique(kind[:, (kind == 1).any(axis=0)])) == 3


def test_batch_factors_are_in_the_counts(world: Path, genes: pd.DataFrame) -> None:
    """Log ratios of batch means within a cell type follow the factors of the answer key."""
    adata = ad.read_h5ad(world / "integration.h5ad")
    factors = tsv(world / "answer_key" / "effects_integration.tsv").set_index("symbol").loc[adata.var_names]
    both = adata.obs.groupby(["cell_type", "batch"], observed=True).size().unstack(fill_value=0)[["p1", "p2"]]
    cell_type = both.min(axis=1).idxmax()
    means = [
        np.asarray(adata[((adata.obs["batch"] == b) & (adata.obs["cell_type"] == cell_type)).to_numpy()].X.mean(axis=0))
        for b in ("p1", "p2")
    ]
    seen = (means[0] > 1).ravel() & (means[1] > 1).ravel()
    found = np.log(means[0].ravel()[seen] / means[1].ravel()[seen])
    planted = np.log(factors["p1"] / factors["p2"]).to_numpy()[seen]
    assert pearson(found, planted) > 0.8


def test_batches_and_cell_types_are_both_visible(world: Path) -> None:
    adata = ad.read_h5ad(world / "integration.h5ad")
    components = PCA(20, random_state=0).fit_transform(log1p_cp10k(adata.X))
    classifier = LogisticRegression(max_iter=1000)
    for column in ("batch", "cell_type"):
        labels = adata.obs[column].astype(str).to_numpy()
        shuffled = np.random.default_rng(0).permutation(labels)
        assert cross_val_score(classifier, components, labels, cv=3).mean() > 0.9
        assert cross_val_score(classifier, components, shuffled, cv=3).mean() < 0.6
    composition = pd.crosstab(adata.obs["batch"], adata.obs["cell_type"], normalize="index")
    assert composition.max(axis=0).sub(composition.min(axis=0)).max() > 0.15


# ------------------------------------------------------------------ network and ontology


def test_true_edges_correlate_more_than_other_pairs(world: Path) -> None:
    adata = ad.read_h5ad(world / "grn_expression.h5ad")
    network, tfs = pd.read_csv(world / "network.csv"), pd.read_csv(world / "tfs.csv")["TF"]
    assert not network.duplicated().any() and set(network["Gene1"]) <= set(tfs)
    regulators = network.loc[~network["Gene2"].isin(tfs), "Gene2"].value_counts()
    assert regulators.min() >= 1 and regulators.max() <= 4 and len(regulators) == 480
    weights = tsv(world / "answer_key" / "network.tsv")["weight"]
    assert 0.7 < (weights > 0).mean() < 0.9

    values = log1p_cp10k(adata.X)
    keep = values.std(axis=0) > 0
    names = adata.var_names[keep]
    correlation = pd.DataFrame(np.abs(np.corrcoef(values[:, keep].T)), index=names, columns=names).loc[tfs]
    truth = pd.DataFrame(False, index=tfs, columns=names)
    for tf, target in network[network["Gene2"].isin(names)].itertuples(index=False):
        truth.loc[tf, target] = True
    other = ~(tfs.to_numpy()[:, None] == names.to_numpy())
    assert roc_auc_score(truth.to_numpy()[other], correlation.to_numpy()[other]) > 0.7


def test_tf_regulation_has_no_cycle() -> None:
    weights = build_world(3).tf_weights
    assert (weights != 0).sum() > 10
    assert not np.linalg.matrix_power((weights != 0).astype(int), len(weights)).any()


def test_goatools_reads_the_ontology_and_modules_share_terms(
    world: Path, genes: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    from goatools.anno.gaf_reader import GafReader
    from goatools.obo_parser import GODag

    dag = GODag(str(world / "go.obo"), prt=None)
    assert {dag[i].namespace for i in dag} == {"biological_process", "molecular_function", "cellular_component"}
    assert max(term.level for term in dag.values()) == 2
    assert any(key != term.id for key, term in dag.items())  # alternative ids
    assert "GO:9700001" not in dag  # obsolete
    annotations = GafReader(str(world / "goa.gaf"), prt=None).associations
    assert not caplog.records  # goatools logs what it finds wrong with a header
    assert {len(line.split("\t")) for line in (world / "goa.gaf").read_text().splitlines() if line[0] != "!"} == {17}
    assert any("NOT" in a.Qualifier for a in annotations)
    assert {a.GO_ID for a in annotations} <= set(dag)
    assert {a.DB_Symbol for a in annotations} <= set(genes["symbol"])

    positive = [(a.DB_Symbol, dag[a.GO_ID].id) for a in annotations if "NOT" not in a.Qualifier]
    incidence = pd.crosstab(*zip(*positive, strict=True)).clip(upper=1)
    shared = incidence.to_numpy() @ incidence.to_numpy().T
    sizes = incidence.to_numpy().sum(axis=1)
    jaccard = shared / (sizes[:, None] + sizes - shared)
    module = genes.set_index("symbol").loc[incidence.index, "module"].to_numpy()
    regulated = module != "housekeeping"
    pairs = np.triu_indices(regulated.sum(), 1)
    same = (module[regulated][:, None] == module[regulated])[pairs]
    between = jaccard[np.ix_(regulated, regulated)][pairs]
    assert between[same].mean() > 3 * between[~same].mean()
    assert roc_auc_score(same, between) > 0.8
    assert roc_auc_score(same, between) < 0.999  # with omissions and strays


# ------------------------------------------------------------------ perturbation


@pytest.fixture(scope="module")
def effects(world: Path) -> pd.DataFrame:
    """Change of mean log1p CP10k by each condition, conditions x genes."""
    adata = ad.read_h5ad(world / "perturbation.h5ad")
    values = pd.DataFrame(log1p_cp10k(adata.X), columns=adata.var_names)
    means = values.groupby(adata.obs["condition"].to_numpy()).mean()
    return means.drop(index="ctrl") - means.loc["ctrl"]


def test_conditions_are_singles_and_doubles_of_tfs(world: Path, effects: pd.DataFrame) -> None:
    tfs = set(pd.read_csv(world / "tfs.csv")["TF"])
    singles = [c for c in effects.index if c.endswith("+ctrl")]
    doubles = [c for c in effects.index if not c.endswith("+ctrl")]
    assert len(singles) >= 32 and len(doubles) >= 36
    assert {g for c in effects.index for g in c.split("+")} - {"ctrl"} <= tfs
    assert {g for c in doubles for g in c.split("+")} == {c.removesuffix("+ctrl") for c in singles}
    counts = ad.read_h5ad(world / "perturbation.h5ad").obs["condition"].value_counts()
    assert counts["ctrl"] == 200 and counts.drop("ctrl").between(25, 40).all()
    assert all(effects.loc[f"{tf}+ctrl", tf] > 0.5 for tf in (c.removesuffix("+ctrl") for c in singles))


@pytest.mark.parametrize("seed", range(20))
def test_every_simulation_split_has_all_scenarios(effects: pd.DataFrame, seed: int) -> None:
    generator = np.random.default_rng(seed)
    tfs = sorted({g for c in effects.index for g in c.split("+")} - {"ctrl"})
    train = set(generator.choice(tfs, int(0.75 * len(tfs)), replace=False))
    seen = pd.Series([sum(g in train for g in c.split("+")) for c in effects.index if not c.endswith("+ctrl")])
    assert (seen == 0).sum() >= 1 and (seen == 1).sum() >= 5
    assert int(0.25 * (seen == 2).sum()) >= 3


def test_additive_beats_train_mean_and_truth_beats_additive(effects: pd.DataFrame) -> None:
    doubles = [c for c in effects.index if not c.endswith("+ctrl")]
    pairs = [c.split("+") for c in doubles]
    truth = effects.loc[doubles].to_numpy()
    additive = np.stack([effects.loc[[f"{a}+ctrl", f"{b}+ctrl"]].sum(axis=0) for a, b in pairs])
    errors = {
        "no change": np.mean(truth**2),
        "mean": np.mean((truth - effects.to_numpy().mean(axis=0)) ** 2),
        "additive": np.mean((truth - additive) ** 2),
    }
    assert errors["additive"] < 0.6 * errors["mean"] < 0.6 * errors["no change"]


def test_planted_interactions_deviate_from_additivity(world: Path, effects: pd.DataFrame) -> None:
    key = tsv(world / "answer_key" / "interactions.tsv").set_index("condition")
    assert set(key.index) == {c for c in effects.index if not c.endswith("+ctrl")}
    ratio = {}
    for condition, row in key.iterrows():
        additive = effects.loc[[f"{row.tf1}+ctrl", f"{row.tf2}+ctrl"]].sum(axis=0)
        others = [g for g in effects.columns if g not in (row.tf1, row.tf2)]
        double, expected = effects.loc[condition, others], additive[others]
        ratio[condition] = {
            "deviation": np.mean((double - expected) ** 2),
            "size": (double @ expected) / (expected @ expected),
        }
    found = pd.DataFrame(ratio).T.join(key["kind"])
    planted = found["kind"] != "additive"
    assert planted.sum() == 15
    assert roc_auc_score(planted, found["deviation"]) > 0.8
    size = found.groupby("kind")["size"].mean()
    assert size["suppression"] < size["epistasis"] < size["additive"] < size["synergy"]


def test_planted_changes_are_found_in_the_cells(world: Path, effects: pd.DataFrame) -> None:
    planted = tsv(world / "answer_key" / "perturbation_deltas.tsv").set_index("condition")
    correlation = [pearson(planted.loc[c, effects.columns], effects.loc[c]) for c in effects.index]
    assert np.mean(correlation) > 0.7


def test_tfs_of_one_module_act_alike(genes: pd.DataFrame, effects: pd.DataFrame) -> None:
    """What makes an unseen TF partly predictable: its module's other TFs."""
    module = genes.set_index("symbol")["module"]
    singles = effects[effects.index.str.endswith("+ctrl")]
    perturbed = singles.index.str.removesuffix("+ctrl")
    of_single, values = module[perturbed].to_numpy(), singles.to_numpy()
    correlation = np.corrcoef(values - values.mean(axis=0))
    pairs = np.triu_indices(len(singles), 1)
    same = (of_single[:, None] == of_single)[pairs]
    assert correlation[pairs][same].mean() > correlation[pairs][~same].mean() + 0.15

    error = {"mean": [], "module": []}
    for i, tf in enumerate(perturbed):
        others = np.arange(len(singles)) != i
        mean = values[others].mean(axis=0)
        informed = (mean + values[others & (of_single == of_single[i])].mean(axis=0)) / 2
        rest = singles.columns != tf
        error["mean"].append(np.mean((values[i] - mean)[rest] ** 2))
        error["module"].append(np.mean((values[i] - informed)[rest] ** 2))
    assert np.mean(error["module"]) < 0.95 * np.mean(error["mean"])


# ------------------------------------------------------------------ drugs


@pytest.fixture(scope="module")
def fingerprints(world: Path) -> pd.DataFrame:
    from rdkit import Chem
    from rdkit.Chem import rdFingerprintGenerator

    drugs = tsv(world / "drugs.tsv")
    make = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=512)
    rows = [make.GetFingerprintAsNumPy(Chem.MolFromSmiles(s)) for s in drugs["smiles"]]
    return pd.DataFrame(np.array(rows, dtype=float), index=drugs["drug_id"])


def test_smiles_are_canonical_and_different(world: Path) -> None:
    from rdkit import Chem

    smiles = tsv(world / "drugs.tsv")["smiles"]
    assert len(smiles) == 40 and smiles.is_unique
    assert [Chem.MolToSmiles(Chem.MolFromSmiles(s)) for s in smiles] == list(smiles)


def left_out(drugs: pd.Series, train: bool) -> np.ndarray:
    """Every fourth drug is left out."""
    code = drugs.astype("category").cat.codes.to_numpy()
    return (code % 4 != 0) if train else (code % 4 == 0)


def test_structure_explains_signatures_of_unseen_drugs(world: Path, fingerprints: pd.DataFrame) -> None:
    adata = ad.read_h5ad(world / "signatures.h5ad")
    drugs = adata.obs["pert_id"].astype(str)
    features = fingerprints.loc[drugs].to_numpy()
    train, test = left_out(drugs, True), left_out(drugs, False)
    predicted = Ridge(30.0).fit(features[train], adata.X[train]).predict(features[test])
    error, floor = (np.mean((p - adata.X[test]) ** 2) for p in (predicted, adata.X[train].mean(axis=0)))
    with np.load(world / "answer_key" / "signatures_without_noise.npz", allow_pickle=False) as key:
        ceiling = np.mean((key["z"][test] - adata.X[test]) ** 2)
    assert ceiling < error < 0.85 * floor


def test_structure_and_expression_explain_drug_response(world: Path, fingerprints: pd.DataFrame) -> None:
    table = pd.read_csv(world / "drug_response.tsv", sep="\t")
    assert len(table) == 864 and not table.duplicated(["drug_id", "cell_line"]).any()
    lines = ad.read_h5ad(world / "cell_lines.h5ad")
    assert set(table["cell_line"]) == set(lines.obs_names)
    assert lines.X.min() >= 0 and lines.obs["tissue"].nunique() == 4
    train, test = left_out(table["drug_id"], True), left_out(table["drug_id"], False)
    y = table["ln_ic50"].to_numpy()
    known = fingerprints.loc[table["drug_id"]].to_numpy()
    of_line = pd.get_dummies(table["cell_line"]).to_numpy(dtype=float)
    agnostic = Ridge(1.0).fit(of_line[train], y[train]).predict(of_line[test])
    both = np.hstack([known, of_line])
    structure = Ridge(3.0).fit(both[train], y[train]).predict(both[test])
    assert pearson(structure, y[test]) > pearson(agnostic, y[test]) + 0.15

    # Within known drugs, the line's expression says what neither the drug's nor the line's mean does.
    parts = tsv(world / "answer_key" / "drug_response_parts.tsv").set_index(["drug_id", "cell_line"])
    parts = parts.loc[list(zip(table["drug_id"], table["cell_line"], strict=True))]
    rest = y - parts["potency"].to_numpy() - parts["resistance"].to_numpy()
    assert pearson(rest, parts["interaction"].to_numpy()) > 0.7
    components = PCA(15, random_state=0).fit_transform(lines.X - lines.X.mean(axis=0))
    components = pd.DataFrame(components / components.std(axis=0), index=lines.obs_names)
    products = np.einsum("nk,nl->nkl", known[:, known.std(axis=0) > 0], components.loc[table["cell_line"]].to_numpy())
    products = products.reshape(len(y), -1)
    part = np.random.default_rng(0).random(len(y)) < 0.8
    explained = Ridge(300.0).fit(products[part], rest[part]).predict(products[~part])
    assert pearson(explained, rest[~part]) > 0.4


def test_combinations_are_balanced_and_follow_their_score(world: Path) -> None:
    table = pd.read_csv(world / "drug_combination.tsv", sep="\t")
    assert len(table) == N_COMBINED_DRUGS * (N_COMBINED_DRUGS - 1) // 2 * LINES_PER_PAIR
    assert table["label"].mean() == pytest.approx(0.5, abs=0.01)
    assert {*table["drug1"], *table["drug2"]} <= set(tsv(world / "drugs.tsv")["smiles"])
    assert set(table["cell"]) <= set(ad.read_h5ad(world / "cell_lines.h5ad").obs_names)
    key = pd.read_csv(world / "answer_key" / "combination_scores.tsv", sep="\t")
    assert roc_auc_score(table["label"], key["complementarity"]) > 0.6
    assert roc_auc_score(table["label"], key["sensitivity"]) > 0.6
    both = key["complementarity"] + 0.5 * key["sensitivity"] + 0.5 * key["complementarity"] * key["sensitivity"]
    assert roc_auc_score(table["label"], both) > 0.95

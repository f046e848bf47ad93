"""Gene names to vocabulary positions."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from toy_training import ARCH, toy_corpus, toy_counts

from sclong.cells.normalize import log1p_cp10k, normalize_counts
from sclong.checkpoint.folder import initialise, load_checkpoint
from sclong.cli import main
from sclong.embed.embedding import embed_adata
from sclong.errors import InputDataError
from sclong.genes.align import Alignment, align_genes, describe, harmonize, kind_of_names
from sclong.genes.vocabulary import COLUMNS, Vocabulary


def gene(n: int) -> str:
    return f"ENSG{n:011d}"


@pytest.fixture
def vocabulary() -> Vocabulary:
    rows = [
        (0, gene(10), "ALPHA", "protein_coding", "OLDA|OLDA|BETA|BOTH", "100"),
        (1, gene(11), "BETA", "protein_coding", "BOTH", "101"),
        (2, gene(12), "TWIN", "lncRNA", "", ""),
        (3, gene(13), "TWIN", "lncRNA", "OLDT", "103"),
        (4, gene(14), "1060P11.3", "lncRNA", "", "104"),
    ]
    return Vocabulary(pd.DataFrame(rows, columns=COLUMNS))


@pytest.mark.parametrize(
    ("name", "position", "rule"),
    [
        (gene(11), 1, "ensembl"),
        (gene(11) + ".17", 1, "ensembl"),
        (gene(11) + ".2_PAR_Y", 1, "ensembl"),
        (f"  {gene(12)}\t", 2, "ensembl"),
        ("ALPHA", 0, "symbol"),
        ("BETA", 1, "symbol"),  # also an alias of ALPHA: the current symbol wins
        ("1060P11.3", 4, "symbol"),  # the dot is no version
        (" OLDA", 0, "previous_or_alias"),
        ("GeneID:103", 3, "entrez"),
        ("104", 4, "entrez"),
        ("BOTH", -1, "ambiguous"),
        ("TWIN", -1, "ambiguous"),
        ("alpha", -1, "unmapped"),
        (gene(99), -1, "unmapped"),
        ("GeneID:9", -1, "unmapped"),
        ("", -1, "unmapped"),
    ],
)
def test_rules(vocabulary: Vocabulary, name: str, position: int, rule: str) -> None:
    alignment = align_genes([name, "ALPHA"], vocabulary)
    assert (alignment.positions[0], alignment.rule[0]) == (position, rule)


def test_report_counts_every_name_once(vocabulary: Vocabulary) -> None:
    names = ["ALPHA", "OLDA ", gene(11) + ".1", "GeneID:103", "TWIN", "nothing", gene(10)]
    report = align_genes(names, vocabulary).report
    assert report["names"] == 7
    assert report["mapped"] == 5
    assert [report[f"by_{r}"] for r in ("ensembl", "symbol", "previous_or_alias", "entrez")] == [2, 1, 1, 1]
    assert (report["ambiguous"], report["unmapped"], report["unmapped_examples"]) == (1, 1, ["nothing"])
    assert report["duplicated"] == 2  # ALPHA, OLDA and its id are one gene
    assert report["genes_of_vocabulary"] == 3
    assert report["share_of_vocabulary"] == 0.6
    assert (report["with_version"], report["with_blanks"]) == (1, 1)


def test_retired_ids_are_found_by_their_symbols(vocabulary: Vocabulary) -> None:
    """Not if the gene is there under its own id, and not for names that are no Ensembl ids."""
    names = [gene(99), gene(98), gene(10), "other"]
    var = pd.DataFrame({"feature_name": ["BETA", "ALPHA", "ALPHA", "OLDT"]})
    assert align_genes(names, vocabulary).positions.tolist() == [-1, -1, 0, -1]
    alignment = align_genes(names, vocabulary, extra=var)
    assert alignment.positions.tolist() == [1, -1, 0, -1]
    assert alignment.rule.tolist() == ["symbol", "unmapped", "ensembl", "unmapped"]


def test_retired_entrez_ids_are_found_by_the_symbols_of_the_index(vocabulary: Vocabulary) -> None:
    """As in a file whose var_names are symbols and whose ids stand in a column."""
    var = pd.DataFrame({"gene_ids": ["GeneID:9", "GeneID:100", "GeneID:8"]}, index=["BETA", "ALPHA", "OLDA"])
    alignment = align_genes(var["gene_ids"].tolist(), vocabulary, extra=var)
    assert alignment.positions.tolist() == [1, 0, -1]  # ALPHA, once OLDA, is there under its own id
    assert alignment.rule.tolist() == ["symbol", "entrez", "unmapped"]


def test_row_numbers_are_not_taken_for_entrez_ids(vocabulary: Vocabulary) -> None:
    """A retired id is looked up by its symbol only: the index of its row is no Entrez id."""
    var = pd.DataFrame(index=["100", "101"])
    assert align_genes([gene(99), gene(12)], vocabulary, extra=var).positions.tolist() == [-1, 2]


def test_kinds_may_be_mixed(vocabulary: Vocabulary) -> None:
    names = [f"{gene(12)}.3", "BETA", "OLDA", "GeneID:103", "104"]
    alignment = align_genes(names, vocabulary)
    assert alignment.positions.tolist() == [2, 1, 0, 3, 4]
    assert alignment.rule.tolist() == ["ensembl", "symbol", "previous_or_alias", "entrez", "entrez"]


@pytest.mark.parametrize(
    ("foreign", "species"),
    [
        ([], "human"),
        (["nCoV"], "human"),  # a virus in a human sample
        (["ENSMUSG00000000001", "ENSMUSG00000000002"], "not all human: 2 names are mouse Ensembl ids"),
        (["Gapdh", "Cd3e"], "not all human: 2 names are title-case symbols, as mouse genes have"),
        (["ENSDARG00000000001", "ENSDARG00000000002"], "not all human: 2 names are Ensembl ids of another species"),
    ],
)
def test_suspicion_of_another_species(vocabulary: Vocabulary, foreign: list[str], species: str) -> None:
    report = align_genes([gene(10), gene(11), gene(12), *foreign], vocabulary).report
    assert report["species"].startswith(species)
    assert report["kind"] == "human Ensembl ids"


def test_names_with_a_genome_before_them(vocabulary: Vocabulary) -> None:
    alignment = align_genes([f"GRCh38_{gene(n)}" for n in (10, 11)] + ["mm10_Gapdh"], vocabulary)
    assert alignment.positions.tolist() == align_genes([gene(10), gene(11), "nothing"], vocabulary).positions.tolist()
    assert alignment.report["with_genome"] == 2
    assert "1 names are names with the genome of another species" in alignment.report["species"]


def positions(n: int, first: int = 3, step: int = 7) -> list[str]:
    return [str(first + step * i) for i in range(n)]


@pytest.mark.parametrize(
    "names",
    [["0", "1", "2"], ["1", "2"], ["2", "0", "1"], positions(30), [*positions(30), "70000"], positions(30)[::-1]],
)
def test_running_numbers_are_refused(vocabulary: Vocabulary, names: list[str]) -> None:
    with pytest.raises(InputDataError, match=r"running numbers(.|\n)*write them as GeneID:123"):
        align_genes(names, vocabulary)


@pytest.mark.parametrize(
    "names",
    [
        [f"GeneID:{i}" for i in range(90, 111)],
        [*positions(30, first=100), "100130426"],  # above what a matrix has columns
        ["100", "104"],
    ],
)
def test_entrez_ids_are_not_refused(vocabulary: Vocabulary, names: list[str]) -> None:
    entrez_ids = [*(name.removeprefix("GeneID:") for name in names[:2]), "1", "2", "3"]
    assert align_genes(names, Vocabulary(vocabulary.table.assign(entrez_id=entrez_ids))).report["by_entrez"] == 2


def test_the_report_in_words(vocabulary: Vocabulary) -> None:
    names = ["ALPHA", "OLDA ", f"{gene(11)}.1", f"{gene(12)}", "TWIN", "nothing", gene(10)]
    assert describe(align_genes(names, vocabulary).report) == [
        "gene names      7, mostly symbols or other text; 1 with a version, 1 with blanks around them",
        "species         human",
        "found           5 (71.4%): Ensembl id 3, symbol 1, previous or alias symbol 1",
        "not found       1 (14.3%), for example 'nothing'",
        "ambiguous       1 (14.3%), for example 'TWIN': names of several genes, left out",
        "duplicated      2: further names of a gene that is there already, combined with it",
        "vocabulary      3 of its genes are there (60.0%)",
    ]


def test_check_prints_the_report_even_if_values_are_refused(
    vocabulary: Vocabulary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary.write(tmp_path / "vocabulary.tsv")
    var = pd.DataFrame({"gene_ids": [gene(10), gene(11)]}, index=["ALPHA", "BETA"])
    for name, values in {"good": [[1, 2], [0, 1]], "bad": [[1.5, 2], [0, 1]]}.items():
        ad.AnnData(np.array(values, dtype=np.float32), var=var).write_h5ad(tmp_path / f"{name}.h5ad")
    assert main(["check", str(tmp_path / "good.h5ad"), "--checkpoint", str(tmp_path)]) == 0
    good = capsys.readouterr().out
    assert "2 cells, 2 genes" in good
    assert (
        "read            counts from X (holds counts), 2 cells, 2 genes, names from var['gene_ids'], 100% found" in good
    )
    assert "found           2 (100.0%): Ensembl id 2" in good
    assert "genes per cell  median 1, fewest 1" in good
    assert main(["check", str(tmp_path / "bad.h5ad"), "--checkpoint", str(tmp_path)]) == 1
    bad = capsys.readouterr()
    assert "found           2 (100.0%): Ensembl id 2" in bad.out
    assert "not integers" in bad.err


def duplicated(vocabulary: Vocabulary) -> tuple[Alignment, np.ndarray]:
    """Names of which three are one gene and two another; counts of 20 cells."""
    names = ["ALPHA", "BETA", "OLDA", gene(10), gene(12), "104", "1060P11.3", "nothing"]
    return align_genes(names, vocabulary), np.random.default_rng(0).poisson(2.0, size=(20, 8)).astype(np.float32)


def test_duplicates_of_log_values_equal_summed_counts(vocabulary: Vocabulary) -> None:
    alignment, counts = duplicated(vocabulary)
    counts[:, -1] = 0  # normalisation must not see what is not in the vocabulary
    before = log1p_cp10k(harmonize(counts, alignment, 5)).toarray()
    after = harmonize(log1p_cp10k(counts), alignment, 5, "log1p_cp10k")
    assert after.dtype == np.float32
    np.testing.assert_allclose(after.toarray(), before, rtol=1e-6)
    alone = alignment.positions[[1, 4]]
    np.testing.assert_array_equal(after.toarray()[:, alone], log1p_cp10k(counts).toarray()[:, [1, 4]])
    assert not np.allclose(harmonize(log1p_cp10k(counts), alignment, 5).toarray(), before, rtol=0.01)


def test_duplicates_of_cp10k_values_are_summed(vocabulary: Vocabulary) -> None:
    alignment, counts = duplicated(vocabulary)
    counts[:, -1] = 0  # normalisation must not see what is not in the vocabulary
    before = normalize_counts(harmonize(counts, alignment, 5), "cp10k").toarray()
    after = harmonize(normalize_counts(counts, "cp10k"), alignment, 5, "cp10k").toarray()
    np.testing.assert_allclose(after, before, rtol=1e-5)


def test_duplicates_of_an_unknown_scale_are_averaged(vocabulary: Vocabulary) -> None:
    alignment, values = duplicated(vocabulary)
    out = harmonize(values, alignment, 5, "nonnegative").toarray()
    np.testing.assert_allclose(out[:, 0], values[:, [0, 2, 3]].mean(1), rtol=1e-6)
    np.testing.assert_allclose(out[:, 4], values[:, [5, 6]].mean(1), rtol=1e-6)
    np.testing.assert_array_equal(out[:, [1, 2]], values[:, [1, 4]])


def test_embedding_combines_duplicates_by_the_kind_of_values(tmp_path: Path) -> None:
    """Log values with a gene under two names are embedded as the counts with the two summed."""
    _, toy, graph = toy_corpus(tmp_path)
    initialise(tmp_path / "toy", ARCH, toy, graph, 0)
    loaded = load_checkpoint(tmp_path / "toy")
    counts = toy_counts(4, 5)[:, :30].astype(np.float32)
    names = [f"ENSG9{i:010d}" for i in range(30)]
    twice = np.concatenate([counts, counts[:, 5:6] + 1], axis=1)
    summed = counts.copy()
    summed[:, 5] = twice[:, 5] + twice[:, 30]

    def embedded(values: object, genes: list[str], kind: str) -> np.ndarray:
        adata = ad.AnnData(values, var=pd.DataFrame(index=genes), uns={"value_kind": kind})
        return embed_adata(adata, loaded, progress=False).cell_embedding

    logged = embedded(log1p_cp10k(twice), [*names, f"{names[5]}.2"], "log1p_cp10k")
    np.testing.assert_allclose(logged, embedded(sparse.csr_matrix(summed), names, "counts"), rtol=1e-4, atol=1e-5)


def test_harmonize_moves_sums_and_fills_with_zero(vocabulary: Vocabulary) -> None:
    alignment = align_genes(["BETA", "nothing", "ALPHA", "OLDA"], vocabulary)
    counts = sparse.csr_matrix(np.array([[1, 50, 2, 3], [0, 60, 0, 0]], dtype=np.float32))
    out = harmonize(counts, alignment, 5)
    assert out.toarray().tolist() == [[5, 1, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert out.has_sorted_indices


def test_harmonize_stores_no_zeros(vocabulary: Vocabulary) -> None:
    """A zero that a file stores is not a detected gene."""
    counts = sparse.csr_matrix((np.array([0.0, 2.0], dtype=np.float32), [0, 1], [0, 2]), shape=(1, 2))
    out = harmonize(counts, align_genes(["ALPHA", "BETA"], vocabulary), 5)
    assert np.diff(out.indptr).tolist() == [1]


@pytest.mark.parametrize("seed", range(3))
def test_harmonize_equals_a_loop(vocabulary: Vocabulary, seed: int) -> None:
    random = np.random.default_rng(seed)
    pool = ["ALPHA", "OLDA", gene(10), "BETA", gene(12), gene(13), "GeneID:103", "104", "BOTH", "no", "TWIN"]
    names = random.choice(pool, size=30).tolist()
    counts = random.poisson(1.0, size=(7, 30)).astype(np.float32)
    alignment = align_genes(names, vocabulary)
    expected = np.zeros((7, 5), dtype=np.float32)
    for column, position in enumerate(alignment.positions):
        if position >= 0:
            expected[:, position] += counts[:, column]
    np.testing.assert_array_equal(harmonize(sparse.csr_matrix(counts), alignment, 5).toarray(), expected)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["ENSMUSG00000000001", "ENSMUSG00000000002"], "mouse Ensembl ids"),
        (["ENSG00000000001.5"], "human Ensembl ids"),
        (["ENST00000000001"], "transcripts"),
        (["ENSDARG00000000001"], "another species"),
        (["1007_s_at", "1053_at", "AFFX"], "probe ids"),
        (["ILMN_1343291"], "probe ids"),
        (["Gapdh", "Cd3e", "Ifng", "H2-K1"], "title-case"),
        (["17", "18"], "numbers"),
        (["GAPDH", "C1orf112", "Y_RNA"], "symbols"),
    ],
)
def test_kind_of_names(names: list[str], kind: str) -> None:
    assert kind in kind_of_names(names)


def test_dates_of_a_spreadsheet_become_symbols_where_one_could_have_been() -> None:
    symbols = ["MARCHF1", "MTARC1", "MARCHF4", "SEPTIN2", "DELEC1", "SEPTIN9"]
    aliases = ["MARCH1", "MARC1", "MARCH4", "SEPT2", "DEC1", "SEPT9"]
    table = pd.DataFrame({"index": range(6), "ensembl_id": [f"ENSG{i:011d}" for i in range(6)], "symbol": symbols})
    names = Vocabulary(table.assign(biotype="protein_coding", aliases=aliases, entrez_id=""))
    given = ["4-Mar", "2-Sep", "1-Dec", "2023-09-09 00:00:00", "1-Mar", "31-Jan", "SEPT2"]
    alignment = align_genes(given, names)
    assert alignment.positions[:4].tolist() == [2, 3, 4, 5]
    assert alignment.rule.tolist() == [*["date"] * 4, "ambiguous", "unmapped", "previous_or_alias"]
    assert align_genes(["Mar-04", "02-Sep", "Sep-02"], names).positions.tolist() == [2, 3, 3]
    assert any("date that a spreadsheet made of a symbol 4" in line for line in describe(alignment.report))

"""Gene names to vocabulary positions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sclong.data.align import align_genes, harmonize, kind_of_names
from sclong.data.vocabulary import COLUMNS, Vocabulary


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

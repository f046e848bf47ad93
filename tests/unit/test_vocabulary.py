"""The vocabulary: which genes, in which order, under which names; its file and its hash."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from sclong.data.vocabulary import (
    Vocabulary,
    build_vocabulary,
    gene_table,
    read_annotation,
    require_same_vocabulary,
)
from sclong.errors import InputDataError, VocabularyMismatchError

HGNC_HEADER = (
    "Approved symbol\tStatus\tAlias symbols\tPrevious symbols\tEnsembl gene ID\tNCBI Gene ID(supplied by NCBI)\n"
)


def gene(n: int) -> str:
    return f"ENSG{n:011d}"


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    annotation = tmp_path / "genes.csv"
    annotation.write_text(
        "gene_id,gene_name,biotype,chromosome,start,end\n"
        f"{gene(5)}.3,FIVE,protein_coding,chr1,1,2\n"
        f"{gene(2)}.1,TWO,protein_coding,chr2,1,2\n"
        f"{gene(3)},THREE,lncRNA,3,1,2\n"
        f"{gene(4)},FOUR,lncRNA,4,1,2\n"
        f"{gene(6)},SIX,lncRNA,5,1,2\n"
        f"{gene(7)},TWO,protein_coding,HSCHR2_ALT,1,2\n"
        f"{gene(8)},PAR,protein_coding,X,1,2\n"
        f"{gene(8)}.1_PAR_Y,PAR,protein_coding,Y,1,2\n"
        f"{gene(9)},FIVE,lncRNA,9,1,2\n"
    )
    hgnc = tmp_path / "hgnc.tsv"
    hgnc.write_text(
        HGNC_HEADER
        + f"FIVE\tApproved\tF#5, SHARED\tOLDFIVE\t{gene(5)}\t55\n"
        + f"THREE\tApproved\tSHARED\t\t{gene(3)}\t33\n"
        + "FOUR\tApproved\tQUATTRO\t\t\t44\n"
        + f"TWO\tApproved\tSIX\t\t{gene(2)}\t22\n"
        + f"TWOOLD\tEntry Withdrawn\tGONE\t\t{gene(6)}\t66\n"
    )
    return annotation, hgnc


def test_annotation_drops_versions_haplotypes_and_the_second_pseudoautosomal_copy(tables: tuple[Path, Path]) -> None:
    ids = read_annotation(tables[0])["ensembl_id"].tolist()
    assert ids == [gene(n) for n in (5, 2, 3, 4, 6, 8, 9)]


def test_names_come_from_hgnc_by_id_then_by_symbol(tables: tuple[Path, Path]) -> None:
    genes = gene_table(*tables).set_index("ensembl_id")
    assert genes.loc[gene(5), "aliases"] == "OLDFIVE|F#5|SHARED"
    assert genes.loc[gene(5), "entrez_id"] == "55"
    assert genes.loc[gene(4), ["aliases", "entrez_id"]].tolist() == ["QUATTRO", "44"]
    assert genes.loc[gene(6), ["aliases", "entrez_id"]].tolist() == ["", ""]  # withdrawn


def test_a_shared_symbol_belongs_to_the_gene_of_hgnc(tables: tuple[Path, Path]) -> None:
    genes = gene_table(*tables).set_index("ensembl_id")
    assert genes.loc[gene(5), "symbol"] == "FIVE"
    assert genes.loc[gene(9), "symbol"] == gene(9)


def test_order_is_coding_by_id_then_non_coding_by_data_sets_and_cells(tables: tuple[Path, Path]) -> None:
    detection = pd.DataFrame({"ensembl_id": [gene(4), gene(6), gene(9)], "datasets": [1, 1, 2], "cells": [5, 9, 1]})
    vocabulary = build_vocabulary(*tables, detection, 6)
    assert vocabulary.ensembl_ids == [gene(n) for n in (2, 5, 8, 9, 6, 4)]
    assert vocabulary.table["index"].tolist() == list(range(6))


def test_ties_go_by_id(tables: tuple[Path, Path]) -> None:
    detection = pd.DataFrame({"ensembl_id": [gene(6), gene(4)], "datasets": [1, 1], "cells": [5, 5]})
    assert build_vocabulary(*tables, detection, 5).ensembl_ids[3:] == [gene(4), gene(6)]


def test_without_size_every_gene_in_file_order(tables: tuple[Path, Path]) -> None:
    assert build_vocabulary(*tables, None, None).ensembl_ids == [gene(n) for n in (5, 2, 3, 4, 6, 8, 9)]


def test_a_name_shared_with_a_gene_that_was_not_chosen_is_nobodys(tables: tuple[Path, Path]) -> None:
    """SHARED is an alias of FIVE and THREE, SIX the symbol of a gene and an alias of TWO: choosing must not decide."""
    everything = build_vocabulary(*tables, None, None).table.set_index("symbol")
    assert "SHARED" in everything.loc["FIVE", "aliases"]
    chosen = build_vocabulary(*tables, None, 3).table.set_index("symbol")
    assert chosen.loc["FIVE", "aliases"] == "OLDFIVE|F#5"
    assert chosen.loc["TWO", "aliases"] == ""


def test_more_genes_than_there_are(tables: tuple[Path, Path]) -> None:
    with pytest.raises(InputDataError, match=r"3 protein-coding and 4 other genes(.|\n)*at least 8 genes"):
        build_vocabulary(*tables, None, 8)


def test_a_list_is_taken_in_its_order(tables: tuple[Path, Path], tmp_path: Path) -> None:
    listed = tmp_path / "genes.txt"
    listed.write_text(f"{gene(4)}\n{gene(99)}\n{gene(2)}.7\nPAD\n")
    vocabulary = build_vocabulary(*tables, None, None, listed)
    assert vocabulary.ensembl_ids == [gene(4), gene(99), gene(2)]
    assert vocabulary.table["symbol"].tolist() == ["FOUR", "", "TWO"]


@pytest.mark.parametrize(
    ("text", "message"),
    [(f"{gene(4)}\n{gene(4)}\n", "stand twice"), ("TWO\nFIVE\nSIX\n", "0 of its 3 names are in the annotation")],
)
def test_bad_lists(tables: tuple[Path, Path], tmp_path: Path, text: str, message: str) -> None:
    listed = tmp_path / "genes.txt"
    listed.write_text(text)
    with pytest.raises(InputDataError, match=message):
        build_vocabulary(*tables, None, None, listed)


def test_round_trip_keeps_table_metadata_and_hash(tables: tuple[Path, Path], tmp_path: Path) -> None:
    vocabulary = build_vocabulary(*tables, None, None)
    vocabulary.write(tmp_path / "vocabulary.tsv")
    back = Vocabulary.read(tmp_path / "vocabulary.tsv")
    pd.testing.assert_frame_equal(back.table, vocabulary.table, check_dtype=False)
    assert "F#5" in back.table.loc[0, "aliases"]
    assert back.hash == vocabulary.hash
    assert back.metadata["annotation"] == "genes.csv"


def test_hash_depends_on_order_only_through_ids(tables: tuple[Path, Path]) -> None:
    table = build_vocabulary(*tables, None, None).table
    assert Vocabulary(table).hash == Vocabulary(table.assign(symbol="x")).hash
    assert Vocabulary(table).hash != Vocabulary(table.iloc[::-1]).hash


def test_require_same_vocabulary() -> None:
    require_same_vocabulary("a", "the shards", "a", "the checkpoint")
    with pytest.raises(VocabularyMismatchError, match=r"the shards was made with vocabulary a, the checkpoint .* b"):
        require_same_vocabulary("a", "the shards", "b", "the checkpoint")


@pytest.mark.mirror
def test_the_real_annotation_reaches_the_published_size(mirror: Path) -> None:
    annotation = mirror / "gencode_genes/human_ensembl_latest.csv.gz"
    vocabulary = build_vocabulary(annotation, mirror / "hgnc/hgnc_entries.tsv", None, 27874)
    table = vocabulary.table
    assert len(vocabulary) == 27874
    assert (table["biotype"] == "protein_coding").sum() == 20097
    assert not table.loc[table["biotype"] == "protein_coding", "symbol"].duplicated().any()
    brca1 = table.set_index("symbol").loc["BRCA1"]
    assert brca1["ensembl_id"] == "ENSG00000012048"
    assert brca1["entrez_id"] == "672"

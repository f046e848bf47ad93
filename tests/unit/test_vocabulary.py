"""The vocabulary: which genes, in which order, under which names; its file and its hash."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from sclong.config.load import load_config
from sclong.corpus.assemble import detection_table
from sclong.corpus.source import scan_source
from sclong.errors import ConfigError, InputDataError, VocabularyMismatchError
from sclong.genes.align import align_genes
from sclong.genes.vocabulary import (
    Vocabulary,
    build_vocabulary,
    gene_table,
    on_primary_assembly,
    read_annotation,
    read_gene_list,
    require_same_vocabulary,
)
from sclong.io.files import sha256_file
from sclong.plan.plan import make_plan

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


def test_a_haplotype_copy_is_found_as_its_gene_on_the_primary_assembly(tables: tuple[Path, Path]) -> None:
    vocabulary = build_vocabulary(*tables, None, 5)
    assert vocabulary.table.loc[0, ["ensembl_id", "aliases"]].tolist() == [gene(2), gene(7)]
    alignment = align_genes([gene(2), f"{gene(7)}.4", "PAR"], vocabulary)
    assert alignment.positions.tolist() == [0, 0, 2]
    assert alignment.report["duplicated"] == 1


@pytest.mark.parametrize(
    ("contig", "primary"),
    [
        ("1", True),
        ("chr22", True),
        ("chrX", True),
        ("MT", True),
        ("chrM", True),
        ("KI270711.1", True),
        ("GL000009.2", True),
        ("chr14_GL000009v2_random", True),
        ("chrUn_KI270742v1", True),
        ("KI270879.1", False),
        ("GL000250.2", False),
        ("GL383563.3", False),
        ("chr6_GL000250v2_alt", False),
        ("CHR_HSCHR6_MHC_COX_CTG1", False),
        ("HG1012_PATCH", False),
        ("chr1_KI270762v1_alt", False),
        ("", False),
    ],
)
def test_primary_assembly(contig: str, primary: bool) -> None:
    assert on_primary_assembly(contig) is primary


def test_a_former_symbol_is_no_other_genes_alias(tables: tuple[Path, Path]) -> None:
    """As SARS, the symbol of SARS1 once and an alias of SARS2: data sets of that time mean SARS1."""
    _, hgnc = tables
    hgnc.write_text(HGNC_HEADER + f"FIVE\tApproved\tSARS\t\t{gene(5)}\t55\nTHREE\tApproved\t\tSARS\t{gene(3)}\t33\n")
    vocabulary = build_vocabulary(*tables, None, None)
    alignment = align_genes(["SARS", "FIVE"], vocabulary)
    assert [vocabulary.table.loc[p, "symbol"] for p in alignment.positions] == ["THREE", "FIVE"]


def test_hgncs_symbol_is_no_other_genes_alias(tables: tuple[Path, Path]) -> None:
    """Also where the annotation, of another date, names the gene differently."""
    _, hgnc = tables
    hgnc.write_text(HGNC_HEADER + f"FIVE\tApproved\tOLD\t\t{gene(5)}\t55\nOLD\tApproved\t\t\t{gene(3)}\t33\n")
    vocabulary = build_vocabulary(*tables, None, None)
    alignment = align_genes(["OLD", "THREE"], vocabulary)
    assert [vocabulary.table.loc[p, "symbol"] for p in alignment.positions] == ["THREE", "THREE"]


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
    assert chosen.loc["TWO", "aliases"] == gene(7)  # its copy on a haplotype, not SIX


def test_more_genes_than_there_are(tables: tuple[Path, Path]) -> None:
    with pytest.raises(InputDataError, match=r"3 protein-coding and 4 other genes(.|\n)*at least 8 genes"):
        build_vocabulary(*tables, None, 8)


@pytest.mark.parametrize(
    "text",
    [
        f"{gene(4)}\n{gene(99)}\n{gene(2)}.7\nPAD\n",
        f"\ufeff{gene(4)}\r\n{gene(99)}\r\n{gene(2)}.7\r\n",  # as an editor of another system saves it
    ],
)
def test_the_authors_list_is_taken_as_it_is(tables: tuple[Path, Path], tmp_path: Path, text: str) -> None:
    listed = tmp_path / "genes.txt"
    listed.write_bytes(text.encode())
    vocabulary = build_vocabulary(*tables, None, 3, listed)
    assert vocabulary.ensembl_ids == [gene(4), gene(99), gene(2)]
    assert vocabulary.table["symbol"].tolist() == ["FOUR", "", "TWO"]
    vocabulary.write(tmp_path / "vocabulary.tsv")
    metadata = Vocabulary.read(tmp_path / "vocabulary.tsv").metadata
    assert metadata["unknown_to_annotation"] == f"1: '{gene(99)}'"
    assert metadata["rule"] == "list genes.txt, in its order"
    assert metadata["list_sha256"] == sha256_file(listed)


def test_ids_that_differ_by_their_version_stay_apart(tmp_path: Path) -> None:
    listed = tmp_path / "genes.txt"
    listed.write_text(f"{gene(4)}.1\n{gene(4)}.2\n{gene(5)}.1\n")
    assert read_gene_list(listed) == [f"{gene(4)}.1", f"{gene(4)}.2", gene(5)]


@pytest.mark.parametrize(
    ("content", "size", "message"),
    [
        (f"{gene(4)}\n{gene(4)}\n".encode(), None, "appear twice"),
        (b"TWO\nFIVE\nSIX\n", None, "0 of its 3 names are in the annotation"),
        (f"{gene(4)}\n{gene(2)}\n".encode(), 3, r"2 genes\n(.|\n)*3 \(vocabulary\.size\)(.|\n)*size: 2 if"),
        (f"gene\n{gene(4)}\n{gene(2)}\n".encode(), 3, r"'gene' stands in place 1 of 3(.|\n)*without a header"),
        (f"{gene(4)}\nPAD\n{gene(2)}\n".encode(), None, "'PAD' stands in place 2 of 3"),
        (f"{gene(4)}\tFOUR\n{gene(2)}\tTWO\n".encode(), None, "more than a name in a line"),
        (b"\n\n", None, "no gene"),
        (b"PAD\n", None, "no gene"),
        (f"{gene(4)}\n".encode("utf-16"), None, r"not UTF-8 text \(byte 1 is 0xff\)"),
        (gzip.compress(f"{gene(4)}\n".encode(), mtime=0), None, "not UTF-8 text"),
        (None, None, "no such file"),
    ],
)
def test_bad_lists(
    tables: tuple[Path, Path], tmp_path: Path, content: bytes | None, size: int | None, message: str
) -> None:
    listed = tmp_path / "genes.txt"
    if content is not None:
        listed.write_bytes(content)
    with pytest.raises(InputDataError, match=message):
        build_vocabulary(*tables, None, size, listed)


@pytest.mark.parametrize("vocabulary", [{"mode": "authors"}, {"genes": "file:genes.txt"}])
def test_mode_and_list_go_together(root: Path, vocabulary: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="go together"):
        load_config({"vocabulary": vocabulary}, root)


def test_the_file_says_where_it_comes_from(tables: tuple[Path, Path], tmp_path: Path) -> None:
    detection = pd.DataFrame({"ensembl_id": [gene(4)], "datasets": [1], "cells": [5]})
    build_vocabulary(*tables, detection, 5, release="GENCODE 49", ranked_by=["a", "b"]).write(tmp_path / "v.tsv")
    metadata = Vocabulary.read(tmp_path / "v.tsv").metadata
    assert metadata["annotation_release"] == "GENCODE 49"
    assert metadata["annotation_sha256"] == sha256_file(tables[0])
    assert metadata["biotypes"] == "protein_coding 3, lncRNA 2"
    assert metadata["ranked_by"] == "a, b"
    assert (metadata["genes"], len(metadata["hash"])) == ("5", 16)


def test_optional_sources_do_not_rank(root: Path, tmp_path: Path) -> None:
    """Whoever has a mirror with optional sources pretrains on them, over the vocabulary that everybody has."""
    plain = make_plan({"preset": "small"}, root)
    optional = next(s for s in plain.config.corpus.sources if s.optional)
    file = tmp_path / optional.input.removeprefix("source:")
    file.parent.mkdir()
    file.touch()
    mirrored = make_plan({"preset": "small", "mirror": str(tmp_path)}, root)
    assert optional.name in mirrored.corpus.sources
    assert optional.name not in plain.corpus.sources
    assert mirrored.corpus.ranking == plain.corpus.ranking
    assert set(plain.corpus.ranking) <= set(plain.corpus.sources)


def test_a_list_needs_no_scan_of_the_corpus(root: Path) -> None:
    plan = make_plan({"vocabulary": {"mode": "authors", "genes": "file:genes.txt"}}, root)
    assert plan.corpus.ranking == []


def test_round_trip_keeps_table_metadata_and_hash(tables: tuple[Path, Path], tmp_path: Path) -> None:
    vocabulary = build_vocabulary(*tables, None, None)
    vocabulary.write(tmp_path / "vocabulary.tsv")
    back = Vocabulary.read(tmp_path / "vocabulary.tsv")
    pd.testing.assert_frame_equal(back.table, vocabulary.table, check_dtype=False)
    assert "F#5" in back.table.loc[0, "aliases"]
    assert back.hash == vocabulary.hash
    assert back.metadata["annotation"] == "genes.csv"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "an empty file"),
        (lambda content: b"".join(content.splitlines(keepends=True)[:3]), "3 lines of metadata and no table"),
        (lambda content: content.replace(b"index\tensembl_id", b"index\tgene"), "no column 'ensembl_id'"),
        (
            lambda content: b"\n".join(x for x in content.splitlines() if not x.startswith(b"index")),
            "no column 'index'",
        ),
        (lambda content: content.replace(b"OLDFIVE", b"OLD\xe4"), r"not UTF-8 text \(byte \d+ is 0xe4\)"),
        (lambda content: content.decode().encode("utf-16"), "not UTF-8 text"),
        (gzip.compress, "not UTF-8 text"),
        (lambda content: content.replace(b"\n3\tENSG", b"\nx\tENSG"), "the column index does not count from 0"),
        (lambda content: content.replace(b"\tFIVE\t", b'\t"FIVE\t'), "cannot be read as a table: ParserError"),
    ],
)
def test_damaged_files(
    tables: tuple[Path, Path], tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "vocabulary.tsv"
    build_vocabulary(*tables, None, None).write(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputDataError, match=message) as caught:
        Vocabulary.read(path)
    assert str(path) in caught.value.found


def test_line_ends_of_another_system_do_no_harm(tables: tuple[Path, Path], tmp_path: Path) -> None:
    vocabulary = build_vocabulary(*tables, None, None)
    vocabulary.write(tmp_path / "v.tsv")
    (tmp_path / "v.tsv").write_bytes((tmp_path / "v.tsv").read_bytes().replace(b"\n", b"\r\n"))
    assert Vocabulary.read(tmp_path / "v.tsv").hash == vocabulary.hash


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "EmptyDataError"), (b"\xff\xfe\x00", "UnicodeDecodeError"), (b"a,b\n1,2\n", "no column 'gene_id'")],
)
def test_damaged_annotations(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "genes.csv").write_bytes(content)
    with pytest.raises(InputDataError, match=message):
        read_annotation(tmp_path / "genes.csv")


def test_an_annotation_that_was_cut_short(tables: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(gzip.compress(tables[0].read_bytes())[:-30])
    with pytest.raises(InputDataError, match=r"cannot be read as a table: (EOFError|error)"):
        read_annotation(path)


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


@pytest.mark.mirror
@pytest.mark.slow
def test_the_preset_small_makes_the_vocabulary_of_the_docs(mirror: Path, root: Path, tmp_path: Path) -> None:
    """The whole way on the real corpus: everybody gets this hash, with the optional sources or without."""
    plan = make_plan({"preset": "small", "mirror": str(mirror)}, root)
    chosen = plan.config.vocabulary
    annotation, symbols = (mirror / str(a).removeprefix("source:") for a in (chosen.annotation, chosen.symbols))
    scans = []
    for name in plan.corpus.ranking:
        source = plan.corpus.sources[name]
        scans.append(tmp_path / f"{name}.tsv")
        scan_source(mirror / source.input.removeprefix("source:"), source, annotation, symbols, scans[-1])
    vocabulary = build_vocabulary(annotation, symbols, detection_table(scans), chosen.size)
    assert len(vocabulary) == 27874
    assert (vocabulary.table["biotype"] == "protein_coding").sum() == 20097
    assert f"hash `{vocabulary.hash}`" in (root / "docs/gene_ids.md").read_text()

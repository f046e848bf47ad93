from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sclong.errors import InputDataError
from sclong.genes import go_files
from sclong.genes.go_files import Ontology
from sclong.genes.go_graph import build_go_graph
from sclong.genes.go_terms import gene_terms, read_annotations
from sclong.genes.vocabulary import Vocabulary

OBO = """format-version: 1.2
data-version: releases/2024-01-01

[Term]
id: GO:0000001
name: root process
namespace: biological_process

[Term]
id: GO:0000002
name: child process
namespace: biological_process
alt_id: GO:0000009
is_a: GO:0000001 ! root process

[Term]
id: GO:0000003
name: some function
namespace: molecular_function

[Term]
id: GO:0000004
name: gone
namespace: biological_process
is_obsolete: true
"""


def row(symbol: str, term: str, qualifier: str = "involved_in", aspect: str = "P") -> str:
    fields = ["UniProtKB", f"Q{symbol}", symbol, qualifier, term, "PMID:1", "IEA", "", aspect, "", "", "protein"]
    return "\t".join([*fields, "taxon:9606", "20240101", "GO_Central", "", ""])


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    obo, gaf = tmp_path / "go.obo", tmp_path / "goa.gaf"
    obo.write_text(OBO)
    rows = [
        row("AAA", "GO:0000009"),
        row("AAA", "GO:0000003", aspect="F"),
        row("BBB", "GO:0000002", "NOT|involved_in"),
        row("BBB", "GO:0000001"),
        row("OLD", "GO:0000003", aspect="F"),
        row("CCC", "GO:0000004"),
    ]
    gaf.write_text("!gaf-version: 2.2\n" + "\n".join(rows) + "\n")
    return obo, gaf


def vocabulary(*symbols: str, aliases: dict[str, str] | None = None) -> Vocabulary:
    table = pd.DataFrame(
        {
            "index": range(len(symbols)),
            "ensembl_id": [f"ENSG{i:011d}" for i in range(len(symbols))],
            "symbol": symbols,
            "biotype": "protein_coding",
            "aliases": [(aliases or {}).get(s, "") for s in symbols],
            "entrez_id": "",
        }
    )
    return Vocabulary(table, {})


def test_alternative_ids_not_and_obsolete_terms(files) -> None:
    terms, releases = read_annotations(*files)
    assert terms == {"AAA": {"GO:0000002", "GO:0000003"}, "BBB": {"GO:0000001"}, "OLD": {"GO:0000003"}}
    assert "2024-01-01" in releases["ontology"]


def test_aspects_and_propagation(files) -> None:
    assert read_annotations(*files, aspects=["MF"])[0] == {"AAA": {"GO:0000003"}, "OLD": {"GO:0000003"}}
    assert read_annotations(*files, propagate=True)[0]["AAA"] == {"GO:0000001", "GO:0000002", "GO:0000003"}


def test_gzipped_files_are_read(files, tmp_path: Path) -> None:
    packed = []
    for path in files:
        packed.append(tmp_path / f"{path.name}.gz")
        packed[-1].write_bytes(gzip.compress(path.read_bytes()))
    assert read_annotations(*packed)[0] == read_annotations(*files)[0]


@pytest.mark.parametrize("line", ["!Generated: 2019-01-14 09:47", "!date-generated: 2019-01-14"])
def test_the_date_of_the_annotation_is_kept(files, line: str) -> None:
    files[1].write_text(files[1].read_text().replace("gaf-version: 2.2\n", f"gaf-version: 2.2\n{line}\n"))
    assert read_annotations(*files)[1]["annotation"] == line


def test_goatools_says_nothing_on_the_screen(files, capsys) -> None:
    read_annotations(*files)
    assert capsys.readouterr().out == ""


def test_genes_are_found_by_symbol_then_by_an_alias_that_is_nobodys_symbol(files) -> None:
    terms, _ = read_annotations(*files)
    genes = vocabulary("AAA", "NEW", "DDD", aliases={"NEW": "X|OLD", "DDD": "AAA"})
    assert gene_terms(terms, genes) == [{"GO:0000002", "GO:0000003"}, {"GO:0000003"}, set()]


def test_graph_over_a_vocabulary_has_a_pad_and_its_facts(files) -> None:
    genes = vocabulary("AAA", "NEW", "ZZZ", aliases={"NEW": "OLD"})
    graph = build_go_graph(*files, genes)
    assert len(graph.indptr) == len(genes) + 2 and graph.indptr[-1] == graph.indptr[-2]
    assert graph.metadata["annotated_genes"] == 2 and graph.metadata["edges"] == graph.n_edges == 4
    assert graph.metadata["vocabulary_hash"] == genes.hash


def test_nothing_annotated_and_foreign_files_are_errors(files, tmp_path: Path) -> None:
    with pytest.raises(InputDataError, match="none of the vocabulary's 1 genes"):
        build_go_graph(*files, vocabulary("ZZZ"))
    bad = tmp_path / "bad.gaf"
    bad.write_text("<html>not found</html>\n")
    with pytest.raises(InputDataError, match="what to do"):
        read_annotations(files[0], bad)


def test_evidence_codes(files) -> None:
    curated = files[1].read_text().replace("IEA", "IDA", 1)
    files[1].write_text(curated)
    everything, facts = read_annotations(*files)
    assert read_annotations(*files, evidence=["IDA"])[0] == {"AAA": {"GO:0000002"}}
    some, left = read_annotations(*files, evidence_excluded=["IDA"])
    assert "GO:0000002" in everything["AAA"] and "GO:0000002" not in some["AAA"]
    assert left["annotations_left_out_evidence"] == 1 and facts["annotations_left_out_evidence"] == 0
    assert facts["annotations_left_out_negated"] == 1


def test_terms_that_the_ontology_lacks_are_counted(files) -> None:
    files[1].write_text(files[1].read_text() + row("AAA", "GO:9999999") + "\n")
    terms, facts = read_annotations(*files)
    assert "GO:9999999" not in terms["AAA"]
    assert facts["annotations_left_out_unknown_or_obsolete_term"] == 2, "and one that is obsolete"


def test_annotations_of_another_species(files) -> None:
    files[1].write_text(files[1].read_text().replace("taxon:9606", "taxon:10090"))
    with pytest.raises(InputDataError, match="taxon 10090"):
        read_annotations(*files)


def test_genes_of_other_species_are_left_out(files) -> None:
    files[1].write_text(files[1].read_text() + row("MOUSE", "GO:0000001").replace("taxon:9606", "taxon:10090") + "\n")
    assert "MOUSE" not in read_annotations(*files)[0]


def test_gene2go_of_ncbi(files, tmp_path: Path) -> None:
    lines = [
        "#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory",
        "9606\t7157\tGO:0000009\tIDA\tinvolved_in\tchild process\t1\tProcess",
        "9606\t7157\tGO:0000003\tIEA\tNOT enables\tsome function\t1\tFunction",
        "10090\t22059\tGO:0000001\tIDA\tinvolved_in\troot process\t1\tProcess",
    ]
    path = tmp_path / "gene2go"
    path.write_text("\n".join(lines) + "\n")
    assert read_annotations(files[0], path, format="gene2go")[0] == {"7157": {"GO:0000002"}}
    genes = vocabulary("TP53")
    genes.table["entrez_id"] = "7157"
    assert gene_terms({"7157": {"GO:0000002"}}, genes) == [{"GO:0000002"}]


def test_tables_with_propagation_and_a_cycle(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("terms.tsv", "annotation.tsv.gz", "parents.tsv")]
    paths[0].write_text("go_id\tontology\tname\nGO:1\tBP\troot\nGO:2\tBP\tchild\nGO:3\tMF\tfunction\n")
    table = "entrez\tsymbol\tensembl\tgo_id\taspect\tevidence\n"
    table += "1\tAAA\tENSG00000000009;ENSG00000000000\tGO:2\tBP\tIEA\n2\tBBB\t\tGO:3\tMF\tND\n"
    paths[1].write_bytes(gzip.compress(table.encode()))
    paths[2].write_text("child\tparent\trelation\nGO:2\tGO:1\tisa\nGO:1\tall\tisa\nGO:2\tGO:3\tpart of\n")
    found, facts = read_annotations(*paths[:2], format="tables")
    names = ["AAA", "ENSG00000000000", "ENSG00000000009"]
    assert found == {**{name: {"GO:2"} for name in names}, "BBB": {"GO:3"}} and facts["annotations"] == 2
    assert gene_terms(found, vocabulary("OTHER", "BBB")) == [{"GO:2"}, {"GO:3"}], "by any Ensembl id, then by symbol"
    above = read_annotations(*paths[:2], format="tables", propagate=True, parents=paths[2])[0]
    assert above["ENSG00000000000"] == {"GO:1", "GO:2"}
    assert above["AAA"] == {"GO:1", "GO:2"}
    with pytest.raises(InputDataError, match=r"go\.parents"):
        read_annotations(*paths[:2], format="tables", propagate=True)
    paths[2].write_text("child\tparent\trelation\nGO:2\tGO:1\tisa\nGO:1\tGO:2\tisa\n")
    with pytest.raises(InputDataError, match="go in a circle"):
        read_annotations(*paths[:2], format="tables", propagate=True, parents=paths[2])


def test_a_cycle_in_the_ontology_is_an_error(files) -> None:
    files[0].write_text(OBO.replace("name: root process\n", "name: root process\nis_a: GO:0000002 ! child process\n"))
    with pytest.raises(InputDataError, match="go in a circle"):
        read_annotations(*files)


def test_ancestors_are_those_of_a_search_from_every_term() -> None:
    draw = np.random.default_rng(0)
    parents = {str(i): [str(p) for p in draw.permutation(i)[: draw.integers(0, 4)]] for i in range(60)}
    ontology = Ontology({t: t for t in parents}, dict.fromkeys(parents, "BP"), parents)
    for term in draw.permutation(list(parents)):
        expected, ahead = set(), list(parents[term])
        while ahead:
            expected.add(ahead.pop())
            ahead += [p for t in expected for p in parents[t] if p not in expected]
        assert ontology.ancestors(term) == expected


def test_pieces_of_any_length_hold_every_line(files, monkeypatch) -> None:
    files[1].write_text(files[1].read_text() + row("EEE", "GO:0000001") + "\n")
    whole = read_annotations(*files)
    for length in (1, 2, 3):
        monkeypatch.setattr(go_files, "PIECE", length)
        assert read_annotations(*files) == whole


def test_the_second_taxon_is_not_the_genes(files) -> None:
    lines = files[1].read_text() + row("VIRAL", "GO:0000001").replace("taxon:9606", "taxon:10407|taxon:9606") + "\n"
    files[1].write_text(lines + row("HOST", "GO:0000001").replace("taxon:9606", "taxon:9606|taxon:10407") + "\n")
    terms = read_annotations(*files)[0]
    assert "HOST" in terms and "VIRAL" not in terms


def test_a_line_that_goatools_cannot_read_is_an_error_without_noise(files, capsys) -> None:
    files[1].write_text(files[1].read_text()[:-40])
    with pytest.raises(InputDataError, match="cannot be read as gaf"):
        read_annotations(*files)
    assert capsys.readouterr() == ("", "")


def test_an_ontology_that_does_not_belong_to_the_annotation(files) -> None:
    files[0].write_text(OBO.split("[Term]")[0] + "[Term]" + OBO.split("[Term]")[1])
    with pytest.raises(InputDataError, match="of another release, or cut short"):
        read_annotations(*files)


def test_a_cut_gzip_of_tables_is_an_error(tmp_path: Path) -> None:
    terms, annotation = tmp_path / "terms.tsv", tmp_path / "annotation.tsv.gz"
    terms.write_text("go_id\tontology\tname\nGO:1\tBP\troot\n")
    lines = "".join(f"AAA\tENSG{i:011d}\tGO:1\tIEA\n" for i in range(1000))
    annotation.write_bytes(gzip.compress(f"symbol\tensembl\tgo_id\tevidence\n{lines}".encode())[:-200])
    with pytest.raises(InputDataError, match=r"annotation\.tsv\.gz"):
        read_annotations(terms, annotation, format="tables")


def test_genes_outside_the_vocabulary_pad_and_bare_genes(files) -> None:
    genes = vocabulary("AAA", "ZZZ")
    graph = build_go_graph(*files, genes)
    assert graph.metadata["names_outside_vocabulary"] == 2  # BBB and OLD
    assert graph.metadata["isolated_genes"] == 1 and graph.metadata["self_loops"] == 1
    assert graph.indptr.tolist() == [0, 1, 1, 1] and graph.indices.tolist() == [0], "ZZZ and PAD have no edge"
    assert graph.metadata["ontology_date"] == "2024-01-01" and graph.metadata["annotation_date"] is None


@pytest.mark.mirror
def test_real_files_read_and_known_genes_found(mirror: Path) -> None:
    old, new = mirror / "go_2019", mirror / "go_2022"
    terms, facts = read_annotations(
        new / "go_terms_2022-07-01.tsv.gz", new / "gene2go_human_ncbi_2022-09-12.tsv.gz", format="tables"
    )
    assert "ENSG00000166710" in terms, "B2M has two Ensembl ids"
    assert terms["B2M"] == terms["ENSG00000166710"] and facts["annotation_date"] == "2022-09-12"
    ontology, release = go_files.read_obo(old / "GeneOntology_2019.01.29.obo.gz")
    assert "GO:0008150" in ontology.ancestors("GO:0006915") and "2019-01-27" in release


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing"])
def test_damaged_files(files, tmp_path: Path, which: int, damage: str) -> None:
    path = tmp_path / "damaged.gz"
    whole = gzip.compress(files[which].read_bytes() * 20)
    if damage != "missing":
        path.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    given = list(files)
    given[which] = path
    with pytest.raises(InputDataError, match=r"damaged\.gz"):
        read_annotations(*given)

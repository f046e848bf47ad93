from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest

from sclong.data.vocabulary import Vocabulary
from sclong.errors import InputDataError
from sclong.knowledge.go import gene_terms, read_annotations
from sclong.knowledge.similarity import build_go_graph

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

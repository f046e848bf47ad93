"""Parsers of files that others wrote: whatever the bytes, there is a result or an error that says what was found.

Files of the simulated world are cut, changed and mixed up; and there are bytes that are no file of any kind.
"""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sclong.checkpoint.authors import read_hyperparameters
from sclong.checkpoint.gene_list import read_gene_ids
from sclong.checkpoint.pickles import read_pickle, read_torch
from sclong.config.cards import BenchmarkCard, ModelCard, load_card
from sclong.drugs.lines import read_matrix
from sclong.errors import SclongError
from sclong.genes.gene2vec import read_vectors
from sclong.genes.go_terms import read_annotations
from sclong.genes.vocabulary import Vocabulary, read_annotation, read_gene_list, read_symbols
from sclong.io.sources import load_sources
from sclong.io.tables import read_tsv

OBO = (
    b"format-version: 1.2\n\n[Term]\nid: GO:1\nname: a\nnamespace: biological_process\n\n[Term]\nid: GO:2\nis_a: GO:1\n"
)
GAF = b"!gaf-version: 2.2\nU\tP1\tTP53\tenables\tGO:1\tPMID:1\tIDA\t\tP\tn\ts\tprotein\ttaxon:9606\t20200101\tU\t\t\n"
GENE2GO = (
    b"#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory\n9606\t7157\tGO:1\tIDA\t-\tx\t-\tProcess\n"
)
ANNOTATION = b"gene_id,gene_name,biotype,chromosome\nENSG00000000001,A,protein_coding,1\nENSG00000000002,B,lncRNA,2\n"
SYMBOLS = b"Approved symbol\tStatus\tEnsembl gene ID\tPrevious symbols\tAlias symbols\tNCBI Gene ID(supplied by NCBI)\n"
SYMBOLS += b"A\tApproved\tENSG00000000001\tOLDA\tA1, A2\t7\n"
VECTORS = b"2 3\nA 0.1 0.2 0.3\nB 1 2 3\n"
VOCABULARY = b"index\tensembl_id\tsymbol\tbiotype\taliases\tentrez_id\n0\tENSG00000000001\tA\tx\t\t7\n"
SOURCES = (
    b"id\tfile\taccess\turl\thash\tbytes\tlicence\tcitation\n"
    b"a\tb\tpublic\thttps://x.org/y\tsha256:" + b"0" * 64 + b"\t3\tx\ty\n"
)
CARD = b"name: file\ntitle: t\nsummary: s\nversion: 1\nrole: model\nadapter: a:B\nprovides: [x]\n"
TERMS = b"go_id\tontology\tname\nGO:1\tBP\troot\n"
GO_TABLE = b"symbol\tensembl\tgo_id\tevidence\nA\tENSG00000000001\tGO:1\tIEA\n"
PICKLE = pickle.dumps({"dim": 3, "w": [1, 2.0, "x"]})


def beside(path: Path, whole: bytes) -> Path:
    """Write the other file that a parser wants."""
    other = path.with_name("other.tsv")
    other.write_bytes(whole)
    return other


PARSERS: dict[str, tuple[str, bytes, Callable[[Path], object]]] = {
    "obo": (".obo", OBO, lambda path: read_annotations(path, beside(path, GAF))),
    "gaf": (".gaf", GAF, lambda path: read_annotations(beside(path, OBO), path)),
    "gene2go": (".tsv", GENE2GO, lambda path: read_annotations(beside(path, OBO), path, format="gene2go")),
    "gaf, packed": (".gaf.gz", gzip.compress(GAF, mtime=0), lambda path: read_annotations(beside(path, OBO), path)),
    "term tables": (".tsv", TERMS, lambda path: read_annotations(path, beside(path, GO_TABLE), format="tables")),
    "annotation table": (".tsv", GO_TABLE, lambda path: read_annotations(beside(path, TERMS), path, format="tables")),
    "annotation": (".csv", ANNOTATION, read_annotation),
    "annotation, packed": (".csv.gz", gzip.compress(ANNOTATION, mtime=0), read_annotation),
    "symbols": (".tsv", SYMBOLS, read_symbols),
    "gene list": (".txt", b"ENSG00000000001\nENSG00000000002\n", read_gene_list),
    "gene ids of a release": (".txt", b"ENSG00000000001\nENSG00000000002\n", lambda path: read_gene_ids(path, 2)),
    "gene vectors": (".txt", VECTORS, read_vectors),
    "vocabulary": (".tsv", VOCABULARY, Vocabulary.read),
    "sources": (".tsv", SOURCES, load_sources),
    "model card": (".yaml", CARD, lambda path: load_card(path, ModelCard)),
    "benchmark card": (".yaml", CARD, lambda path: load_card(path, BenchmarkCard)),
    "table": (".tsv", VOCABULARY, lambda path: read_tsv(path, ["ensembl_id"])),
    "matrix of lines": (".csv", b"gene,L1,L2\nA,1,2\nB,3,4.5\n", read_matrix),
    "hyperparameters": (".pkl", PICKLE, read_hyperparameters),
    "pickle": (".pkl", PICKLE, read_pickle),
    "weights": (".pth", PICKLE, read_torch),
}


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file that was cut, changed, doubled, or is of another kind altogether."""
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return draw(st.binary(max_size=200))
    if kind == 1:
        return draw(st.text(max_size=200)).encode("utf-8", "replace")
    place = draw(st.integers(0, len(whole)))
    if kind == 2:
        return whole[:place]
    if kind == 3:
        return whole[:place] + draw(st.binary(min_size=1, max_size=8)) + whole[place:]
    if kind == 4:
        return whole[:place] + bytes(len(whole) - place)
    if kind == 5:
        lines = whole.splitlines(keepends=True)
        return b"".join(draw(st.permutations(lines)) if len(lines) < 9 else lines[::-1])
    cells = [b"nan", b"inf", b"-1", b"1e999", b'"', b"\t", b",", b"1" * 400, b"=1+1", b"\xff", b"9" * 30]
    return whole[:place] + draw(st.sampled_from(cells)) + whole[place + draw(st.integers(0, 5)) :]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_any_bytes_give_a_result_or_an_error_of_three_parts(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    suffix, whole, parse = PARSERS[name]
    path = tmp_path_factory.mktemp("foreign") / f"file{suffix}"
    path.write_bytes(data.draw(damaged(whole)))
    try:
        parse(path)
    except SclongError as error:
        assert error.found and error.expected and error.action
        assert len(str(error)) < 3000


def test_a_pickle_runs_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "pwned",)

    for value in (Evil(), {"dim": Evil()}, np.array([Evil()], dtype=object)):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(value))
        torch.save({"w": value}, tmp_path / "x.pth")
        for parse in (read_hyperparameters, read_pickle):
            with pytest.raises(SclongError):
                parse(tmp_path / "x.pkl")
        with pytest.raises(SclongError):
            read_torch(tmp_path / "x.pth")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(PARSERS) - {"benchmark card", "hyperparameters", "vocabulary", "weights"}))
def test_the_whole_file_is_read(name: str, tmp_path: Path) -> None:
    """Otherwise the test of damaged files would show nothing."""
    suffix, whole, parse = PARSERS[name]
    path = tmp_path / f"file{suffix}"
    path.write_bytes(whole)
    assert parse(path) is not None

"""A small Gene Ontology: genes of one module share terms, with omissions and stray annotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from sclong.world.world import MODULES, World

ROOTS = {
    "biological_process": ("GO:0008150", "P"),
    "molecular_function": ("GO:0003674", "F"),
    "cellular_component": ("GO:0005575", "C"),
}
FACETS = ("initiation", "regulation", "maintenance", "termination")
COMPARTMENTS = ("nucleus", "cytosol", "plasma membrane", "extracellular region", "mitochondrion", "lysosome")
TF_FUNCTION = "sequence-specific DNA binding, simulated"
RELATIONS = {"P": "involved_in", "F": "enables", "C": "located_in"}
EVIDENCE = ("IDA", "IMP", "IEP", "ISS", "IBA", "TAS", "IEA")
DATE = "20200101"


def ontology(world: World) -> dict[str, Any]:
    """Return the ontology (OBO 1.2), the annotations (GAF 2.2) and which terms belong to which module."""
    terms = _terms()
    annotations = _annotations(world, terms)
    return {
        "go.obo": _obo(terms),
        "goa.gaf": _gaf(world, annotations),
        "answer_key/go_terms.tsv": terms[["go_id", "name", "namespace", "module"]],
    }


def _terms() -> pd.DataFrame:
    """Return the terms that are in use: go_id, name, namespace, parent, module, alt_id."""
    rows = [(go_id, namespace, namespace, "", "", "") for namespace, (go_id, _) in ROOTS.items()]

    def add(name: str, namespace: str, parent: str, module: str = "", alt_id: str = "") -> str:
        go_id = f"GO:99{len(rows):05d}"
        rows.append((go_id, name, namespace, parent, module, alt_id))
        return go_id

    process, function, component = (go_id for go_id, _ in ROOTS.values())
    for number, module in enumerate(MODULES):
        parent = add(module, "biological_process", process, module)
        for facet in FACETS:
            add(f"{module} {facet}", "biological_process", parent, module)
        alt_id = f"GO:98{number:05d}" if number < 3 else ""
        add(f"{module} protein binding", "molecular_function", function, module, alt_id)
    add(TF_FUNCTION, "molecular_function", function)
    for compartment in COMPARTMENTS:
        add(f"{compartment}, simulated", "cellular_component", component)
    terms = pd.DataFrame(rows, columns=["go_id", "name", "namespace", "parent", "module", "alt_id"])
    return terms


def _obo(terms: pd.DataFrame) -> str:
    names = dict(zip(terms["go_id"], terms["name"], strict=True))
    lines = ["format-version: 1.2", "data-version: simulated", "ontology: go", "default-namespace: gene_ontology", ""]
    for term in terms.itertuples():
        lines += ["[Term]", f"id: {term.go_id}", f"name: {term.name}", f"namespace: {term.namespace}"]
        lines += [f"alt_id: {term.alt_id}"] if term.alt_id else []
        lines += [f'def: "Simulated term: {term.name}." [SIM:1]']
        lines += [f"is_a: {term.parent} ! {names[term.parent]}"] if term.parent else []
        lines += [""]
    lines += ["[Term]", "id: GO:9700001", "name: obsolete phlogiston transport", "namespace: biological_process"]
    lines += ['def: "OBSOLETE. Simulated." [SIM:1]', "is_obsolete: true", f"consider: {terms['go_id'][3]}", ""]
    lines += ["[Typedef]", "id: part_of", "name: part of", "namespace: external", "is_transitive: true", ""]
    return "\n".join(lines)


def _annotations(world: World, terms: pd.DataFrame) -> pd.DataFrame:
    """Return one row per annotation: gene (position), term (position), negated."""
    generator = world.rng("goa.gaf")
    aspect = terms["namespace"].map(lambda n: ROOTS[n][1]).to_numpy()
    is_leaf = ~terms["go_id"].isin(terms["parent"]).to_numpy()
    stray = np.flatnonzero(is_leaf & (aspect != "C"))
    compartments = np.flatnonzero(is_leaf & (aspect == "C"))
    tf_function = int(np.flatnonzero(terms["name"] == TF_FUNCTION)[0])
    usual_compartment = generator.integers(0, len(compartments), len(MODULES))
    rows: list[tuple[int, int, bool]] = []
    for gene, (module, is_tf) in enumerate(zip(world.genes["module"], world.genes["is_tf"], strict=True)):
        own = np.flatnonzero((terms["module"] == MODULES[module]).to_numpy()) if module >= 0 else np.array([], int)
        chosen = set(own[generator.random(len(own)) < 0.45].tolist())
        if generator.random() < 0.35:
            chosen.add(int(generator.choice(stray)))
        if is_tf:
            chosen.add(tf_function)
        if generator.random() < 0.6:
            usual = module >= 0 and generator.random() < 0.6
            chosen.add(int(compartments[usual_compartment[module]] if usual else generator.choice(compartments)))
        rows += [(gene, term, False) for term in sorted(chosen)]
        if generator.random() < 0.04:  # somebody looked, and it is not so
            others = np.setdiff1d(stray, [*chosen, *own])
            rows.append((gene, int(generator.choice(others)), True))
    return (
        pd.DataFrame(rows, columns=["gene", "term", "negated"])
        .merge(terms.assign(aspect=aspect)[["go_id", "alt_id", "aspect"]], left_on="term", right_index=True)
        .sort_values(["gene", "term"])
    )


def _gaf(world: World, annotations: pd.DataFrame) -> str:
    generator = world.rng("goa.gaf evidence")
    lines = ["!gaf-version: 2.2", "!generated-by: simulated world", "!date-generated: 2020-01-01"]
    for row in annotations.itertuples():
        gene = world.genes.iloc[row.gene]
        accession = gene["uniprot_id"] or f"URS{int(gene['entrez_id']):010d}_9606"
        synonyms = "|".join(s for s in (gene["previous"], gene["alias"]) if s)
        relation = RELATIONS[row.aspect]
        # One annotation in three of a term with an alternative id was made when that was the id.
        go_id = row.alt_id if row.alt_id and generator.random() < 1 / 3 else row.go_id
        lines.append(
            "\t".join(
                [
                    "UniProtKB" if gene["uniprot_id"] else "RNAcentral",
                    accession,
                    gene["symbol"],
                    f"NOT|{relation}" if row.negated else relation,
                    go_id,
                    "GO_REF:0000033",
                    str(generator.choice(EVIDENCE)),
                    "",
                    row.aspect,
                    f"simulated gene {gene['symbol']}",
                    synonyms,
                    "protein" if gene["uniprot_id"] else "lncRNA",
                    "taxon:9606",
                    DATE,
                    "UniProt",
                    "",
                    "",
                ]
            )
        )
    return "\n".join(lines) + "\n"

"""Names of the files of the simulated world, for those who need no more than the names."""

from __future__ import annotations

WORLD_FILES = (
    "genes.csv",
    "hgnc.tsv",
    "go.obo",
    "goa.gaf",
    "corpus_blood.h5ad",
    "corpus_liver.h5ad",
    "corpus_kidney.csv.gz",
    "perturbation.h5ad",
    "network.csv",
    "tfs.csv",
    "grn_expression.h5ad",
    "integration.h5ad",
    "cell_lines.h5ad",
    "drugs.tsv",
    "signatures.h5ad",
    "drug_response.tsv",
    "drug_combination.tsv",
    "gene2vec.txt",
    "gene_pairs_train_text.txt",
    "gene_pairs_train_label.txt",
    "gene_pairs_valid_text.txt",
    "gene_pairs_valid_label.txt",
    "gene_pairs_test_text.txt",
    "gene_pairs_test_label.txt",
)

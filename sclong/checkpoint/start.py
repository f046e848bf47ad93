"""What a model starts from besides random numbers: Gene2Vec in its two gene tables."""

from __future__ import annotations

from pathlib import Path

import torch

from sclong.genes.gene2vec import GeneVectors
from sclong.genes.vocabulary import Vocabulary, require_same_vocabulary
from sclong.nn.dual_encoder import DualEncoder


def start_gene_tables(model: DualEncoder, gene2vec: str | Path | None, vocabulary: Vocabulary, seed: int) -> str:
    """Set the gene table and the table of the GO encoder to one set of rows, PAD to zeros.

    Parameters
    ----------
    model
        Both tables are overwritten; as they were when no vectors are used.
    gene2vec
        Folder that rule gene2vec wrote; None: no vectors are used.
    vocabulary
        Genes of the model.
    seed
        Of the rows of genes without a vector.

    Returns
    -------
    str
        What was used, for the model card.

    Raises
    ------
    VocabularyMismatchError
        The vectors were put in order for another vocabulary.
    ConfigError
        The vectors have another width than the model's tables.
    """
    if gene2vec is None:
        return "not used"
    vectors = GeneVectors.read(gene2vec)
    require_same_vocabulary(vectors.metadata.get("vocabulary_hash"), str(gene2vec), vocabulary.hash, "the vocabulary")
    if vectors.used:
        table_ND = torch.from_numpy(vectors.table(model.pos_emb.emb.embedding_dim, seed))
        with torch.no_grad():
            model.pos_emb.emb.weight.copy_(table_ND)
            model.go_conv.emb.weight.copy_(table_ND)
    return vectors.describe()

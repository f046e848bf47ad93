"""scLong's dual encoder, as published (Bai et al. 2026; order of operations as released).

Shapes: B cells, N positions (genes in vocabulary order, PAD last), L highest values, R = N - L others, D base width.
Module and parameter names are those of the released checkpoint, so that its state dict maps one to one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from sclong.config import Architecture
from sclong.knowledge.similarity import GoGraph
from sclong.nn.expression_encoder import ValueEncoder
from sclong.nn.favor import FavorAttention
from sclong.nn.gene_encoder import GeneTable, GoEncoder
from sclong.nn.performer import Performer

MASK_VALUE = -10.0
MASK_THRESHOLD = -1.0


class Output(NamedTuple):
    """What a forward pass returns.

    Attributes
    ----------
    reconstruction_BN : (B, N)
        Predicted value of every position.
    gene_embeddings_BND : (B, N, D)
        Contextual gene vectors, after the full-length Performer and its norm.
    merged_encodings_BND : (B, N, D)
        Vectors of both encoders in gene order, gene table and GO vector added, before the full-length Performer.
    """

    reconstruction_BN: torch.Tensor
    gene_embeddings_BND: torch.Tensor
    merged_encodings_BND: torch.Tensor


def by_value(values_BN: torch.Tensor) -> torch.Tensor:
    """Return positions ordered by value descending, ties by position ascending, (B, N); masked values come last."""
    return torch.sort(values_BN, dim=1, descending=True, stable=True).indices


class DualEncoder(nn.Module):
    """A large Performer for the highest values, a small one for the rest, a full-length one over all.

    Parameters
    ----------
    arch
        Shape of the model.
    n_genes
        Genes of the vocabulary; one PAD position is added at the end.
    go_graph
        Gene Ontology similarity graph over the genes.
    """

    def __init__(self, arch: Architecture, n_genes: int, go_graph: GoGraph) -> None:
        super().__init__()
        n_positions, dim = n_genes + 1, arch.base_dim
        self.n_top = min(arch.top_genes, n_positions)
        self.token_emb = ValueEncoder(arch.value_hidden_dim, dim)
        self.token_norm = nn.LayerNorm(dim)
        self.mask_emb = nn.Embedding(1, dim)
        self.pos_emb = GeneTable(n_positions, dim)
        self.go_conv = GoEncoder(n_positions, dim, go_graph)
        common = {"ff_mult": arch.ff_mult, "stabilizer": arch.stabilizer}
        self.mini_encoder = Performer(dim, arch.mini_depth, arch.mini_heads, arch.mini_dim_head, **common)
        self.base_to_large = nn.Linear(dim, arch.large_dim)
        self.large_in_norm = nn.LayerNorm(arch.large_dim)
        self.large_encoder = Performer(
            arch.large_dim, arch.large_depth, arch.large_heads, arch.large_dim_head, **common
        )
        self.large_to_base = nn.Linear(arch.large_dim, dim)
        self.large_to_base_out_norm = nn.LayerNorm(dim)
        self.decoder = Performer(dim, arch.decoder_depth, arch.decoder_heads, arch.decoder_dim_head, **common)
        self.decode_norm = nn.LayerNorm(dim)
        self.exp_to_out = nn.Linear(dim, 1)

    def redraw_features(self, generator: torch.Generator) -> None:
        """Draw the random features of every attention anew, from a generator; nothing else ever changes them."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))  # the CPU's alone
            for module in self.modules():
                if isinstance(module, FavorAttention):
                    module.redraw()

    def encode_values(self, values_BN: torch.Tensor) -> torch.Tensor:
        """Return the normalised vector of each value, hidden ones replaced by the mask's, (B, N, D)."""
        hidden_BN1 = (values_BN <= MASK_THRESHOLD).unsqueeze(-1)
        mask_D = self.mask_emb.weight[0]
        mask_D = mask_D * (1.0 / mask_D.norm().clamp(min=1.0)).detach()  # norm at most 1; no effect after LayerNorm
        return self.token_norm(torch.where(hidden_BN1, mask_D, self.token_emb(values_BN)).float())

    def forward(self, values_BN: torch.Tensor) -> Output:
        """Read cells.

        Parameters
        ----------
        values_BN : (B, N) float32
            Normalised expression, PAD (last) 0; values of -1 and below are masked.

        Returns
        -------
        Output
        """
        genes_ND = self.pos_emb() + self.go_conv()
        tokens_BND = self.encode_values(values_BN) + genes_ND
        order_BN = by_value(values_BN)
        top_BL = order_BN[:, : self.n_top]
        rest_BR = order_BN[:, self.n_top :].sort(dim=1).values
        top_BLD = self.large_to_base_out_norm(
            self.large_to_base(self.large_encoder(self.large_in_norm(self.base_to_large(take(tokens_BND, top_BL)))))
        )
        parts, positions = [top_BLD.float()], [top_BL]
        if rest_BR.shape[1]:
            parts.append(self.mini_encoder(take(tokens_BND, rest_BR)).float())
            positions.append(rest_BR)
        back_BN = torch.cat(positions, dim=1).argsort(dim=1)
        merged_BND = take(torch.cat(parts, dim=1), back_BN) + genes_ND
        decoded_BND = self.decode_norm(self.decoder(merged_BND))
        return Output(self.exp_to_out(decoded_BND).squeeze(-1), decoded_BND, merged_BND)


def take(vectors_BND: torch.Tensor, positions_BK: torch.Tensor) -> torch.Tensor:
    """Return the vectors at some positions of each cell, (B, K, D)."""
    return vectors_BND.gather(1, positions_BK.unsqueeze(-1).expand(-1, -1, vectors_BND.shape[-1]))

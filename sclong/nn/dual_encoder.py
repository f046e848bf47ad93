"""scLong's dual encoder, as published (Bai et al. 2026; order of operations as released).

Shapes: B cells, N positions (genes in vocabulary order, PAD last), L highest values, R = N - L others, D base width.
Module and parameter names are those of the released checkpoint, so that its state dict maps one to one.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from sclong.config.sections import Architecture
from sclong.genes.go_graph import GoGraph
from sclong.nn.expression_encoder import ValueEncoder
from sclong.nn.favor import FavorAttention
from sclong.nn.gene_encoder import GeneTable, GoEncoder
from sclong.nn.performer import Performer, PerformerOptions

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

    All are float32, also where matrix products are bfloat16.
    """

    reconstruction_BN: torch.Tensor
    gene_embeddings_BND: torch.Tensor
    merged_encodings_BND: torch.Tensor


def top_positions(values_BN: torch.Tensor, n_top: int, tie_rule: str = "gene_order") -> torch.Tensor:
    """Return the positions of the highest values of each cell, (B, n_top), highest first.

    With "gene_order" equal values are taken in the order of their positions, on every device: a typical cell has fewer
    than 4,096 detected genes, so that most of its highest values are zeros. "torch_topk" is the published code's
    choice, which is not defined among equal values; the order among the highest never matters to the model.
    """
    if tie_rule == "torch_topk":
        return values_BN.topk(n_top, dim=1).indices
    return torch.sort(values_BN, dim=1, descending=True, stable=True).indices[:, :n_top]


def other_positions(top_BL: torch.Tensor, n_positions: int) -> torch.Tensor:
    """Return the positions that are not among some, in gene order, (B, N - L)."""
    is_top_BN = torch.zeros(len(top_BL), n_positions, dtype=torch.uint8, device=top_BL.device).scatter_(1, top_BL, 1)
    return torch.sort(is_top_BN, dim=1, stable=True).indices[:, : n_positions - top_BL.shape[1]]


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
        self.arch = arch
        self.n_top = min(arch.top_genes, n_positions)
        self.token_emb = ValueEncoder(arch.value_hidden_dim, dim)
        self.token_norm = nn.LayerNorm(dim)
        self.mask_emb = nn.Embedding(1, dim)
        self.pos_emb = GeneTable(n_positions, dim, arch.gene_table_std)
        self.go_conv = GoEncoder(n_positions, dim, go_graph, arch.kernels, arch.gene_table_std)
        options = PerformerOptions(
            arch.ff_mult,
            arch.stabilizer,
            kernels=arch.kernels,
            recompute_layers=arch.recompute_layers,
            compile=arch.compile,
        )
        self.mini_encoder = Performer(dim, arch.mini_depth, arch.mini_heads, arch.mini_dim_head, options)
        self.base_to_large = nn.Linear(dim, arch.large_dim)
        self.large_in_norm = nn.LayerNorm(arch.large_dim)
        self.large_encoder = Performer(
            arch.large_dim,
            arch.large_depth,
            arch.large_heads,
            arch.large_dim_head,
            replace(options, attention=arch.top_attention),
        )
        self.large_to_base = nn.Linear(arch.large_dim, dim)
        self.large_to_base_out_norm = nn.LayerNorm(dim)
        self.decoder = Performer(dim, arch.decoder_depth, arch.decoder_heads, arch.decoder_dim_head, options)
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
        precision = (
            torch.autocast(values_BN.device.type, dtype=torch.bfloat16)
            if self.arch.precision == "bfloat16"
            else nullcontext()
        )
        with precision:
            return self._forward(values_BN)

    def _forward(self, values_BN: torch.Tensor) -> Output:
        genes_ND = self.pos_emb() + self.go_conv()
        tokens_BND = self.encode_values(values_BN) + genes_ND
        top_BL = top_positions(values_BN, self.n_top, self.arch.tie_rule)
        encoded_BND = self.large_to_base_out_norm(
            self.large_to_base(self.large_encoder(self.large_in_norm(self.base_to_large(take(tokens_BND, top_BL)))))
        ).float()
        positions_BN = top_BL
        if self.n_top < values_BN.shape[1]:
            rest_BR = other_positions(top_BL, values_BN.shape[1])
            rest_BRD = self.mini_encoder(take(tokens_BND, rest_BR)).float()
            encoded_BND = torch.cat([encoded_BND, rest_BRD], dim=1)
            positions_BN = torch.cat([top_BL, rest_BR], dim=1)
        if self.arch.kernels == "oracle":  # the published code computes the GO vectors twice
            genes_ND = self.pos_emb() + self.go_conv()
        merged_BND = take(encoded_BND, positions_BN.argsort(dim=1)) + genes_ND
        decoded_BND = self.decode_norm(self.decoder(merged_BND)).float()
        with torch.autocast(values_BN.device.type, enabled=False):
            reconstruction_BN = self.exp_to_out(decoded_BND).squeeze(-1)
        return Output(reconstruction_BN, decoded_BND, merged_BND)


def take(vectors_BND: torch.Tensor, positions_BK: torch.Tensor) -> torch.Tensor:
    """Return the vectors at some positions of each cell, (B, K, D)."""
    return vectors_BND.gather(1, positions_BK.unsqueeze(-1).expand(-1, -1, vectors_BND.shape[-1]))

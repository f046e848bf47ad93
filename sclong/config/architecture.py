"""The shape of a model, and how it is computed: the files of ``config/architectures``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sclong.config.cards import Name, Strict

TieRule = Literal["gene_order", "torch_topk"]
"""Which of equal values is higher: that of the lower gene index, or whatever torch.topk returns."""


class Architecture(Strict):
    """Shape of a scLong model (spec: dual encoder, FAVOR+ attention, GO gene encoder).

    The published billion-parameter model is ``config/architectures/1b.yaml``.
    """

    name: Name
    top_genes: int = Field(ge=1, description="L: number of highest values that the large encoder reads")
    base_dim: int = Field(ge=1, description="d: width of gene vectors")
    value_hidden_dim: int = Field(default=50, ge=1, description="hidden width of the expression value MLP")
    gene_table_std: float = Field(
        default=0.02,
        gt=0,
        description="spread of the random numbers that both gene tables start from where no Gene2Vec vectors are used; "
        "tokens are added to them with a spread of 1",
    )
    mini_depth: int = Field(ge=1, description="layers of the encoder of the remaining genes")
    mini_heads: int = Field(ge=1)
    mini_dim_head: int = Field(ge=2)
    large_dim: int = Field(ge=1, description="D: width of the large encoder")
    large_depth: int = Field(ge=1)
    large_heads: int = Field(ge=1)
    large_dim_head: int = Field(ge=2)
    decoder_depth: int = Field(ge=1, description="layers of the full-length Performer")
    decoder_heads: int = Field(ge=1)
    decoder_dim_head: int = Field(ge=2)
    ff_mult: int = Field(default=4, ge=1, description="feed-forward width as a multiple of the encoder's width")
    stabilizer: Literal["per_head", "per_cell", "global"] = Field(
        default="per_head", description="over what the maximum of the key features is taken"
    )
    tie_rule: TieRule = Field(
        default="gene_order",
        description="which of equal values are among the highest: the first in gene order (defined everywhere), or "
        "whatever torch.topk picks (the published code; differs between devices and versions)",
    )
    top_attention: Literal["favor", "exact"] = Field(
        default="favor", description="attention of the large encoder: FAVOR+ (published) or exact softmax attention"
    )
    kernels: Literal["fast", "blocks", "oracle"] = Field(
        default="fast",
        description="how FAVOR+ attention and the GO convolution are computed: fast (a fused kernel on CUDA, blocks "
        "elsewhere), blocks (portable), or oracle (performer-pytorch's and torch-geometric's operations; slow)",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32", description="precision of matrix products; parameters and sums stay float32"
    )
    recompute_layers: bool = Field(
        default=False, description="compute each layer again in the backward pass instead of keeping its intermediates"
    )
    compile: bool = Field(default=False, description="use torch.compile where it works; eager where it does not")

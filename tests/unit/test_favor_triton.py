"""The fused kernel against the oracle: compiled where a GPU is, in Triton's interpreter where TRITON_INTERPRET=1."""

from __future__ import annotations

import pytest
import torch
from performer_pytorch.performer_pytorch import gaussian_orthogonal_random_matrix

from sclong.nn import favor_triton
from sclong.nn.favor import favor_attention
from sclong.nn.favor_features import n_random_features

needs_kernels = pytest.mark.skipif(
    not favor_triton.available(),
    reason="Triton kernels need a CUDA device of capability 8 or more, or Triton with TRITON_INTERPRET=1",
)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def results(qkv: torch.Tensor, directions: torch.Tensor, stabilizer: str, fused: bool) -> dict[str, torch.Tensor]:
    leaf = qkv.clone().requires_grad_()
    if fused:
        out = favor_triton.merged_attention_triton(leaf, directions, stabilizer)
    else:
        out = favor_attention(leaf, directions.to(leaf.dtype), stabilizer, "oracle")
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(leaf))
    return {"out": out.detach().double()} | {
        name: leaf.grad[:, :, i].double() for i, name in enumerate(("dq", "dk", "dv"))
    }


@needs_kernels
@pytest.mark.parametrize("stabilizer", ["per_head", "per_cell", "global"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("cells", "n", "heads", "dim"), [(1, 5, 1, 16), (2, 130, 2, 16), (1, 65, 3, 32), (1, 70, 1, 64)]
)
def test_equal_to_the_oracle_with_all_gradients(
    stabilizer: str, dtype: torch.dtype, cells: int, n: int, heads: int, dim: int
) -> None:
    """As good as the oracle in the same precision, both against double precision."""
    draw = torch.Generator().manual_seed(0)
    qkv = torch.randn(cells, n, 3, heads, dim, generator=draw)
    qkv[:, :, :2] *= 1.2
    torch.manual_seed(0)
    directions = gaussian_orthogonal_random_matrix(n_random_features(dim), dim, 0).to(DEVICE)
    qkv = qkv.to(DEVICE, dtype)
    truth = results(qkv.double(), directions.double(), stabilizer, fused=False)
    oracle, found = (results(qkv, directions, stabilizer, fused) for fused in (False, True))
    for name, exact in truth.items():
        error = float((found[name] - exact).norm() / exact.norm())
        theirs = float((oracle[name] - exact).norm() / exact.norm())
        assert error <= max(1e-5, 3 * theirs), (name, error, theirs)


def test_without_triton_the_blocks_are_used() -> None:
    """Which path runs is decided by what the machine has; the numbers are those of the oracle either way."""
    qkv = torch.randn(1, 20, 3, 2, 16)
    directions = torch.randn(n_random_features(16), 16)
    expected = favor_attention(qkv, directions, "per_cell", "oracle")
    assert torch.allclose(favor_attention(qkv, directions, "per_cell", "fast"), expected, atol=1e-5)

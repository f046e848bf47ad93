"""The fused kernels against the oracle: compiled where there is a GPU, else in Triton's interpreter on the CPU.

The test extra installs Triton on Linux; conftest.py chooses the interpreter.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sclong.errors import ConfigError
from sclong.nn import favor_launch, favor_triton
from sclong.nn.favor_features import oracle_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
STABILIZERS = ("per_head", "per_cell", "global")
SCALE = {16: 0.9, 32: 0.8, 64: 0.6}  # of queries and keys: where attention is furthest from uniform


@pytest.fixture(autouse=True)
def _short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several chunks, of which the last is not full."""
    monkeypatch.setattr(favor_launch, "CHUNK", 64)


def merged(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, scale: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values (B, N, 3, H, D); directions; what to multiply the output with for a loss."""
    B, H, N, D, M = shape
    generator = torch.Generator().manual_seed(5)
    qkv = torch.randn(B, N, 3, H, D, generator=generator)
    qkv[:, :, :2] *= scale * SCALE[D]
    qkv[0, :, 1, 0] *= 1.2  # heads and cells differ in size, so that it matters over what the maximum runs
    directions = torch.randn(M, D, generator=generator)
    weight = torch.randn(B, H, N, D, generator=generator)
    return qkv.to(DEVICE, dtype), directions.to(DEVICE), weight.to(DEVICE)


def results(attend, qkv, directions, weight, stabilizer, dtype) -> list[torch.Tensor]:
    """Output and the gradients of queries, keys and values."""
    qkv = qkv.detach().to(dtype, copy=True).requires_grad_()
    out = attend(*qkv.permute(2, 0, 3, 1, 4), directions, stabilizer)
    (out * weight.to(dtype)).sum().backward()
    return [out.detach(), *qkv.grad.permute(2, 0, 3, 1, 4)]


def error(value: torch.Tensor, expected: torch.Tensor) -> float:
    return float((value.double() - expected).norm() / expected.norm())


SHAPES = [(1, 1, 5, 16, 44), (2, 2, 65, 16, 44), (1, 4, 40, 16, 44), (3, 1, 65, 32, 40), (1, 1, 130, 64, 20)]
PAPER = pytest.param((1, 2, 130, 64, 266), marks=pytest.mark.slow)  # the published width of heads


@needs_triton
@pytest.mark.parametrize("shape", [*SHAPES, PAPER], ids=str)
@pytest.mark.parametrize("stabilizer", STABILIZERS)
def test_float32_equals_the_oracle_with_all_gradients(stabilizer: str, shape: tuple[int, ...]) -> None:
    inputs = merged(shape)
    mine = results(favor_triton.favor_attention_triton, *inputs, stabilizer, torch.float32)
    exact = results(oracle_attention, inputs[0], inputs[1].double(), inputs[2], stabilizer, torch.float64)
    for name, value, expected in zip(("out", "dq", "dk", "dv"), mine, exact, strict=True):
        assert error(value, expected) < 1e-5, name


@needs_triton
@pytest.mark.parametrize("shape", [(2, 3, 65, 16, 44), (2, 1, 65, 32, 110), (1, 1, 130, 64, 266)], ids=str)
@pytest.mark.parametrize("stabilizer", STABILIZERS)
def test_bfloat16_is_as_near_to_exact_arithmetic_as_the_oracle(stabilizer: str, shape: tuple[int, ...]) -> None:
    """Triton's interpreter cuts bfloat16 off instead of rounding it: errors are twice as large, and of one sign."""
    inputs = merged(shape, torch.bfloat16)
    mine = results(favor_triton.favor_attention_triton, *inputs, stabilizer, torch.bfloat16)
    oracle = results(oracle_attention, *inputs, stabilizer, torch.bfloat16)
    exact = results(oracle_attention, inputs[0], inputs[1].double(), inputs[2], stabilizer, torch.float64)
    for name, value, other, expected in zip(("out", "dq", "dk", "dv"), mine, oracle, exact, strict=True):
        assert error(value, expected) < (1.5 if DEVICE == "cuda" else 3) * error(other, expected), name
        assert error(value, expected) < 0.1, name


@pytest.mark.parametrize("shape", [*SHAPES[1:], PAPER.values[0]], ids=str)
def test_the_comparison_has_power(shape: tuple[int, ...]) -> None:
    """Attention is far from a plain mean of the values, and so is the gradient of queries and keys from none."""
    inputs = merged(shape)
    mean = inputs[0][:, :, 2].mean(1)[:, :, None]
    outs = {}
    for stabilizer in STABILIZERS:
        outs[stabilizer], dq, dk, dv = results(oracle_attention, *inputs, stabilizer, torch.float32)
        assert (outs[stabilizer] - mean).norm() > 0.3 * outs[stabilizer].norm()
        assert min(dq.norm(), dk.norm()) > 0.1 * dv.norm()
    assert shape[1] == 1 or (outs["per_head"] - outs["per_cell"]).abs().max() > 1e-3
    assert shape[0] == 1 or (outs["per_cell"] - outs["global"]).abs().max() > 1e-3


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_views_are_read_in_place_and_merged_gradients_are_the_same(dtype: torch.dtype) -> None:
    qkv, directions, weight = merged((2, 2, 33, 16, 44), dtype)
    views = results(favor_triton.favor_attention_triton, qkv, directions, weight, "per_cell", dtype)
    q, k, v = (x.contiguous().detach().requires_grad_() for x in qkv.permute(2, 0, 3, 1, 4).unbind())
    out = favor_triton.favor_attention_triton(q, k, v, directions, "per_cell")
    assert out.transpose(1, 2).is_contiguous()
    (out * weight.to(dtype)).sum().backward()
    qkv = qkv.clone().requires_grad_()
    whole = favor_triton.merged_attention_triton(qkv, directions, "per_cell")
    (whole * weight.transpose(1, 2).to(dtype)).sum().backward()
    for a, b, c in zip(
        views, (out, q.grad, k.grad, v.grad), (whole.transpose(1, 2), *qkv.grad.permute(2, 0, 3, 1, 4)), strict=True
    ):
        assert torch.equal(a, b) and torch.equal(a, c)


@needs_triton
def test_a_gradient_without_strides() -> None:
    """The gradient of a sum is one number, expanded."""
    qkv, directions, _ = merged((1, 2, 33, 16, 44))
    mine, expected = qkv.clone().requires_grad_(), qkv.clone().requires_grad_()
    favor_triton.merged_attention_triton(mine, directions, "per_head").sum().backward()
    out = favor_triton.merged_attention_triton(expected, directions, "per_head")
    out.backward(torch.ones_like(out))
    assert torch.equal(mine.grad, expected.grad)


@needs_triton
def test_how_positions_are_chunked_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = merged((1, 2, 130, 16, 44))
    several = results(favor_triton.favor_attention_triton, *inputs, "per_cell", torch.float32)
    monkeypatch.setattr(favor_launch, "CHUNK", 1024)
    one = results(favor_triton.favor_attention_triton, *inputs, "per_cell", torch.float32)
    for a, b in zip(several, one, strict=True):
        assert error(a, b.double()) < 1e-6


@needs_triton
@pytest.mark.parametrize("stabilizer", ["per_head", "per_cell"])
def test_a_cell_does_not_see_its_companions(stabilizer: str) -> None:
    qkv, directions, weight = merged((2, 2, 40, 16, 44))
    attend = favor_triton.favor_attention_triton
    batch = results(attend, qkv, directions, weight, stabilizer, torch.float32)
    alone = results(attend, qkv[1:2], directions, weight[1:2], stabilizer, torch.float32)
    for a, b in zip(batch, alone, strict=True):
        assert torch.equal(a[1:2], b)


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1e3])
def test_extreme_inputs_stay_finite(scale: float, dtype: torch.dtype) -> None:
    """At both ends attention is uniform: features are all equal, or all at the floor."""
    qkv, directions, weight = merged((1, 2, 40, 16, 44), dtype, scale)
    out, *grads = results(favor_triton.favor_attention_triton, qkv, directions, weight, "per_cell", dtype)
    mean = qkv[:, :, 2].double().mean(1)[:, :, None].expand_as(out)
    assert error(out, mean) < (1e-5 if dtype == torch.float32 else 2e-2)
    assert all(x.isfinite().all() for x in grads)


@needs_triton
def test_what_it_does_not_take_is_refused() -> None:
    qkv, directions, _ = merged((1, 1, 5, 16, 44))
    assert favor_triton.available()
    assert favor_triton.available(qkv) == (DEVICE == "cuda"), "nobody gets the interpreter unasked"
    for wrong in (qkv.double(), qkv[..., :8]):
        assert not favor_triton.available(wrong)
        with pytest.raises(ConfigError, match="kernels: blocks"):
            favor_triton.merged_attention_triton(wrong, directions[:, : wrong.shape[-1]], "per_head")


def test_without_triton_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    favor_launch.kernels_here.cache_clear()
    try:
        assert not favor_triton.available()
        qkv, directions, _ = merged((1, 1, 5, 16, 44))
        with pytest.raises(ConfigError, match="Triton"):
            favor_triton.merged_attention_triton(qkv, directions, "per_head")
    finally:
        favor_launch.kernels_here.cache_clear()


COMPILE = """
import sys, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sclong.nn import favor_kernels, favor_launch, favor_triton

compiled = set()

def compile_instead_of_running(kernel, *args, grid, warmup, **options):
    signature, constants, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        value = args[i] if i < len(args) else options[parameter.name]
        if parameter.is_constexpr or value is None:
            signature[parameter.name], constants[(i,)] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}[value.dtype]
            attributes[(i,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = "i32"
            if value % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
    options = {k: v for k, v in options.items() if k in ("num_warps", "num_stages")}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    binary = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert binary.metadata.shared < 227 * 1024
    compiled.add((kernel.__name__, binary.hash))

triton.runtime.JITFunction.run = compile_instead_of_running
favor_launch.kernels_here = lambda: favor_kernels
favor_launch.takes = lambda x: True
width, features, stabilizer = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
for dtype in (torch.bfloat16, torch.float32):
    qkv = torch.zeros(1, 100, 3, 2, width, dtype=dtype, requires_grad=True)
    favor_triton.merged_attention_triton(qkv, torch.zeros(features, width), stabilizer).sum().backward()
print(len(compiled))
"""


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "features", "stabilizer"), [(64, 266, "per_head"), (64, 266, "per_cell"), (16, 44, "per_cell")]
)
def test_kernels_compile_for_a_gpu_that_is_not_here(
    width: int, features: int, stabilizer: str, tmp_path: Path, root: Path
) -> None:
    """For compute capability 9.0: context and combine of keys and of queries, query, gradients; in two dtypes."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    command = [sys.executable, "-c", COMPILE, str(width), str(features), stabilizer]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["14"]

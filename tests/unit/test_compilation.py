from __future__ import annotations

import logging

import pytest
import torch
from torch._dynamo.exc import BackendCompilerFailed

from sclong.nn import compilation


def test_where_compiling_fails_the_function_itself_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def broken(function: object) -> object:
        def call(*_: object) -> None:
            tried.append(1)
            raise BackendCompilerFailed(broken, RuntimeError("no C++ compiler"), None)

        return call

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(logging.getLogger("sclong"), "propagate", True)
    double = compilation.compile_or_eager(lambda x: 2 * x)
    assert [float(double(torch.tensor(3.0))) for _ in range(3)] == [6.0] * 3
    assert len(tried) == 1, "it is not tried again"
    assert "no C++ compiler" in caplog.text


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("a mistake of the caller")

    monkeypatch.setattr(torch, "compile", lambda function: function)
    with pytest.raises(ValueError, match="a mistake"):
        compilation.compile_or_eager(fails)(torch.zeros(1))

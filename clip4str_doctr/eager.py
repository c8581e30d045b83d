"""Functions that torch.compile leaves as they are, without importing the compiler to say so."""

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

__all__ = ["eager"]

Function = TypeVar("Function", bound=Callable[..., Any])


def eager(function: Function) -> Function:
    """As `torch.compiler.disable`, which imports all of dynamo where it stands: half of the time in which a word is
    read from a cold start. Whoever compiles has imported it already."""
    disabled: dict[str, Callable[..., Any]] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*args, **kwargs)
        if not disabled:
            disabled["function"] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]  # torch's
        return disabled["function"](*args, **kwargs)

    # What `disable` sets too: calls to it are not traced into.
    vars(call)["_torchdynamo_disable"] = True
    return cast(Function, call)

"""torch.compile with a backend that keeps the graphs it was given and runs them as they are."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def watched_compile(model: torch.nn.Module) -> Iterator[tuple[Any, list[torch.fx.GraphModule]]]:
    """-> the compiled model and the graphs that reading with it makes, known once it has read."""
    torch.compiler.reset()
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    with warnings.catch_warnings():
        # Of torch's own: it looks at attributes of functions that it deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        yield torch.compile(model, backend=backend), graphs
    torch.compiler.reset()

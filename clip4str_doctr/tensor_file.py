"""safetensors files, written and converted piece by piece: a model of 2.6 GB is never held twice."""

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from clip4str_doctr.weight_card import WeightsError

__all__ = ["compare_tensors", "read_tensors", "stored_bytes", "write_tensors"]

# The format's names for the dtypes that weights here can have.
_NAMES: dict[torch.dtype, str] = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}

# Elements converted at a time: 32 MB of float32.
_CHUNK = 8 << 20
# Data starts at a multiple of this, for aligned vector loads from the mapped file.
_ALIGNMENT = 64


def _stored_dtype(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """Counters stay integers; everything else is stored as `dtype`."""
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def stored_bytes(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None) -> int:
    """Bytes the tensors will take in the file, header aside."""
    return sum(tensor.numel() * _stored_dtype(tensor, dtype).itemsize for tensor in tensors.values())


def _header(tensors: Mapping[str, torch.Tensor], dtype: torch.dtype | None) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        stored = _stored_dtype(tensor, dtype)
        if stored not in _NAMES:
            raise WeightsError(f"{name} is {stored}, which weight files cannot hold; use one of {sorted(_DTYPES)}")
        end = offset + tensor.numel() * stored.itemsize
        header[name] = {"dtype": _NAMES[stored], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    # The format allows trailing spaces; 8 bytes of length come first.
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _pieces(flat: torch.Tensor) -> Iterator[torch.Tensor]:
    """Views of a one-dimensional tensor, one after the other, none empty."""
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK]


def _narrow(name: str, piece: torch.Tensor, stored: torch.dtype) -> torch.Tensor:
    narrowed = piece.to(stored)
    if stored == torch.float16 and bool((narrowed.isinf() & ~piece.isinf()).any()):
        raise WeightsError(
            f"{name} holds values beyond float16's 65504 (largest {float(piece.abs().max()):.3g}); use bfloat16"
        )
    return narrowed


def write_tensors(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    dtype: torch.dtype | None = None,
    advance: Callable[[int], object] | None = None,
) -> str:
    """Write a safetensors file and return its SHA-256.

    dtype: what floating point tensors are stored as; None keeps theirs. advance: told the bytes of every piece
    written. Only one piece is converted at a time, so mapped tensors stay on disk.
    Raises WeightsError for a value that float16 cannot hold, naming the tensor.
    """
    # Wide types first keeps every tensor aligned to its own size, whatever follows.
    names = sorted(tensors, key=lambda name: (-_stored_dtype(tensors[name], dtype).itemsize, name))
    ordered = {name: tensors[name].detach() for name in names}
    header = _header(ordered, dtype)
    digest = hashlib.sha256(header)
    with path.open("xb") as file:
        file.write(header)
        for name, tensor in ordered.items():
            stored = _stored_dtype(tensor, dtype)
            for piece in _pieces(tensor.reshape(-1)):
                data = _narrow(name, piece.cpu(), stored).contiguous().view(torch.uint8).numpy().tobytes()
                file.write(data)
                digest.update(data)
                if advance is not None:
                    advance(len(data))
    return digest.hexdigest()


def read_tensors(path: Path, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, floating point ones as `dtype` (None: as stored).

    A file stored in the wanted dtype is mapped into memory, privately: it costs what is touched, and processes share
    it; replace such a file by renaming, not by writing into it. Another dtype is converted piece by piece.
    Raises WeightsError for a file that is no safetensors or is cut short.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            stored = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118  # not a dict
            if dtype is None or all(_is_wanted(name, dtype) for name in stored):
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(
            f"{path} must be a safetensors file, got something else or a part of one: {error}"
        ) from error
    return _read_converted(path, dtype)


def _is_wanted(name: str, dtype: torch.dtype) -> bool:
    return name == _NAMES[dtype] or (name in _DTYPES and not _DTYPES[name].is_floating_point)


def _read_converted(path: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Read without mapping: pages of a mapped source would count as a second copy of the model."""
    tensors: dict[str, torch.Tensor] = {}
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] not in _DTYPES:
                raise WeightsError(f"{path}: {name} is stored as {entry['dtype']}; expected one of {sorted(_DTYPES)}")
            stored = _DTYPES[entry["dtype"]]
            tensor = torch.empty(entry["shape"], dtype=dtype if stored.is_floating_point else stored, device="cpu")
            file.seek(8 + length + entry["data_offsets"][0])
            for piece in _pieces(tensor.view(-1)):
                data = bytearray(file.read(piece.numel() * stored.itemsize))
                piece.copy_(torch.frombuffer(data, dtype=stored))
            tensors[name] = tensor
    return tensors


def compare_tensors(expected: Mapping[str, torch.Tensor], stored: Mapping[str, Any]) -> list[str]:
    """One line for each tensor that is missing, unexpected, of another shape or kind; nothing if all is well."""
    problems = [f"missing: {name} {tuple(tensor.shape)}" for name, tensor in expected.items() if name not in stored]
    for name, value in stored.items():
        if name not in expected:
            problems.append(f"unexpected: {name} {_describe(value)}")
        elif not isinstance(value, torch.Tensor) or value.is_floating_point() != expected[name].is_floating_point():
            problems.append(f"of another kind: {name} {_describe(value)}, expected {_describe(expected[name])}")
        elif value.shape != expected[name].shape:
            problems.append(f"misshapen: {name} {tuple(value.shape)}, expected {tuple(expected[name].shape)}")
    return problems


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"

"""Jobs on keys, values and queries that a user brings in a safetensors file.

L = layers, G = KV heads, H = query heads, T = tokens, D = head dimension. The file holds three
tensors of type float16, bfloat16 or float32; a single layer may leave out the first dimension.
Other tensors in the file are ignored.

=========  ================  =========================================
``key``    ``[L, G, T, D]``  after RoPE, as attention reads them
``value``  ``[L, G, T, D]``
``query``  ``[L, H, T, D]``  after RoPE; head h reads KV head h // (H/G)
=========  ================  =========================================
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Size, Tensor

from golden.tensors import FP16_LARGEST, Tensors
from golden.workload import JobCase, case_from_tensors
from hw.config import AttentionConfig
from hw.formats import Mode

DEFAULT_JOBS = 16
#: The tensors and what their second dimension counts.
HEADS = {"key": "kv_heads", "value": "kv_heads", "query": "query_heads"}
_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


class UserTensorsError(ValueError):
    """A file is refused; the message names file, tensor, what was found and what is legal."""


@dataclass(frozen=True, kw_only=True)
class UserTensors:
    """What a core of ``config`` can read of a file: float16, at most ``max_context`` tokens."""

    config: AttentionConfig
    #: Name of the file, without directories.
    name: str
    #: SHA-256 of the file, hexadecimal.
    digest: str
    #: Tokens in the file.
    tokens: int
    #: ``[L, G, min(T, max_context), D]``.
    key: Tensor
    #: The shape of ``key``.
    value: Tensor
    #: ``[L, H, min(T, max_context), D]``.
    query: Tensor

    def jobs(self, limit: int) -> list[tuple[int, int]]:
        """Layer and KV head of at most ``limit`` jobs, spread evenly over all of them."""
        layers, kv_heads = self.key.shape[:2]
        every = [(layer, head) for layer in range(layers) for head in range(kv_heads)]
        count = min(limit, len(every))
        return [every[number * len(every) // count] for number in range(count)]

    def describe(self, limit: int) -> str:
        """One line for a report."""
        layers, kv_heads, context, _ = self.key.shape
        return (
            f"{self.name} (SHA-256 {self.digest[:12]}): {len(self.jobs(limit))} of "
            f"{layers * kv_heads} KV heads, {context} of {self.tokens} tokens"
        )


def user_cases(tensors: UserTensors, limit: int, mode: Mode = Mode.KVO) -> list[JobCase]:
    """One job for each of ``tensors.jobs(limit)``; the newest token is the last one loaded."""
    config = tensors.config
    cases = []
    for layer, kv_head in tensors.jobs(limit):
        rows = slice(kv_head * config.rows, (kv_head + 1) * config.rows)
        head = Tensors(
            keys=tensors.key[layer, kv_head].float(),
            values=tensors.value[layer, kv_head].float(),
            queries=tensors.query[layer, rows].float(),
        )
        label = f"layer {layer}, KV head {kv_head}, context {len(head.keys)}"
        cases.append(
            case_from_tensors(label, head, config, layer=layer, kv_head=kv_head, mode=mode)
        )
    return cases


def load_tensors(path: Path, config: AttentionConfig) -> UserTensors:
    """The tensors of a file, for a core of ``config``.

    A prefix is what a decode step at that context reads, so of a longer sequence the first
    ``max_context`` tokens are taken; the others are not looked at.

    Raises
    ------
    UserTensorsError
        The file cannot be read; a tensor is missing, has another type or shape than it must have
        or does not fit ``config``; an element that is taken is not finite or too large for FP16.
    """
    stored: dict[str, Tensor] = {}
    try:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        with safe_open(path, framework="pt") as file:
            names = sorted(file.keys())
            for name in HEADS:
                if name not in names:
                    listed = ", ".join(map(repr, names)) or "no tensors"
                    raise UserTensorsError(f"there must be a tensor {name!r}; it holds {listed}")
                found = file.get_slice(name).get_dtype()
                if found not in _TYPES:
                    legal = ", ".join(_TYPES.values())
                    raise UserTensorsError(f"{name} must have type {legal}, not {found}")
                stored[name] = _with_layers(name, file.get_tensor(name))
        _check_against_key({name: tensor.shape for name, tensor in stored.items()})
        _check_against_config(stored["key"].shape, stored["query"].shape, config)
        context = slice(config.max_context)
        halves = {name: _half(name, tensor[:, :, context]) for name, tensor in stored.items()}
    except OSError as error:
        raise UserTensorsError(f"{path}: cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserTensorsError(f"{path}: must be a safetensors file: {error}") from error
    except UserTensorsError as error:
        raise UserTensorsError(f"{path}: {error}") from error
    tokens = stored["key"].shape[2]
    return UserTensors(config=config, name=path.name, digest=digest, tokens=tokens, **halves)


def _with_layers(name: str, tensor: Tensor) -> Tensor:
    if tensor.ndim not in (3, 4):
        raise UserTensorsError(
            f"{name} must have dimensions [layers, {HEADS[name]}, tokens, head_dim] or "
            f"[{HEADS[name]}, tokens, head_dim], not shape {list(tensor.shape)}"
        )
    if not tensor.numel():
        raise UserTensorsError(f"{name} must not be empty, not shape {list(tensor.shape)}")
    return tensor if tensor.ndim == 4 else tensor.unsqueeze(0)


def _check_against_key(shapes: dict[str, Size]) -> None:
    key = shapes["key"]
    for name in ("value", "query"):
        for axis, dimension in enumerate(("layers", HEADS[name], "tokens", "head_dim")):
            found = shapes[name][axis]
            if dimension != "query_heads" and found != key[axis]:
                raise UserTensorsError(
                    f"{name} must have {dimension} = {key[axis]} like key, not {found}"
                )


def _check_against_config(key: Size, query: Size, config: AttentionConfig) -> None:
    layers, kv_heads, _, head_dim = key
    rows = config.rows * kv_heads
    for name, dimension, found, limit, exactly in (
        ("key", "head_dim", head_dim, config.head_dim, True),
        ("key", "layers", layers, config.layers, False),
        ("key", "kv_heads", kv_heads, config.kv_heads, False),
        ("query", "query_heads", query[1], rows, True),
    ):
        if found > limit or (exactly and found < limit):
            reason = f" ({config.rows} rows per KV head)" if name == "query" else ""
            raise UserTensorsError(
                f"{name} must have {dimension} {'=' if exactly else '<='} {limit}{reason} "
                f"for configuration {config.name!r}, not {found}"
            )


def _half(name: str, tensor: Tensor) -> Tensor:
    half = tensor.half()
    finite = half.isfinite()
    if not bool(finite.all()):
        place = (~finite).nonzero()[0].tolist()
        raise UserTensorsError(
            f"{name} must be finite and at most {FP16_LARGEST:.0f} in size (FP16), "
            f"not {float(tensor[tuple(place)])} at {place}"
        )
    return half

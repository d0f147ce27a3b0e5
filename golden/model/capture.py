"""Keys, values and queries of the trained model over a prompt, cached on disk.

A cache file is named by a hash of all that determines its content: the weights file, the tokens,
the source of the architecture, and `CAPTURE_VERSION`. It carries a checksum of its tensors; a
file that does not match is reported and made anew. Sums may differ in the last bits between
machines and thread counts, which is why results are cached and not expected to repeat exactly
elsewhere.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from golden.model import architecture
from golden.model.architecture import LayerTensors
from golden.model.prompts import load_prompt
from golden.model.weights import WEIGHTS, load_model, weights_sha256

__all__ = ["CACHE", "CAPTURE_VERSION", "CapturedKV", "CorruptCaptureError", "capture"]

log = logging.getLogger(__name__)

CACHE = Path(__file__).parents[2] / "build" / "capture"
CAPTURE_VERSION = 1
"""To be raised whenever this file changes what is captured."""

_TENSORS = ("key", "value", "query", "output", "tokens")


class CorruptCaptureError(RuntimeError):
    """A cache file cannot be read or does not match its checksum."""


@dataclass(frozen=True, kw_only=True)
class CapturedKV:
    """What attention read and wrote, before any compression.

    L = layers captured, G = KV heads, H = query heads, T = tokens, D = head_dim. Query head h
    reads KV head h // (H / G); scores are query . key / sqrt(D); attention is causal.

    Members
    -------
    key : post-RoPE, float32 [L, G, T, D].
    value : float32 [L, G, T, D].
    query : post-RoPE, float32 [L, H, T, D].
    output : attention output before the output projection, float32 [L, H, T, D].
    tokens : ids, int64 [T].
    layers : index in the model of each captured layer, ascending.
    digest : hexadecimal content hash, equal for equal weights, tokens and code.
    """

    key: Tensor
    value: Tensor
    query: Tensor
    output: Tensor
    tokens: Tensor
    layers: tuple[int, ...]
    digest: str

    def select(self, layers: Sequence[int]) -> "CapturedKV":
        """The same with some of its layers only, in ascending order.

        Raises ValueError when a layer was not captured, is named twice, or none is named.
        """
        wanted = tuple(sorted(layers))
        if not wanted or len(set(wanted)) != len(wanted) or not set(wanted) <= set(self.layers):
            raise ValueError(f"layers must be distinct ones of {self.layers}, not {layers!r}")
        index = [self.layers.index(layer) for layer in wanted]
        return replace(
            self,
            key=self.key[index],
            value=self.value[index],
            query=self.query[index],
            output=self.output[index],
            layers=wanted,
        )


def capture(
    prompt: str | Sequence[int] | Tensor = "mixed",
    *,
    layers: Sequence[int] | None = None,
    weights: Path = WEIGHTS,
    cache: Path | None = CACHE,
) -> CapturedKV:
    """Run the trained model in float32 over a prompt and return what its attention used.

    Arguments
    ---------
    prompt : name of a committed prompt of 2048 tokens ("mixed", "text", "copy", "recall"), or
        token ids [T].
    layers : layers to return; None returns all.
    weights : weights file of the model.
    cache : directory of cache files, created when missing; None neither reads nor writes any.

    Raises
    ------
    ValueError : there is no such prompt or layer, or a token id is outside the vocabulary.
    """
    if isinstance(prompt, str):
        tokens = torch.from_numpy(load_prompt(prompt).tokens)
    else:
        tokens = torch.as_tensor(prompt, dtype=torch.int64)
    if tokens.ndim != 1 or not len(tokens):
        raise ValueError(f"prompt must be token ids [T], not of shape {tuple(tokens.shape)!r}")
    digest = _digest(weights, tokens)
    captured = None
    path = cache / f"{digest[:32]}.safetensors" if cache is not None else None
    if path is not None and path.exists():
        try:
            captured = _read(path, digest)
        except CorruptCaptureError as error:
            log.warning("%s; capturing again", error)
    if captured is None:
        captured = _run(weights, tokens, digest)
        if path is not None:
            _write(path, captured)
    return captured if layers is None else captured.select(layers)


def _digest(weights: Path, tokens: Tensor) -> str:
    parts = (
        f"version {CAPTURE_VERSION}".encode(),
        weights_sha256(weights).encode(),
        Path(architecture.__file__).read_bytes(),
        tokens.numpy().astype("<i8").tobytes(),
    )
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@torch.no_grad()
def _run(weights: Path, tokens: Tensor, digest: str) -> CapturedKV:
    model = load_model(weights)
    if not 0 <= int(tokens.min()) <= int(tokens.max()) < model.config.vocabulary:
        raise ValueError(
            f"token ids must be 0..{model.config.vocabulary - 1}, "
            f"not {int(tokens.min())}..{int(tokens.max())}"
        )
    seen: dict[int, LayerTensors] = {}
    model(tokens[None], captured=seen)
    layers = tuple(sorted(seen))

    def stack(name: str) -> Tensor:
        return torch.stack([getattr(seen[layer], name)[0] for layer in layers]).contiguous()

    return CapturedKV(
        key=stack("key"),
        value=stack("value"),
        query=stack("query"),
        output=stack("output"),
        tokens=tokens.clone(),
        layers=layers,
        digest=digest,
    )


def _checksum(tensors: dict[str, Tensor]) -> str:
    whole = hashlib.sha256()
    for name in _TENSORS:
        array: np.ndarray = tensors[name].numpy()
        whole.update(f"{name} {array.dtype} {array.shape}".encode())
        whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()


def _write(path: Path, captured: CapturedKV) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: getattr(captured, name) for name in _TENSORS}
    metadata = {"digest": captured.digest, "checksum": _checksum(tensors)}
    temporary = path.with_suffix(".partial")
    save_file(tensors, temporary, metadata=metadata)
    temporary.replace(path)  # so that no reader ever sees half a file


def _read(path: Path, digest: str) -> CapturedKV:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in _TENSORS}
    except (SafetensorError, OSError) as error:
        raise CorruptCaptureError(f"{path} cannot be read: {error}") from error
    if metadata.get("digest") != digest or metadata.get("checksum") != _checksum(tensors):
        raise CorruptCaptureError(f"{path} does not match its checksum")
    layers = tuple(range(tensors["key"].shape[0]))
    return CapturedKV(**tensors, layers=layers, digest=digest)

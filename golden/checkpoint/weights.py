"""The weights of a Llama checkpoint: safetensors files, sharded or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional

from golden.checkpoint.files import CheckpointError, read_json

_INDEX = "model.safetensors.index.json"
_TYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


class Weights:
    """The safetensors files of a checkpoint, read tensor by tensor.

    Raises
    ------
    CheckpointError
        There are none, or the index of the shards is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        index = directory / _INDEX
        self._files = self._indexed(index) if index.exists() else self._listed()
        # A model without an output head is stored without this prefix.
        self._prefix = "model." if "model.embed_tokens.weight" in self._files else ""

    def read(self, name: str, *shape: int, rows: Tensor | None = None) -> Tensor:
        """The tensor ``name`` of ``shape`` in float32, or some of its rows.

        Raises
        ------
        CheckpointError
            It is missing, damaged, or has another type or shape.
        """
        stored = self._prefix + name
        if stored not in self._files:
            raise CheckpointError(f"{self._directory}: there must be a tensor {stored!r}")
        file = self._files[stored]
        with _open(file) as tensors:
            if stored not in list(tensors.keys()):
                raise CheckpointError(f"{file}: there must be a tensor {stored!r}")
            found = tensors.get_slice(stored)
            kind, found_shape = found.get_dtype(), tuple(found.get_shape())
            if kind not in _TYPES:
                legal = ", ".join(_TYPES.values())
                raise CheckpointError(f"{file}: {stored} must have type {legal}, not {kind}")
            if found_shape != shape:
                raise CheckpointError(
                    f"{file}: {stored} must have shape {list(shape)}, not {list(found_shape)}"
                )
            tensor = tensors.get_tensor(stored)
            return (tensor if rows is None else tensor[rows]).float()

    def linear(self, x: Tensor, module: str, outputs: int, *, bias: bool) -> Tensor:
        """``x`` times the weight of ``module``, plus its bias if it has one."""
        weight = self.read(f"{module}.weight", outputs, x.shape[-1])
        return functional.linear(x, weight, self.read(f"{module}.bias", outputs) if bias else None)

    def _indexed(self, index: Path) -> dict[str, Path]:
        content = read_json(index)
        files = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(files, dict) or not all(
            isinstance(file, str) and Path(file).name == file for file in files.values()
        ):
            raise CheckpointError(
                f"{index}: weight_map must name a file of the directory for each tensor"
            )
        return {name: self._directory / file for name, file in files.items()}

    def _listed(self) -> dict[str, Path]:
        files: dict[str, Path] = {}
        for file in sorted(self._directory.glob("*.safetensors")):
            with _open(file) as tensors:
                for name in list(tensors.keys()):
                    if name in files:
                        raise CheckpointError(
                            f"{self._directory}: {name} must be in one file, "
                            f"not in {files[name].name} and {file.name}"
                        )
                    files[name] = file
        if not files:
            raise CheckpointError(f"{self._directory}: there must be weights in *.safetensors")
        return files


@contextmanager
def _open(file: Path) -> Iterator[Any]:
    if not file.is_file():
        raise CheckpointError(f"{file}: there must be such a file")
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file}: must be a safetensors file: {error}") from error

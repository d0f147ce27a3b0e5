"""A Llama checkpoint as Hugging Face stores it: ``config.json``, safetensors, tokenizer files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from golden.checkpoint.files import CheckpointError, read_json
from golden.quality.optional import optional

__all__ = ["DTYPES", "Checkpoint", "load"]

#: Of the model's weights and activations; caches are always computed in float32.
DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A model, its tokenizer, and where they are from.

    Members
    -------
    model : ``LlamaForCausalLM`` in evaluation mode, on its device.
    tokenizer : with character offsets.
    directory : of the checkpoint.
    trained : False for random weights of the same shape.
    """

    model: Any
    tokenizer: Any
    directory: Path
    trained: bool = True

    @property
    def context(self) -> int:
        """Most tokens of a sequence."""
        return int(self.model.config.max_position_embeddings)

    @property
    def device(self) -> torch.device:
        """Of the model."""
        device: torch.device = self.model.device
        return device

    @cached_property
    def start(self) -> list[int]:
        """The token that begins a sequence, if the tokenizer has one."""
        token = self.tokenizer.bos_token_id
        return [] if token is None else [int(token)]

    @cached_property
    def ends(self) -> frozenset[int]:
        """Tokens that end a generation."""
        found: set[int] = set()
        for value in (self.tokenizer.eos_token_id, self.model.generation_config.eos_token_id):
            found |= set(value if isinstance(value, list) else [] if value is None else [value])
        return frozenset(found)

    @cached_property
    def sha256(self) -> str:
        """Of the files that decide what the checkpoint computes."""
        whole = hashlib.sha256()
        for path in sorted(self.directory.iterdir()):
            if path.suffix in (".json", ".safetensors", ".model", ".jinja"):
                with path.open("rb") as file:
                    whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
        return whole.hexdigest()

    def encode(self, text: str) -> list[int]:
        """Token ids of ``text``, with nothing put before or behind it."""
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def encode_with_ends(self, text: str) -> tuple[list[int], list[int]]:
        """Token ids, and for each the characters of ``text`` up to its end."""
        found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ends = [int(end) for _, end in found.offset_mapping]
        # Offsets of tokens that stand for no character are zero; an end never goes back.
        for place in range(1, len(ends)):
            ends[place] = max(ends[place], ends[place - 1])
        return list(found.input_ids), ends

    def decode(self, ids: list[int]) -> str:
        """The text of ``ids`` without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


def load(
    directory: Path,
    *,
    dtype: str | None = None,
    device: torch.device | None = None,
    trained: bool = True,
) -> Checkpoint:
    """Read a checkpoint.

    Parameters
    ----------
    dtype
        A name in `DTYPES`; by default that of the checkpoint on a GPU, float32 elsewhere.
    device
        By default a GPU if torch sees one.
    trained
        False: the same shape with random weights (seed 0), as a control.

    Raises
    ------
    CheckpointError
        A file is missing or damaged, the model is no Llama, or ``dtype`` is unknown.
    MissingPackage
        The optional extra ``quality`` is not installed.
    """
    if dtype is not None and dtype not in DTYPES:
        raise CheckpointError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
    config = read_json(directory / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "llama":
        raise CheckpointError(
            f"{directory / 'config.json'}: model_type must be 'llama', not {kind!r}"
        )
    transformers = optional("transformers")
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    own = "auto" if device.type == "cuda" else torch.float32
    kind_of_number = own if dtype is None else DTYPES[dtype]
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory, local_files_only=True)
        if trained:
            model = transformers.LlamaForCausalLM.from_pretrained(
                directory, dtype=kind_of_number, local_files_only=True
            )
        else:
            shape = transformers.LlamaConfig.from_pretrained(directory, local_files_only=True)
            torch.manual_seed(0)
            model = transformers.LlamaForCausalLM(shape)
            if isinstance(kind_of_number, torch.dtype):
                model = model.to(kind_of_number)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{directory}: cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise CheckpointError(f"{directory}: the tokenizer must give offsets (tokenizer.json)")
    return Checkpoint(model.to(device).eval(), tokenizer, directory, trained)

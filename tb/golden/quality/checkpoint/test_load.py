"""What is read, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers", reason="the optional extra 'quality' is not installed")

from golden.checkpoint.files import CheckpointError
from golden.quality.checkpoint.load import Checkpoint, load
from tb.golden.quality.checkpoint.small import BOS, EOS

CPU = torch.device("cpu")


def test_members(checkpoint: Checkpoint) -> None:
    assert checkpoint.context == 1024
    assert checkpoint.start == [BOS]
    assert checkpoint.ends == {EOS}
    assert checkpoint.device == CPU
    assert checkpoint.model.dtype == torch.float32


def test_tokens(checkpoint: Checkpoint) -> None:
    """A character of two bytes is two tokens that both reach its end."""
    ids, ends = checkpoint.encode_with_ends("a\u00fc b")
    assert ids == list("a\u00fc b".encode()) == checkpoint.encode("a\u00fc b")
    assert ends == [1, 2, 2, 3, 4]
    assert checkpoint.decode([BOS, *ids]) == "a\u00fc b"


def test_dtype(checkpoint: Checkpoint) -> None:
    found = load(checkpoint.directory, dtype="bfloat16", device=CPU)
    assert found.model.dtype == torch.bfloat16
    assert found.sha256 == checkpoint.sha256


def test_untrained(checkpoint: Checkpoint) -> None:
    """The same shape and other weights, always the same ones."""
    first, second = (load(checkpoint.directory, device=CPU, trained=False) for _ in range(2))
    weights = [x.model.model.layers[0].mlp.up_proj.weight for x in (checkpoint, first, second)]
    assert weights[0].shape == weights[1].shape
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights[1], weights[2])
    assert not first.trained


def test_sha256(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Of what is in the files, not of where they are."""
    copy = shutil.copytree(checkpoint.directory, tmp_path / "copy")
    same = Checkpoint(checkpoint.model, checkpoint.tokenizer, copy)
    assert same.sha256 == checkpoint.sha256
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    changed = Checkpoint(checkpoint.model, checkpoint.tokenizer, copy)
    assert changed.sha256 != checkpoint.sha256


def test_errors(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match=r"dtype must be one of float32, .* not 'int8'"):
        load(checkpoint.directory, dtype="int8")
    copy = shutil.copytree(checkpoint.directory, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(CheckpointError, match="model_type must be 'llama', not 'gpt2'"):
        load(copy)

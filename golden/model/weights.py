"""Saving and loading the weights, in bfloat16 safetensors with the configuration as metadata."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from golden.model.architecture import LanguageModel, ModelConfig

__all__ = ["MODELS", "WEIGHTS", "TrainedModel", "load_model", "save_weights", "weights_sha256"]


@dataclass(frozen=True)
class TrainedModel:
    """A committed weights file, and the longest context that it was trained for, in tokens."""

    path: Path
    context: int


_DIRECTORY = Path(__file__).parent / "weights"
WEIGHTS = _DIRECTORY / "lm.safetensors"
MODELS = {
    "lm": TrainedModel(WEIGHTS, 2048),
    "lm4k": TrainedModel(_DIRECTORY / "lm4k.safetensors", 4096),
}
"""By name; ``lm`` is the one that the hardware's tests and measurements use."""


def save_weights(model: LanguageModel, path: Path, *, notes: dict[str, str] | None = None) -> None:
    """Write the weights rounded to bfloat16, and their SHA-256 for ``sha256sum -c`` beside them.

    ``notes`` (seed, tokens seen and so on) go into the file's metadata beside the configuration.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    metadata = {"config": json.dumps(dataclasses.asdict(model.config)), **(notes or {})}
    temporary = path.with_suffix(".partial")
    save_file(tensors, temporary, metadata=metadata)
    temporary.replace(path)
    path.with_suffix(".sha256").write_text(f"{weights_sha256(path)}  {path.name}\n")


def load_model(path: Path = WEIGHTS) -> LanguageModel:
    """The model in a weights file, in float32 and evaluation mode.

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : the file carries no configuration, or other tensors than the model has.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights must exist, not {str(path)!r}")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "config" not in metadata:
            raise ValueError(f"weights must carry a configuration, not {metadata!r}")
        model = LanguageModel(ModelConfig(**json.loads(metadata["config"])))
        expected = set(model.state_dict())
        if set(file.keys()) != expected:
            raise ValueError(
                f"weights must hold the tensors of the model, "
                f"not {sorted(expected ^ set(file.keys()))!r}"
            )
        model.load_state_dict({name: file.get_tensor(name).float() for name in expected})
    return model.eval()


def weights_sha256(path: Path = WEIGHTS) -> str:
    """Hexadecimal SHA-256 of the weights file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

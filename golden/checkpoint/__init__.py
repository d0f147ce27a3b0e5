"""Keys, values and queries of a local Llama checkpoint, for the bench to run on.

A checkpoint is the directory that Hugging Face stores: ``config.json`` and ``*.safetensors``.
"""

from golden.checkpoint.capture import CheckpointKV, capture_checkpoint
from golden.checkpoint.files import CheckpointError

__all__ = ["CheckpointError", "CheckpointKV", "capture_checkpoint"]

"""A sample as a checkpoint's tokens: the prompt, cut in the middle where it is too long."""

from __future__ import annotations

from golden.quality.checkpoint.load import Checkpoint
from golden.quality.longbench.datasets import DATASETS
from golden.quality.longbench.samples import LongBenchError, Sample

__all__ = ["RESERVE", "default_length", "prompt_tokens"]

#: Tokens that the benchmark leaves for answer and chat format: it cuts to 3500 of 4096.
RESERVE = 596


def default_length(checkpoint: Checkpoint) -> int:
    """Tokens that a prompt is cut to: the context less `RESERVE`.

    Raises
    ------
    LongBenchError
        The context is too short for that.
    """
    if checkpoint.context <= 2 * RESERVE:
        raise LongBenchError(
            f"max_length must be given for a context of {checkpoint.context} tokens"
        )
    return checkpoint.context - RESERVE


def _cut(checkpoint: Checkpoint, text: str, length: int) -> str:
    """The first and the last half of the tokens as text, if there are more than ``length``."""
    ids = list(checkpoint.tokenizer(text).input_ids)
    if len(ids) <= length:
        return text
    half = length // 2
    return checkpoint.decode(ids[:half]) + checkpoint.decode(ids[-half:])


def _tokens(checkpoint: Checkpoint, text: str, *, chat: bool) -> list[int]:
    """Of the text as the model is given it."""
    if not chat:
        return list(checkpoint.tokenizer(text).input_ids)
    said = [{"role": "user", "content": text}]
    formatted = checkpoint.tokenizer.apply_chat_template(
        said, tokenize=False, add_generation_prompt=True
    )
    return checkpoint.encode(formatted)


def prompt_tokens(
    checkpoint: Checkpoint, sample: Sample, *, max_length: int, chat: bool = False
) -> list[int]:
    """Token ids, special tokens included.

    Parameters
    ----------
    max_length
        Tokens that the prompt is cut to before it is put into the chat format. Halves that are
        longer when read again, or a long chat format, are cut further until the answer has room.
    chat
        The checkpoint's chat format, for the datasets that are asked in one.

    Raises
    ------
    LongBenchError
        ``max_length`` is out of range, or the tokenizer has no chat format.
    """
    dataset = DATASETS[sample.dataset]
    highest = checkpoint.context - dataset.tokens
    if not 2 <= max_length <= highest:
        raise LongBenchError(f"max_length must be 2..{highest}, not {max_length!r}")
    chat = chat and dataset.chat
    if chat and not checkpoint.tokenizer.chat_template:
        raise LongBenchError("chat must be off: the tokenizer has no chat format")
    length = max_length
    while True:
        ids = _tokens(checkpoint, _cut(checkpoint, sample.prompt, length), chat=chat)
        excess = len(ids) - highest
        if excess <= 0:
            return ids
        length -= excess
        if length < 2:
            raise LongBenchError(f"max_length must leave room for the chat format, not {excess}")

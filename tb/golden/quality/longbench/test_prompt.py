"""Prompts as tokens: cut in the middle, with room for the answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("transformers", reason="the optional extra 'quality' is not installed")

from golden.quality.checkpoint.load import Checkpoint
from golden.quality.longbench.prompt import default_length, prompt_tokens
from golden.quality.longbench.samples import LongBenchError, Sample
from golden.quality.optional import optional
from tb.golden.quality.checkpoint.small import BOS, byte_tokenizer

CHAT = "{% for m in messages %}<user>{{ m.content }}</user>{% endfor %}"


def lcc(context: str) -> Sample:
    return Sample("lcc", "1", context, "", ("x",), (), 1)


def test_whole(checkpoint: Checkpoint) -> None:
    found = prompt_tokens(checkpoint, lcc("x = 1\n"), max_length=500)
    assert checkpoint.decode(found) == lcc("x = 1\n").prompt


def test_cut_in_the_middle(checkpoint: Checkpoint) -> None:
    """Bytes are tokens here: the first and the last 50 letters."""
    sample = lcc("".join(chr(97 + i % 26) for i in range(700)))
    text = sample.prompt
    found = prompt_tokens(checkpoint, sample, max_length=100)
    assert checkpoint.decode(found) == text[:50] + text[-50:]
    exact = prompt_tokens(checkpoint, sample, max_length=len(text))
    assert checkpoint.decode(exact) == text
    shorter = prompt_tokens(checkpoint, sample, max_length=len(text) - 1)
    half = (len(text) - 1) // 2
    assert checkpoint.decode(shorter) == text[:half] + text[-half:]


def test_longer_than_the_model(checkpoint: Checkpoint) -> None:
    """The longest prompt leaves room for the answer."""
    found = prompt_tokens(checkpoint, lcc("a" * 5000), max_length=1024 - 64)
    assert len(found) == 1024 - 64


def test_chat(checkpoint: Checkpoint) -> None:
    """Where the benchmark has it; its own length is made room for."""
    chatting = replace(checkpoint, tokenizer=byte_tokenizer())
    chatting.tokenizer.chat_template = CHAT
    question = Sample("hotpotqa", "1", "a" * 2000, "Who?", ("x",), (), 1)
    found = prompt_tokens(chatting, question, max_length=1024 - 32, chat=True)
    text = chatting.decode(found)
    assert text.startswith("<user>Answer the question")
    assert text.endswith("Who?\nAnswer:</user>")
    assert 1024 - 32 - 2 <= len(found) <= 1024 - 32
    plain = prompt_tokens(chatting, lcc("a"), max_length=900, chat=True)
    assert chatting.decode(plain) == lcc("a").prompt
    with pytest.raises(LongBenchError, match="chat must be off: the tokenizer has no chat format"):
        prompt_tokens(checkpoint, question, max_length=900, chat=True)


def test_special_tokens(checkpoint: Checkpoint) -> None:
    """What the tokenizer puts before a text is there once, cut or not."""
    processors = optional("tokenizers.processors")
    beginning = replace(checkpoint, tokenizer=byte_tokenizer())
    beginning.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<{BOS}> $A", special_tokens=[(f"<{BOS}>", BOS)]
    )
    for length in (900, 100):
        found = prompt_tokens(beginning, lcc("a" * 300), max_length=length)
        assert [place for place, token in enumerate(found) if token == BOS] == [0]


@pytest.mark.parametrize("length", [1, 1024 - 63])
def test_errors(checkpoint: Checkpoint, length: int) -> None:
    with pytest.raises(LongBenchError, match=rf"max_length must be 2\.\.960, not {length}"):
        prompt_tokens(checkpoint, lcc("a"), max_length=length)


def test_default_length(checkpoint: Checkpoint) -> None:
    """3500 of 4096, as the benchmark; too short a context has none."""
    with pytest.raises(LongBenchError, match="max_length must be given for a context of 1024"):
        default_length(checkpoint)
    longer = replace(checkpoint)
    vars(longer)["model"] = type("Model", (), {})()
    longer.model.config = type("Config", (), {"max_position_embeddings": 4096})()
    assert default_length(longer) == 3500

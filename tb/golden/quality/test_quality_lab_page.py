"""docs/quality_lab.md says what the sources say, and its method runs."""

from __future__ import annotations

import re

import pytest
import torch

from docs.examples.newest_tokens import NewestTokens
from golden.quality.decode import decode
from golden.quality.methods import FP16, StreamingLLM
from tb.extending.test_document import programs
from tb.golden.quality.small import attended, prompt, random_prompt, step
from tb.harness.files import REPOSITORY

PAGE = (REPOSITORY / "docs" / "quality_lab.md").read_text()


def test_the_example_is_the_file() -> None:
    found = programs(PAGE)
    assert list(found) == ["docs/examples/newest_tokens.py"]
    for name, shown in found.items():
        assert (REPOSITORY / name).read_text() == shown


def test_the_other_programs_import_what_there_is() -> None:
    """Those without the optional extra."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("from ")]
    wanted = [line for line in lines if "hugging_face" not in line and "__future__" not in line]
    assert len(wanted) > 8
    for line in wanted:
        exec(line, {})


def test_what_it_attends_to() -> None:
    """Of ten tokens and the new one the newest four; three keys and values less than it holds."""
    reading = step(NewestTokens(budget=4).start(prompt(10)), 10)
    assert attended(reading) == [7, 8, 9, 10]
    # 8 channels: 16 bytes of key and of value, a burst each.
    assert (reading.read, reading.written) == (4 * 64, 64)
    with pytest.raises(ValueError, match="budget must be an integer from 1 up, not 0"):
        NewestTokens(budget=0)


def test_all_tokens_are_fp16() -> None:
    whole = random_prompt(24)
    steps = (whole.query[..., 20:, :], whole.key[..., 20:, :], whole.value[..., 20:, :])
    found, traffic = decode(NewestTokens(budget=64), random_prompt(20), *steps)
    expected, dense = decode(FP16(), random_prompt(20), *steps)
    assert torch.equal(found, expected)
    assert traffic == dense
    other, _ = decode(StreamingLLM(budget=8), random_prompt(20), *steps)
    assert not torch.allclose(other, expected, atol=1e-2)

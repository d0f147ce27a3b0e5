"""A checkpoint with random weights and a byte-level tokenizer."""

import pytest
import torch

from golden.quality.checkpoint.load import Checkpoint, load
from tb.golden.quality.checkpoint.small import VOCABULARY, random_model, save


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Read on the CPU; 1024 tokens of context."""
    pytest.importorskip("transformers", reason="the optional extra 'quality' is not installed")
    # With tied embeddings a random model says the last token again.
    head = 0.1 * torch.randn(VOCABULARY, 32, generator=torch.Generator().manual_seed(5))
    directory = save(tmp_path_factory.mktemp("checkpoint"), random_model(), head=head)
    return load(directory, device=torch.device("cpu"))

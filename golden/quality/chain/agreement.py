"""How close the twin's steps are to those of the float reference on the same caches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.reference import CompressedCache, attend, select_chunks
from golden.twin.attention import JobResult
from hw.config import AttentionConfig
from hw.constants import OUTPUT_FRACTION, RECEIVED_FRACTION


@dataclass
class Agreement:
    """Twin against reference over all steps so far."""

    #: Steps of a KV head, and output rows of a query head.
    steps: int = 0
    rows: int = 0
    #: Cosines of the output rows, the reference attending to what the twin selects.
    cosine_sum: float = 0.0
    cosine_worst: float = 1.0
    #: Chunks that the reference would select, and those of them that the twin selects.
    chunks: int = 0
    chunks_shared: int = 0
    #: Largest difference of the reference's estimates (log2) between a chunk that only it would
    #: select and one that only the twin selects.
    gap_worst: float = 0.0
    #: Largest difference of the attention that a tail token receives in a step.
    received_worst: float = 0.0

    def observe(
        self, query: Tensor, cache: CompressedCache, result: JobResult, config: AttentionConfig
    ) -> None:
        """Compare one step.

        Parameters
        ----------
        query
            ``[rows, d]`` as the model made it.
        cache
            What the step attended to.
        """
        reference = attend(query, cache, config, selection=result.selection)
        output = result.output.double() / (1 << OUTPUT_FRACTION)
        cosines = torch.nn.functional.cosine_similarity(output, reference.output, dim=-1)
        wanted = set(select_chunks(reference.estimate, config).tolist())
        chosen = set(result.selection.tolist())
        gap = 0.0
        if wanted != chosen:
            missed = reference.estimate[sorted(wanted - chosen)]
            gap = float(missed.max() - reference.estimate[sorted(chosen - wanted)].min())
        received = result.received.double() / (1 << RECEIVED_FRACTION)
        error = float((received - reference.tail_probability).abs().max())
        self.add(
            Agreement(
                steps=1,
                rows=len(cosines),
                cosine_sum=float(cosines.sum()),
                cosine_worst=float(cosines.min()),
                chunks=len(wanted),
                chunks_shared=len(wanted & chosen),
                gap_worst=gap,
                received_worst=error,
            )
        )

    def add(self, other: Agreement) -> None:
        """Add other steps."""
        for name in ("steps", "rows", "cosine_sum", "chunks", "chunks_shared"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.cosine_worst = min(self.cosine_worst, other.cosine_worst)
        self.gap_worst = max(self.gap_worst, other.gap_worst)
        self.received_worst = max(self.received_worst, other.received_worst)

"""Golden data of the attention bench: jobs, the memory behind them, and what each must give.

A workload is a set of named arrays (saved and loaded by ``golden.memory_image.bundle``), so that
the bench compares integers and needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from golden.memory_image import JobDescriptor, MemoryImage, query_beats
from golden.memory_image.bundle import Arrays
from golden.reference import CompressedCache, compress_cache, quantise_query, saliency
from golden.tensors import Tensors
from golden.twin.attention import attention
from hw.config import AttentionConfig
from hw.formats import Status, job_fields


@dataclass(frozen=True, kw_only=True)
class JobCase:
    """One job to run: a query against a cache."""

    #: What a report calls it.
    label: str
    cache: CompressedCache
    #: ``[rows, d]``, as the model makes it.
    query: Tensor
    layer: int = 0
    kv_head: int = 0
    #: Fields of the descriptor to spoil, and the status that must follow.
    spoiled: tuple[tuple[str, int], ...] = ()
    #: Bytes to overwrite in the memory: region (``base``, ``chunk``, ``tail``), offset, content.
    poison: tuple[tuple[str, int, bytes], ...] = ()
    status: Status = Status.OK


def case_from_tensors(
    label: str, tensors: Tensors, config: AttentionConfig, *, layer: int = 0, kv_head: int = 0
) -> JobCase:
    """A job on the compressed form of ``tensors``, with the query of the newest token."""
    sums = saliency(tensors.queries, tensors.keys, config)
    return JobCase(
        label=label,
        cache=compress_cache(tensors.keys, tensors.values, sums, config),
        query=tensors.query,
        layer=layer,
        kv_head=kv_head,
    )


def make_workload(cases: Sequence[JobCase], config: AttentionConfig) -> Arrays:
    """Run the twin on every case and lay out memory, descriptors and expected results.

    Returns
    -------
    dict
        ``image`` bytes of the memory; per job (first dimension): ``label``, ``job`` (packed
        descriptor, little-endian bytes), ``query`` (beats of 16 bytes), ``status``, ``context``,
        ``output [rows, d]``, ``maximum [rows]``, ``sum [rows]``, ``selected`` (number of chunks);
        and ``selection``, the chunks of all jobs one after the other. Refused jobs have zeros and
        no chunks.
    """
    image = MemoryImage(config)
    job_bytes = -(-sum(job_fields(config).values()) // 8)
    rows: dict[str, list[object]] = {
        name: []
        for name in ("label", "job", "query", "status", "context", "output", "maximum", "sum")
    }
    selections: list[Tensor] = []
    for number, case in enumerate(cases):
        codes, scale = quantise_query(case.query)
        placement = image.place(case.cache)
        for region, offset, content in case.poison:
            start = getattr(placement, f"{region}_address") + offset
            image.data[start : start + len(content)] = content
        descriptor = JobDescriptor.at(
            placement,
            scale,
            config,
            job_id=number & 0xFFFF,
            layer=case.layer,
            kv_head=case.kv_head,
        )
        descriptor = replace(descriptor, **dict(case.spoiled))  # type: ignore[arg-type]
        beats = query_beats(codes)
        rows["label"].append(case.label)
        rows["job"].append(list(descriptor.pack(config).to_bytes(job_bytes, "little")))
        rows["query"].append([list(beat.to_bytes(16, "little")) for beat in beats])
        rows["status"].append(int(case.status))
        rows["context"].append(case.cache.context)
        if case.status in (Status.OK, Status.SCALE_NOT_FINITE, Status.MEMORY_ERROR):
            result = attention(codes, scale, case.cache, config)
            rows["output"].append(result.output.tolist())
            rows["maximum"].append(result.maximum.tolist())
            rows["sum"].append(result.sum.tolist())
            selections.append(result.selection)
        else:
            rows["output"].append([[0] * config.head_dim] * config.rows)
            rows["maximum"].append([0] * config.rows)
            rows["sum"].append([0] * config.rows)
            selections.append(torch.zeros(0, dtype=torch.int64))
    return {
        "image": np.frombuffer(bytes(image.data), np.uint8),
        "label": np.array(rows["label"]),
        "job": np.array(rows["job"], np.uint8),
        "query": np.array(rows["query"], np.uint8),
        "status": np.array(rows["status"], np.int64),
        "context": np.array(rows["context"], np.int64),
        "output": np.array(rows["output"], np.int64),
        "maximum": np.array(rows["maximum"], np.int64),
        "sum": np.array(rows["sum"], np.int64),
        "selected": np.array([len(s) for s in selections], np.int64),
        "selection": torch.cat(selections).numpy() if selections else np.zeros(0, np.int64),
    }

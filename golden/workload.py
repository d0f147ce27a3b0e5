"""Golden data of the attention bench: jobs, the memory behind them, and what each must give.

A workload is a set of named arrays (saved and loaded by ``golden.memory_image.bundle``), so that
the bench compares integers and needs no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from golden.cache_formats import CACHE_FORMATS, Cache, Compressor, run_job
from golden.memory_image import JobDescriptor, MemoryImage, query_beats
from golden.memory_image.bundle import Arrays
from golden.tensors import Tensors
from hw.config import AttentionConfig
from hw.formats import Mode, Status, job_fields


@dataclass(frozen=True, kw_only=True)
class JobCase:
    """One job to run: a query against a cache."""

    #: What a report calls it.
    label: str
    cache: Cache
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
    label: str,
    tensors: Tensors,
    config: AttentionConfig,
    *,
    layer: int = 0,
    kv_head: int = 0,
    mode: Mode = Mode.KVO,
    compress: Compressor | None = None,
) -> JobCase:
    """A job on the cache that ``tensors`` give, with the query of the newest token.

    ``compress`` makes the cache, by default as the format of ``mode`` does.
    """
    cache = (compress or CACHE_FORMATS[mode].compress)(tensors, config)
    return JobCase(label=label, cache=cache, query=tensors.query, layer=layer, kv_head=kv_head)


def make_workload(cases: Sequence[JobCase], config: AttentionConfig) -> Arrays:
    """Run the twin on every case and lay out memory, descriptors and expected results.

    Returns
    -------
    dict
        ``image`` bytes of the memory; per job (first dimension): ``label``, ``job`` (packed
        descriptor, little-endian bytes), ``query`` (beats of 16 bytes), ``status``, ``mode``,
        ``context``, ``output [rows, d]``, ``maximum [rows]``, ``sum [rows]``, ``selected`` (number
        of chunks); and ``selection``, the chunks of all jobs one after the other. Refused jobs have
        zeros and no chunks.
    """
    image = MemoryImage(config)
    job_bytes = -(-sum(job_fields(config).values()) // 8)
    rows: dict[str, list[object]] = {
        name: []
        for name in (
            "label",
            "job",
            "query",
            "status",
            "mode",
            "context",
            "output",
            "maximum",
            "sum",
        )
    }
    selections: list[Tensor] = []
    for number, case in enumerate(cases):
        codes, scale, result = run_job(case.query, case.cache, config)
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
            value_scale=CACHE_FORMATS[case.cache.mode].value_scale(case.cache),
        )
        descriptor = replace(descriptor, **dict(case.spoiled))  # type: ignore[arg-type]
        beats = query_beats(codes)
        rows["label"].append(case.label)
        rows["job"].append(list(descriptor.pack(config).to_bytes(job_bytes, "little")))
        rows["query"].append([list(beat.to_bytes(16, "little")) for beat in beats])
        rows["status"].append(int(case.status))
        rows["context"].append(case.cache.context)
        rows["mode"].append(int(placement.mode))
        for name in ("output", "maximum", "sum"):
            found: Tensor = getattr(result, name)
            rows[name].append((found * (not case.status.refused)).tolist())
        selections.append(result.selection[:0] if case.status.refused else result.selection)
    return {
        "image": np.frombuffer(bytes(image.data), np.uint8),
        "label": np.array(rows["label"]),
        "job": np.array(rows["job"], np.uint8),
        "query": np.array(rows["query"], np.uint8),
        "status": np.array(rows["status"], np.int64),
        "mode": np.array(rows["mode"], np.int64),
        "context": np.array(rows["context"], np.int64),
        "output": np.array(rows["output"], np.int64),
        "maximum": np.array(rows["maximum"], np.int64),
        "sum": np.array(rows["sum"], np.int64),
        "selected": np.array([len(s) for s in selections], np.int64),
        "selection": torch.cat(selections).numpy() if selections else np.zeros(0, np.int64),
    }

"""What the software beside a core does: caches into memory, a job per step, results out.

Run from the repository root, after `make verilog PRESET=tiny`:

    .venv/bin/python docs/examples/host.py build/verilog/tiny/attention_core.json

It writes the memory image and the stream payloads of two jobs beside the sidecar.
tb/tools/test_host.py sends them through the simulated core.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.memory_image import JobDescriptor, MemoryImage, query_beats
from golden.reference import compress_cache, quantise_query, saliency
from hw.config import AttentionConfig

#: One step of an output element.
OUTPUT_STEP = 2.0**-15


@dataclass
class Steps:
    """Memory contents and, per job, one payload of ``job`` and the payloads of ``query``."""

    image: bytes
    jobs: list[int]
    queries: list[list[int]]


def read_sidecar(path: Path) -> tuple[AttentionConfig, dict[str, Any]]:
    """Return the configuration that the emitted core was made for, and the whole sidecar."""
    sidecar = json.loads(path.read_text())
    config = AttentionConfig(**sidecar["config"])
    # Otherwise this software lays out records that the core would misread.
    if f"0x{config.config_hash:08x}" != sidecar["config_hash"]:
        raise SystemExit(f"{path} comes from another version of the generator")
    return config, sidecar


def prepare(config: AttentionConfig, heads: list[tuple[Tensor, Tensor, Tensor]]) -> Steps:
    """Lay out one cache per KV head and make one job for each.

    Parameters
    ----------
    heads
        Per KV head the keys ``[T, d]``, the values ``[T, d]`` and the queries ``[rows, T, d]`` of
        the query heads that share it, keys and queries after RoPE. The last token is the new one.
    """
    image = MemoryImage(config)
    jobs, queries = [], []
    for head, (keys, values, prompt_queries) in enumerate(heads):
        sums = saliency(prompt_queries, keys, config)
        placement = image.place(compress_cache(keys, values, sums, config))
        codes, scale = quantise_query(prompt_queries[:, -1])
        descriptor = JobDescriptor.at(placement, scale, config, job_id=head, kv_head=head)
        jobs.append(descriptor.pack(config))
        queries.append(query_beats(codes))
    return Steps(bytes(image.data), jobs, queries)


def unpack(sidecar: dict[str, Any], stream: str, payload: int) -> dict[str, int]:
    """Split a payload into its fields, at the positions of the sidecar."""
    found = {}
    for field in sidecar["streams"][stream]["fields"]:
        value = payload >> field["offset"] & (1 << field["width"]) - 1
        if field["signed"] and value >> field["width"] - 1:
            value -= 1 << field["width"]
        found[field["name"]] = value
    return found


def attention_output(
    config: AttentionConfig, sidecar: dict[str, Any], beats: list[int], completion: int
) -> Tensor:
    """Return the attention output ``[rows, d]`` of one job from its beats and its completion."""
    end = unpack(sidecar, "completion", completion)
    if end["status"] != sidecar["status"]["OK"]:
        raise RuntimeError(f"job {end['job_id']} ended with status {end['status']}")
    numbers = [n for beat in beats for n in unpack(sidecar, "output", beat).values()]
    return OUTPUT_STEP * torch.tensor(numbers).reshape(config.rows, config.head_dim)


def example_heads(config: AttentionConfig) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Random tensors for two KV heads; a model's come in their place."""
    generator = torch.Generator().manual_seed(1)
    token = (config.max_context - 1, config.head_dim)
    return [
        (
            torch.randn(token, generator=generator),
            torch.randn(token, generator=generator),
            torch.randn((config.rows, *token), generator=generator),
        )
        for _ in range(2)
    ]


def main() -> None:
    """Write the files of the example beside the sidecar."""
    path = Path(sys.argv[1])
    config, sidecar = read_sidecar(path)
    steps = prepare(config, example_heads(config))
    (path.parent / "image.bin").write_bytes(steps.image)
    queries = [beat for beats in steps.queries for beat in beats]
    for name, payloads in (("job", steps.jobs), ("query", queries)):
        (path.parent / f"{name}.hex").write_text("".join(f"{p:x}\n" for p in payloads))
    print(f"image of {len(steps.image)} bytes; {len(queries)} query beats; jobs:")
    for job in steps.jobs:
        fields = unpack(sidecar, "job", job)
        print(*(f"{name} {number:#x}" for name, number in fields.items()), sep=", ")


if __name__ == "__main__":
    main()

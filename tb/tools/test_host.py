"""The host-side example: what it makes runs on the simulated core, and it reads the results."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from golden.memory_image import JobDescriptor, query_codes
from golden.reference import attend, compress_cache, saliency
from hw.config import AttentionConfig, preset
from hw.formats import Status
from tb.attention.bench import AttentionBench
from tb.attention.emission import emission
from tb.harness import Run, simulate
from tb.harness.files import REPOSITORY

SCRIPT = REPOSITORY / "docs" / "examples" / "host.py"
MEMORY = REPOSITORY / "tb" / "models" / "ideal_memory.sv"
TINY = preset("tiny")
#: Distance of the core's output from attention in float over the same selected tokens.
TOLERANCE = 0.01


def load_host() -> ModuleType:
    spec = spec_from_file_location("host", SCRIPT)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


HOST = load_host()


def run_core(config: AttentionConfig, steps: Any, folder: Path) -> Run:
    """Send the payloads through the emitted core, its memory filled with the image."""
    emitted = emission(config)
    image = folder / "image.bin"
    image.write_bytes(steps.image)
    jobs = len(steps.jobs)
    beats = config.rows * config.head_dim // 4
    # Name and options of the other tests of the core, so that the build serves all of them.
    return simulate(
        AttentionBench(config, registers=len(emitted.registers)),
        name=f"attention_{config.name}",
        inputs={"job": steps.jobs, "query": [b for beats in steps.queries for b in beats]},
        outputs={
            "selection": jobs * config.top_chunks,
            "output": jobs * beats,
            "completion": jobs,
            "counter": len(emitted.registers),
        },
        settings={"jobs": jobs},
        sources=[emitted.verilog, MEMORY],
        plusargs=[f"+memory_image={image}"],
    )


def test_the_example_runs_on_the_core(tmp_path: Path) -> None:
    sidecar = emission(TINY).sidecar
    heads = HOST.example_heads(TINY)
    steps = HOST.prepare(TINY, heads)
    run = run_core(TINY, steps, tmp_path)
    per_job = TINY.rows * TINY.head_dim // 4
    for number, (keys, values, queries) in enumerate(heads):
        beats = run.outputs["output"][number * per_job : (number + 1) * per_job]
        output = HOST.attention_output(TINY, sidecar, beats, run.outputs["completion"][number])
        cache = compress_cache(keys, values, saliency(queries, keys, TINY), TINY)
        chosen = run.outputs["selection"][number * TINY.top_chunks :][: TINY.top_chunks]
        selection = [HOST.unpack(sidecar, "selection", item)["chunk"] for item in chosen]
        wanted = attend(queries[:, -1], cache, TINY, torch.tensor(selection)).output
        assert (output - wanted).abs().max() < TOLERANCE
        # The other head's output is far away, so the tolerance means something.
        other = attend(heads[1 - number][2][:, -1], cache, TINY).output
        assert (output - other).abs().max() > 10 * TOLERANCE


def test_a_refused_job_is_not_taken_for_an_output(tmp_path: Path) -> None:
    sidecar = emission(TINY).sidecar
    payload = Status.CONTEXT_RANGE << 16 | 5
    assert HOST.unpack(sidecar, "completion", payload)["job_id"] == 5
    with pytest.raises(RuntimeError, match=rf"job 5 ended with status {Status.CONTEXT_RANGE:d}"):
        HOST.attention_output(TINY, sidecar, [], payload)


def test_payloads_are_split_where_the_generator_joins_them() -> None:
    steps = HOST.prepare(TINY, HOST.example_heads(TINY))
    sidecar = emission(TINY).sidecar
    for job, beats in zip(steps.jobs, steps.queries, strict=True):
        fields = HOST.unpack(sidecar, "job", job)
        descriptor = JobDescriptor.unpack(job, TINY)
        assert fields["config_hash"] == TINY.config_hash
        for name, number in fields.items():
            if name != "query_scale":
                assert getattr(descriptor, name) == number
        elements = [HOST.unpack(sidecar, "query", beat).values() for beat in beats]
        low = [element & 0xFFF for beat in elements for element in beat]
        assert low == (query_codes(beats, TINY).flatten() & 0xFFF).tolist()
    assert HOST.unpack(sidecar, "output", 1 << 127)["data[3]"] == -(1 << 31)


def test_the_command_writes_its_files(tmp_path: Path) -> None:
    path = tmp_path / "attention_core.json"
    path.write_text(json.dumps(emission(TINY).sidecar))
    command = [sys.executable, str(SCRIPT), str(path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    steps = HOST.prepare(TINY, HOST.example_heads(TINY))
    assert done.stdout.startswith(f"image of {len(steps.image)} bytes; 16 query beats; jobs:\n")
    assert (tmp_path / "image.bin").read_bytes() == steps.image
    written = (tmp_path / "job.hex").read_text().split()
    assert [int(line, 16) for line in written] == steps.jobs
    path.write_text(path.read_text().replace('"config_hash": "0x', '"config_hash": "0xf'))
    failed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.endswith("comes from another version of the generator\n")

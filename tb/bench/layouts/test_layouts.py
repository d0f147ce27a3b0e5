"""What a job reads of each layout, and that the published figures are today's."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from hw.config import preset
from hw.formats import KVFormat
from tb.bench.layouts import __main__ as command
from tb.bench.layouts import replay as replaying
from tb.bench.layouts.__main__ import DOCUMENT, RESULT
from tb.bench.layouts.layouts import (
    LAYOUTS,
    ScaleLayout,
    Segment,
    bound_cycles,
    chunk_steps,
    jobs_stream,
)
from tb.bench.layouts.measure import POINTS
from tb.bench.layouts.replay import WrongTraffic, replay
from tb.bench.layouts.table import document
from tb.harness import HarnessError

LM = preset("lm")
#: Groups of four chunks: 9, 10 and 11 share their scales, and so do 0 and 2.
SELECTED = [9, 2, 11, 40, 0, 10]


@pytest.mark.parametrize(
    ("name", "size", "stored"),
    [
        # lm: deltas 160 B, codes 208 B (224 with padding), scales 256 B.
        ("chunk", 6 * (160 + 480), 640),
        ("chunk, once", 6 * (160 + 224) + 3 * 256, 640),
        ("group", 6 * (160 + 224) + 3 * 256, 384 + 64),
        ("region", 6 * (160 + 224) + 3 * 256, 384 + 64),
    ],
)
def test_what_is_read_of_a_layout(name: str, size: int, stored: int) -> None:
    layout = ScaleLayout(name, LM)
    chunks = 4 * 12
    assert layout.stored_bytes(chunks) == stored * chunks
    units = layout.units(SELECTED, 4096, chunks)
    segments = [segment for unit in units for part in unit for segment in part]
    assert sum(segment.size for segment in segments) == size
    # No byte twice, all within the region, whole bursts.
    ends = sorted((segment.address, segment.address + segment.size) for segment in segments)
    assert all(first[1] <= second[0] for first, second in pairwise(ends))
    assert ends[0][0] >= 4096
    assert ends[-1][1] <= 4096 + layout.stored_bytes(chunks)
    assert all(start % 32 == end % 32 == 0 for start, end in ends)


def test_a_group_record_is_one_piece() -> None:
    units = ScaleLayout("group", LM).units([4, 5, 6, 7], 0, 48)
    segments = sorted((s for unit in units for part in unit for s in part), key=lambda s: s.address)
    assert segments[0] == Segment(256 + 4 * 384, 256)
    for before, after in pairwise(segments):
        assert before.address + before.size == after.address


@pytest.mark.parametrize("name", LAYOUTS)
def test_caches_do_not_overlap(name: str) -> None:
    layout = ScaleLayout(name, LM)
    stream = jobs_stream(layout, [SELECTED, SELECTED[::-1]], 1024)
    ends = sorted((segment.address, segment.address + segment.size) for segment in stream)
    assert all(first[1] <= second[0] for first, second in pairwise(ends))


@pytest.mark.parametrize("name", ["lm", "paper", "tiny"])
def test_the_first_layout_is_that_of_every_chunk(name: str) -> None:
    config = preset(name)
    context = config.max_context
    estimates, formal, _ = ScaleLayout("chunk", config).job(range(config.top_chunks), context, 0)
    kinds = KVFormat(config)
    chunks = config.top_chunks * (
        kinds.delta_bytes + -(-(kinds.value_code_bytes + kinds.value_scale_bytes) // 32) * 32
    )
    sizes = kinds.region_bytes(context)
    assert sum(segment.size for segment in estimates) == sizes["base"]
    assert sum(segment.size for segment in formal) == sizes["tail"] + chunks


def test_steps_bind_where_scales_are_not_read() -> None:
    """`paper`: 28 steps of deltas and 32 of values; 76 beats with scales, 44 without."""
    config = preset("paper")
    assert chunk_steps(config) == 60
    assert chunk_steps(replace(config, chunk=16)) == 4 * 15 + 64
    assert chunk_steps(replace(config, value_bits=4, key_delta_bits=4, group=64)) == 2 * 60
    one = bound_cycles(ScaleLayout("group", config), [0], 4096)
    assert bound_cycles(ScaleLayout("group", config), [0, 1], 4096) == one + 60
    assert bound_cycles(ScaleLayout("group", config), [0, 4], 4096) == one + 76
    assert bound_cycles(ScaleLayout("chunk", config), [0, 1], 4096) == one + 76


def test_unknown_layout() -> None:
    with pytest.raises(ValueError, match=r"name must be one of chunk, .*, region, not 'rows'"):
        ScaleLayout("rows", LM)


def test_what_is_published_is_of_today() -> None:
    facts = json.loads(RESULT.read_text())
    assert DOCUMENT.read_text() == document(facts)
    cases = [(p["preset"], p["context"], p["layout"]) for p in facts["points"]]
    assert cases == [(p.preset, p.context, layout) for p in POINTS for layout in LAYOUTS]
    for p in facts["points"]:
        config = preset(p["preset"])
        closed = config.closed_tokens(p["context"]) // config.chunk
        stored = ScaleLayout(p["layout"], config).stored_bytes(closed)
        assert p["derived"]["stored_bytes"] == stored, "measure again"
    # Negative control.
    facts["points"][1]["measured"]["bytes"] += 1
    assert DOCUMENT.read_text() != document(facts)


@pytest.mark.slow
def test_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = [Segment(32 * i, 32 * (i % 40 + 1)) for i in range(40)]
    replayed = replay(LM, "hbm2-2000", segments)
    assert replayed.bytes_moved == 32 * 40 * 41 // 2
    assert replayed.bytes_moved / 16 <= replayed.cycles <= replayed.bytes_moved / 8

    observed = {"bytes_moved": 32, "errors": 0, "cycles": 1, "activations": 1}
    other = SimpleNamespace(observed=observed)
    monkeypatch.setattr(replaying, "simulate", lambda *_, **__: other)
    with pytest.raises(WrongTraffic, match="32 bytes with 0 errors, not"):
        replay(LM, "hbm2-2000", segments)


def test_a_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise HarnessError("a rule [x] is broken")

    monkeypatch.setattr(command, "measure", fail)
    done = CliRunner().invoke(command.main, [])
    assert done.exit_code == 1
    assert "FAILED a rule [x] is broken" in done.output

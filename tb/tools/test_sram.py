"""Memories as wrapper instances: which ones, with which ports, and the core computes the same."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import ClockDomain, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from click.testing import CliRunner

from hw.config import preset
from hw.cores.attention_core import AttentionCore
from hw.tools.__main__ import main
from hw.tools.area import KEPT_BITS
from hw.tools.sram import COMBINATIONAL, REGISTERED, WRAPPERS, SramError, SramPlatform
from hw.tools.verilog import emit
from tb.attention.catalogue import SCENARIOS
from tb.attention.golden_data import golden_data
from tb.attention.runner import Mismatch, require_equal, run_attention
from tb.harness import Hang
from tb.harness.files import BUILD_ROOT, digest
from tb.tools.lint import lint

TINY = preset("tiny")
READ = "if (read_enable) read_data <= words[read_address];"
#: A word that is written while it is read comes out inverted.
COLLIDING = READ.replace(
    "words[read_address];",
    "(|write_enable && write_address == read_address)"
    " ? ~words[read_address] : words[read_address];",
)


@cache
def emitted(bits: int) -> dict[str, str]:
    return emit(AttentionCore(TINY), "attention_core", sram_bits=bits)


def core_with(bits: int, read: str) -> Path:
    """The core and its wrappers, whose registered read is ``read``, in one file."""
    files = emitted(bits)
    wrappers = files[WRAPPERS.name]
    assert wrappers.count(READ) == 1
    text = files["attention_core.v"] + wrappers.replace(READ, read)
    path = BUILD_ROOT / "sram" / f"{digest(text)}.sv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def run_corners(verilog: Path, seed: int) -> None:
    scenario = SCENARIOS["attention_corners"]
    data = golden_data(scenario, TINY, seed)[1]
    limit = 2000 * len(data["job"])
    run = run_attention(
        TINY, data, seed=seed, stall=0.3, memory=scenario.memory, verilog=verilog, max_cycles=limit
    )
    require_equal(run.comparison)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [KEPT_BITS, 0])
def test_the_core_computes_the_same(bits: int, seed: int) -> None:
    """Contents start random, and what is read while it is written is wrong."""
    run_corners(core_with(bits, COLLIDING), seed)


@pytest.mark.slow
def test_a_wrong_body_is_found(seed: int) -> None:
    """Negative control: one bit of the odd words."""
    wrong = READ.replace("];", "] ^ WIDTH'(read_address[0]);")
    with pytest.raises((Mismatch, Hang)):
        run_corners(core_with(KEPT_BITS, wrong), seed)


@pytest.mark.parametrize("bits", [KEPT_BITS, 0])
def test_the_sidecar_lists_every_instance(bits: int) -> None:
    files = emitted(bits)
    text = files["attention_core.v"]
    memories = json.loads(files["attention_core.json"])["memories"]
    instances = [f"{row['kind']} {row['module']}.{row['name']}" for row in memories]
    assert len(set(instances)) == len(memories)
    for kind in (REGISTERED, COMBINATIONAL):
        count = sum(row["kind"] == kind for row in memories)
        assert count == text.count(f"  {kind} #(")
        assert count > 0 or (kind == COMBINATIONAL and bits > 0)
    assert all(row["width"] * row["depth"] > bits for row in memories)
    assert {
        "kind": REGISTERED,
        "module": "attention_core_fetch_buffer",
        "name": "ring",
        "width": 130,
        "depth": TINY.reorder_beats,
        "parts": 1,
    } in memories


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "lm"])
def test_the_option_writes_the_wrappers_and_all_passes_lint(name: str, tmp_path: Path) -> None:
    arguments = ["verilog", "--preset", name, "--output", str(tmp_path), "--sram"]
    done = CliRunner().invoke(main, [*arguments, "--sram-bits", "64"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    folder = tmp_path / f"{name}-sram"
    assert (folder / WRAPPERS.name).read_text() == WRAPPERS.read_text()
    files = [folder / f for f in ("attention_core.vlt", WRAPPERS.name, "attention_core.v")]
    assert lint(files, "attention_core") == ""
    # The other files do not depend on the option.
    plain = emit(AttentionCore(preset(name)), "attention_core")
    for file in ("attention_core_pkg.sv", "register_map.md"):
        assert (folder / file).read_text() == plain[file]
    sidecar = json.loads((folder / "attention_core.json").read_text())
    assert sidecar.pop("memories")
    assert sidecar == json.loads(plain["attention_core.json"])
    assert not any(word in plain["attention_core.v"] for word in (REGISTERED, COMBINATIONAL))


class Store(wiring.Component):
    """A memory of 6 words of 12 bits in 3 parts behind plain ports."""

    def __init__(self, *, domain: str = "sync", wrapped: bool = True, **options: Any) -> None:
        self._domain, self._wrapped, self._options = domain, wrapped, options
        super().__init__({"write": In(8), "address": In(3), "data": Out(12)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memory = Memory(shape=12, depth=6, init=self._options.pop("init", []))
        ports = [memory.write_port(granularity=4) for _ in range(self._options.pop("writes", 1))]
        through = ports if self._options.pop("transparent", False) else ()
        m.domains.other = ClockDomain(local=True)
        read = memory.read_port(domain=self._domain, transparent_for=through)
        m.submodules.memory = SramPlatform(71 if self._wrapped else 72).get_memory(memory)
        m.d.comb += [ports[0].data.eq(self.write), read.addr.eq(self.address)]
        m.d.comb += self.data.eq(read.data)
        return m


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"writes": 2}, "must have one write and one read port"),
        ({"domain": "other"}, "must have ports of one clock"),
        ({"transparent": True}, "must not bypass writes to its read port"),
        ({"init": [0, 5]}, "must start with zeros"),
    ],
)
def test_other_ports_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SramError, match=rf"^memory of 6 x 12 bits {message}$"):
        Store(**options).elaborate(None)
    # A memory at the threshold stays as it is, whatever its ports are.
    Store(wrapped=False, **options).elaborate(None)

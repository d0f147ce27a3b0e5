"""What the checks of tb/models/axi_memory.sv are worth: faulty masters and requests are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from hw.memory.axi.page_split import PageSplit
from hw.memory.axi.read_side import ReadSide
from hw.memory.axi.slots import Slots
from hw.memory.axi.write_side import WriteSide
from tb.formal.mutant import mutant
from tb.harness import SimulationError
from tb.memory.axi.bench import MEMORY_BYTES, AxiBench
from tb.memory.axi.test_master import ROUGH, Script, random_script

UNITS = {
    PageSplit: "hw.memory.axi.master.PageSplit",
    ReadSide: "hw.memory.axi.master.ReadSide",
    WriteSide: "hw.memory.axi.master.WriteSide",
    Slots: "hw.memory.axi.read_side.Slots",
}
#: The unit, the fault as a change of its source, and what is reported; None: wrong data.
FAULTS: dict[str, tuple[type, str, str, str | None]] = {
    "a longer page": (PageSplit, "page_bursts = PAGE_BYTES", "page_bursts = 8192", "crosses 4 KiB"),
    "fixed address": (ReadSide, "self.arburst.eq(INCREMENTING)", "self.arburst.eq(0)", "of kind 0"),
    "half words": (ReadSide, ".bit_length() - 1)", ".bit_length() - 2)", "words of 8 bytes"),
    "no last word": (WriteSide, "word == lengths.output.payload", "0", "WLAST wrong"),
    "AW moves on": (WriteSide, "~self.awvalid | self.awready", "1", "AW does not wait"),
    "AR moves on": (ReadSide, "~self.arvalid | self.arready", "1", "AR does not wait"),
    "W changes": (
        WriteSide,
        "self.wstrb.eq(out.payload.strobe)",
        "self.wstrb.eq(out.payload.strobe ^ self.bvalid)",
        "W does not wait",
    ),
    "the end comes with the first half": (WriteSide, "known & ~more[self.bid]", "known", None),
    "beats of the other ID": (
        ReadSide,
        "payload.beat.eq(beat[self.rid])",
        "payload.beat.eq(beat[0])",
        None,
    ),
    "an ID is used twice": (Slots, "with m.If(~self.busy[slot]):", "with m.If(slot < 2):", None),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_master_is_found(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, old, new, message = FAULTS[fault]
    monkeypatch.setattr(UNITS[unit], mutant(unit, old, new))
    monkeypatch.setattr("tb.memory.axi.test_master.bench", AxiBench)
    with pytest.raises((SimulationError, AssertionError), match=message):
        random_script(1, 1, phases=6).play(
            tmp_path, ROUGH, name="axi_master_faulty", stall={"words": 0.4}
        )


@pytest.mark.parametrize(
    ("address", "message"),
    [(16, "read unaligned at 0x10"), (MEMORY_BYTES - 32, "read at 0x10000 ends behind the memory")],
)
def test_a_faulty_request_is_found(address: int, message: str, tmp_path: Path) -> None:
    script = Script(bytes(MEMORY_BYTES), 2)
    script.send(address, 2, write=False, fence=False)
    with pytest.raises(SimulationError, match=message):
        script.play(tmp_path, {})

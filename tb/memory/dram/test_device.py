"""Contents of the device model, the files around it and the command of the trace checker."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from amaranth.hdl import ClockSignal, Instance, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.memory.dram import AddressMap, Command, DramStandard, load_standard, standard_names
from hw.memory.dram.port import dram_port
from tb.harness import SimulationError, elaborate
from tb.memory.dram.device import COUNTERS, SOURCES, Run, Word, instance_parameters, play
from tb.memory.dram.image import arrange
from tb.memory.dram.scenarios import LONG, Script, scenarios
from tb.memory.dram.trace import Issue, Trace, TraceError, read_traces
from tb.memory.dram.trace_checker import check_trace, main
from tb.tools.lint import lint

DDR4 = load_standard("ddr4-3200")
#: What the array of the device holds; contents beyond are kept apart.
DENSE_BYTES = 1 << 20
FILLER = bytes.fromhex("efbeadde" * 4)


def reads_of(standard: DramStandard, addresses: list[int], channel: int) -> list[Issue]:
    """Return commands that read bursts at far distances."""
    script, issues = Script(standard), []
    for i, address in enumerate(addresses):
        where = AddressMap(standard).locate(address)
        place = (where.bank_group, where.bank)
        visit = [
            *script.activate(i * LONG, place),
            *script.access(i * LONG + 100, Command.RD, place),
            script.issue(i * LONG + 200, Command.PRE, place),
        ]
        issues += [
            Issue(c.time, c.command, channel, *place, where.row, where.column, c.bus) for c in visit
        ]
    return issues


@pytest.mark.parametrize("name", standard_names())
def test_an_image_is_read_by_address(name: str, seed: int) -> None:
    standard, choose = load_standard(name), random.Random(seed)
    images = [choose.randbytes(300_000) for _ in range(standard.pseudo_channels)]
    address_map = AddressMap(standard)
    arranged = [arrange(image, address_map) for image in images]
    channel = standard.pseudo_channels - 1
    burst = standard.burst_bytes
    last = len(images[channel]) // burst - 1
    # Fewer than would owe a refresh too many.
    addresses = [0, burst, last * burst, (1 << 28) + 64]
    addresses += [choose.randrange(last) * burst for _ in range(20)]
    issues = reads_of(standard, addresses, channel)
    played = play(standard, [Run(issues, len(addresses) * LONG)], images=arranged)
    assert not played.traces[0].violations
    for i, address in enumerate(addresses):
        time = i * LONG + 100 + standard["tCL"]
        words = [played.reads[0][time + k, channel] for k in range(standard.burst_cycles)]
        found = b"".join(word.to_bytes(16, "little") for word in words)
        wanted = images[channel][address : address + burst]
        assert found == (wanted or FILLER * standard.burst_cycles)


def test_contents_survive_a_reset_wherever_they_lie() -> None:
    """One word in the array of the device, one far beyond it."""
    script, time = Script(DDR4), 100
    for row in (0, DDR4.rows - 1):
        opened = [Issue(0, Command.ACT, row=row)]
        words = [Word(time + DDR4["tCWL"] + i, 0, 1000 * row + i) for i in range(4)]
        writing = Run([*opened, *script.access(time, Command.WR, (0, 0))], 200, words)
        reading = Run([*opened, *script.access(time, Command.RD, (0, 0))], 200)
        played = play(DDR4, [writing, reading])
        assert played.reads[0] == {}
        assert played.reads[1] == {(time + DDR4["tCL"] + i, 0): 1000 * row + i for i in range(4)}


class Channel(wiring.Component):
    """A device as a controller's bench has it."""

    def __init__(self, standard: DramStandard, gear: int) -> None:
        self._parameters = instance_parameters(standard, gear)
        counters = wiring.Signature(
            {name: Out(64 if name == "bytes_moved" else 32) for name in COUNTERS}
        )
        super().__init__({"port": In(dram_port(standard, gear)), "counters": Out(counters)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        port = self.port
        m.submodules.device = Instance(
            "dram_device",
            **self._parameters,
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            i_command=port.command,
            i_write_data=port.write_data,
            i_write_mask=port.write_mask,
            o_read_data=port.read_data,
            o_read_valid=port.read_valid,
            **{f"o_{name}": getattr(self.counters, name) for name in COUNTERS},
        )
        return m


@pytest.mark.parametrize("name", standard_names())
@pytest.mark.parametrize("gear", [1, 2])
def test_the_device_fits_the_port(name: str, gear: int, tmp_path: Path) -> None:
    """A port of another width, or a parameter that is cut off, is an error of the linter."""
    top = tmp_path / "channel.v"
    top.write_text(elaborate(Channel(load_standard(name), gear), "channel").text)
    sources = [source for source in SOURCES if "player" not in source.name]
    assert not lint([*sources, top], "channel", style=False)


def test_arrange_is_a_permutation_of_bursts() -> None:
    address_map = AddressMap(DDR4)
    bursts = [bytes([i % 256, i // 256] * 32) for i in range(3000)]
    arranged = arrange(b"".join(bursts), address_map)
    assert len(arranged) == 2 * DDR4.banks * DDR4.row_bytes
    for i in (0, 1, 77, 2999):
        where = address_map.locate(64 * i)
        bank = (where.row * 4 + where.bank_group) * 4 + where.bank
        place = (bank * DDR4.columns + where.column) * 64
        assert arranged[place : place + 64] == bursts[i]


def test_an_image_too_large_is_refused() -> None:
    with pytest.raises(SimulationError, match="is larger than 1048576 bytes"):
        play(DDR4, [Run([], 10)], images=[bytes(DENSE_BYTES + 1)])
    play(DDR4, [Run([], 10)], images=[bytes(DENSE_BYTES)])


def test_a_slot_for_a_command_that_is_none() -> None:
    played = play(DDR4, [Run([Issue(5, Command.REFPB)], 10)])
    assert {violation.rule for violation in played.traces[0].violations} == {"COMMAND"}
    assert played.counters["per_bank_refreshes"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,ACT,0,0,0,0,0\nend 5\n", ":1: a command must have 8 fields"),
        ("0,ACQ,0,0,0,0,0,0\nend 5\n", ":1: not a line of a trace: '0,ACQ"),
        ("# text\n5,ACT,0,0,0,0,0,0\n4,RD,0,0,0,0,0,0\nend 9\n", ":3: the time must not run"),
        ("0,ACT,0,0,0,0,0,0\n", ":1: the last run must have a line 'end'"),
        ("! 1,x,tRC\nend 5\n", ":1: not a line of a trace: '! 1,x,tRC'"),
    ],
)
def test_trace_messages(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(TraceError, match=message):
        read_traces(path)


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = next(s for s in scenarios(DDR4) if s.rule == "tRCDRD")
    path = tmp_path / "trace"
    lines = [
        f"{i.time},{i.command.name},{i.channel},{i.bank_group},{i.bank},{i.row},{i.column},{i.bus}"
        for i in broken.illegal
    ]
    path.write_text("\n".join(["# a trace", *lines, "end 100", *lines, "end 100", ""]))
    assert read_traces(path)[1] == Trace(list(broken.illegal), 100)
    assert len(check_trace(DDR4, read_traces(path)[0])) == 1
    assert main(["ddr4-3200", str(path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "run 0, cycle 21, channel 0: tRCDRD",
        "run 1, cycle 21, channel 0: tRCDRD",
        "4 commands in 2 runs: 2 violations",
    ]
    path.write_text("\n".join([*lines[:1], "end 100", ""]))
    assert main(["ddr4-3200", str(path)]) == 0
    assert main([]) == 2

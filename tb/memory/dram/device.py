"""Builds and runs the DRAM device model for a standard, with a player at its port."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.hdl import Const

from hw.memory.dram import Command, DramStandard
from hw.memory.dram.commands import COLUMN_COMMANDS, COMMON_TIMING, FAMILIES
from hw.memory.dram.port import COMMAND_BITS, field_bits, slot_layout
from tb.harness import build, run_native
from tb.harness.files import BUILD_ROOT, REPOSITORY
from tb.memory.dram.trace import Issue, Trace, read_traces

#: Timing parameters in the order of the device's parameter TIMING.
TIMING_ORDER = (*COMMON_TIMING, *FAMILIES["lpddr5"].timing)
MODELS = REPOSITORY / "tb" / "models"
SOURCES = [MODELS / f"dram_{part}.sv" for part in ("package", "rules", "array", "device", "player")]
COUNTERS = (
    *("violations", "activations", "precharges", "reads", "writes"),
    *("all_bank_refreshes", "per_bank_refreshes", "busy", "bytes_moved"),
)
_run_numbers = itertools.count()


def device_parameters(standard: DramStandard, gear: int = 1) -> dict[str, int]:
    """Return the parameters of the module ``dram_device``, but for names and DENSE_WORDS."""
    timing = sum(standard.timing.get(name, 0) << 16 * i for i, name in enumerate(TIMING_ORDER))
    return {
        "GEAR": gear,
        "BUSES": standard.protocol.buses,
        "PSEUDO_CHANNELS": standard.pseudo_channels,
        "STACKS": standard.stacks,
        "BANK_GROUPS": standard.bank_groups,
        "BANKS_PER_GROUP": standard.banks_per_group,
        "ROWS": standard.rows,
        "COLUMNS": standard.columns,
        "BURST_CYCLES": standard.burst_cycles,
        "ACTIVATE_CYCLES": standard.activate_cycles,
        "ACTIVATE_REFERENCE": standard.activate_reference,
        "BANKS_PER_REFRESH": standard.banks_per_refresh,
        "POSTPONED_REFRESHES": standard.postponed_refreshes,
        "DATA_CLOCK": int(standard.protocol.data_clock),
        "COMMANDS": sum(1 << command for command in standard.protocol.commands),
        "TIMING": timing,
    }


def instance_parameters(standard: DramStandard, gear: int = 1) -> dict[str, Any]:
    """Return `device_parameters` as keyword arguments of an Amaranth ``Instance``."""
    parameters: dict[str, Any] = {
        f"p_{name}": value for name, value in device_parameters(standard, gear).items()
    }
    # A plain number would come out narrower than the parameter.
    parameters["p_TIMING"] = Const(parameters["p_TIMING"], 16 * len(TIMING_ORDER))
    return parameters


def pack_slot(standard: DramStandard, issue: Issue) -> int:
    """Return a command as the bits of its slot."""
    values = (
        (issue.command, COMMAND_BITS),
        (issue.channel, field_bits(standard.pseudo_channels)),
        (issue.bank_group, field_bits(standard.bank_groups)),
        (issue.bank, field_bits(standard.banks_per_group)),
        (issue.row, field_bits(standard.rows)),
        (issue.column, field_bits(standard.columns)),
    )
    packed, position = 0, 0
    for value, width in values:
        packed |= int(value) << position
        position += width
    return packed


@dataclass(frozen=True)
class Word:
    """What a controller puts on the data bus of a pseudo-channel in a DRAM clock."""

    time: int
    channel: int
    data: int
    mask: int = 0


@dataclass(frozen=True)
class Run:
    """Stimulus from one reset to the next: commands, data to write, clocks until the end."""

    issues: Sequence[Issue]
    cycles: int
    words: Sequence[Word] = ()


@dataclass(frozen=True)
class Played:
    """What came out: traces and words read per run, counters of the last run."""

    traces: list[Trace]
    reads: list[dict[tuple[int, int], int]] = field(repr=False)
    counters: dict[str, int]
    seconds: float
    cycles: int


def play(
    standard: DramStandard,
    runs: Sequence[Run],
    *,
    gear: int = 1,
    images: Sequence[bytes] = (),
    overrides: Mapping[str, int] | None = None,
    stop: bool = False,
) -> Played:
    """Play runs into the device, a reset between them.

    Parameters
    ----------
    standard
        The standard that the device is built for.
    runs
        What to play.
    gear
        DRAM clocks in a clock of the logic.
    images
        Contents per pseudo-channel, in the order of the device's words.
    overrides
        Timing parameters that the device shall have instead of the table's.
    stop
        Whether the first violation ends the simulation with an error.
    """
    name = f"dram_{standard.name.replace('-', '_')}_gear{gear}"
    made = build(
        _bench(standard, gear),
        SOURCES,
        top="dram_bench",
        name=name,
        public=["clk", "done", *COUNTERS],
        driver="native",
        arguments=["--unroll-count", "2"],
    )
    directory = BUILD_ROOT / "runs" / f"{name}-{os.getpid()}-{next(_run_numbers)}"
    directory.mkdir(parents=True)
    stimulus, reads, trace = (directory / part for part in ("stimulus", "reads", "trace"))
    stimulus.write_text(_stimulus(standard, runs))
    plusargs = [
        f"+player_file={stimulus}",
        f"+player_reads={reads}",
        f"+dram_trace={trace}",
        f"+dram_stop={int(stop)}",
        *(f"+dram_{key}={value}" for key, value in (overrides or {}).items()),
    ]
    for channel, image in enumerate(images):
        file = directory / f"image{channel}"
        file.write_bytes(image)
        plusargs.append(f"+dram_image{channel}={file}")
    result = directory / "status.json"
    run_native(made, directory=directory, settings={}, result=result, plusargs=plusargs)
    status = json.loads(result.read_text())
    played = Played(
        traces=read_traces(trace),
        reads=_reads(reads, len(runs)),
        counters={counter: status[counter] for counter in COUNTERS},
        seconds=status["cpu_ns"] / 1e9,
        cycles=sum(run.cycles for run in runs),
    )
    shutil.rmtree(directory)
    return played


def _bench(standard: DramStandard, gear: int) -> str:
    """Return the top module: a player and a device."""
    slot = slot_layout(standard).size
    parameters = device_parameters(standard, gear)
    timing = parameters.pop("TIMING")
    listed = [f".{key}({value})" for key, value in parameters.items()]
    listed.append(f".TIMING({16 * len(TIMING_ORDER)}'h{timing:x})")
    listed.append(f'.STANDARD("{standard.name}")')
    channels, buses = standard.pseudo_channels, standard.protocol.buses
    widths = {counter: 64 if counter == "bytes_moved" else 32 for counter in COUNTERS}
    ports = "".join(
        f",\n    output logic [{width - 1}:0] {counter}" for counter, width in widths.items()
    )
    joined = ", ".join(listed)
    counters = ", ".join(f".{counter}({counter})" for counter in COUNTERS)
    return f"""module dram_bench (input logic clk, output logic done{ports});
    logic rst;
    logic [{gear * buses * slot - 1}:0] command;
    logic [{128 * gear * channels - 1}:0] write_data, read_data;
    logic [{16 * gear * channels - 1}:0] write_mask;
    logic [{gear * channels - 1}:0] read_valid;
    dram_player #(
        .GEAR({gear}), .BUSES({buses}), .PSEUDO_CHANNELS({channels}), .SLOT_BITS({slot})
    ) player (.*);
    dram_device #({joined}) device (.*, {counters});
endmodule
"""


def _stimulus(standard: DramStandard, runs: Sequence[Run]) -> str:
    lines: list[str] = []
    for number, run in enumerate(runs, 1):
        timed = [
            (issue.time, f"C {issue.time} {issue.bus} {pack_slot(standard, issue):x}")
            for issue in run.issues
        ]
        timed += [
            (word.time, f"W {word.time} {word.channel} {word.data:x} {word.mask:x}")
            for word in run.words
        ]
        timed.sort(key=lambda line: line[0])
        if timed and timed[-1][0] >= run.cycles:
            raise ValueError(f"run {number} has {run.cycles} cycles but a line for {timed[-1][1]}")
        lines += [text for _, text in timed]
        lines.append(f"{'E' if number == len(runs) else 'R'} {run.cycles} 0 0")
    return "\n".join(lines) + "\n"


def _reads(path: Path, runs: int) -> list[dict[tuple[int, int], int]]:
    """Return per run the words read, by time and pseudo-channel."""
    reads: list[dict[tuple[int, int], int]] = [{} for _ in range(runs)]
    for line in path.read_text().splitlines():
        number, time, channel, word = line.split()
        reads[int(number)][int(time), int(channel)] = int(word, 16)
    return reads


def column_bus(standard: DramStandard, command: Command) -> int:
    """Return the bus on which a command is issued."""
    return int(standard.protocol.column_bus and command in COLUMN_COMMANDS)

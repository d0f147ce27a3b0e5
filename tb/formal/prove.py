"""Proves the checks of a `Bench`, or finds a counterexample.

Yosys turns the bench into an and-inverter graph, and ABC decides it: by property directed
reachability, a proof for all time that needs no hand-made invariant, or by bounded model checking
from the reset. Both come with pyosys, which area reports need anyway. A counterexample is replayed
in Amaranth's own simulator, which shares no code with either, and printed as a table.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.sim import Simulator

from tb.formal.bench import Bench

#: Memories and registers start with anything: only the flag of the first cycle keeps its value.
#: What Yosys calls undefined may be anything, too. Nothing is undefined any more when expressions
#: are simplified, which turns remainders by powers of two into a choice of bits.
_TRANSLATE = """
read_rtlil bench.il
hierarchy -top bench
proc
flatten
opt_clean
chformal -lower
delete t:$meminit*
memory_collect
{memories}
opt_clean
opt_dff -nodffe
opt_clean
select -set cleared w:reset %co1:+[SRST] t:$sdff %i %co1:+[Q] w:* %i
setattr -unset init w:* w:formal_started %d @cleared %d
setundef -undriven -anyseq
dffunmap
opt_expr
techmap
opt_merge
opt_clean
aigmap
opt_clean
write_aiger -zinit -map bench.map bench.aig
"""
#: Assumptions become part of the one output, then registers that induction proves equal become one:
#: a narrow payload that stands for a wide one costs its own bits only. Inputs keep their order.
_REDUCE = "read_aiger bench.aig; fold; orpos; scorr; dc2; scorr; write_aiger merged.aig"
#: Yosys ends the process on an error, so it gets one of its own.
_RUN = (
    "import sys; from pyosys import libyosys as y; y.run_pass('script ' + sys.argv[1], y.Design())"
)
#: Clock period and settling time of a replay, in seconds.
_PERIOD, _SETTLE = 1e-6, 1e-7
#: Digits of a value in a trace.
_SHOWN_DIGITS = 8


class FormalError(RuntimeError):
    """A tool failed; the message holds the end of its log."""


class UndecidedError(FormalError):
    """The time was over before there was an answer."""


class CounterexampleError(AssertionError):
    """A check does not hold; the message shows how.

    Members
    -------
    cycles : int
        Length of the counterexample, the cycle of reset that it starts with included.
    violated : tuple of str
        The claims that its last cycle violates.
    """

    def __init__(self, message: str, cycles: int, violated: tuple[str, ...]) -> None:
        super().__init__(message)
        self.cycles = cycles
        self.violated = violated


@dataclass(frozen=True)
class Proof:
    """All checks hold.

    ``cycles`` is None for a proof for all time, else the bound. ``flip_flops`` counts those that
    the checks depend on, the monitor's and those of memories included; ``merged`` is what is left
    when those that are always equal have become one.
    """

    checks: int
    cycles: int | None
    flip_flops: int
    merged: int
    seconds: float

    def __str__(self) -> str:
        method = "property directed reachability" if self.merged else "induction"
        how = (
            f"for all time ({method})"
            if self.cycles is None
            else f"for {self.cycles} cycles from reset (bounded model checking)"
        )
        return (
            f"{self.checks} checks hold {how}; {self.flip_flops} flip-flops ({self.merged} after "
            f"merging equal ones), {self.seconds:.1f} s"
        )


def prove(
    bench: Bench,
    *,
    cycles: int | None = None,
    seconds: int = 600,
    free_memories: bool = False,
) -> Proof:
    """Prove every check of ``bench``, and print the proof's method, size and time.

    Parameters
    ----------
    bench
        What holds of what.
    cycles
        None to prove the checks for all time, else the cycles from reset to look at.
    seconds
        Time for the solver.
    free_memories
        Let every read of a memory give anything, which keeps its words out of the state. Fewer
        checks hold then, so a proof stays a proof.

    Raises
    ------
    CounterexampleError
        A check does not hold.
    UndecidedError
        The time was not enough.
    FormalError
        A tool failed.
    """
    if not bench.violations:
        raise ValueError("the bench has no checks")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _translate(bench, directory, free_memories)
        _run([str(_abc()), "-c", _REDUCE], directory)
        flip_flops, merged = (_flip_flops(directory / f"{n}.aig") for n in ("bench", "merged"))
        # Without any register left, the two others have nothing to unroll.
        engine = "sat" if not merged else "pdr -s -f" if cycles is None else f"bmc3 -F {cycles}"
        limit = f"-T {seconds}" if merged else ""
        log = _run(
            [
                str(_abc()),
                "-c",
                f"read_aiger merged.aig; {engine} {limit}; print_status; write_cex -n bench.cex",
            ],
            directory,
        )
        found = re.search(r"Status = +(-?\d+) +Frames", log)
        if not found:
            raise FormalError(f"no answer from ABC:\n{log[-2000:]}")
        if found[1] == "0":
            raise _counterexample(bench, _inputs(bench, directory))
    if found[1] != "1" and f"No output asserted in {cycles} frames" not in log:
        raise UndecidedError(f"no answer in {seconds} s ({flip_flops} flip-flops):\n{log[-500:]}")
    proof = Proof(len(bench.violations), cycles, flip_flops, merged, time.monotonic() - start)
    print(proof)
    return proof


def refute(bench: Bench, claim: str, **options: Any) -> CounterexampleError:
    """See `prove` refute ``claim`` of ``bench``, print the counterexample, and return it.

    A proof is worth as much as its negative control: the same claim about a faulty component.

    Raises
    ------
    AssertionError
        The claim was proved, or the counterexample is not one in the replay.
    """
    bench.violations = {claim: bench.violations[claim]}
    try:
        prove(bench, **options)
    except CounterexampleError as found:
        print(found)
        if not found.violated:
            raise
        return found
    raise AssertionError(f"this was to be refuted: {claim}")


def _translate(bench: Bench, directory: Path, free_memories: bool) -> None:
    """Write the and-inverter graph of ``bench`` and the names of its inputs."""
    ports = {name: (signal, None) for name, signal in bench.input_ports.items()}
    ports["clk"] = (bench.clock, None)
    text = rtlil.convert(bench.top(formal=True), name="bench", ports=ports, emit_src=False)
    (directory / "bench.il").write_text(text)
    memories = "memory_nordff; cutpoint t:$mem_v2" if free_memories else "memory_map"
    run_yosys(_TRANSLATE.format(memories=memories), directory)


def run_yosys(script: str, directory: Path) -> None:
    """Run the commands of ``script`` in ``directory``."""
    (directory / "script.ys").write_text(script)
    _run([sys.executable, "-c", _RUN, "script.ys"], directory)


def _flip_flops(path: Path) -> int:
    """Return the number of latches that the header of an AIGER file states."""
    return int(path.read_bytes().split(maxsplit=4)[3])


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise FormalError(f"{command[0]} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def _abc() -> Path:
    """Return the ABC that comes with pyosys."""
    spec = find_spec("pyosys")
    if spec is None or spec.origin is None:
        raise FormalError("pyosys is missing: run make setup")
    return Path(spec.origin).with_name("yosys-abc")


def _inputs(bench: Bench, directory: Path) -> list[dict[str, int]]:
    """Return the inputs of every cycle of the counterexample."""
    names = re.findall(r"^input (\d+) (\d+) (\S+)$", (directory / "bench.map").read_text(), re.M)
    place = {int(i): (name, int(bit)) for i, bit, name in names if name in bench.input_ports}
    text = (directory / "bench.cex").read_text()
    bits = re.findall(r"^pi(\d+)@(\d+)=([01])$", text, re.M)
    frames = [dict.fromkeys(bench.input_ports, 0) for _ in range(1 + int(bits[-1][1]))]
    for i, frame, bit in bits:
        if int(i) in place:
            name, position = place[int(i)]
            frames[int(frame)][name] |= int(bit) << position
    return frames


def _counterexample(bench: Bench, frames: list[dict[str, int]]) -> CounterexampleError:
    """Replay the counterexample and say what it shows."""
    values: dict[str, list[int]] = {name: [] for name in bench.shown}
    violated: list[str] = []

    async def replay(context: Any) -> None:
        for frame in frames:
            for name, value in frame.items():
                context.set(bench.input_ports[name], value)
            await context.delay(_SETTLE)
            for name, signal in bench.shown.items():
                values[name].append(context.get(signal) & ((1 << len(signal)) - 1))
            violated[:] = [c for c, s in bench.violations.items() if context.get(s)]
            await context.tick()

    simulator = Simulator(bench.top(formal=False))
    simulator.add_clock(_PERIOD)
    simulator.add_testbench(replay)
    simulator.run()
    if violated:
        heading = f"after {len(frames)} cycles this does not hold: {'; '.join(violated)}"
    else:
        heading = (
            f"a check does not hold after {len(frames)} cycles if memories start with other "
            "values than 0; this is the run that starts with 0"
        )
    return CounterexampleError(f"{heading}\n{_table(values)}", len(frames), tuple(violated))


def _table(values: dict[str, list[int]]) -> str:
    """Return a line per signal, a column per cycle, hexadecimal, a dot where nothing changes."""
    lines = [["cycle", *map(str, range(len(next(iter(values.values())))))]]
    for name, column in values.items():
        texts = [f"{value:x}" for value in column]
        short = [t if len(t) <= _SHOWN_DIGITS else f"..{t[-_SHOWN_DIGITS:]}" for t in texts]
        changes = [True] + [a != b for a, b in pairwise(column)]
        lines.append([name, *(t if c else "." for t, c in zip(short, changes, strict=True))])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        " ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )

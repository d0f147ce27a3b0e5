"""Units with streams: what one offers stays until the transfer, and never waits for ``ready``.

All inputs are free but for the rule itself, so the claims hold whatever the data, the order of the
segments or the faults. Registers that induction shows to be equal leave little or nothing to the
solver. The control ignores ``ready``: the unit is told that every item is taken, and must be seen
to break the rule.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, ValueLike
from amaranth.lib import wiring

from hw.config import AttentionConfig, preset
from hw.cores.compressor.sharing import AppenderShare, CloserShare
from hw.cores.contribution_merge import ContributionMerge
from hw.cores.delta_unpacker import DeltaUnpacker
from hw.cores.dot_collector import DotCollector
from hw.cores.gearbox import Gearbox
from hw.cores.job_admission import JobAdmission
from hw.cores.job_finish import JobFinish
from hw.cores.job_intake import JobIntake
from hw.cores.job_retire import JobRetire
from hw.cores.key_accumulator import KeyAccumulator
from hw.cores.key_unpacker import KeyUnpacker
from hw.cores.normaliser import Normaliser
from hw.cores.operand_select import OperandSelect
from hw.cores.scale_bank import ScaleBank
from hw.cores.score_collector import ScoreCollector
from hw.cores.score_unit import ScoreUnit
from hw.cores.selector import Selector
from hw.cores.sequencer import Sequencer
from hw.cores.softmax import Softmax
from hw.cores.sum_reciprocal import SumReciprocal
from hw.cores.tile_transposer import TileTransposer
from hw.cores.unpacker import Unpacker
from hw.cores.value_accumulator import ValueAccumulator
from hw.cores.value_unpacker import ValueUnpacker
from hw.distributor import JobDistributor
from hw.memory.arbiter import ChannelArbiter
from hw.memory.axi import AxiMaster
from hw.memory.fetch import Fetch
from hw.memory.read_merge import ReadMerge
from hw.memory.reorder_buffer import ReorderBuffer
from hw.memory.write_merge import WriteMerge
from tb.formal.bench import Bench
from tb.formal.cone import inputs_of_valid
from tb.formal.mutant import mutant
from tb.formal.prove import prove, refute
from tb.formal.test_arbiter import four_clients
from tb.formal.test_distributor import two_slices

CONFIG = replace(
    preset("tiny"),
    name="small",
    rows=1,
    budget=24,
    max_context=64,
    jobs_in_flight=2,
    memory_tags=4,
    reorder_beats=64,
)
#: Cycles in which the slowest unit offers something, and one more that shows what became of it.
CYCLES = 40


def gearbox(_config: AttentionConfig) -> Gearbox:
    return Gearbox(element_bits=48, elements=5)


def one_delta(config: AttentionConfig) -> DeltaUnpacker:
    """Fewer codes to expand than in a real record; nothing else depends on their number."""
    return DeltaUnpacker(replace(config, key_keep=1))


def wide_deltas(config: AttentionConfig) -> DeltaUnpacker:
    """Two steps for each group, and the masks of a chunk, which wait for the record before."""
    return DeltaUnpacker(replace(config, key_keep=1, key_delta_bits=4, mask_scope="chunk"))


def wide_codes(config: AttentionConfig) -> DotCollector:
    """Every sum is put together from two steps."""
    return DotCollector(replace(config, key_bits=4, key_delta_bits=4, value_bits=4))


def scale_bank(config: AttentionConfig) -> ScaleBank:
    """All lanes move together: one stands for them."""
    return ScaleBank(config, tag_bits=1, lanes=1)


FAST: list[Callable[[AttentionConfig], wiring.Component]] = [
    gearbox,
    JobRetire,
    OperandSelect,
]
SLOW: list[Callable[[AttentionConfig], wiring.Component]] = [
    ContributionMerge,
    one_delta,
    wide_deltas,
    DotCollector,
    wide_codes,
    JobFinish,
    JobIntake,
    KeyAccumulator,
    KeyUnpacker,
    Normaliser,
    scale_bank,
    ScoreCollector,
    ScoreUnit,
    Sequencer,
    Softmax,
    SumReciprocal,
    TileTransposer,
    Unpacker,
    ValueAccumulator,
    ValueUnpacker,
]
#: Inputs beside the streams that stay as they are, unless the output named here (if any) was high
#: in the cycle before: settings of the jobs in flight, and the read port of the query store.
STEADY = {
    "operand": "read_enable",
    "query_sum": "read_enable",
    "query_scale": None,
    "value_scale": None,
}
#: The selector offers nothing until someone asks for it.
WAITING_SELECTOR = """outside = self.selected
        selected = stream.Signature(outside.payload.shape()).create()
        m.d.comb += [
            outside.payload.eq(selected.payload),
            outside.valid.eq(selected.valid & outside.ready),
            selected.ready.eq(outside.ready),
        ]
"""


def slow(make: Callable[[AttentionConfig], wiring.Component]) -> Any:
    """Return the parameter of a test that takes longer with it."""
    return pytest.param(make, marks=pytest.mark.slow)


UNITS = [*FAST, *map(slow, SLOW)]


def channel_arbiter(_config: AttentionConfig) -> ChannelArbiter:
    return four_clients()


def axi_master(_config: AttentionConfig) -> AxiMaster:
    return AxiMaster(id_bits=2, axi_id_bits=1)


def job_distributor(_config: AttentionConfig) -> JobDistributor:
    return two_slices()


def read_merge(_config: AttentionConfig) -> ReadMerge:
    return ReadMerge(2, tag_bits=1)


def write_merge(_config: AttentionConfig) -> WriteMerge:
    return WriteMerge(2, tag_bits=1)


#: Units with a test of their own for the rest of the rule.
OTHERS: list[Callable[[AttentionConfig], wiring.Component]] = [
    Selector,
    Fetch,
    ReorderBuffer,
    channel_arbiter,
    axi_master,
    job_distributor,
    read_merge,
    write_merge,
    AppenderShare,
    CloserShare,
    JobAdmission,
]


def shown_payload(unit: wiring.Component, name: str) -> ValueLike | None:
    """What stands for the payload of an output stream; None for all of it.

    Of a beat a bit of each of four bytes: the others are like them.
    Of sums that the collector may add in the cycle of the offer, the two lowest bits: why a carry
    chain gives the same number again is not for a solver to find out.
    """
    if isinstance(unit, TileTransposer):
        beat = unit.output.payload
        return Cat(beat.error, beat.last, *(beat.data[8 * i] for i in range(4)))
    if not isinstance(unit, DotCollector):
        return None
    if name == "tail":
        return Cat(v[place] for v in unit.tail.payload.v[0] for place in (0, 8))
    sums = unit.sums.payload
    lanes = sums.lane[0]
    numbers = [number[:2] for lane in lanes for number in (lane.a, lane.b)]
    return Cat(sums.tag, sums.scale, sums.minimum, *numbers)


def offering(unit: wiring.Component, *, deaf: bool = False) -> tuple[Bench, list[str]]:
    """Return the claims, and the names of the output streams."""
    bench = Bench(unit)
    outputs = []
    for name, member in unit.signature.members.items():
        if not member.is_signature:
            continue
        if member.flow == wiring.In:
            bench.assume_stream_rule(name)
            continue
        outputs.append(name)
        ready, payload = None, shown_payload(unit, name)
        if deaf:
            # What a memory holds that was never written is not what this is about.
            payload = Const(0)
            ready = bench.free(f"{name}_taken")
            bench.tie(f"{name}__ready", 1)
        bench.check_stream_rule(name, payload=payload, ready=ready)
    for path in list(bench.inputs):
        name = path.split("__")[0]
        if name in STEADY:
            enable = STEADY[name]
            changes = bench.before(bench.shown[enable]) if enable else ~bench.before(1)
            bench.hold(path, ~changes)
    return bench, outputs


@pytest.mark.parametrize("make", UNITS)
def test_offers_stay(make: Callable[[AttentionConfig], wiring.Component]) -> None:
    """For all time, by induction and property directed reachability; 98 to 4261 flip-flops."""
    bench, _ = offering(make(CONFIG))
    prove(bench, seconds=300)


@pytest.mark.parametrize("make", UNITS)
def test_offers_to_a_deaf_unit_do_not_stay(
    make: Callable[[AttentionConfig], wiring.Component],
) -> None:
    """A counterexample for every output stream, by bounded model checking."""
    unit = make(CONFIG)
    bench, outputs = offering(unit, deaf=True)
    claims = dict(bench.violations)
    assert len(claims) == len(outputs) >= 1
    for claim in claims:
        bench.violations = dict(claims)
        refute(bench, claim, cycles=CYCLES)


@pytest.mark.parametrize("make", [*FAST, *OTHERS, *map(slow, SLOW)])
def test_valid_never_waits_for_ready(
    make: Callable[[AttentionConfig], wiring.Component],
) -> None:
    """By structure: no path without a register from a stream's ``ready`` to its ``valid``."""
    for valid, inputs in inputs_of_valid(make(CONFIG)).items():
        print(f"{valid} depends on {', '.join(sorted(inputs)) or 'registers only'}")
        assert valid.replace("__valid", "__ready") not in inputs


def test_a_path_from_ready_to_valid_is_found() -> None:
    faulty = mutant(Selector, "selected = self.selected\n", WAITING_SELECTOR)(CONFIG)
    assert inputs_of_valid(faulty) == {"selected__valid": {"selected__ready"}}

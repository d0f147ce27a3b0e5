"""The faults, what units there are, and which test finds which fault."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tb.mutants.inject import Fault, InjectionError, short_names

_QUEUES = (
    r"tickets|headers|chunks|bases|units|statistics|unpacker_(route|order|headers_\d+|deltas_queue)"
    r"|unpacker_values_codes"
)

#: The modules of each unit of ``hw``, by the name of its class; see `Fault.module`.
UNITS: dict[str, str] = {
    "AttentionCore": "",
    "JobIntake": "intake",
    "JobRetire": "retire",
    "Sequencer": "sequencer",
    "Fetch": "fetch",
    "ReorderBuffer": "fetch_buffer",
    "Unpacker": "unpacker",
    "KeyUnpacker": "unpacker_keys",
    "DeltaUnpacker": "unpacker_deltas",
    "ValueUnpacker": "unpacker_values",
    "MaskExpand": "unpacker_deltas_expand",
    "Gearbox": r"unpacker_(deltas|values)_gearbox",
    "OperandSelect": "operands",
    "QueryStore": "query_store",
    "PEArray": "pe_array",
    "PERow": r"pe_array_row_\d+",
    "DotCollector": "collector",
    "ScaleBank": "scale_bank",
    "KeyAccumulator": "key_accumulator",
    "ScoreUnit": "score_unit",
    "Selector": "selector",
    "Softmax": "softmax",
    "ScoreCollector": "softmax_collector",
    "Probability": r"softmax_probability(_\d+)?",
    "Exp2": r"softmax_probability(_\d+)?_exp2",
    "ContributionMerge": "merge",
    "ValueAccumulator": "accumulator",
    "Normaliser": "normaliser",
    "SumReciprocal": "reciprocal",
    "CounterBank": "counters",
    "StreamRegister": r"\w+_register|score_unit_(multiplied|finished)",
    "StreamFIFO": rf"({_QUEUES})(_queue)?",
}

#: Tests of tb/test_attention.py.
_FUSED = "test_attention_fused[tiny]"
_DENSE = "test_modes_after_each_other[0.0]"
_CORNERS = "test_corner_tensors_under_back_pressure[0.3]"
_SLOW_CORNERS = "test_corner_tensors_under_back_pressure[0.9]"
_BLOCKED = "test_one_stream_nearly_blocked[output]"
_REFUSED = "test_bad_descriptors_and_scales"
_MEMORY_ERROR = "test_memory_error[chunk]"
_RESET = "test_reset_in_flight[333]"


def unit_of(module: str) -> str:
    """Return the unit of a module, given by its name without that of the top module.

    Raises
    ------
    InjectionError
        It belongs to no unit, or to several.
    """
    found = [unit for unit, pattern in UNITS.items() if re.fullmatch(pattern, module)]
    if len(found) != 1:
        raise InjectionError(f"module {module!r} belongs to {len(found)} units, must be one")
    return found[0]


def faults_by_unit(text: str, faults: Sequence[Fault]) -> dict[str, list[Fault]]:
    """Return the faults of every unit that the Verilog ``text`` has modules of."""
    shorts = short_names(text).values()
    result: dict[str, list[Fault]] = {unit_of(short): [] for short in shorts}
    for fault in faults:
        for short in shorts:
            if re.fullmatch(fault.module, short):
                result[unit_of(short)].append(fault)
    return result


FAULTS: tuple[Fault, ...] = (
    Fault(
        name="core-values-to-keys",
        module="",
        kind="condition dropped",
        description="scaled value sums also go to the key accumulator",
        statement="assign scaled__valid = <valid> & <is_key>",
        faulty="<valid>",
        killed_by=_FUSED,
    ),
    Fault(
        name="intake-longest-context",
        module="intake",
        kind="off by one",
        description="the longest context is refused",
        statement="assign <too_long> = job[87:72] > <longest>",
        faulty="job[87:72] >= <longest>",
        killed_by=_FUSED,
    ),
    Fault(
        name="intake-unknown-mode",
        module="intake",
        kind="off by one",
        description="mode 3 is taken for a mode",
        statement="assign <unknown> = job[71:64] > 2'h2",
        faulty="job[71:64] > 8'h3",
        killed_by=_REFUSED,
    ),
    Fault(
        name="intake-status-priority",
        module="intake",
        kind="priority reversed",
        description="a wrong config hash is reported only if nothing else is wrong",
        statement="status = 4'h1",
        faulty="status == 4'h0 ? 4'h1 : status",
        killed_by=_REFUSED,
    ),
    Fault(
        name="retire-error-kept",
        module="retire",
        kind="condition dropped",
        description="the error bits of slot 3 outlive its job",
        context=("assign <here> = ticket__payload[17:16] == 2'h3",),
        statement="assign <clear> = retired & <here>",
        faulty="1'h0",
        killed_by=_REFUSED,
    ),
    Fault(
        name="retire-memory-error",
        module="retire",
        kind="stuck at 0",
        description="a memory error is not reported",
        statement="input__payload[<status>] = 4'h7",
        faulty="4'h0",
        killed_by=_MEMORY_ERROR,
    ),
    Fault(
        name="sequencer-slot",
        module="sequencer",
        kind="swap",
        description="the estimates of a job use the queries of the job before",
        statement="<header> [<slot>] = estimated[<bits>]",
        faulty="formal[<bits>]",
        killed_by=_FUSED,
    ),
    Fault(
        name="sequencer-value-address",
        module="sequencer",
        kind="off by one",
        description="tail values are read a burst too late",
        statement="assign <address> = where - <size>",
        faulty="where - <size> + 32'd32",
        killed_by=_FUSED,
    ),
    Fault(
        name="fetch-last-request",
        module="fetch",
        kind="off by one",
        description="a segment of exactly 16 bursts is taken for a longer one",
        statement=r"assign \final = segment[<bursts>] <= 5'h10",
        faulty="segment[<bursts>] < 5'h10",
        killed_by=_FUSED,
    ),
    Fault(
        name="buffer-tag-freed-early",
        module="fetch_buffer",
        kind="off by one",
        description="a tag is free again a beat before the last one",
        statement=r"assign \end = ! <more_beats>",
        faulty="<more_beats> == 5'h1",
        killed_by=_FUSED,
    ),
    Fault(
        name="buffer-room",
        module="fetch_buffer",
        kind="stuck at 1",
        description="requests go out without room for their answers",
        statement="assign <room> = free >= <size> [<bits>]",
        faulty="1'h1",
        killed_by=_BLOCKED,
    ),
    Fault(
        name="unpacker-tail-scale",
        module="unpacker",
        kind="stuck at 0",
        description="value scales of the tail may be infinite",
        statement="assign <infinite> = & <work> [288:284]",
        faulty="1'h0",
        killed_by=_REFUSED,
    ),
    Fault(
        name="unpacker-plane",
        module="unpacker",
        kind="stuck at 0",
        description="the high bytes of tail values count as unsigned",
        statement="assign <next> = plane + 1'h1",
        faulty="plane",
        killed_by=_FUSED,
    ),
    Fault(
        name="keys-absent-token",
        module="unpacker_keys",
        kind="off by one",
        description="the token after the last one of the tail counts as present",
        context=("assign work__payload[271] = <present>",),
        statement="assign <present> = key <= header__payload[7:5]",
        faulty="key <= header__payload[7:5] + 4'h1",
        killed_by=_CORNERS,
    ),
    Fault(
        name="deltas-pair",
        module="unpacker_deltas",
        kind="swap",
        description="scale and minimum of a delta group are exchanged",
        statement="assign work__payload[164:133] = elements__payload[55:24]",
        faulty="{ elements__payload[39:24], elements__payload[55:40] }",
        killed_by=_FUSED,
    ),
    Fault(
        name="values-pair",
        module="unpacker_values",
        kind="rotate",
        description="the value scales are those of the neighbouring channels",
        statement="assign work__payload[260:133] = <scales>",
        faulty="{ <scales> [31:0], <scales> [127:32] }",
        killed_by=_FUSED,
    ),
    Fault(
        name="expand-mask-bit",
        module="unpacker_deltas_expand",
        kind="mask shifted",
        description="channel 5 is counted where channel 4 should be",
        statement="assign <one_more> = <mask> [4] & <room>",
        faulty="<mask> [5] & <room>",
        killed_by=_FUSED,
    ),
    Fault(
        name="gearbox-padding",
        module="unpacker_deltas_gearbox",
        kind="condition dropped",
        description="the padding of a delta record is taken for elements of the next one",
        statement="assign <left> = over ? 6'h00 : <rest>",
        faulty="<rest>",
        killed_by=_FUSED,
    ),
    Fault(
        name="operands-weights-early",
        module="operands",
        kind="condition dropped",
        description="a unit's weights are given up after its first step",
        statement="assign weights__ready = <value_step> & work__payload[290]",
        faulty="<value_step>",
        killed_by=_FUSED,
    ),
    Fault(
        name="store-running-sum",
        module="query_store",
        kind="stuck at 0",
        description="the query sum of a group holds its last beat only",
        statement="running <= <next>",
        faulty="20'h00000",
        killed_by=_FUSED,
    ),
    Fault(
        name="array-move",
        module="pe_array",
        kind="stuck at 1",
        description="the last stage moves on although its result has not been taken",
        statement="assign <moves> = <empty> | result__ready",
        faulty="1'h1",
        killed_by=_BLOCKED,
    ),
    Fault(
        name="row-signed-digit",
        module="pe_array_row_1",
        kind="stuck at 0",
        description="the top digit of a signed byte counts as unsigned, in row 1",
        statement="assign negative_top = <step> [2] & <of_bytes>",
        faulty="1'h0",
        killed_by=_FUSED,
    ),
    Fault(
        name="collector-low-plane",
        module="collector",
        kind="sign",
        description="the low bytes of a tail value are subtracted",
        statement="assign <joined> = $signed(<high> ) + $signed(bytes_1_1)",
        faulty="$signed(<high> ) - $signed(bytes_1_1)",
        killed_by=_FUSED,
    ),
    Fault(
        name="collector-dense-start",
        module="collector",
        kind="stuck at 0",
        description="of a dense key only the last 16 channels count in row 0",
        statement="assign <so_far> = opened ? partial[31:0] : 32'd0",
        faulty="32'd0",
        killed_by=_DENSE,
    ),
    Fault(
        name="scale-minimum-shift",
        module="scale_bank",
        kind="off by one",
        description="minima of lane 2 are twice as large",
        statement="minimum_shift_2 <= <next>",
        faulty="<next> + 5'h1",
        killed_by=_FUSED,
    ),
    Fault(
        name="key-sum-wraps",
        module="key_accumulator",
        kind="saturation off",
        description="a key sum of row 0 that is too large wraps around",
        context=("assign <total> = $signed(scaled__payload[45:0]) + $signed(<start> )",),
        statement="assign <kept> = <fits> ? <total> [31:0] : <limit>",
        faulty="<total> [31:0]",
        killed_by=_CORNERS,
    ),
    Fault(
        name="key-sum-base",
        module="key_accumulator",
        kind="stuck at 0",
        description="the tokens of a chunk do not start from their base in row 1",
        statement="assign <start> = <whole> ? 32'd0 : start[63:32]",
        faulty="32'd0",
        killed_by=_FUSED,
    ),
    Fault(
        name="score-shift",
        module="score_unit",
        kind="off by one",
        description="scores of row 0 are twice as large",
        statement="assign <shift> = 6'h20 - { slot_scales[14:11], <lowest> }",
        faulty="6'h1f - { slot_scales[14:11], <lowest> }",
        killed_by=_FUSED,
    ),
    Fault(
        name="score-combine",
        module="score_unit",
        kind="comparison reversed",
        description="a chunk counts as its worst row rather than its best",
        statement="assign <first> = $signed(<done> [<row_0>]) >= $signed(<done> [<row_1>])",
        faulty="$signed(<done> [<row_0>]) < $signed(<done> [<row_1>])",
        killed_by=_FUSED,
    ),
    Fault(
        name="selector-tie",
        module="selector",
        kind="tie rule reversed",
        description="of two best chunks with equal scores the later one comes first",
        statement="assign <out> = $signed(entry_0[<score>]) >= $signed(candidates__payload[<new>])",
        faulty="$signed(entry_0[<score>]) > $signed(candidates__payload[<new>])",
        killed_by=_FUSED,
    ),
    Fault(
        name="softmax-total",
        module="softmax",
        kind="condition dropped",
        description="the sum of a unit goes on from the sum of the one before",
        statement="assign <before> = <opening> ? <zero> : total",
        faulty="total",
        killed_by=_FUSED,
    ),
    Fault(
        name="softmax-rounding",
        module="softmax",
        kind="rounding dropped",
        description="the running sum is rounded down when the maximum rises",
        context=("assign <aligned> = { <term> , 1'h0 } >> row_shift",),
        statement="assign <rounded> = <aligned> + 1'h1",
        faulty="<aligned>",
        killed_by=_FUSED,
    ),
    Fault(
        name="collector-absent-token",
        module="softmax_collector",
        kind="condition dropped",
        description="an absent token raises the exponent of row 1",
        context=("assign <higher> = $signed(<bound> ) > $signed(unit_0[25:13])",),
        statement="assign <rises> = scores__payload[<present>] & <higher>",
        faulty="<higher>",
        killed_by=_CORNERS,
    ),
    Fault(
        name="probability-absent-token",
        module=UNITS["Probability"],
        kind="stuck at 0",
        description="an absent token gets a probability",
        statement="assign <absent> = ~ <entry> [0]",
        faulty="1'h0",
        killed_by=_CORNERS,
    ),
    Fault(
        name="weight-rounding",
        module=UNITS["Probability"],
        kind="rounding dropped",
        description="weights are rounded down",
        statement="assign <rounded> = doubled + 1'h1",
        faulty="doubled",
        killed_by=_FUSED,
    ),
    Fault(
        name="exp2-slope",
        module=UNITS["Exp2"],
        kind="bit dropped",
        description="the lowest bit of the fraction plays no part",
        statement="assign <rise> = <slope> * fraction[7:0]",
        faulty="<slope> * { fraction[7:1], 1'h0 }",
        killed_by=_FUSED,
    ),
    Fault(
        name="merge-ratio",
        module="merge",
        kind="off by one",
        description="tail values of one channel in four are weighted by 4 rather than 5",
        statement="assign tail_1_2 = $signed(tail__payload[<sum>]) * $signed(4'h5)",
        faulty="$signed(tail__payload[<sum>]) * $signed(4'h4)",
        killed_by=_FUSED,
    ),
    Fault(
        name="merge-header-early",
        module="merge",
        kind="condition dropped",
        description="the contributions of a unit after its first go with the next unit's header",
        statement="assign unit__ready = <take> & <unit_end>",
        faulty="<take>",
        killed_by=_FUSED,
    ),
    Fault(
        name="accumulator-first-unit",
        module="accumulator",
        kind="condition dropped",
        description="a job starts from the bank's last content in one channel",
        statement="assign old_1_1 = held[<first>] ? <zero> : <word> [<bits>]",
        faulty="<word> [<bits>]",
        killed_by=_FUSED,
    ),
    Fault(
        name="accumulator-wrong-bank",
        module="accumulator",
        kind="stuck at 1",
        description="a bank is filled before it has been read out",
        statement="assign contributions__ready = ~ <full>",
        faulty="1'h1",
        killed_by=_SLOW_CORNERS,
    ),
    Fault(
        name="normaliser-rounding",
        module="normaliser",
        kind="rounding dropped",
        description="an accumulator is rounded down before it is multiplied",
        context=("assign <aligned> = $signed({ <value> , 1'h0 }) >>> row_shift",),
        statement="assign <rounded> = $signed(<aligned> ) + $signed(2'h1)",
        faulty="$signed(<aligned> )",
        killed_by=_FUSED,
    ),
    Fault(
        name="reciprocal-quotient",
        module="reciprocal",
        kind="off by one",
        description="the last bit of a reciprocal is not computed",
        statement="<bits_left> = 5'h11",
        faulty="5'h10",
        killed_by=_FUSED,
    ),
    Fault(
        name="counters-refused",
        module="counters",
        kind="stuck at 0",
        description="refused jobs are not counted",
        statement="intake_jobs_refused_event <= <next>",
        faulty="1'h0",
        killed_by=_REFUSED,
    ),
    Fault(
        name="register-overwritten",
        module="unpacker_register",
        kind="stuck at 1",
        description="a register takes an item although the one it holds has not been taken",
        statement="assign input__ready = <empty> | output__ready",
        faulty="1'h1",
        killed_by=_FUSED,
    ),
    Fault(
        name="fifo-overflow",
        module="unpacker_order_queue",
        kind="off by one",
        description="a full queue takes one item more",
        statement="assign w_rdy = level != 3'h4",
        faulty="level != 3'h5",
        killed_by=_FUSED,
    ),
    Fault(
        name="fifo-wrap",
        module="headers_queue",
        kind="off by one",
        description="the write address of a queue of 15 items runs to 15",
        statement="assign <end> = w_port__addr == 4'he",
        faulty="w_port__addr == 4'hf",
        killed_by=_FUSED,
    ),
    Fault(
        name="fifo-not-reset",
        module="headers_queue",
        kind="reset dropped",
        description="the read address of a queue survives a reset",
        statement="r_port__addr <= <next>",
        faulty="rst ? r_port__addr : <next>",
        killed_by=_RESET,
    ),
)

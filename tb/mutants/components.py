"""Faults of components around the core, as changes of their source, and the tests that find them.

A test runs in a process of its own, with the fault in the class from the start: whatever the test
builds of it, in Amaranth's simulator, in Verilator or as a proof, is faulty.
"""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import import_module

from tb.formal.mutant import mutant
from tb.harness.files import REPOSITORY
from tb.mutants.campaign import IntactFailure, Outcome

#: Exit codes of pytest.
_PASSED, _FAILED = 0, 1
_COMPLAINT = re.compile(r"^E +(.*\S)", re.M)


@dataclass(frozen=True, kw_only=True)
class ComponentFault:
    """One mistake that a designer could have made.

    Parameters
    ----------
    name
        Words joined by hyphens.
    module, unit
        The class and where it is defined.
    kind
        What is done to the source, such as "off by one".
    description
        What the designer got wrong.
    old, new
        Text of the class that occurs once, and what stands for it.
    killed_by
        The test that finds it, as pytest calls it.
    """

    name: str
    module: str
    unit: str
    kind: str
    description: str
    old: str
    new: str
    killed_by: str


def switch_on(fault: ComponentFault) -> None:
    """Put a fault into its class, for the rest of this process.

    Raises
    ------
    ValueError
        ``old`` does not occur exactly once.
    """
    unit = getattr(import_module(fault.module), fault.unit)
    for name, member in vars(mutant(unit, fault.old, fault.new)).items():
        # The constructor knows its own class.
        if inspect.isfunction(member) and name != "__init__":
            setattr(unit, name, member)


def run_test(test: str, seed: int, fault: ComponentFault | None = None) -> Outcome:
    """Run a test in a process of its own, with a fault if there is one.

    Raises
    ------
    IntactFailure
        It fails without a fault, or could not be run at all.
    """
    command = [sys.executable, "-m", "pytest", "-p", "tb.mutants.switch", "-q", "-x"]
    command += ["-p", "no:cacheprovider", "-m", "slow or not slow", "--seed", str(seed), test]
    environment = {**os.environ, "COMPONENT_FAULT": fault.name if fault else ""}
    found = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    complaint = _COMPLAINT.search(found.stdout)
    reason = complaint[1] if complaint else found.stdout.strip()[-200:] + found.stderr[-200:]
    if found.returncode not in (_PASSED, _FAILED) or (found.returncode and fault is None):
        raise IntactFailure(f"{test} fails without any fault: {reason}")
    return Outcome(found.returncode == _PASSED, "" if found.returncode == _PASSED else reason)


_DRAM = "hw.memory.dram.controller"
_TESTS = "tb/memory/dram/controller"
_BANK = f"{_TESTS}/test_bank_machine.py::test_traffic[hbm2-2000-1]"
_ROW = f"{_TESTS}/test_row_scheduler.py::test_first_of_what_is_allowed[hbm2-2000-1]"
_COLUMN = f"{_TESTS}/test_column_scheduler.py::test_oldest_of_what_is_allowed[ddr4-3200-1-0]"
_WRITE = f"{_TESTS}/test_write_buffer.py::test_writes_arrive[ddr4-3200-1-0]"
_READ = f"{_TESTS}/test_read_return.py::test_words_come_back[ddr4-3200-1-0]"
_ARBITER = "tb/memory/arbiter/test_arbiter.py"
_MMU = "tb/memory/kv_mmu/test_kv_mmu.py::test_random_commands_jobs_and_accesses[0]"
_QUANTISER = "tb/cores/quantiser"
_DIVIDER = f"{_QUANTISER}/test_code_divider.py::test_equals_the_twin[2-1-restoring division]"
_CORNERS = f"{_QUANTISER}/test_affine_quantiser.py::test_corners[delta]"
_TRANSPOSER = "tb/cores/test_tile_transposer.py"
_SLOTS = "tb/cores/test_slot_map.py::test_victims"
_VOTES = "tb/cores/test_slot_votes.py::test_votes[default]"
_MASK = f"{_QUANTISER}/test_largest_mask.py::test_random[value]"
_CLOSER = "hw.cores.compressor"
_CLOSING = "tb/cores/compressor"

COMPONENT_FAULTS: tuple[ComponentFault, ...] = (
    ComponentFault(
        name="bank-auto-precharge",
        module=f"{_DRAM}.bank_machine",
        unit="BankMachine",
        kind="condition dropped",
        description="every last burst of a job closes the row, whatever comes next",
        old='last & (leaves | self.claimed) & (is_write | since_write["tWR"])',
        new='last & (is_write | since_write["tWR"])',
        killed_by=f"{_TESTS}/test_bank_machine.py::test_commands_of_row_hits_and_a_conflict",
    ),
    ComponentFault(
        name="bank-claim-ignored",
        module=f"{_DRAM}.bank_machine",
        unit="BankMachine",
        kind="condition dropped",
        description="a bank that is to be refreshed goes on with its next job",
        old="& ~self.claimed\n            ),",
        new="\n            ),",
        killed_by=_BANK,
    ),
    ComponentFault(
        name="bank-write-recovery",
        module=f"{_DRAM}.bank_machine",
        unit="BankMachine",
        kind="off by one",
        description="a precharge comes a clock too early after a write",
        old="Timer(tWR=distances.write_to_precharge)",
        new="Timer(tWR=distances.write_to_precharge - 1)",
        killed_by=_BANK,
    ),
    ComponentFault(
        name="rows-window",
        module=f"{_DRAM}.activation_limits",
        unit="ActivationLimits",
        kind="condition dropped",
        description="a refresh of a bank takes no turn in the window of four activations",
        old="with m.If(activated | refreshing):",
        new="with m.If(activated):",
        killed_by=_ROW.replace("hbm2-2000", "lpddr5-6400-x16"),
    ),
    ComponentFault(
        name="rows-priority",
        module=f"{_DRAM}.row_scheduler",
        unit="RowScheduler",
        kind="priority reversed",
        description="precharges go before activations and refreshes",
        old="kind.eq(possible & -possible)",
        new="kind.eq(Mux(possible[3], 8, possible & -possible))",
        killed_by=_ROW,
    ),
    ComponentFault(
        name="columns-direction",
        module=f"{_DRAM}.column_scheduler",
        unit="ColumnScheduler",
        kind="condition dropped",
        description="the direction turns to writes while reads are left",
        old="~self.writing & ~self.has_read.any() &",
        new="~self.writing &",
        killed_by=_COLUMN,
    ),
    ComponentFault(
        name="columns-turnaround",
        module=f"{_DRAM}.transfer_limits",
        unit="TransferLimits",
        kind="off by one",
        description="a write comes a clock too early after a read",
        old='distances.column("tRTW")',
        new='distances.column("tRTW") - 1',
        killed_by=_COLUMN,
    ),
    ComponentFault(
        name="refresh-round",
        module=f"{_DRAM}.refresh",
        unit="RefreshManager",
        kind="condition dropped",
        description="a set of banks is refreshed twice in a round",
        old="left & ~chosen",
        new="left",
        killed_by=f"{_TESTS}/test_refresh.py::test_rounds[hbm2-2000-fields1]",
    ),
    ComponentFault(
        name="writes-too-many",
        module=f"{_DRAM}.write_buffer",
        unit="WriteBuffer",
        kind="stuck at 1",
        description="a request is taken without room for its bursts",
        old="(~filling | filled) & (free >= wanted)",
        new="~filling | filled",
        killed_by=_WRITE,
    ),
    ComponentFault(
        name="writes-absent-words",
        module=f"{_DRAM}.write_buffer",
        unit="WriteBuffer",
        kind="condition dropped",
        description="the half of a burst that was not written is",
        old="Mux(absent | leaves_channel(config, held), 0,",
        new="Mux(leaves_channel(config, held), 0,",
        killed_by=_WRITE,
    ),
    ComponentFault(
        name="reads-second-half",
        module=f"{_DRAM}.read_return",
        unit="ReadReturn",
        kind="stuck at 0",
        description="beats of a request that begins within a burst count from the burst",
        old="Mux(burst.tag.second_half, beats // 2, 0)",
        new="0",
        killed_by=_READ,
    ),
    ComponentFault(
        name="batch-age",
        module=f"{_DRAM}.write_batcher",
        unit="WriteBatcher",
        kind="stuck at 0",
        description="writes wait for a full batch without end",
        old="old = age == config.write_age",
        new="old = age > config.write_age",
        killed_by=f"{_TESTS}/test_write_batcher.py::test_old_writes_interrupt_reads",
    ),
    ComponentFault(
        name="arbiter-patience",
        module="hw.memory.arbiter.schedule",
        unit="Schedule",
        kind="stuck at 0",
        description="a client that has waited for long gets no preference",
        old="Mux(impatient.any(), first, ",
        new="Mux(0, first, ",
        killed_by=f"{_ARBITER}::test_the_longest_wait[20]",
    ),
    ComponentFault(
        name="arbiter-writer",
        module="hw.memory.arbiter.arbiter",
        unit="ChannelArbiter",
        kind="swap",
        description="the words of every write are those of the first writer",
        old="payload.client.eq(place)",
        new="payload.client.eq(0)",
        killed_by="tb/formal/test_arbiter.py::test_arbiter",
    ),
    ComponentFault(
        name="mmu-foreign-entry",
        module="hw.memory.kv_mmu.table_walker",
        unit="TableWalker",
        kind="condition dropped",
        description="entries of a table are used whoever their page belongs to",
        old="~(claimed & self.match)",
        new="~claimed",
        killed_by="tb/memory/kv_mmu/test_kv_mmu.py::test_stale_tables_are_not_usable",
    ),
    ComponentFault(
        name="mmu-layer",
        module="hw.memory.kv_mmu.layer_map",
        unit="LayerMap",
        kind="condition inverted",
        description="a job is let through if its layer is not mapped",
        old="Mux(mapped.bit_select",
        new="Mux(~mapped.bit_select",
        killed_by=_MMU,
    ),
    ComponentFault(
        name="mmu-entry-half",
        module="hw.memory.kv_mmu.table_entry",
        unit="TableEntry",
        kind="swap",
        description="the entry of the other page is written",
        old="BURST_BEATS - beat,",
        new="1 + beat,",
        killed_by=_MMU,
    ),
    ComponentFault(
        name="import-slots-in-a-ring",
        module="hw.cores.prompt_import",
        unit="PromptImport",
        kind="swap",
        description="a token of a prompt goes to the place in a ring that a compressed cache has",
        old="Mux(in_slots, position, place)",
        new="place",
        killed_by="tb/cores/test_prompt_import.py::test_slots",
    ),
    ComponentFault(
        name="import-takes-every-slot",
        module="hw.cores.prompt_import",
        unit="PromptImport",
        kind="off by one",
        description="a prompt may take the slot of the next token",
        old="max(config.slots - 1, 0)",
        new="config.slots",
        killed_by="tb/cores/test_prompt_import.py::test_refused_by_mode",
    ),
    ComponentFault(
        name="mmu-place",
        module="hw.memory.kv_mmu.translator",
        unit="Translator",
        kind="swap",
        description="a request goes to the place of the cache of the request behind it",
        old="caches[1], seq",
        new="caches[0], seq",
        killed_by="tb/memory/kv_mmu/test_kv_mmu.py::test_a_place_in_the_slot_area_takes_no_page",
    ),
    ComponentFault(
        name="mmu-refused-beats",
        module="hw.memory.kv_mmu.write_path",
        unit="WritePath",
        kind="condition dropped",
        description="the beats of a refused write go to the memory",
        old="current.valid & current.payload.passes",
        new="current.valid",
        killed_by=_MMU,
    ),
    ComponentFault(
        name="code-tie",
        module="hw.cores.quantiser.code_divider",
        unit="CodeDivider",
        kind="half up",
        description="a code that is even and a half goes up",
        old="(lost | code[0])",
        new="1",
        killed_by=_DIVIDER,
    ),
    ComponentFault(
        name="code-lost-bits",
        module="hw.cores.quantiser.code_divider",
        unit="CodeDivider",
        kind="condition dropped",
        description="what the shift drops does not tell a tie from more",
        old="(lost | code[0])",
        new="code[0]",
        killed_by=_DIVIDER,
    ),
    ComponentFault(
        name="code-beyond",
        module="hw.cores.quantiser.code_divider",
        unit="CodeDivider",
        kind="condition dropped",
        description="a number far above the largest code wraps",
        old="largest = beyond | code.all()",
        new="largest = code.all()",
        killed_by=_DIVIDER,
    ),
    ComponentFault(
        name="scale-remainder",
        module="hw.cores.quantiser.group_parameters",
        unit="GroupParameters",
        kind="sticky bit dropped",
        description="a remainder of the division does not tell a tie from more",
        old="rounder.more.eq(remainder.any()),\n                    self",
        new="rounder.more.eq(0),\n                    self",
        killed_by=_CORNERS,
    ),
    ComponentFault(
        name="scale-floor",
        module="hw.cores.quantiser.group_parameters",
        unit="GroupParameters",
        kind="bound dropped",
        description="a scale may be below 1e-5",
        old="Mux(rounder.bits < SCALE_FLOOR, SCALE_FLOOR, rounder.bits)",
        new="rounder.bits",
        killed_by=_CORNERS,
    ),
    ComponentFault(
        name="minimum-tie",
        module="hw.cores.quantiser.fp16_rounder",
        unit="Fp16Rounder",
        kind="half up",
        description="an even mantissa and a half goes up",
        old="rest[:-1].any() | more | kept[0]",
        new="1",
        killed_by=_CORNERS,
    ),
    ComponentFault(
        name="range-of-two-groups",
        module="hw.cores.quantiser.affine_quantiser",
        unit="AffineQuantiser",
        kind="state kept",
        description="the smallest number of the group before counts",
        old="Mux(first | (least < low), least, low)",
        new="Mux(least < low, least, low)",
        killed_by=_CORNERS,
    ),
    ComponentFault(
        name="mask-equal-sizes",
        module="hw.cores.quantiser.largest_mask",
        unit="LargestMask",
        kind="condition dropped",
        description="of two codes that are equal in size only the upper is looked at",
        old="lower = ends >= 0, ends <= 0",
        new="lower = ends >= 0, ends < 0",
        killed_by=_MASK,
    ),
    ComponentFault(
        name="mask-highest-index",
        module="hw.cores.quantiser.largest_mask",
        unit="LargestMask",
        kind="off by one",
        description="of equal sizes one more is kept",
        old="one & (count < left)",
        new="one & (count <= left)",
        killed_by=_MASK,
    ),
    ComponentFault(
        name="transposer-pair-overtaken",
        module="hw.cores.tile_transposer",
        unit="TileTransposer",
        kind="condition dropped",
        description="a full ring takes a beat whose neighbour of the round before is still there",
        old="(level + begin[0] != depth)",
        new="(level != depth)",
        killed_by=f"{_TRANSPOSER}::test_stalls_on_one_stream[output]",
    ),
    ComponentFault(
        name="transposer-empty-row",
        module="hw.cores.tile_transposer",
        unit="TileTransposer",
        kind="condition dropped",
        description="a row that is not there exchanges like the last one of the tile before it",
        old="held.valid & held.tile",
        new="held.tile",
        killed_by=f"{_TRANSPOSER}::test_random_order[0.0-few]",
    ),
    ComponentFault(
        name="transposer-early",
        module="hw.cores.tile_transposer",
        unit="TileTransposer",
        kind="off by one",
        description="a tile leaves before its last beat has come",
        old="level >= tile_beats",
        new="level >= tile_beats - 2 * (lanes - 1)",
        killed_by=f"{_TRANSPOSER}::test_stalls_on_one_stream[input]",
    ),
    ComponentFault(
        name="transposer-bank-swap",
        module="hw.cores.tile_transposer",
        unit="TileTransposer",
        kind="swap",
        description="the halves of the wrong tokens are swapped between the banks",
        old="is_tile & place[-1]",
        new="is_tile & place[0]",
        killed_by=f"{_TRANSPOSER}::test_random_order[0.0-few]",
    ),
    ComponentFault(
        name="quantiser-bases-in-the-range",
        module="hw.cores.quantiser.affine_quantiser",
        unit="AffineQuantiser",
        kind="condition dropped",
        description="bases count for the range of their group",
        old="Mux(has_bases, 0, beat.payload[i])",
        new="beat.payload[i]",
        killed_by=f"{_QUANTISER}/test_affine_quantiser.py::test_bases[one]",
    ),
    ComponentFault(
        name="order-of-ties",
        module=f"{_CLOSER}.chunk_order",
        unit="ChunkOrder",
        kind="comparison",
        description="of equal saliencies the later token goes first",
        old="held.saliency >= number",
        new="held.saliency > number",
        killed_by=f"{_CLOSING}/test_chunk_order.py::test_order[8-None]",
    ),
    ComponentFault(
        name="header-padding-looked-at",
        module=f"{_CLOSER}.header_reader",
        unit="HeaderReader",
        kind="condition dropped",
        description="what lies behind the value scales has to be finite, too",
        old="bad[: self._scales]",
        new="bad",
        killed_by=f"{_CLOSING}/test_header_reader.py"
        "::test_what_lies_behind_the_value_scales_has_no_meaning",
    ),
    ComponentFault(
        name="keys-first-token-as-base",
        module=f"{_CLOSER}.key_differences",
        unit="KeyDifferences",
        kind="wrong operand",
        description="the base is the oldest token, not the most salient one",
        old="load_token == load_base",
        new="load_token == 0",
        killed_by=f"{_CLOSING}/test_key_differences.py::test_windows[tiny-None]",
    ),
    ComponentFault(
        name="keys-parameters-too-late",
        module=f"{_CLOSER}.key_differences",
        unit="KeyDifferences",
        kind="off by one",
        description="with two beats a group the base's parameters are those of the group before",
        old="Mux(came_base, Value.cast(the_pair), Value.cast(next_base))",
        new="next_base",
        killed_by=f"{_CLOSING}/test_key_differences.py::test_windows[tiny-None]",
    ),
    ComponentFault(
        name="values-rounded-down",
        module=f"{_CLOSER}.value_numbers",
        unit="ValueNumbers",
        kind="rounding",
        description="half a unit is not added",
        old=">> (bits - 2)) + 1",
        new=">> (bits - 2))",
        killed_by=f"{_CLOSING}/test_value_numbers.py::test_windows[tiny-None]",
    ),
    ComponentFault(
        name="values-in-order-of-arrival",
        module=f"{_CLOSER}.value_numbers",
        unit="ValueNumbers",
        kind="wrong operand",
        description="tokens keep their places in the chunk",
        old="Cat(ranks[chunk][token], in_group)",
        new="Cat(token, in_group)",
        killed_by=f"{_CLOSING}/test_value_numbers.py::test_windows[tiny-None]",
    ),
    ComponentFault(
        name="pruner-bases-of-every-beat",
        module=f"{_CLOSER}.pruner",
        unit="Pruner",
        kind="condition dropped",
        description="bases are gathered from beats without one, too",
        old="Mux(place == 0, new, bases)",
        new="new",
        killed_by=f"{_CLOSING}/test_pruner.py::test_groups[large chunks]",
    ),
    ComponentFault(
        name="deltas-upside-down",
        module=f"{_CLOSER}.delta_elements",
        unit="DeltaElements",
        kind="order reversed",
        description="within a step the kept codes are packed from the highest channel on",
        old="reversed(range(self._config.group - _STEP, self._config.group))",
        new="range(self._config.group - _STEP, self._config.group)",
        killed_by=f"{_CLOSING}/test_delta_elements.py::test_elements[tiny]",
    ),
    ComponentFault(
        name="elements-pruned-codes-kept",
        module=f"{_CLOSER}.value_elements",
        unit="ValueElements",
        kind="condition dropped",
        description="codes that the mask drops are not 0",
        old="groups.p.code[i] & groups.p.mask[i].replicate(bits)",
        new="groups.p.code[i]",
        killed_by=f"{_CLOSING}/test_value_elements.py::test_elements[tiny]",
    ),
    ComponentFault(
        name="packer-full-too-late",
        module=f"{_CLOSER}.record_packer",
        unit="RecordPacker",
        kind="comparison",
        description="a burst that an element fills exactly does not leave",
        old="total >= burst_units",
        new="total > burst_units",
        killed_by=f"{_CLOSING}/test_record_packer.py::test_records[scales-None]",
    ),
    ComponentFault(
        name="rows-wait-for-the-burst",
        module=f"{_CLOSER}.base_rows",
        unit="BaseRows",
        kind="condition dropped",
        description="a row of codes that ends in the middle of a burst stays",
        old="codes.ends[0] | upper",
        new="upper",
        killed_by=f"{_CLOSING}/test_base_rows.py::test_rows[half a burst-0]",
    ),
    ComponentFault(
        name="plan-keys-never-due",
        module=f"{_CLOSER}.read_plan",
        unit="ReadPlan",
        kind="off by one",
        description="a chunk of keys is due only behind all tiles of the group",
        old="now_due >= self._tiles",
        new="now_due >= self._tiles * self._chunks",
        killed_by=f"{_CLOSING}/test_read_plan.py::test_order[lm]",
    ),
    ComponentFault(
        name="runs-overwritten",
        module=f"{_CLOSER}.record_writer",
        unit="RecordWriter",
        kind="condition dropped",
        description="a run begins where one is still to be written",
        old="source.valid & room & runs.input.ready",
        new="source.valid & runs.input.ready",
        killed_by=f"{_CLOSING}/test_record_writer.py::test_everything_is_written[2-None]",
    ),
    ComponentFault(
        name="fence-of-the-other-side",
        module=f"{_CLOSER}.record_writer",
        unit="RecordWriter",
        kind="exchanged",
        description="a fence waits for the runs behind it, not for those before",
        old="Mux(side, none[0], none[1])",
        new="Mux(side, none[1], none[0])",
        killed_by=f"{_CLOSING}/test_record_writer.py::test_everything_is_written[2-None]",
    ),
    ComponentFault(
        name="closer-answers-early",
        module=f"{_CLOSER}.window_closer",
        unit="WindowCloser",
        kind="condition dropped",
        description="the answer does not wait for the last writes",
        old="written.all() & writer.idle",
        new="written.all()",
        killed_by=f"{_CLOSING}/test_window_closer.py::test_windows",
    ),
    ComponentFault(
        name="closer-half-of-the-ring",
        module=f"{_CLOSER}.window_places",
        unit="WindowPlaces",
        kind="stuck at 0",
        description="every window is read from the first half of the ring",
        old="Mux(number[0], half, 0)",
        new="0",
        killed_by=f"{_CLOSING}/test_window_closer.py::test_windows",
    ),
    ComponentFault(
        name="victim-tie",
        module="hw.cores.victim_select",
        unit="VictimSelect",
        kind="comparison",
        description="of equal scores the slot with the highest number leaves",
        old="score.score < least",
        new="score.score <= least",
        killed_by=_SLOTS,
    ),
    ComponentFault(
        name="victim-recent",
        module="hw.cores.victim_select",
        unit="VictimSelect",
        kind="off by one",
        description="one token less of the newest ones stays",
        old="for slot in self.uses[job].recent)",
        new="for slot in list(self.uses[job].recent)[:-1])",
        killed_by=_SLOTS,
    ),
    ComponentFault(
        name="slots-not-full",
        module="hw.cores.slot_map",
        unit="SlotMap",
        kind="condition dropped",
        description="the step that fills a cache takes the slot that the last sequence would have",
        old="~fills & entry.full",
        new="~fills",
        killed_by=_SLOTS,
    ),
    ComponentFault(
        name="scores-newest",
        module="hw.cores.saliency_update",
        unit="SaliencyUpdate",
        kind="wrong source",
        description="the token in the last slot counts as the newest one of a full cache, too",
        old="Mux(use.in_slots, place == use.place, newest)",
        new="newest",
        killed_by=_SLOTS,
    ),
    ComponentFault(
        name="scores-rounding",
        module="hw.cores.saliency_update",
        unit="SaliencyUpdate",
        kind="rounding",
        description="what is left of a score is cut off, not rounded",
        old="shift_right_half_up(word * config.slot_decay, Const(DECAY_FRACTION))",
        new="(word * config.slot_decay >> DECAY_FRACTION)",
        killed_by=_SLOTS,
    ),
    ComponentFault(
        name="victim-votes-tie",
        module="hw.cores.victim_select",
        unit="VictimSelect",
        kind="comparison",
        description="of equal votes the slot with the highest number leaves",
        old="score.score > least",
        new="score.score >= least",
        killed_by="tb/cores/test_slot_map.py::test_votes",
    ),
    ComponentFault(
        name="votes-limit",
        module="hw.cores.slot_votes",
        unit="SlotVotes",
        kind="comparison",
        description="a token that receives just the limit has a vote against it",
        old="(product << THRESHOLD_FRACTION) < limit",
        new="(product << THRESHOLD_FRACTION) <= limit",
        killed_by=_VOTES,
    ),
    ComponentFault(
        name="votes-last-square",
        module="hw.cores.slot_votes",
        unit="SlotVotes",
        kind="off by one",
        description="the newest token is missing from the sum of squares",
        old="squaring.eq(1)",
        new="squaring.eq(~received.payload.last)",
        killed_by=_VOTES,
    ),
    ComponentFault(
        name="votes-root",
        module="hw.cores.slot_votes",
        unit="SlotVotes",
        kind="off by one",
        description="the root ends a bit too early",
        old="step.eq(self._root_bits - 1)",
        new="step.eq(self._root_bits - 2)",
        killed_by=_VOTES,
    ),
    ComponentFault(
        name="votes-sum-stays",
        module="hw.cores.slot_votes",
        unit="SlotVotes",
        kind="missing reset",
        description="a job's sum goes into the limit of the next one",
        old="[count.eq(0), total.eq(0), squares.eq(0)]",
        new="[count.eq(0), squares.eq(0)]",
        killed_by=_VOTES,
    ),
    ComponentFault(
        name="votes-of-others",
        module="hw.cores.slot_votes",
        unit="SlotVotes",
        kind="stuck at 1",
        description="saliencies of other jobs become votes, too",
        old="Array(uses)[received.payload.slot]",
        new="Array(uses)[0]",
        killed_by=_VOTES,
    ),
    ComponentFault(
        name="turn-stays",
        module="hw.memory.round_robin",
        unit="RoundRobin",
        kind="off by one",
        description="the one that was granted last is the first of the next turn",
        old="(self.grant << 1) - 1",
        new="self.grant - 1",
        killed_by="tb/memory/test_round_robin.py::test_turns[3-1.0]",
    ),
    ComponentFault(
        name="readers-all-answered",
        module="hw.memory.read_merge",
        unit="ReadMerge",
        kind="condition dropped",
        description="an answer goes to every reader",
        old="response.valid & (number == i)",
        new="response.valid",
        killed_by="tb/memory/test_read_merge.py::test_full_pace[3]",
    ),
    ComponentFault(
        name="writers-a-burst-too-few",
        module="hw.memory.write_merge",
        unit="WriteMerge",
        kind="off by one",
        description="the next writer's words begin a burst too early",
        old="eq(request.payload.bursts_less_one + 1)",
        new="eq(request.payload.bursts_less_one)",
        killed_by="tb/memory/test_write_merge.py::test_stalls[all]",
    ),
    ComponentFault(
        name="share-job-lets-go",
        module=f"{_CLOSER}.sharing",
        unit="AppenderShare",
        kind="condition dropped",
        description="a prompt's token is taken before the job's one is written",
        old="unwritten.eq(turn.grant[JOBS])",
        new="unwritten.eq(0)",
        killed_by=f"{_CLOSING}/test_sharing.py::test_tokens_in_turn",
    ),
    ComponentFault(
        name="share-prompts-go-on",
        module=f"{_CLOSER}.sharing",
        unit="AppenderShare",
        kind="condition dropped",
        description="tokens of prompts follow each other while a job waits",
        old="(self.of == PROMPTS) & ~self.tokens[JOBS].valid &",
        new="(self.of == PROMPTS) &",
        killed_by=f"{_CLOSING}/test_sharing.py::test_a_job_comes_between_prompts",
    ),
    ComponentFault(
        name="share-answer-to-both",
        module=f"{_CLOSER}.sharing",
        unit="CloserShare",
        kind="condition dropped",
        description="jobs and prompts both see each answer",
        old="self.answer.valid & (of == i)",
        new="self.answer.valid",
        killed_by=f"{_CLOSING}/test_sharing.py::test_windows_in_turn",
    ),
    ComponentFault(
        name="appender-no-saliency",
        module=f"{_CLOSER}.tail_appender",
        unit="TailAppender",
        kind="condition dropped",
        description="the saliency of a prompt's token is not written",
        old="(part == Part.SCALE) & ~token.of_prompt",
        new="part == Part.SCALE",
        killed_by=f"{_CLOSING}/test_tail_appender.py::test_tokens_of_a_prompt",
    ),
    ComponentFault(
        name="appender-key-of-the-next",
        module=f"{_CLOSER}.tail_appender",
        unit="TailAppender",
        kind="condition dropped",
        description="a token comes in before the last beats of the one before",
        old="self.token.ready.eq(tokens.ready & (left == 0))",
        new="self.token.ready.eq(tokens.ready & (left <= 1))",
        killed_by=f"{_CLOSING}/test_tail_appender.py::test_stalls[{{'beats': 0.9}}]",
    ),
    ComponentFault(
        name="builder-enables-stay",
        module=f"{_CLOSER}.burst_builder",
        unit="BurstBuilder",
        kind="register not cleared",
        description="halves of the burst before are written again",
        old="[kept.eq(0), bursts.valid.eq(0)]",
        new="[bursts.valid.eq(0)]",
        killed_by=f"{_CLOSING}/test_burst_builder.py::test_stalls[{{'pieces': 0.9}}]",
    ),
    ComponentFault(
        name="builder-enables-go-on",
        module=f"{_CLOSER}.burst_builder",
        unit="BurstBuilder",
        kind="register not cleared",
        description="halves of a burst that leaves count for the next one, which begins meanwhile",
        old="Mux(bursts.valid, 0, kept)",
        new="kept",
        killed_by=f"{_CLOSING}/test_burst_builder.py::test_pieces_at_full_pace",
    ),
    ComponentFault(
        name="tap-one-bank",
        module="hw.cores.score_tap",
        unit="ScoreTap",
        kind="stuck at 0",
        description="scores of the next job overwrite those that wait for their sums",
        old="m.d.sync += bank.eq(bank + 1)",
        new="m.d.sync += bank.eq(0)",
        killed_by="tb/cores/test_score_tap.py::test_stalls[0.5]",
    ),
    ComponentFault(
        name="saliency-newest-token",
        module="hw.cores.saliency_update",
        unit="SaliencyUpdate",
        kind="condition dropped",
        description="the newest token begins with what the memory held",
        old="return Mux(newest, 0, word)",
        new="return word",
        killed_by="tb/cores/test_saliency_update.py::test_tails_at_full_pace[tiny]",
    ),
    ComponentFault(
        name="reciprocal-first-row",
        module="hw.cores.sum_reciprocal",
        unit="SumReciprocal",
        kind="wrong operand",
        description="every row is divided by the sum of the first one",
        old="sums.eq(sums >> config.sum_bits)",
        new="sums.eq(sums)",
        killed_by="tb/cores/test_sum_reciprocal.py::test_random_jobs_at_full_pace[tiny]",
    ),
    ComponentFault(
        name="admission-oldest-cache",
        module="hw.cores.job_admission",
        unit="JobAdmission",
        kind="off by one",
        description="a job does not wait for the oldest one of its cache",
        old="(used > i) & self._meet(",
        new="(used > i + 1) & self._meet(",
        killed_by="tb/cores/test_job_admission.py::test_jobs_of_one_cache_follow_each_other",
    ),
    ComponentFault(
        name="admission-caches-stay",
        module="hw.cores.job_admission",
        unit="JobAdmission",
        kind="register not moved",
        description="caches in use do not move up when a job ends",
        old="m.d.sync += cache.eq(behind)",
        new="m.d.sync += cache.eq(cache)",
        killed_by="tb/cores/test_job_admission.py::test_caches_in_use_move_up",
    ),
    ComponentFault(
        name="admission-half-of-the-ring",
        module="hw.cores.job_admission",
        unit="JobAdmission",
        kind="stuck at 0",
        description="every tail begins in the first half of the ring",
        old="(half + job.tail - 1)[",
        new="(job.tail - 1)[",
        killed_by="tb/cores/test_job_admission.py::test_places_of_a_ring",
    ),
    ComponentFault(
        name="admission-ring-of-slots",
        module="hw.cores.job_admission",
        unit="JobAdmission",
        kind="bound dropped",
        description="a ring has as many places as there are slots",
        old="(half + job.tail - 1)[:ring_bits]",
        new="half + job.tail - 1",
        killed_by="tb/cores/test_job_admission.py::test_places_of_a_ring",
    ),
    ComponentFault(
        name="finish-early-failure",
        module="hw.cores.job_finish",
        unit="JobFinish",
        kind="condition dropped",
        description="a write that fails while saliencies still come is forgotten",
        old="self.failed | spoilt",
        new="self.failed",
        killed_by="tb/cores/test_job_finish.py::test_a_write_fails_at_any_time[1]",
    ),
    ComponentFault(
        name="finish-half-of-the-ring",
        module="hw.cores.job_finish",
        unit="JobFinish",
        kind="stuck at 0",
        description="the first saliencies always go to the first half of the ring",
        old="Mux(upper_half, blocks // 2 * step, 0), offset",
        new="0, offset",
        killed_by="tb/cores/test_job_finish.py::test_every_window",
    ),
    ComponentFault(
        name="import-window-too-early",
        module="hw.cores.prompt_import",
        unit="PromptImport",
        kind="condition dropped",
        description="a window closes before its last token is written",
        old="(prompt.first + written) >> window_shift",
        new="(prompt.first + count) >> window_shift",
        killed_by="tb/cores/test_prompt_import.py::test_writes_that_take_long",
    ),
    ComponentFault(
        name="import-fence-before-tokens",
        module="hw.cores.prompt_import",
        unit="PromptImport",
        kind="wrong source",
        description="tokens that leave the appender after a fence count as written with it",
        old="m.d.sync += written.eq(before_fence)",
        new="m.d.sync += written.eq(appended)",
        killed_by="tb/cores/test_prompt_import.py::test_writes_that_take_long",
    ),
    ComponentFault(
        name="import-ring-overrun",
        module="hw.cores.prompt_import",
        unit="PromptImport",
        kind="off by one",
        description="a token takes the place of a window that still closes",
        old="(position >> window_shift) <= closed + 1",
        new="(position >> window_shift) <= closed + 2",
        killed_by="tb/cores/test_prompt_import.py::test_closings_slower_than_tokens",
    ),
    ComponentFault(
        name="import-ends-early",
        module="hw.cores.prompt_import",
        unit="PromptImport",
        kind="condition dropped",
        description="an import is over while its last window still closes",
        old="(written == prompt.tokens) & (closed == target)",
        new="(written == prompt.tokens)",
        killed_by="tb/cores/test_prompt_import.py::test_closings_slower_than_tokens",
    ),
    ComponentFault(
        name="import-window-forgotten",
        module="hw.cores.prompt_import",
        unit="PromptImport",
        kind="condition dropped",
        description="a window that fails while the next one's tokens come is not told",
        old="with m.Elif(answered):",
        new="with m.Elif(answered & (count == prompt.tokens)):",
        killed_by="tb/cores/test_prompt_import.py::test_a_window_fails_beside_tokens"
        "[0-SCALE_NOT_FINITE]",
    ),
    ComponentFault(
        name="import-padding",
        module="hw.cores.prompt_import",
        unit="PromptImport",
        kind="condition dropped",
        description="padding goes to the appender",
        old="beats.valid & (beat != 0)",
        new="beats.valid",
        killed_by="tb/cores/test_prompt_import.py::test_prompts",
    ),
)

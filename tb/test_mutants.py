"""Mutation testing: that faults are put where they belong, and that each one is found."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from hw.config import AttentionConfig, preset
from hw.memory.dram.controller.write_batcher import WriteBatcher
from tb import test_attention
from tb.attention.emission import emission
from tb.attention.runner import Mismatch
from tb.formal.mutant import mutant
from tb.harness import Hang, SimulationError, StreamRuleBroken
from tb.memory.dram.controller import test_write_batcher
from tb.mutants import __main__ as command
from tb.mutants import campaign as campaigns
from tb.mutants.campaign import Campaign, IntactFailure, UnknownTest, find_test
from tb.mutants.catalogue import FAULTS, UNITS, faults_by_unit, unit_of
from tb.mutants.components import COMPONENT_FAULTS, run_test, switch_on
from tb.mutants.inject import Fault, InjectionError, inject, modules, short_names

SMALL = r"""// A header.
module core(clk, a, b
, y);
  input clk;
  wire \$1 ;
  reg [3:0] \$2 ;
  assign \$1  = a & b;
  assign \$3  = a | b;
  always @(posedge clk)
    y <= \$2 ;
  always @* begin
    \$2  = y;
    if (\$1 ) begin
      \$2 [1:0] = 2'h1;
    end
  end
endmodule

module core_unit (a, x);
  assign \$4  = a == 3'h7;
  assign \$5  = ~ \$4 ;
  assign \$6  = a == 3'h6;
  assign \$7  = ~ \$6 ;
  assign x[0] = \$7 ;
endmodule
"""
AND = Fault(
    name="and",
    module="",
    kind="swap",
    description="an or",
    statement="assign <out> = a & b",
    faulty="a | b",
    killed_by="test_attention_fused[tiny]",
)


def test_modules_by_name() -> None:
    assert list(modules(SMALL)) == ["core", "core_unit"]
    assert modules(SMALL)["core_unit"].startswith("module core_unit (a, x);")
    assert short_names(SMALL) == {"core": "", "core_unit": "unit"}


def test_assignment_gets_two_right_sides() -> None:
    text = inject(SMALL, [AND])
    assert "  assign intact_1 = a & b ;\n  assign faulty_1 = a | b;\n" in text
    assert r"assign \$1   = mutant == 1 ? faulty_1 : intact_1;" in text
    assert r"wire [$bits(\$1  ) - 1:0] intact_1;" in text
    assert '$value$plusargs("memory_mutant=%d", mutant)' in text
    assert ", y);\n  integer mutant;" in text


def test_only_modules_with_a_fault_change() -> None:
    assert modules(inject(SMALL, [AND]))["core_unit"] == modules(SMALL)["core_unit"]
    assert inject(SMALL, []) == SMALL


def test_register_and_part_of_a_variable() -> None:
    register = replace(AND, statement="y <= <next>", faulty="<next> + 1")
    part = replace(AND, statement="<next> [1:0] = 2'h1", faulty="2'h3")
    text = inject(SMALL, [register, part])
    assert r"begin if (mutant == 1) y  <= \$2  + 1; else y  <= \$2 ; end" in text
    assert r"begin if (mutant == 2) \$2 [1:0] = 2'h3; else \$2 [1:0] = 2'h1 ; end" in text
    assert text.count("integer mutant;") == 1


def test_context_tells_equal_statements_apart() -> None:
    fault = replace(
        AND,
        module="unit",
        context=("assign <is_six> = a == 3'h6",),
        statement="assign <other> = ~ <is_six>",
        faulty="<is_six>",
    )
    text = inject(SMALL, [fault])
    assert r"assign intact_1 = ~ \$6 ;" in text
    assert r"assign faulty_1 = \$6 ;" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": "unti"}, r"^and: 0 modules match 'unti', must be one$"),
        ({"module": ".*"}, r"^and: 2 modules match '\.\*', must be one$"),
        (
            {"statement": "assign <out> = a & c"},
            r"^and: 0 statements of module '' match 'assign <out> = a & c', must be one$",
        ),
        (
            {"module": "unit", "statement": "assign <out> = ~ <in>"},
            r"^and: 2 statements of module 'unit' match 'assign <out> = ~ <in>', must be one$",
        ),
        ({"context": ("assign <x> = y",)}, r"^and: 0 statements .* match 'assign <x> = y'"),
        ({"faulty": "<out> & <what>"}, r"^and: nothing is called what$"),
    ],
)
def test_a_fault_that_does_not_fit(change: dict[str, str], message: str) -> None:
    with pytest.raises(InjectionError, match=message):
        inject(SMALL, [replace(AND, **change)])  # type: ignore[arg-type]


def test_two_faults_in_one_statement() -> None:
    with pytest.raises(InjectionError, match="fault 2 changes the same statement as another one"):
        inject(SMALL, [AND, replace(AND, faulty="a")])


def test_module_without_a_unit() -> None:
    assert unit_of("unpacker_deltas_gearbox") == "Gearbox"
    with pytest.raises(InjectionError, match=r"^module 'novelty' belongs to 0 units, must be one$"):
        unit_of("novelty")


def test_every_unit_has_a_fault_that_fits() -> None:
    """The units are those of the emitted Verilog: a new one without a fault is found here."""
    text = emission(preset(command.PRESET)).verilog.read_text()
    inject(text, FAULTS)
    by_unit = faults_by_unit(text, FAULTS)
    assert set(by_unit) == set(UNITS)
    assert [unit for unit, faults in by_unit.items() if not faults] == []
    assert sum(map(len, by_unit.values())) == len(FAULTS) >= 20
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_every_fault_names_a_test() -> None:
    for fault in FAULTS:
        find_test(fault.killed_by)
    assert find_test("test_reset_in_flight[333]") == (
        test_attention.test_reset_in_flight,
        {"reset_at": 333},
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_nothing", r"^tb/test_attention.py::test_nothing does not exist$"),
        ("data_of", "does not exist"),
        ("test_reset_in_flight[2]", r"test_reset_in_flight has no parameter '2'$"),
        ("test_reset_in_flight", "has no parameter ''"),
        ("test_bad_descriptors_and_scales[2]", "has no parameter '2'"),
    ],
)
def test_a_test_that_does_not_exist(name: str, message: str) -> None:
    with pytest.raises(UnknownTest, match=message):
        find_test(name)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Mismatch("2 differences from the twin:\nfirst one\nsecond one"), "first one"),
        (AssertionError(""), "an assertion of the test"),
        (Hang("not done: output a; output b (seed 1, files in x)"), "Hang: not done: output a"),
        (StreamRuleBroken("withdrew (seed 1)\nfiles"), "StreamRuleBroken: withdrew"),
        (SimulationError("ended:\n[10] %Fatal: m.sv:9: Assertion failed in m: tag 3\n"), "tag 3"),
    ],
)
def test_what_counts_as_found(
    error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The test gets the Verilog with the fault's number, and a limit from the run without it."""
    seen: list[dict[str, object]] = []

    def simulate(_config: AttentionConfig, _data: object, **options: object) -> object:
        seen.append(options)
        if options["memory"] == {"latency_min": 1, "mutant": 7}:
            raise error
        return type("Run", (), {"cycles": 100})

    def check(seed: int) -> None:
        simulated = vars(test_attention)["run_attention"]
        simulated(preset("tiny"), {}, seed=seed, memory={"latency_min": 1})

    monkeypatch.setattr(campaigns, "run_attention", simulate)
    monkeypatch.setattr(test_attention, "test_bad_descriptors_and_scales", check)
    fault = replace(AND, killed_by="test_bad_descriptors_and_scales")
    campaign = Campaign(tmp_path, seed=3)
    found = campaign.run_fault(7, fault)
    assert (found.passed, found.reason) == (False, reason)
    survived = campaign.run_fault(8, fault)
    assert (survived.passed, survived.reason, survived.cycles) == (True, "", 100)
    limits = [options.pop("max_cycles", None) for options in seen]
    assert limits == [None, 5_200, 5_200]
    assert [options["memory"]["mutant"] for options in seen] == [0, 7, 8]  # type: ignore[index]
    assert all(o["verilog"] == tmp_path and o["seed"] == 3 for o in seen)


def test_a_test_that_fails_without_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def check(seed: int) -> None:
        raise Mismatch("wrong from the start")

    monkeypatch.setattr(test_attention, "test_bad_descriptors_and_scales", check)
    with pytest.raises(
        IntactFailure, match="test_bad_descriptors_and_scales fails without any fault: wrong from"
    ):
        Campaign(tmp_path, seed=1).run_intact("test_bad_descriptors_and_scales")


def test_a_survivor_fails_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = {
        "unit": "Selector",
        "fault": "selector-tie",
        "description": "ties",
        "test": "tb/test_attention.py::test_attention_fused[tiny]",
        "killed": True,
        "how": "a difference",
        "cycles": 1234,
    }
    rows = [row, {**row, "fault": "other", "killed": False}]
    monkeypatch.setattr(command, "run_all", lambda seed, console: rows)
    monkeypatch.setattr(command, "REPORTS", tmp_path)
    monkeypatch.setattr(command, "REPOSITORY", tmp_path)
    result = CliRunner().invoke(command.main, ["--seed", "5"])
    assert result.exit_code == 1
    assert "1 of 2 faults found" in result.output
    assert "survived: other" in result.output
    assert "SURVIVED: ties" in result.output
    rows.pop()
    result = CliRunner().invoke(command.main)
    assert result.exit_code == 0
    assert "test_attention_fused[tiny]" in result.output
    assert '"killed": 1' in (tmp_path / "mutants.json").read_text()


def test_every_fault_of_a_component_fits_and_names_a_test() -> None:
    for fault in COMPONENT_FAULTS:
        mutant(getattr(import_module(fault.module), fault.unit), fault.old, fault.new)
        file, _, name = fault.killed_by.partition("::")
        tests = import_module(file.removesuffix(".py").replace("/", "."))
        assert callable(getattr(tests, name.partition("[")[0]))
    assert len({fault.name for fault in COMPONENT_FAULTS}) == len(COMPONENT_FAULTS)


def test_a_fault_is_put_into_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = next(fault for fault in COMPONENT_FAULTS if fault.name == "batch-age")
    # What is set here is undone behind the test.
    monkeypatch.setattr(WriteBatcher, "elaborate", intact := WriteBatcher.elaborate)
    test_write_batcher.test_old_writes_interrupt_reads()
    switch_on(fault)
    assert WriteBatcher.elaborate is not intact
    with pytest.raises(AssertionError):
        test_write_batcher.test_old_writes_interrupt_reads()


@pytest.mark.slow
def test_a_fault_of_a_component_is_found_in_a_run_of_its_own(seed: int) -> None:
    fault = next(fault for fault in COMPONENT_FAULTS if fault.name == "batch-age")
    assert run_test(fault.killed_by, seed).passed
    found = run_test(fault.killed_by, seed, fault)
    assert not found.passed
    assert "assert" in found.reason
    with pytest.raises(IntactFailure, match=r"nothing\.py fails without any fault"):
        run_test("tb/nothing.py", seed)


@pytest.mark.slow
def test_every_fault_is_found(seed: int) -> None:
    result = CliRunner().invoke(command.main, ["--seed", str(seed)])
    assert result.exit_code == 0, result.output

"""The controller against the device model: contents, rules, refresh, reset, back-pressure.

The device stops a run at the first broken rule, `check_trace` looks at all commands again, and
`Workload.check` at every word. The tests of a standard share a build.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from hw.memory.dram import DramStandard, Location, load_standard, standard_names
from hw.memory.dram.commands import READS, WRITES
from hw.memory.dram.controller import ControllerConfig
from tb.harness import HarnessError
from tb.memory.dram.constraints import constraints
from tb.memory.dram.controller.bench import Result, run_requests
from tb.memory.dram.controller.workload import Workload
from tb.memory.dram.coverage import punctual
from tb.memory.dram.trace_checker import check_trace

WINDOW = 8
NAMES = standard_names()
#: Rules that a controller without PREA, and with per-bank refresh if there is one, never runs into.
_NEVER = {"tRPab", "tRFCab"}
#: Rules that no traffic runs into, and why.
UNREACHED = {
    "lpddr5-6400-x16": _NEVER | {"tCCD_R"},  # one stack
    "hbm2-2000": _NEVER | {"tCCD_R", "tFAW"},  # one stack; tFAW is 4 tRRD
    "hbm3-6400": _NEVER,
    "ddr4-3200": {"tRPab", "tCCD_R"},  # one stack; refreshes are of all banks
}


def config_of(name: str, gear: int = 1, **fields: object) -> ControllerConfig:
    """Return the configuration that a test is for."""
    return ControllerConfig(standard=load_standard(name), gear=gear, **fields)  # type: ignore[arg-type]


def run_workloads(
    config: ControllerConfig, workloads: list[Workload], *, seed: int, **options: object
) -> Result:
    """Run one workload per pseudo-channel, check data and traces."""
    result = run_requests(
        config,
        [workload.requests for workload in workloads],
        window=WINDOW,
        seed=seed,
        trace=True,
        max_cycles=20_000_000,
        **options,  # type: ignore[arg-type]
    )
    for i, workload in enumerate(workloads):
        outputs = result.run.outputs
        workload.check(outputs[f"response__{i}"], outputs[f"written__{i}"])
    assert result.traces
    for trace in result.traces:
        assert check_trace(config.standard, trace) == set()
    # A bank may be owed 8 refreshes, and is owed one of each round at most.
    rounds = config.standard.postponed_refreshes * len(config.bank_sets)
    assert 0 < result.counter("most_debt") <= rounds
    return result


def random_workloads(config: ControllerConfig, seed: int, number: int) -> list[Workload]:
    """Return a workload per pseudo-channel: all patterns, then some that leave the channel."""
    workloads = []
    for channel in range(config.standard.pseudo_channels):
        workload = Workload(config, WINDOW, seed + 1000 * channel)
        for pattern in workload.patterns():
            workload.add(pattern, number, writes=0.3)
        # Batches of writes are full before the reads behind them are over.
        workload.add("small region", number, writes=0.6, bursts=16)
        workload.add_refused(number // 4)
        workloads.append(workload)
    return workloads


def idle_workloads(config: ControllerConfig, seed: int) -> list[Workload]:
    """Return a workload per pseudo-channel: one read."""
    workloads = []
    for channel in range(config.standard.pseudo_channels):
        workload = Workload(config, WINDOW, seed + channel)
        workload.add("anywhere", 1, writes=0.0)
        workloads.append(workload)
    return workloads


def rules_of(standard: DramStandard) -> set[str]:
    """Return the rules of the standard that are distances."""
    rules = {constraint.rule for constraint in constraints(standard)} | {"tFAW"}
    return rules | ({"tpbRround"} if standard.protocol.per_bank_refresh else set())


def check_refreshes(config: ControllerConfig, result: Result) -> None:
    """Compare the number of refreshes with the time; the device looks at the rule tREFI."""
    kind = "per_bank_refreshes" if config.per_bank_refresh else "all_bank_refreshes"
    other = "all_bank_refreshes" if config.per_bank_refresh else "per_bank_refreshes"
    cycles = result.traces[-1].cycles
    sets, channels = len(config.bank_sets), config.standard.pseudo_channels
    rounds = result.counter(kind) / (sets * channels)
    due = cycles / config.standard["tREFI"]
    assert due - config.standard.postponed_refreshes <= rounds <= 1.05 * due + 1
    assert result.counter(other) == 0


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "hbm3-6400" else []) for name in NAMES],
)
def test_random_traffic_runs_into_every_rule(name: str, seed: int) -> None:
    config = config_of(name)
    result = run_workloads(config, random_workloads(config, seed, 300), seed=seed, stall=0.2)
    check_refreshes(config, result)
    reached = {rule for rule, _, _ in punctual(config.standard, result.traces[0])}
    assert rules_of(config.standard) - reached == UNREACHED[name]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "gear"), [(name, 2) for name in NAMES])
def test_random_traffic_at_gear_2(name: str, gear: int, seed: int) -> None:
    config = config_of(name, gear)
    result = run_workloads(config, random_workloads(config, seed, 150), seed=seed, stall=0.2)
    check_refreshes(config, result)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hbm2-2000", "lpddr5-6400-x16"])
def test_all_bank_refresh(name: str, seed: int) -> None:
    config = config_of(name, refresh="all_bank")
    result = run_workloads(config, random_workloads(config, seed, 300), seed=seed)
    check_refreshes(config, result)
    assert "tRFCab" in {rule for rule, _, _ in punctual(config.standard, result.traces[0])}
    idle = run_workloads(
        config, idle_workloads(config, seed), seed=seed, drain=20 * config.standard["tREFI"]
    )
    check_refreshes(config, idle)


@pytest.mark.parametrize("name", ["ddr4-3200", "lpddr5-6400-x16"])
def test_idle_channel_is_refreshed(name: str, seed: int) -> None:
    config = config_of(name)
    result = run_workloads(
        config, idle_workloads(config, seed), seed=seed, drain=20 * config.standard["tREFI"]
    )
    assert result.traces[0].cycles > 20 * config.standard["tREFI"]
    check_refreshes(config, result)
    # Nothing is postponed without a reason.
    assert result.counter("most_debt") <= 2


@pytest.mark.parametrize(
    ("name", "pattern", "number"),
    [("lpddr5-6400-x16", "one bank", 1200), ("ddr4-3200", "stream", 4000)],
)
def test_busy_banks_are_refreshed_by_force(name: str, pattern: str, number: int, seed: int) -> None:
    """Never idle for longer than 8 tREFI: one bank, so that no round ends; or all of them."""
    config = config_of(name)
    workload = Workload(config, WINDOW, seed)
    bursts = 1 if pattern == "one bank" else 16
    workload.add(pattern, number, writes=0.0, bursts=bursts)
    result = run_workloads(config, [workload], seed=seed)
    assert result.traces[0].cycles > 9 * config.standard["tREFI"]
    sets = len(config.bank_sets)
    limit = config.refresh_debt * sets
    # `run_workloads` looks at the 8 rounds that are legal; forced ones take less than one.
    assert limit <= result.counter("most_debt") <= limit + sets
    check_refreshes(config, result)


def test_latency(seed: int) -> None:
    """One read after the other, of one row."""
    config = config_of("hbm2-2000")
    standard = config.standard
    workloads = [Workload(config, WINDOW, seed) for _ in range(2)]
    for column in range(4):
        location = Location(bank_group=1, bank=1, row=5, column=column)
        workloads[0].append(config.address_map.address(location), 1, False, 0)
    result = run_workloads(config, workloads, seed=seed, drain=standard["tREFI"])
    reads = [issue.time for issue in result.traces[0].issues if issue.command in READS]
    assert result.run.first_output_cycle["response__0"] == reads[0] + standard["tCL"] + 1
    # The next request is offered 2 clocks after the first of the two words.
    latency = standard["tCL"] + 5
    assert {b - a for a, b in pairwise(reads)} == {latency + 2}


#: The slot of the requests that the others must not starve.
VICTIM = WINDOW - 1


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("target", ["other row of the bank", "other bank of the group"])
def test_row_hits_starve_nobody(target: str, writes: bool, seed: int) -> None:
    """Seven slots hit one row all the time, in writes every other time if there are any."""
    config = config_of("lpddr5-6400-x16")
    standard = config.standard
    workload = Workload(config, WINDOW, seed)
    half = standard.columns // 2
    for i in range(2000):
        if i % 25 == 24:
            bank = 2 if target == "other bank of the group" else 1
            location = Location(bank_group=1, bank=bank, row=i, column=i % half)
            workload.append(config.address_map.address(location), 1, False, VICTIM)
            continue
        write = writes and i % 2 == 1
        location = Location(bank_group=1, bank=1, row=0, column=i % half + write * half)
        workload.append(config.address_map.address(location), 1, write, i % VICTIM)
    result = run_workloads(config, [workload], seed=seed)
    # What the queue of the bank holds, a row each; a refresh; writes between the reads.
    bound = (config.read_queue + 1) * standard["tRC"] + standard["tRFCpb"] + 64
    if writes:
        bound += config.write_queue * standard["tRC"]
    print("longest wait of the victim", result.counter(f"longest_wait_{VICTIM}"), "of", bound)
    assert standard["tRCDRD"] < result.counter(f"longest_wait_{VICTIM}") < bound


@pytest.mark.parametrize("name", ["hbm2-2000", "lpddr5-6400-x16"])
def test_reset_with_requests_under_way(name: str, seed: int) -> None:
    """The contents stay, what is under way is forgotten; the requests come again."""
    config = config_of(name)
    workloads = []
    for channel in range(config.standard.pseudo_channels):
        workload = Workload(config, WINDOW, seed + channel, replay=True)
        workload.add("small region", 150, writes=0.4)
        workloads.append(workload)
    result = run_workloads(config, workloads, seed=seed, reset_at=700 + seed % 300)
    assert len(result.traces) == 2
    assert {issue.command for issue in result.traces[0].issues[-60:]} & READS
    assert {issue.command for issue in result.traces[0].issues} & WRITES


# --- negative controls ----------------------------------------------------------------------------


#: Rules that delay a precharge: a read or write that brings its own waits, and tRP is broken.
PRECHARGES = {"tRAS", "tRTP", "tWR"}


def demanding_precharge(config: ControllerConfig, rule: str, seed: int, timing: str) -> None:
    """Let a run go on behind the first violation; both checkers find the same, the rule with it."""
    workloads = random_workloads(config, seed, 300)
    requests = [workload.requests for workload in workloads]
    options = ["+dram_stop=0", timing]
    result = run_requests(
        config, requests, window=WINDOW, seed=seed, trace=True, plusargs=options, max_cycles=10**7
    )
    table = config.standard.with_timing(**{rule: config.standard[rule] + 1})
    violations = result.traces[0].violations
    assert {violation.rule for violation in violations} == {rule, "tRP"}
    assert check_trace(table, result.traces[0]) == violations


def demanding(config: ControllerConfig, rule: str, seed: int) -> None:
    """Run the random traffic against a device that wants a clock more than the controller knows."""
    timing = f"+dram_{rule}={config.standard[rule] + 1}"
    if rule in PRECHARGES:
        demanding_precharge(config, rule, seed, timing)
        return
    with pytest.raises(HarnessError, match=rf"{rule} violated"):
        run_workloads(config, random_workloads(config, seed, 300), seed=seed, plusargs=[timing])


@pytest.mark.parametrize("rule", ["tRCDRD", "tRP", "tWTR_L", "tRFCpb"])
def test_device_finds_a_controller_that_is_too_fast(rule: str, seed: int) -> None:
    demanding(config_of("lpddr5-6400-x16"), rule, seed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        (name, rule)
        for name in NAMES
        for rule in sorted(rules_of(load_standard(name)) - UNREACHED[name])
    ],
)
def test_device_finds_every_timing_that_is_short(name: str, rule: str, seed: int) -> None:
    demanding(config_of(name), rule, seed)


def test_checks_of_a_workload_can_fail(seed: int) -> None:
    config = config_of("lpddr5-6400-x16")
    workload = Workload(config, WINDOW, seed)
    workload.add("anywhere", 6, writes=0.0, bursts=2)
    workload.add("anywhere", 1, writes=1.0)
    answers = [
        word | request.slot << 128 | beat << 128 + config.id_bits
        for request, words in zip(workload.requests, workload.expected, strict=True)
        for beat, word in enumerate(words or ())
    ]
    workload.check(answers, [6])
    error = 1 << 128 + config.id_bits + 5
    wrong = {
        "dropped": answers[:-1],
        "twice": [answers[0], *answers],
        "twice instead of another": [answers[0], answers[0], *answers[2:]],
        "a bit": [answers[0] ^ 1, *answers[1:]],
        "another id": [answers[0] ^ 1 << 128, *answers[1:]],
        "an error": [answers[0] | error, *answers[1:]],
    }
    for responses in wrong.values():
        with pytest.raises(AssertionError):
            workload.check(responses, [6])
    for written in ([], [6, 6], [5], [6 | 1 << config.id_bits]):
        with pytest.raises(AssertionError):
            workload.check(answers, written)

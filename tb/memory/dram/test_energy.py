"""The energy tables: their derivations, what is refused, the sum over the events."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources

import pytest

from hw.memory.dram import StandardError, dram_energy, load_energy, load_standard, parse_energy
from tb.memory.dram.energy import modelled_energy, per_bit

HBM2, DDR4 = load_standard("hbm2-2000"), load_standard("ddr4-3200")
TEXT = (resources.files("hw.memory.dram") / "energies" / "hbm2-2000.toml").read_text("utf-8")
NOTHING = dict.fromkeys(
    ("activations", "reads", "writes", "all_bank_refreshes", "per_bank_refreshes"), 0
)


def test_only_standards_with_a_source_have_a_table() -> None:
    names = ("ddr4-3200", "hbm2-2000", "hbm3-6400", "lpddr5-6400-x16")
    assert [load_energy(load_standard(name)) is not None for name in names] == [
        True,
        True,
        False,
        False,
    ]


def test_ddr4_follows_from_the_currents() -> None:
    """The currents of the source, the times of the standard, eight devices at 1.2 V."""
    energy = load_energy(DDR4)
    assert energy is not None
    idd0, idd2n, idd3n, idd4r, idd4w, idd5 = 57, 37, 52, 168, 150, 250
    clock = DDR4.clock_ps / 1000

    def joules(current: float, cycles: int) -> float:
        return 8 * 1.2 * current * cycles * clock

    row = joules(idd0, DDR4["tRC"]) - joules(idd3n, DDR4["tRAS"]) - joules(idd2n, DDR4["tRP"])
    bits = 8 * DDR4.burst_bytes
    assert energy.activation_pj == pytest.approx(row)
    assert energy.read_pj_per_bit * bits == pytest.approx(joules(idd4r - idd3n, DDR4.burst_cycles))
    assert energy.write_pj_per_bit * bits == pytest.approx(joules(idd4w - idd3n, DDR4.burst_cycles))
    assert energy.all_bank_refresh_pj == pytest.approx(joules(idd5 - idd3n, DDR4["tRFCab"]))
    assert energy.background_mw == pytest.approx(8 * 1.2 * idd3n)


def test_hbm2_refreshes_follow_from_the_activation() -> None:
    energy = load_energy(HBM2)
    assert energy is not None
    assert energy.per_bank_refresh_pj == HBM2.rows // 8192 * energy.activation_pj
    assert energy.all_bank_refresh_pj == HBM2.banks * energy.per_bank_refresh_pj
    # A whole row read: what the same source gives as a whole is 3.9 pJ per bit.
    streamed = (energy.activation_pj / 8192) + energy.read_pj_per_bit + energy.io_pj_per_bit
    assert 3.4 < streamed < 3.9


@pytest.mark.parametrize(
    ("counts", "clocks", "expected"),
    [
        ({"activations": 3}, 0, {"activation": 3 * 909}),
        ({"reads": 5}, 0, {"read": 5 * 256 * 3.48}),
        ({"writes": 2}, 0, {"write": 2 * 256 * 3.48}),
        ({"all_bank_refreshes": 1, "per_bank_refreshes": 2}, 0, {"refresh": 116352 + 2 * 7272}),
        # Both pseudo-channels are powered.
        ({"violations": 7}, 1000, {"background": 1000 * 33 * 2}),
    ],
)
def test_events(counts: dict[str, int], clocks: int, expected: dict[str, float]) -> None:
    energy = load_energy(HBM2)
    assert energy is not None
    causes = ("activation", "read", "write", "refresh", "background")
    wanted = dict.fromkeys(causes, 0) | expected
    assert dram_energy(energy, NOTHING | counts, clocks=clocks) == pytest.approx(wanted)
    more = dram_energy(energy, NOTHING, clocks=clocks, devices=3)
    assert more["background"] == pytest.approx(3 * wanted["background"])


def test_ddr4_background_counts_in_its_own_clock() -> None:
    energy = load_energy(DDR4)
    assert energy is not None
    assert dram_energy(energy, NOTHING, clocks=1600)["background"] == pytest.approx(499.2 * 1000)


@pytest.mark.parametrize(
    ("counts", "clocks", "devices", "message"),
    [
        ({"reads": -1}, 1, 1, "reads must be a count from 0 on, not -1"),
        ({}, -1, 1, "clocks must be a count from 0 on, not -1"),
        ({}, 1, 0, "devices must be at least 1, not 0"),
    ],
)
def test_counts_that_are_refused(
    counts: dict[str, int], clocks: int, devices: int, message: str
) -> None:
    energy = load_energy(HBM2)
    assert energy is not None
    with pytest.raises(StandardError, match=re.escape(message)):
        dram_energy(energy, NOTHING | counts, clocks=clocks, devices=devices)


def test_a_count_that_is_missing() -> None:
    energy = load_energy(HBM2)
    assert energy is not None
    with pytest.raises(StandardError, match="writes must be a count from 0 on, not None"):
        dram_energy(energy, {k: v for k, v in NOTHING.items() if k != "writes"}, clocks=1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("value = 909", "value = -1", "activation_pj must be a number from 0 on, not -1"),
        ("value = 909", "value = inf", "activation_pj must be a number from 0 on, not inf"),
        ("value = 909", "value = true", "activation_pj must be a number from 0 on, not True"),
        ("value = 909", 'value = "909"', "activation_pj must be a number from 0 on, not '909'"),
        ("value = 909, ", "", "activation_pj must be a table with 'value' and 'source'"),
        ("io_pj_per_bit", "io", "energy must not have 'io'; it has activation_pj,"),
        ("io_pj_per_bit = {", "# {", "energy must have 'io_pj_per_bit', which is missing"),
        ("per_bank_refresh_pj = {", "# {", "per_bank_refresh_pj must have a value for hbm2-2000"),
        ('name = "hbm2-2000"', 'name = "ddr4-3200"', "must be left out for ddr4-3200"),
        ('name = "hbm2-2000"', 'name = "x"', "standard must be one of ddr4-3200"),
        ("covers = ", "about = ", "the table must not have 'about'; it has name, covers,"),
        ('0.80, source = "oconnor"', '0.80, source = "me"', "the source of io_pj_per_bit must be"),
        ("[sources]", '[sources]\nunused = "x"', "source 'unused' must be used by a value"),
        ('name = "hbm2-2000"', "name = 3", "name must be a string, not 3"),
        ("[energy]", "[energy", "an energy table must be a TOML text"),
    ],
)
def test_tables_that_are_refused(old: str, new: str, message: str) -> None:
    assert TEXT.count(old)
    with pytest.raises(StandardError, match=re.escape(message)):
        parse_energy(TEXT.replace(old, new, 1))


def test_a_table_is_found_by_its_standard() -> None:
    assert load_energy(replace(HBM2, name="mine")) is None
    with pytest.raises(StandardError, match="standard must be one of"):
        parse_energy(TEXT.replace("hbm2-2000", "mine", 1))


@pytest.mark.parametrize(("channels", "devices"), [(1, 1), (2, 1), (3, 2), (4, 2)])
def test_channels_come_in_devices(channels: int, devices: int) -> None:
    energy = modelled_energy("hbm2-2000", NOTHING, clocks=10, channels=channels)
    assert energy is not None
    assert energy["background"] == pytest.approx(devices * 2 * 33 * 10)
    assert modelled_energy("hbm3-6400", NOTHING, clocks=10, channels=channels) is None


def test_per_bit() -> None:
    assert per_bit({"read": 60.0, "background": 20.0}, 2) == pytest.approx(5)
    assert per_bit({"background": 20.0}, 0) == 0

"""ControllerConfig: every field's check names the field and the legal values."""

import re

import pytest

from hw.memory.dram import StandardError, load_standard
from hw.memory.dram.controller import ControllerConfig

_HBM2, _DDR4 = load_standard("hbm2-2000"), load_standard("ddr4-3200")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("gear", 3, "gear must be one of 1, 2, not 3"),
        ("gear", True, "gear must be one of 1, 2, not True"),
        ("id_bits", 0, "id_bits must be an integer from 1 to 16, not 0"),
        ("id_bits", 17, "id_bits must be an integer from 1 to 16, not 17"),
        ("id_bits", 2.0, "id_bits must be an integer from 1 to 16, not 2.0"),
        ("read_queue", 3, "read_queue must be one of 2, 4, 8, 16, not 3"),
        ("write_queue", 32, "write_queue must be one of 2, 4, 8, 16, not 32"),
        ("write_buffer", 16, "write_buffer must be one of 32, 64, 128, not 16"),
        ("write_batch", 0, "write_batch must be an integer from 1 to 32, not 0"),
        ("write_batch", 33, "write_batch must be an integer from 1 to 32, not 33"),
        ("write_age", 15, "write_age must be an integer from 16 to 65535, not 15"),
        ("write_age", 65536, "write_age must be an integer from 16 to 65535, not 65536"),
        ("refresh", "both", "refresh must be one of None, 'per_bank', 'all_bank', not 'both'"),
        ("refresh_debt", 0, "refresh_debt must be an integer from 1 to 6, not 0"),
        ("refresh_debt", 7, "refresh_debt must be an integer from 1 to 6, not 7"),
        ("visit_bursts", 3, "visit_bursts must be"),
    ],
)
def test_illegal_values(field: str, value: object, message: str) -> None:
    with pytest.raises(StandardError, match=f"^{re.escape(message)}"):
        ControllerConfig(standard=_HBM2, **{field: value})  # type: ignore[arg-type]


def test_refresh_of_a_standard_without_per_bank_refresh() -> None:
    with pytest.raises(StandardError, match="refresh must be one of None, 'all_bank', not 'per_ba"):
        ControllerConfig(standard=_DDR4, refresh="per_bank")
    assert not ControllerConfig(standard=_DDR4).per_bank_refresh
    assert ControllerConfig(standard=_HBM2).per_bank_refresh
    assert not ControllerConfig(standard=_HBM2, refresh="all_bank").per_bank_refresh


def test_bank_sets() -> None:
    """A set of LPDDR5 is a pair of banks 8 apart."""
    lpddr5 = ControllerConfig(standard=load_standard("lpddr5-6400-x16"))
    assert lpddr5.bank_sets == tuple((i, i + 8) for i in range(8))
    assert ControllerConfig(standard=_HBM2).bank_sets == tuple((i,) for i in range(16))
    assert ControllerConfig(standard=_DDR4).bank_sets == (tuple(range(16)),)

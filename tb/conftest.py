"""Settings that every test of the bench shares."""

from __future__ import annotations

import pytest

from tb.harness.toolchain import ToolchainError, verilator

DEFAULT_SEED = 1


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--seed``: the number that every random choice of a run follows from."""
    parser.addoption(
        "--seed",
        type=int,
        default=DEFAULT_SEED,
        help=f"seed of random data and stalls, at least 0 (default {DEFAULT_SEED})",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a seed the simulator cannot take."""
    if not 0 <= config.getoption("--seed") < 2**31:
        raise pytest.UsageError("--seed must be from 0 to 2147483647")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the simulator and the seed, with which a failure can be replayed."""
    try:
        simulator = verilator().identity
    except ToolchainError as error:
        simulator = f"no simulator: {error}"
    return [simulator, f"seed: {config.getoption('--seed')} (replay with --seed)"]


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Return the seed of this test run."""
    return int(request.config.getoption("--seed"))

"""The policy of docs/extending.md, as its reader would use and check it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from golden.acceptance import LEAST_COSINE, NEAR_TIE, closeness
from golden.tensors import CASES
from golden.workload import make_workload
from hw.config import AttentionConfig, ConfigError, preset
from hw.config_file import load_config
from hw.constants import SCORE_BITS
from hw.formats import Mode
from hw.selection import (
    MODULES_VARIABLE,
    PolicyError,
    SelectionPolicy,
    register,
    registry,
    selection_policy,
    source_of,
)
from tb.attention.catalogue import SCENARIOS, boundary_contexts
from tb.attention.golden_data import golden_data
from tb.attention.runner import Mismatch, require_equal, run_attention
from tb.cores import test_score_unit as score_unit
from tb.harness.files import REPOSITORY

#: Three rows: the sum of the two best is neither the largest score nor the sum of all.
FIELDS = {"name": "tiny-best-two", "rows": 3, "group_combine": "best_two"}
CORNERS = SCENARIOS["attention_corners"]


@pytest.fixture
def config(with_policy: None) -> AttentionConfig:
    """Size ``tiny`` with the policy of the example."""
    return replace(preset("tiny"), **FIELDS)  # type: ignore[arg-type]


def test_a_module_of_the_environment_brings_its_policy(with_policy: None, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('preset = "tiny"\nrows = 3\ngroup_combine = "best_two"\n')
    found = load_config(file)
    assert found.selection_bits == SCORE_BITS + 1
    assert replace(found, rows=1).selection_bits == SCORE_BITS
    assert found.config_hash != replace(found, group_combine="max").config_hash
    assert source_of("best_two") == REPOSITORY / "docs" / "examples" / "best_two.py"
    with pytest.raises(
        ConfigError, match=r"^group_combine must be one of 'max', 'mean', 'best_two', not 'first'$"
    ):
        replace(found, group_combine="first")


def test_without_the_module_the_policy_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the lookup, and the message of a module that does not import."""
    monkeypatch.delenv(MODULES_VARIABLE, raising=False)
    refused = r"^group_combine must be one of 'max', 'mean', not 'best_two'$"
    with pytest.raises(ConfigError, match=refused):
        AttentionConfig(group_combine="best_two")
    monkeypatch.setenv(MODULES_VARIABLE, "no_such_module")
    # A known policy needs no module of the user's.
    assert AttentionConfig(group_combine="mean")
    missing = "^group_combine cannot be looked up: KVFORGE_MODULES has 'no_such_module'"
    with pytest.raises(ConfigError, match=missing):
        AttentionConfig(group_combine="best_two")


@pytest.mark.parametrize("name", [None, "", "Two", "best-two", "max"])
def test_a_bad_or_taken_name_is_refused(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_policies", dict(registry._policies))
    policy = type("Policy", (type(selection_policy("mean")),), {"name": name})
    expected = "'max' is taken by hw.selection.maximum.Maximum" if name == "max" else "identifier"
    with pytest.raises(PolicyError, match=expected):
        register(policy)


@pytest.mark.parametrize("package", ["amaranth", "torch"])
def test_a_configuration_needs_neither_amaranth_nor_torch(package: str) -> None:
    program = f"import sys; sys.modules[{package!r}] = None; from docs.examples import best_two"
    program += "; from hw.config import AttentionConfig as C; C(group_combine='best_two')"
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)


def scores_at_the_ends(rows: int) -> Tensor:
    """Every combination of a row's extreme scores, zero and neighbours."""
    edge = 1 << (SCORE_BITS - 1)
    each = torch.tensor([-edge, -edge + 1, -1, 0, 1, edge - 1])
    return torch.cartesian_prod(*[each] * rows).reshape(-1, rows)


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ["max", "mean", "best_two"])
def test_the_twin_fits_its_width_and_is_the_reference(
    name: str, rows: int, with_policy: None
) -> None:
    """On exact numbers, up to the factor that the interface allows."""
    policy = selection_policy(name)
    scores = scores_at_the_ends(rows)
    found = policy.twin(scores)
    half = 1 << (policy.bits(SCORE_BITS, rows) - 1)
    assert -half <= int(found.min()) < -half // 2
    assert half // 2 <= int(found.max()) < half
    factor = rows if name == "mean" else 1
    assert torch.allclose(policy.reference(scores.double()) * factor, found.double(), rtol=1e-12)


def test_the_unit_gives_the_twin_s_score(
    config: AttentionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The score unit alone, with key sums at their ends."""
    monkeypatch.setitem(score_unit.CONFIGS, "best_two", config)
    score_unit.check("best_two", score_unit.make_case(config, 5, jobs=4), stall=0.3, seed=2)


def test_a_score_that_is_too_narrow_is_found(
    config: AttentionConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the same policy without its carry bit."""
    best_two = type(selection_policy("best_two"))
    attributes = {"name": "narrow", "bits": lambda self, score_bits, rows: score_bits}
    narrow: type[SelectionPolicy] = type("Narrow", (best_two,), attributes)
    register(narrow)
    spoiled = replace(config, name="tiny-narrow", group_combine="narrow")
    monkeypatch.setitem(score_unit.CONFIGS, "narrow", spoiled)
    with pytest.raises(AssertionError, match=r"At index .* diff: \{'score'"):
        score_unit.check("narrow", score_unit.make_case(spoiled, 5, jobs=4))


@pytest.mark.slow
def test_the_core_selects_as_the_twin(config: AttentionConfig, seed: int) -> None:
    """Corner tensors and boundary contexts through the emitted core, under back-pressure."""
    data = golden_data(CORNERS, config, seed)[1]
    assert set(boundary_contexts(config)) <= set(data["context"].tolist())
    run = run_attention(config, data, seed=seed, stall=CORNERS.stall, memory=CORNERS.memory)
    require_equal(run.comparison)
    assert run.comparison.chunks == len(data["selection"]) > 50


def test_another_rule_in_the_twin_is_found(
    config: AttentionConfig, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the core adds the two best rows, the twin takes the best."""
    monkeypatch.setattr(type(selection_policy("best_two")), "twin", lambda self, x: x.amax(-1))
    cases = CORNERS.cases(config, seed, Mode.KVO)[-12:]
    with pytest.raises(Mismatch, match="selection must be"):
        require_equal(run_attention(config, make_workload(cases, config), seed=seed).comparison)


@pytest.mark.parametrize("case", ["random", "sink", "outlier_channels"])
def test_the_twin_selects_as_the_reference(case: str, config: AttentionConfig, seed: int) -> None:
    """Whole decode steps in integers and in float64, the acceptance measure of the project."""
    steps = [CASES[case](config, context, seed) for context in (100, 177, config.max_context)]
    for step in steps:
        found = closeness(case, step, config)
        assert min(found.cosines) > LEAST_COSINE
        assert found.gap < NEAR_TIE


def test_another_rule_in_the_reference_is_found(
    config: AttentionConfig, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: the same steps with the largest score in the reference."""
    monkeypatch.setattr(type(selection_policy("best_two")), "reference", lambda self, x: x.amax(-1))
    steps = [CASES["random"](config, config.max_context, seed + number) for number in range(8)]
    assert max(closeness("random", step, config).gap for step in steps) > NEAR_TIE

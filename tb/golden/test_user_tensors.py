"""Tensors that a user brings: what is taken of them, every refusal, and a run on the core."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file
from torch import Tensor

from golden.reference import CompressedCache, DenseCache, compress_cache, dense_cache, saliency
from golden.user_tensors import DEFAULT_JOBS, UserTensorsError, load_tensors, user_cases
from hw.config import AttentionConfig, preset
from hw.formats import Mode
from tb import run as bench
from tb.attention.catalogue import user_scenario
from tb.harness.files import REPOSITORY

TINY = preset("tiny")


def random_tensors(
    seed: int, *, layers: int = 2, kv_heads: int = 2, tokens: int = 40, rows: int = 2
) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(heads: int) -> Tensor:
        return torch.randn((layers, heads, tokens, TINY.head_dim), generator=generator)

    return {
        "key": normal(kv_heads),
        "value": normal(kv_heads),
        "query": normal(kv_heads * rows),
    }


def save(directory: Path, tensors: dict[str, Tensor], name: str = "mine.safetensors") -> Path:
    path = directory / name
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def refusal(path: Path, config: AttentionConfig = TINY) -> str:
    """The message of ``load_tensors`` behind the path, with which it must begin."""
    with pytest.raises(UserTensorsError) as caught:
        load_tensors(path, config)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_every_type_is_rounded_to_fp16(tmp_path: Path, kind: torch.dtype, seed: int) -> None:
    stored = {name: x.to(kind) for name, x in random_tensors(seed).items()}
    loaded = load_tensors(save(tmp_path, stored), TINY)
    for name, tensor in stored.items():
        assert torch.equal(getattr(loaded, name), tensor.to(torch.float16))
        assert getattr(loaded, name).dtype == torch.float16
    assert loaded.tokens == 40


def test_a_single_layer_may_leave_its_dimension_out(tmp_path: Path, seed: int) -> None:
    stored = random_tensors(seed, layers=1)
    whole = load_tensors(save(tmp_path, stored), TINY)
    flat = {name: x[0] for name, x in stored.items()}
    single = load_tensors(save(tmp_path, flat, "single.safetensors"), TINY)
    for name in stored:
        assert torch.equal(getattr(single, name), getattr(whole, name))


def test_the_largest_fp16_number_passes(tmp_path: Path, seed: int) -> None:
    stored = random_tensors(seed)
    stored["key"][0, 1, 2, 3], stored["value"][1, 0, 39, 31] = 65504, -65504
    loaded = load_tensors(save(tmp_path, stored), TINY)
    assert loaded.key[0, 1, 2, 3] == -loaded.value[1, 0, 39, 31] == 65504


def test_the_first_tokens_are_taken(tmp_path: Path, seed: int) -> None:
    stored = random_tensors(seed, tokens=TINY.max_context + 9)
    stored["value"][0, 0, TINY.max_context, 0] = torch.nan  # not taken, so not refused
    loaded = load_tensors(save(tmp_path, stored), TINY)
    for name, tensor in stored.items():
        assert torch.equal(getattr(loaded, name), tensor[:, :, : TINY.max_context].half())
    assert loaded.describe(1).endswith(": 1 of 4 KV heads, 256 of 265 tokens")
    (case,) = user_cases(loaded, 1)
    assert case.cache.context == TINY.max_context
    assert torch.equal(case.query, stored["query"][0, :2, TINY.max_context - 1].half().float())


def test_every_head_becomes_a_job(tmp_path: Path, seed: int) -> None:
    """Each with its own keys and values, and the query heads that share them."""
    stored = random_tensors(seed, layers=3, tokens=70)
    cases = user_cases(load_tensors(save(tmp_path, stored), TINY), DEFAULT_JOBS)
    assert [(case.layer, case.kv_head) for case in cases] == [
        (layer, head) for layer in range(3) for head in range(2)
    ]
    for case in cases:
        key, value = (stored[name][case.layer, case.kv_head].half() for name in ("key", "value"))
        query = stored["query"][case.layer, 2 * case.kv_head : 2 * case.kv_head + 2].half()
        cache = compress_cache(key, value, saliency(query, key, TINY), TINY)
        assert isinstance(case.cache, CompressedCache)
        assert torch.equal(case.cache.closed.base_codes, cache.closed.base_codes)
        assert torch.equal(case.cache.closed.value_base, cache.closed.value_base)
        assert torch.equal(case.cache.tail.value_codes, cache.tail.value_codes)
        assert torch.equal(case.query, query[:, -1].float())
        assert case.cache.context == 70
        assert case.label == f"layer {case.layer}, KV head {case.kv_head}, context 70"


@pytest.mark.parametrize("mode", [Mode.DENSE8, Mode.DENSE16])
def test_dense_jobs_keep_every_token(tmp_path: Path, mode: Mode, seed: int) -> None:
    stored = random_tensors(seed, tokens=70)
    cases = user_cases(load_tensors(save(tmp_path, stored), TINY), DEFAULT_JOBS, mode)
    assert [(case.layer, case.kv_head) for case in cases] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for case in cases:
        key, value = (stored[name][case.layer, case.kv_head].half() for name in ("key", "value"))
        cache = dense_cache(key, value, mode, TINY)
        assert isinstance(case.cache, DenseCache)
        assert case.cache.mode == mode
        for part in ("key_codes", "value_codes", "key_scale", "value_scale"):
            assert torch.equal(getattr(case.cache, part), getattr(cache, part))


def test_fewer_jobs_than_heads_are_spread_evenly(tmp_path: Path, seed: int) -> None:
    loaded = load_tensors(save(tmp_path, random_tensors(seed, layers=4, tokens=3)), TINY)
    every = [(layer, head) for layer in range(4) for head in range(2)]
    assert loaded.jobs(100) == loaded.jobs(8) == every
    assert loaded.jobs(4) == every[::2]
    assert loaded.jobs(3) == [every[0], every[2], every[5]]
    assert loaded.jobs(1) == every[:1]


def test_golden_data_follow_content_and_jobs(tmp_path: Path, seed: int) -> None:
    stored = random_tensors(seed)
    same, copy = save(tmp_path, stored), save(tmp_path, stored, "copy.safetensors")
    stored["query"][1, 3, 39, 31] += 1
    other = save(tmp_path, stored, "other.safetensors")

    def name(path: Path, jobs: int) -> str:
        return user_scenario(load_tensors(path, TINY), jobs).name

    assert name(same, 4) == name(copy, 4)
    assert len({name(same, 4), name(same, 3), name(other, 4), name(other, 3)}) == 4


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.safetensors") == "cannot be read: No such file or directory"
    assert refusal(tmp_path) == "cannot be read: Is a directory"
    for content in (b"", b"nonsense and more of it"):
        (tmp_path / "bad").write_bytes(content)
        assert refusal(tmp_path / "bad").startswith("must be a safetensors file: ")
    good = save(tmp_path, random_tensors(1))
    good.write_bytes(good.read_bytes()[:-1])
    assert refusal(good).startswith("must be a safetensors file: ")


@pytest.mark.parametrize("name", ["key", "value", "query"])
def test_a_missing_tensor(tmp_path: Path, name: str, seed: int) -> None:
    stored = random_tensors(seed)
    del stored[name]
    held = ", ".join(map(repr, sorted(stored)))
    message = f"there must be a tensor {name!r}; it holds {held}"
    assert refusal(save(tmp_path, stored)) == message
    assert refusal(save(tmp_path, {})) == "there must be a tensor 'key'; it holds no tensors"


@pytest.mark.parametrize("name", ["key", "value", "query"])
def test_a_wrong_type(tmp_path: Path, name: str, seed: int) -> None:
    stored = random_tensors(seed)
    for kind, shown in ((torch.float64, "F64"), (torch.int8, "I8")):
        message = f"{name} must have type float16, bfloat16, float32, not {shown}"
        assert refusal(save(tmp_path, stored | {name: stored[name].to(kind)})) == message


def test_wrong_ranks_and_empty_tensors(tmp_path: Path, seed: int) -> None:
    stored = random_tensors(seed)
    assert refusal(save(tmp_path, stored | {"value": stored["value"][0, 0]})) == (
        "value must have dimensions [layers, kv_heads, tokens, head_dim] or "
        "[kv_heads, tokens, head_dim], not shape [40, 32]"
    )
    assert refusal(save(tmp_path, stored | {"query": stored["query"][None]})) == (
        "query must have dimensions [layers, query_heads, tokens, head_dim] or "
        "[query_heads, tokens, head_dim], not shape [1, 2, 4, 40, 32]"
    )
    nothing = {name: x[:, :, :0] for name, x in stored.items()}
    assert refusal(save(tmp_path, nothing)) == "key must not be empty, not shape [2, 2, 0, 32]"


@pytest.mark.parametrize(
    ("name", "axis", "message"),
    [
        ("value", 0, "value must have layers = 2 like key, not 1"),
        ("value", 1, "value must have kv_heads = 2 like key, not 1"),
        ("value", 2, "value must have tokens = 40 like key, not 39"),
        ("value", 3, "value must have head_dim = 32 like key, not 31"),
        ("query", 0, "query must have layers = 2 like key, not 1"),
        ("query", 2, "query must have tokens = 40 like key, not 39"),
        ("query", 3, "query must have head_dim = 32 like key, not 31"),
    ],
)
def test_shapes_that_differ(tmp_path: Path, name: str, axis: int, message: str) -> None:
    stored = random_tensors(1)
    stored[name] = stored[name].narrow(axis, 0, stored[name].shape[axis] - 1)
    assert refusal(save(tmp_path, stored)) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_dim": 64}, "key must have head_dim = 64 for configuration 'mine', not 32"),
        ({"layers": 1}, "key must have layers <= 1 for configuration 'mine', not 2"),
        ({"kv_heads": 1}, "key must have kv_heads <= 1 for configuration 'mine', not 2"),
        (
            {"rows": 1},
            "query must have query_heads = 2 (1 rows per KV head) for configuration 'mine', not 4",
        ),
        (
            {"rows": 3},
            "query must have query_heads = 6 (3 rows per KV head) for configuration 'mine', not 4",
        ),
    ],
)
def test_other_configurations(tmp_path: Path, change: dict[str, int], message: str) -> None:
    config = replace(TINY, name="mine", **change)  # type: ignore[arg-type]
    assert refusal(save(tmp_path, random_tensors(1)), config) == message


@pytest.mark.parametrize("name", ["key", "value", "query"])
@pytest.mark.parametrize(
    ("element", "shown"),
    [(torch.nan, "nan"), (torch.inf, "inf"), (-torch.inf, "-inf"), (-65536, "-65536.0")],
)
def test_elements_beyond_fp16(tmp_path: Path, name: str, element: float, shown: str) -> None:
    for kind in (torch.float32, torch.bfloat16):
        stored = {tensor: x.to(kind) for tensor, x in random_tensors(1).items()}
        stored[name][1, 0, 7, 30] = element
        assert refusal(save(tmp_path, stored)) == (
            f"{name} must be finite and at most 65504 in size (FP16), not {shown} at [1, 0, 7, 30]"
        )


def simulate(*arguments: str | Path) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(
        bench.main,
        ["attention_fused", "--memory", "ideal", *map(str, arguments)],
        catch_exceptions=False,
    )


def test_a_run_on_the_core(tmp_path: Path, seed: int) -> None:
    """The build is that of the other tests of preset tiny."""
    path = save(tmp_path, random_tensors(seed, tokens=150))
    done = simulate("--kv", path, "--preset", "tiny", "--seed", str(seed), "--jobs", "3")
    assert done.exit_code == 0, done.output
    line = re.search(r"^tensors +(.*)", done.stdout, re.MULTILINE)
    written = re.search(r"^report +(\S+)", done.stdout, re.MULTILINE)
    assert line
    assert written
    report = json.loads((REPOSITORY / written[1]).read_text())
    assert line[1].strip() == report["tensors"]
    assert re.fullmatch(
        r"mine\.safetensors \(SHA-256 [0-9a-f]{12}\): 3 of 4 KV heads, 150 of 150 tokens",
        report["tensors"],
    )
    assert report["passed"]
    assert report["test"].startswith("attention_fused-kv-")
    assert report["compared"]["jobs"] == report["compared"]["planned_jobs"] == 3
    # 128 of 150 tokens are closed: 16 chunks, of which 4 are read.
    assert report["compared"]["chunks"] == 3 * 4


def test_the_command_refuses_in_one_line_with_status_2(tmp_path: Path, seed: int) -> None:
    tensors = random_tensors(seed)
    path = save(tmp_path, tensors)
    small = tmp_path / "small.toml"
    small.write_text('preset = "tiny"\nmemory_bytes = 4096')
    wrong = "key must have head_dim = 64 for configuration 'lm', not 32"
    for arguments, message in (
        (["attention_fused", "--kv", path], f"{path}: {wrong}"),
        (
            ["attention_faults", "--preset", "tiny", "--kv", path],
            "a file of tensors goes with attention_fused only, not with attention_faults",
        ),
        (
            ["attention_fused", "--preset", "tiny", "--jobs", "3"],
            "a number of jobs goes with a file of tensors only",
        ),
    ):
        done = CliRunner().invoke(bench.main, list(map(str, arguments)))
        assert done.exit_code == 2
        assert done.stderr == f"error: {message}\n"
    done = simulate("--kv", path, "--config", small)
    assert done.exit_code == 2
    assert re.search(r"\nerror: image must fit memory_bytes 4096, not \d+\n$", done.stderr)

"""Capture from a Llama checkpoint: against decoding token by token, and every refusal."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

from golden.checkpoint import CheckpointError, CheckpointKV, capture_checkpoint
from golden.checkpoint.__main__ import main, read_tokens, write_tensors
from golden.model.architecture import LanguageModel, LayerTensors, ModelConfig
from golden.user_tensors import load_tensors, user_cases
from hw.config import preset

VOCABULARY, HIDDEN, INNER, LAYERS = 37, 24, 40, 3
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def fields(query_heads: int, kv_heads: int, head_dim: int, **more: Any) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": query_heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000.0,
        "tie_word_embeddings": False,
        **more,
    }


def random_weights(config: dict[str, Any], seed: int) -> dict[str, Tensor]:
    """Large enough that every part of a layer changes what the next one sees."""
    generator = torch.Generator().manual_seed(seed)
    query, kv = (
        config[f"num_{kind}_heads"] * config["head_dim"] for kind in ("attention", "key_value")
    )
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        linear = {
            "self_attn.q_proj": (query, HIDDEN, "attention_bias"),
            "self_attn.k_proj": (kv, HIDDEN, "attention_bias"),
            "self_attn.v_proj": (kv, HIDDEN, "attention_bias"),
            "self_attn.o_proj": (HIDDEN, query, "attention_bias"),
            "mlp.gate_proj": (INNER, HIDDEN, "mlp_bias"),
            "mlp.up_proj": (INNER, HIDDEN, "mlp_bias"),
            "mlp.down_proj": (HIDDEN, INNER, "mlp_bias"),
        }
        for name, (outputs, inputs, bias) in linear.items():
            shapes[f"{prefix}.{name}.weight"] = (outputs, inputs)
            if config.get(bias):
                shapes[f"{prefix}.{name}.bias"] = (outputs,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{prefix}.{name}.weight"] = (HIDDEN,)
    shapes["model.norm.weight"] = (HIDDEN,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (VOCABULARY, HIDDEN)
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def store(directory: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    save_file(weights, directory / WEIGHTS)
    return directory


def store_sharded(directory: Path, config: dict[str, Any], weights: dict[str, Tensor]) -> Path:
    """Three files and their index; names do not tell which file holds what."""
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    shards: list[dict[str, Tensor]] = [{}, {}, {}]
    for number, (name, tensor) in enumerate(weights.items()):
        shards[number % 3][name] = tensor
    places: dict[str, str] = {}
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05}-of-00003.safetensors"
        save_file(shard, directory / file)
        places |= dict.fromkeys(shard, file)
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return directory


def decode(
    config: dict[str, Any], weights: dict[str, Tensor], tokens: list[int], scaling: dict[str, Any]
) -> dict[str, Tensor]:
    """The model as written in its paper, token by token in float64, head by head, pair by pair."""
    head_dim = config["head_dim"]
    group = config["num_attention_heads"] // config["num_key_value_heads"]
    wide = {name: weight.double() for name, weight in weights.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.pow(2).mean() + config["rms_norm_eps"]).sqrt() * wide[f"{name}.weight"]

    def linear(x: Tensor, name: str) -> Tensor:
        return wide[f"{name}.weight"] @ x + wide.get(f"{name}.bias", torch.zeros(()))

    def frequency(pair: int) -> float:
        turn = config["rope_theta"] ** (-2 * pair / head_dim)
        kind = scaling.get("rope_type", "default")
        if kind == "linear":
            return turn / scaling["factor"]
        if kind == "llama3":
            original, low, high = (
                scaling[key]
                for key in (
                    "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
                )
            )  # fmt: skip
            wavelength = 2 * math.pi / turn
            if wavelength > original / low:
                return turn / scaling["factor"]
            if wavelength >= original / high:
                smooth = (original / wavelength - low) / (high - low)
                return (1 - smooth) * turn / scaling["factor"] + smooth * turn
        return turn

    def rotate(head: Tensor, position: int) -> Tensor:
        turned = head.clone()
        half = head_dim // 2
        for pair in range(half):
            angle = position * frequency(pair)
            cosine, sine = math.cos(angle), math.sin(angle)
            turned[pair] = head[pair] * cosine - head[pair + half] * sine
            turned[pair + half] = head[pair + half] * cosine + head[pair] * sine
        return turned

    names = ("key", "value", "query")
    kept: dict[str, list[list[Tensor]]] = {name: [[] for _ in range(LAYERS)] for name in names}
    for position, token in enumerate(tokens):
        x = wide["model.embed_tokens.weight"][token]
        for layer in range(LAYERS):
            prefix = f"model.layers.{layer}"
            normal = norm(x, f"{prefix}.input_layernorm")
            keys, values, queries = (
                linear(normal, f"{prefix}.self_attn.{name}_proj").split(head_dim) for name in "kvq"
            )
            kept["key"][layer].append(torch.stack([rotate(key, position) for key in keys]))
            kept["value"][layer].append(torch.stack(values))
            kept["query"][layer].append(torch.stack([rotate(query, position) for query in queries]))
            outputs = []
            for head, query in enumerate(kept["query"][layer][-1]):
                seen = torch.stack([key[head // group] for key in kept["key"][layer]])
                read = torch.stack([value[head // group] for value in kept["value"][layer]])
                outputs.append((seen @ query / math.sqrt(head_dim)).softmax(0) @ read)
            x = x + linear(torch.cat(outputs), f"{prefix}.self_attn.o_proj")
            normal = norm(x, f"{prefix}.post_attention_layernorm")
            gate = linear(normal, f"{prefix}.mlp.gate_proj")
            inner = gate * gate.sigmoid() * linear(normal, f"{prefix}.mlp.up_proj")
            x = x + linear(inner, f"{prefix}.mlp.down_proj")
    return {
        name: torch.stack([torch.stack(layer, 1) for layer in kept[name]]).float() for name in names
    }


def some_tokens(seed: int, count: int = 40) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (count,), generator=generator).tolist()


@pytest.mark.parametrize(
    ("heads", "more"),
    [
        ((2, 2, 16), {}),
        ((4, 2, 8), {"tie_word_embeddings": True}),
        ((4, 1, 6), {"attention_bias": True, "mlp_bias": True}),
        ((6, 2, 16), {"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4.0}}),
        ((3, 3, 32), {"rope_scaling": LLAMA3}),
        ((8, 2, 4), {"rope_scaling": None, "quantization_config": None}),
    ],
    ids=["multi-head", "tied", "bias", "linear", "llama3", "null"],
)
def test_capture_equals_decoding(
    tmp_path: Path, heads: tuple[int, int, int], more: dict[str, Any], seed: int
) -> None:
    config = fields(*heads, **more)
    weights = random_weights(config, seed)
    tokens = some_tokens(seed)
    captured = capture_checkpoint(store(tmp_path, config, weights), tokens)
    expected = decode(config, weights, tokens, config.get("rope_scaling") or {})
    query_heads, kv_heads, head_dim = heads
    assert captured.key.shape == captured.value.shape == (LAYERS, kv_heads, 40, head_dim)
    assert captured.query.shape == (LAYERS, query_heads, 40, head_dim)
    for name, tensor in expected.items():
        torch.testing.assert_close(getattr(captured, name), tensor, atol=2e-5, rtol=2e-4)


def test_llama3_scaling_meets_all_its_cases() -> None:
    """Pairs that stay, pairs that slow down, and some between: the test above sees each."""
    turns = [32 / (2 * math.pi) * 1000 ** (-2 * pair / 32) for pair in range(16)]
    assert min(turns) < 1
    assert max(turns) > 4
    assert any(1 < turn < 4 for turn in turns)


def equal(one: CheckpointKV, other: CheckpointKV) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("key", "value", "query")
    )


def test_ways_to_store_the_same_model(tmp_path: Path, seed: int) -> None:
    config = fields(4, 2, 8, rope_scaling=LLAMA3)
    weights = random_weights(config, seed)
    tokens = some_tokens(seed, 9)
    whole = capture_checkpoint(store(tmp_path / "whole", config, weights), tokens)
    sharded = store_sharded(tmp_path / "sharded", config, weights)
    assert equal(capture_checkpoint(sharded, tokens), whole)
    (sharded / INDEX).unlink()
    assert equal(capture_checkpoint(sharded, tokens), whole)
    # What newer files call the fields of RoPE; the defaults left out; no output head.
    newer = {name: x for name, x in config.items() if not name.startswith(("rope", "tie", "hid"))}
    newer |= {"rope_parameters": {**LLAMA3, "rope_theta": 1000.0}, "hidden_size": HIDDEN}
    bare = {name.removeprefix("model."): x for name, x in weights.items() if "lm_head" not in name}
    assert equal(capture_checkpoint(store(tmp_path / "newer", newer, bare), tokens), whole)


def test_fields_left_out_have_the_published_defaults(tmp_path: Path, seed: int) -> None:
    config = fields(
        4, 4, HIDDEN // 4, rope_theta=10000.0, rms_norm_eps=1e-6, max_position_embeddings=2048
    )
    weights = random_weights(config, seed)
    tokens = some_tokens(seed, 12)
    whole = capture_checkpoint(store(tmp_path / "whole", config, weights), tokens)
    for name in (
        "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps",
        "rope_theta", "hidden_act",
    ):  # fmt: skip
        del config[name]
    assert equal(capture_checkpoint(store(tmp_path / "short", config, weights), tokens), whole)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_weights_are_computed_in_float32(tmp_path: Path, kind: torch.dtype, seed: int) -> None:
    config = fields(4, 2, 8)
    halves = {name: x.to(kind) for name, x in random_weights(config, seed).items()}
    singles = {name: x.float() for name, x in halves.items()}
    tokens = some_tokens(seed, 9)
    captured = capture_checkpoint(store(tmp_path / "half", config, halves), tokens)
    assert captured.key.dtype == captured.query.dtype == torch.float32
    assert equal(captured, capture_checkpoint(store(tmp_path / "single", config, singles), tokens))


def test_capture_equals_the_project_s_own_model(tmp_path: Path, seed: int) -> None:
    own = ModelConfig(d_model=32, layers=2, query_heads=4, kv_heads=2, head_dim=16, d_ff=48)
    model = LanguageModel(own, seed=seed)
    config = fields(4, 2, 16) | {
        "vocab_size": own.vocabulary,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "rope_theta": own.rope_theta,
        "rms_norm_eps": own.norm_eps,
    }
    tokens = list(b"to be, or not to be")
    seen: dict[int, LayerTensors] = {}
    with torch.no_grad():
        model(torch.tensor([tokens]), captured=seen)
    captured = capture_checkpoint(store(tmp_path, config, model.state_dict()), tokens)
    for layer, tensors in seen.items():
        for name in ("key", "value", "query"):
            torch.testing.assert_close(
                getattr(captured, name)[layer], getattr(tensors, name)[0], atol=1e-5, rtol=1e-5
            )


def test_the_command_writes_a_file_that_the_bench_takes(tmp_path: Path, seed: int) -> None:
    config = fields(4, 2, 32)
    directory = store(tmp_path / "model", config, random_weights(config, seed))
    (tmp_path / "ids.json").write_text(json.dumps(some_tokens(seed)))
    output = tmp_path / "made" / "kv.safetensors"
    arguments = [directory, "--tokens", tmp_path / "ids.json", "--output", output]
    done = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout == (
        f"{output}: 40 tokens; for a configuration with\n"
        "head_dim = 32\nrows = 2\nlayers = 3\nkv_heads = 2\n"
    )
    captured = capture_checkpoint(directory, some_tokens(seed))
    written = load_file(output)
    for name in ("key", "value", "query"):
        assert torch.equal(written[name], getattr(captured, name).half())
    loaded = load_tensors(output, replace(preset("tiny"), layers=3))
    assert len(user_cases(loaded, 16)) == 6


def refusal(directory: Path, tokens: list[int] | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        capture_checkpoint(directory, [1, 2, 3] if tokens is None else tokens)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral"}, "model_type must be 'llama', not 'mistral'"),
        ({"model_type": None}, "model_type must be 'llama', not None"),
        ({"hidden_act": "gelu"}, "hidden_act must be 'silu', not 'gelu'"),
        (
            {"quantization_config": {"bits": 4}},
            "quantization_config must be left out, not {'bits': 4}",
        ),
        ({"hidden_size": None}, "hidden_size must be a positive integer, not None"),
        ({"vocab_size": 0}, "vocab_size must be a positive integer, not 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a positive integer, not True"),
        ({"intermediate_size": 4.0}, "intermediate_size must be a positive integer, not 4.0"),
        ({"head_dim": 7}, "head_dim must be even, not 7"),
        (
            {"num_key_value_heads": 3},
            "num_attention_heads must be a multiple of num_key_value_heads 3, not 4",
        ),
        ({"rms_norm_eps": 0}, "rms_norm_eps must be a positive number, not 0"),
        ({"rope_theta": "1e4"}, "rope_theta must be a positive number, not '1e4'"),
        ({"rope_theta": math.nan}, "rope_theta must be a positive number, not nan"),
        ({"attention_bias": 1}, "attention_bias must be true or false, not 1"),
        ({"rope_scaling": 8}, "rope_scaling must be an object, not 8"),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "rope type must be default, linear or llama3, not 'dynamic'",
        ),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            "rope type must be default, linear or llama3, not 'yarn'",
        ),
        (
            {"rope_scaling": {"rope_type": "linear"}},
            "factor must be a positive number, not None",
        ),
        (
            {"rope_scaling": {"rope_type": "default", "partial_rotary_factor": 0.5}},
            "partial_rotary_factor must be 1.0, not 0.5",
        ),
        (
            {"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}},
            "high_freq_factor must be above low_freq_factor 1.0, not 1.0",
        ),
        (
            {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": None}},
            "original_max_position_embeddings must be a positive number, not None",
        ),
    ],
)
def test_refused_architectures(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    config = fields(4, 2, 8)
    directory = store(tmp_path, config | change, random_weights(config, 1))
    assert refusal(directory) == f"{directory / 'config.json'}: {message}"


def test_refused_config_files(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    assert refusal(tmp_path) == f"{file}: cannot be read: No such file or directory"
    file.write_text("{")
    assert refusal(tmp_path).startswith(f"{file}: must be a JSON file: ")
    file.write_bytes(b"\xff")
    assert refusal(tmp_path).startswith(f"{file}: must be a JSON file: ")
    file.write_text("[]")
    assert refusal(tmp_path) == f"{file}: must be an object, not list"


def test_refused_weights(tmp_path: Path) -> None:
    config = fields(4, 2, 8)
    weights = random_weights(config, 1)
    directory = store(tmp_path, config, weights)
    file, name = directory / WEIGHTS, "model.layers.1.mlp.up_proj.weight"
    save_file({key: x for key, x in weights.items() if key != name}, file)
    assert refusal(directory) == f"{directory}: there must be a tensor {name!r}"
    save_file(weights | {name: weights[name].T.contiguous()}, file)
    assert refusal(directory) == f"{file}: {name} must have shape [40, 24], not [24, 40]"
    save_file(weights | {name: weights[name].to(torch.int8)}, file)
    assert refusal(directory) == f"{file}: {name} must have type float16, bfloat16, float32, not I8"
    save_file(weights, directory / "twice.safetensors")
    assert re.fullmatch(
        rf"{directory}: \S+ must be in one file, not in {WEIGHTS} and twice\.safetensors",
        refusal(directory),
    )
    (directory / "twice.safetensors").unlink()
    file.write_bytes(file.read_bytes()[:-1])
    assert refusal(directory).startswith(f"{file}: must be a safetensors file: ")
    file.unlink()
    assert refusal(directory) == f"{directory}: there must be weights in *.safetensors"


def test_refused_shards(tmp_path: Path) -> None:
    config = fields(4, 2, 8)
    directory = store_sharded(tmp_path, config, random_weights(config, 1))
    index, first = directory / INDEX, directory / "model-00001-of-00003.safetensors"
    content = json.loads(index.read_text())
    places = content["weight_map"]
    name = "model.embed_tokens.weight"
    index.write_text(
        json.dumps({"weight_map": places | {name: "model-00002-of-00003.safetensors"}})
    )
    wrong = directory / "model-00002-of-00003.safetensors"
    assert refusal(directory) == f"{wrong}: there must be a tensor {name!r}"
    outside = {name: "../elsewhere.safetensors"}
    damaged: list[Any] = [[], {}, {"weight_map": 1}, {"weight_map": outside}]
    for bad in damaged:
        index.write_text(json.dumps(bad))
        assert refusal(directory) == (
            f"{index}: weight_map must name a file of the directory for each tensor"
        )
    index.write_text(json.dumps(content))
    first.unlink()
    assert refusal(directory) == f"{first}: there must be such a file"


def test_refused_tokens(tmp_path: Path) -> None:
    config = fields(4, 2, 8)
    directory = store(tmp_path, config, random_weights(config, 1))
    assert refusal(directory, []) == "there must be 1 to 64 tokens, not 0"
    assert refusal(directory, [0] * 65) == "there must be 1 to 64 tokens, not 65"
    assert refusal(directory, [0, 37]) == "token 1 must be from 0 to 36, not 37"
    assert refusal(directory, [-1]) == "token 0 must be from 0 to 36, not -1"
    assert capture_checkpoint(directory, [36] * 64).key.shape[2] == 64
    file = tmp_path / "ids.json"
    for text, message in (
        ('{"ids": [1]}', "must be a list of token ids, not dict"),
        ("[1, 2.0]", "token 1 must be an integer, not 2.0"),
        ("[true]", "token 0 must be an integer, not True"),
    ):
        file.write_text(text)
        with pytest.raises(CheckpointError, match=re.escape(f"{file}: {message}")):
            read_tokens(file)


def test_refused_output(tmp_path: Path) -> None:
    one = torch.ones(1, 1, 2, 4)
    for element in (65536.0, math.nan):
        spoiled = CheckpointKV(key=one, value=one * element, query=one)
        with pytest.raises(CheckpointError, match=rf"value must be finite .*, not {element}"):
            write_tensors(spoiled, tmp_path / "kv.safetensors")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_tensors(CheckpointKV(key=one, value=one, query=one), tmp_path)


def test_the_command_refuses_in_one_line_with_status_2(tmp_path: Path) -> None:
    missing = tmp_path / "ids.json"
    arguments = [str(tmp_path), "--tokens", str(missing), "--output", str(tmp_path / "kv")]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert done.stderr == f"error: {missing}: cannot be read: No such file or directory\n"
    assert not (tmp_path / "kv").exists()

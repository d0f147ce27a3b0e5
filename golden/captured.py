"""Jobs on the KV tensors of the trained model."""

from collections.abc import Sequence

from torch import Tensor

from golden.model.capture import CapturedKV, capture
from golden.tensors import Tensors
from golden.workload import JobCase, case_from_tensors
from hw.config import AttentionConfig, ConfigError
from hw.formats import Mode


def check_model(captured: CapturedKV, config: AttentionConfig) -> None:
    """Refuse a configuration whose shape is not the model's.

    Raises
    ------
    ConfigError
        A field differs; the message names it and the model's value.
    """
    layers, kv_heads, tokens, head_dim = captured.key.shape
    expected = {
        "head_dim": head_dim,
        "rows": captured.query.shape[1] // kv_heads,
        "kv_heads": kv_heads,
        "layers": layers,
    }
    for field, value in expected.items():
        if getattr(config, field) != value:
            raise ConfigError(
                f"{field} must be {value} for the trained model, not {getattr(config, field)}"
            )
    if config.max_context > tokens:
        raise ConfigError(
            f"max_context must be at most the {tokens} captured tokens, not {config.max_context}"
        )


def captured_tensors(
    captured: CapturedKV, config: AttentionConfig, *, layer: int, kv_head: int, context: int
) -> Tensors:
    """The first ``context`` tokens of one KV head and of the query heads that share it."""

    def prefix(x: Tensor) -> Tensor:
        return x[..., :context, :].half().float()

    heads = slice(kv_head * config.rows, (kv_head + 1) * config.rows)
    return Tensors(
        keys=prefix(captured.key[layer, kv_head]),
        values=prefix(captured.value[layer, kv_head]),
        queries=prefix(captured.query[layer, heads]),
    )


def captured_cases(
    config: AttentionConfig,
    contexts: Sequence[int],
    *,
    prompt: str = "mixed",
    mode: Mode = Mode.KVO,
) -> list[JobCase]:
    """One job per layer, KV head and context, on the prompt's real tensors.

    Raises
    ------
    ConfigError
        The configuration does not fit the model.
    """
    captured = capture(prompt)
    check_model(captured, config)
    return [
        case_from_tensors(
            f"layer {layer}, KV head {head}, context {context}",
            captured_tensors(captured, config, layer=layer, kv_head=head, context=context),
            config,
            layer=layer,
            kv_head=head,
            mode=mode,
        )
        for context in contexts
        for layer in range(config.layers)
        for head in range(config.kv_heads)
    ]

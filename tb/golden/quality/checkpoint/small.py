"""Checkpoints small enough for a test; needs the optional extra ``quality``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from golden.model.architecture import LanguageModel, ModelConfig
from golden.quality.optional import optional

#: Token ids of the byte-level tokenizer that are no bytes.
BOS, EOS, VOCABULARY = 256, 263, 264


def quiet() -> Console:
    """Nobody reads it."""
    return Console(file=io.StringIO())


def _alphabet() -> dict[str, int]:
    """The character that byte-level tokenizers write for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {
        chr(256 + index): byte for index, byte in enumerate(others)
    }


def byte_tokenizer() -> Any:
    """A byte is a token, with the byte as its id."""
    tokenizers = optional("tokenizers")
    vocabulary = _alphabet() | {f"<{token}>": token for token in range(256, VOCABULARY)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return optional("transformers").PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=f"<{BOS}>", eos_token=f"<{EOS}>"
    )


def merging_tokenizer(text: str) -> Any:
    """Byte-level with merges of several letters, as Llama 3's."""
    t = optional("tokenizers")
    tokenizer = t.Tokenizer(t.models.BPE())
    tokenizer.pre_tokenizer = t.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = t.processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = t.decoders.ByteLevel()
    alphabet = t.pre_tokenizers.ByteLevel.alphabet()
    trainer = t.trainers.BpeTrainer(
        vocab_size=600, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    fast = optional("transformers").PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, bos_token="<s>")


def spaced_tokenizer(text: str) -> Any:
    """Pieces that begin with a visible space, and bytes for what is in none, as Llama 2's."""
    t = optional("tokenizers")
    tokenizer = t.Tokenizer(t.models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = t.normalizers.Sequence(
        [t.normalizers.Prepend("\u2581"), t.normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.pre_tokenizer = t.pre_tokenizers.Split("\u2581", "merged_with_next")
    first = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = t.trainers.BpeTrainer(vocab_size=600, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    # Bytes are pieces that the model falls back to, no special tokens.
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = parts["added_tokens"][:2]
    tokenizer = t.Tokenizer.from_str(json.dumps(parts))
    d = t.decoders
    tokenizer.decoder = d.Sequence(
        [d.Replace("\u2581", " "), d.ByteFallback(), d.Fuse(), d.Strip(" ", 1, 0)]
    )
    fast = optional("transformers").PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def save(directory: Path, model: LanguageModel, *, head: Tensor | None = None) -> Path:
    """Write this project's model as a Llama checkpoint; ``head`` instead of tied embeddings."""
    transformers = optional("transformers")
    config = model.config
    shape = transformers.LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.d_model,
        intermediate_size=config.d_ff,
        num_hidden_layers=config.layers,
        num_attention_heads=config.query_heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_dim,
        max_position_embeddings=config.context,
        rms_norm_eps=config.norm_eps,
        rope_theta=config.rope_theta,
        tie_word_embeddings=head is None,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    llama = transformers.LlamaForCausalLM(shape)
    weights = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    if head is not None:
        weights["lm_head.weight"] = head
    found = llama.load_state_dict(weights, strict=False)
    assert not found.unexpected_keys
    assert set(found.missing_keys) <= {"lm_head.weight"}
    llama.tie_weights()
    llama.save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def random_model(*, context: int = 1024, seed: int = 0) -> LanguageModel:
    """Two layers, two KV heads of 32 channels for four query heads."""
    sizes = ModelConfig(layers=2, d_model=32, d_ff=32, head_dim=32, context=context)
    return LanguageModel(sizes, seed=seed).eval()

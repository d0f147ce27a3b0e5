"""The method in float: quantiser, compression of closed windows (DSQ), pruned attention (HCAP)."""

from golden.reference.attend import (
    Attention,
    attend,
    dense_attention,
    estimate_chunks,
    select_chunks,
)
from golden.reference.cache import (
    CompressedCache,
    SlotCache,
    Tail,
    compress_cache,
    compress_tail,
    dequantise_tail,
)
from golden.reference.compress import (
    CompressedWindow,
    base_keys,
    compress_window,
    dequantise_window,
    order_window,
    saliency,
)
from golden.reference.dense import DenseCache, dense_cache, dequantise_dense
from golden.reference.quantiser import (
    Quantised,
    dequantise,
    dequantise_query,
    from_fp16,
    quantise,
    quantise_query,
    to_fp16,
)
from golden.reference.votes import prompt_votes, voted_against

__all__ = [
    "Attention",
    "CompressedCache",
    "CompressedWindow",
    "DenseCache",
    "Quantised",
    "SlotCache",
    "Tail",
    "attend",
    "base_keys",
    "compress_cache",
    "compress_tail",
    "compress_window",
    "dense_attention",
    "dense_cache",
    "dequantise",
    "dequantise_dense",
    "dequantise_query",
    "dequantise_tail",
    "dequantise_window",
    "estimate_chunks",
    "from_fp16",
    "order_window",
    "prompt_votes",
    "quantise",
    "quantise_query",
    "saliency",
    "select_chunks",
    "to_fp16",
    "voted_against",
]

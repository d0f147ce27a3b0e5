"""The cache methods, one module per paper."""

from golden.quality.methods.fp16 import FP16
from golden.quality.methods.h2o import H2O
from golden.quality.methods.int8 import INT8
from golden.quality.methods.kivi import KIVI
from golden.quality.methods.kvo import KVO
from golden.quality.methods.quest import Quest
from golden.quality.methods.snapkv import SnapKV
from golden.quality.methods.streaming_llm import StreamingLLM

__all__ = ["FP16", "H2O", "INT8", "KIVI", "KVO", "Quest", "SnapKV", "StreamingLLM"]

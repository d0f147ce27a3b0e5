"""The cache methods, one module per paper."""

from golden.quality.methods.arkvale import ArkVale
from golden.quality.methods.cross_layer import CrossLayer
from golden.quality.methods.fp16 import FP16
from golden.quality.methods.h2o import H2O
from golden.quality.methods.int8 import INT8
from golden.quality.methods.kivi import KIVI
from golden.quality.methods.kvo import KVO
from golden.quality.methods.progressive import Progressive
from golden.quality.methods.quarot import QuaRot
from golden.quality.methods.quest import Quest
from golden.quality.methods.rce import RCE
from golden.quality.methods.scissorhands import Scissorhands
from golden.quality.methods.snapkv import SnapKV
from golden.quality.methods.snapstream import SnapStream
from golden.quality.methods.streaming_llm import StreamingLLM
from golden.quality.methods.zipcache import ZipCache

__all__ = [
    "FP16",
    "H2O",
    "INT8",
    "KIVI",
    "KVO",
    "RCE",
    "ArkVale",
    "CrossLayer",
    "Progressive",
    "QuaRot",
    "Quest",
    "Scissorhands",
    "SnapKV",
    "SnapStream",
    "StreamingLLM",
    "ZipCache",
]

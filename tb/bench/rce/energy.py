"""A model of the energy of a step of a full cache: events times energies at 45 nm.

What it leaves out: clock tree, control, wires, leakage, and the reduced widths and zeros of real
operands. It is for the share of a few small units, not for a figure in joules.
"""

from __future__ import annotations

from hw.config import BEAT_BYTES, AttentionConfig
from hw.cores.payloads import POSITION_BITS
from hw.memory.dram import load_energy, load_standard
from tb.generation.rce import step_bytes

#: Picojoules. Arithmetic: M. Horowitz, ISSCC 2014, 45 nm. Memory: a word of 64 bits of an SRAM of
#: 4 KB, CACTI 7, 45 nm; writes as reads.
ADD8, ADD32, MULTIPLY8, MULTIPLY32 = 0.03, 0.1, 0.2, 3.1
SRAM_WORD, WORD_BITS = 2.34, 64
#: Bytes of a DRAM row, which a step reads from one end to the other.
ROW_BYTES = 1024
SOURCES = {
    "arithmetic": "M. Horowitz, ISSCC 2014, 45 nm",
    "memory": "CACTI 7, 45 nm, 4 KB, 64 bits",
    "dram": "the table of hbm2-2000",
}
#: What RCE publishes of its MMU.
PUBLISHED_SHARE = 0.0111


def _words(bits: int) -> int:
    return -(-bits // WORD_BITS)


def _multiply(one: int, other: int) -> float:
    """A product of so many bits, as the part of 8 by 8 bits."""
    return MULTIPLY8 * one * other / 64


def step_energy(config: AttentionConfig) -> dict[str, dict[str, float]]:
    """Picojoules of a step of a full cache by ``dram``, ``core`` (shared) and ``rce`` (its own)."""
    slots, rows, channels = config.slots, config.rows, config.head_dim
    read, written = step_bytes(config, 0, slots)
    dram = load_energy(load_standard("hbm2-2000"))
    assert dram is not None
    bit = dram.read_pj_per_bit + dram.io_pj_per_bit
    place = (slots - 1).bit_length()
    core = {
        "key products": slots * channels * rows * (_multiply(12, config.key_bits) + ADD32),
        "value products": slots * channels * rows * (_multiply(12, config.tail_value_bits) + ADD32),
        # Per key group and row a product with the scale and one with the minimum.
        "scales": slots * config.groups * rows * 2 * MULTIPLY32,
        # Per score: its scale, the power in the softmax and, for the tap, again and with 1 / sum.
        "softmax": slots * rows * 2 * (MULTIPLY32 + ADD32),
        "probabilities for the scores": slots * rows * 2 * (MULTIPLY32 + ADD32),
        # Every beat is written to and read from the reorder buffer.
        "reorder buffer": read / BEAT_BYTES * 2 * 8 * BEAT_BYTES / WORD_BITS * SRAM_WORD,
    }
    entry = 1 + POSITION_BITS + place * (1 + config.slot_recent)
    rce = {
        # Decay by a constant, two additions at most beside the one of before.
        "decay": slots * 2 * ADD32,
        "victim": slots * (ADD32 + (1 + config.slot_recent) * ADD8),
        "map": 2 * _words(entry) * SRAM_WORD + ADD32,
    }
    if config.votes:
        rce["votes"] = slots * (2 * MULTIPLY32 + 2 * SRAM_WORD + 4 * ADD32)
        # Variance and root: a bit a cycle with two additions of twice 32 bits.
        rce["root"] = 64 * 4 * ADD32
    return {
        "dram": {
            "bits": 8 * (read + written) * bit,
            "activations": (read + written) / ROW_BYTES * dram.activation_pj,
        },
        "core": core,
        "rce": rce,
    }


def shares(config: AttentionConfig) -> dict[str, float]:
    """What RCE's own units take of the chip, and of the chip and the DRAM together."""
    parts = {name: sum(part.values()) for name, part in step_energy(config).items()}
    chip = parts["core"] + parts["rce"]
    return {
        "pj": parts["rce"],
        "chip": parts["rce"] / chip,
        "all": parts["rce"] / (chip + parts["dram"]),
    }

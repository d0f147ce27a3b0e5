"""What the parts of the controller hand to each other."""

from amaranth.lib import data

from hw.memory.dram.controller.config import ControllerConfig
from hw.memory.dram.port import field_bits
from hw.memory.port import BEAT_INDEX_BITS


def place_bits(config: ControllerConfig) -> int:
    """Bits of the place of a burst: within a read request, or in the write buffer."""
    return max(BEAT_INDEX_BITS, (config.write_buffer - 1).bit_length())


def tag_layout(config: ControllerConfig) -> data.StructLayout:
    """Where the data of a read belong.

    ``id`` of the request, ``beats_less_one`` of the whole request, whether the request begins in
    the second half of its first burst, and whether it is ``refused``: it leaves the channel.
    """
    return data.StructLayout(
        {"id": config.id_bits, "beats_less_one": BEAT_INDEX_BITS, "second_half": 1, "refused": 1}
    )


def job_layout(config: ControllerConfig) -> data.StructLayout:
    """Bursts of one row: consecutive columns; ``place`` of the first, see `place_step`.

    ``tag`` says nothing for a write.
    """
    standard = config.standard
    return data.StructLayout(
        {
            "row": field_bits(standard.rows),
            "column": field_bits(standard.columns),
            "bursts_less_one": field_bits(config.visit_bursts),
            "place": place_bits(config),
            "tag": tag_layout(config),
        }
    )


def visit_layout(config: ControllerConfig) -> data.StructLayout:
    """A job and the number of its bank, ``bank_group * banks_per_group + bank``."""
    return data.StructLayout({"bank": field_bits(config.standard.banks), "job": job_layout(config)})


def place_step(config: ControllerConfig) -> int:
    """Places from one burst of a job to the next: consecutive bursts alternate between groups."""
    return config.standard.groups_per_stack


def column_layout(config: ControllerConfig) -> data.StructLayout:
    """A read or write of one burst: what the command says, and what goes with its data."""
    return data.StructLayout(
        {
            "bank": field_bits(config.standard.banks),
            "column": field_bits(config.standard.columns),
            "precharge": 1,
            "place": place_bits(config),
            "tag": tag_layout(config),
        }
    )

"""The units of an attention core."""

from collections.abc import Sequence

from amaranth.hdl import Module

from hw.config import AttentionConfig
from hw.cores.contribution_merge import ContributionMerge
from hw.cores.dot_collector import DotCollector
from hw.cores.job_intake import JobIntake
from hw.cores.job_retire import JobRetire
from hw.cores.key_accumulator import KeyAccumulator
from hw.cores.normaliser import Normaliser
from hw.cores.operand_select import OperandSelect
from hw.cores.payloads import scaled_tag, step_tag
from hw.cores.pe_array import PEArray
from hw.cores.query_store import QueryStore
from hw.cores.scale_bank import ScaleBank
from hw.cores.score_unit import ScoreUnit
from hw.cores.selector import Selector
from hw.cores.sequencer import Sequencer
from hw.cores.softmax import Softmax
from hw.cores.sum_reciprocal import SumReciprocal
from hw.cores.unpacker import Unpacker
from hw.cores.value_accumulator import ValueAccumulator
from hw.counters import Counter
from hw.memory.fetch import Fetch


class AttentionUnits:
    """One of each unit of an `AttentionCore`, by the name of its instance.

    Parameters
    ----------
    config : AttentionConfig
    page_bytes : int or None
        As of `Fetch`.
    """

    def __init__(self, config: AttentionConfig, page_bytes: int | None) -> None:
        # Jobs.
        self.intake = JobIntake(config)
        self.retire = JobRetire(config)
        # Memory.
        self.sequencer = Sequencer(config)
        self.fetch = Fetch(config, page_bytes)
        self.unpacker = Unpacker(config)
        # Products.
        self.operands = OperandSelect(config)
        self.query_store = QueryStore(config)
        self.pe_array = PEArray(config, tag_bits=step_tag(config).size)
        self.collector = DotCollector(config)
        self.scale_bank = ScaleBank(config, tag_bits=scaled_tag(config).size)
        # Scores.
        self.key_accumulator = KeyAccumulator(config)
        self.score_unit = ScoreUnit(config)
        self.selector = Selector(config)
        self.softmax = Softmax(config)
        # Values.
        self.merge = ContributionMerge(config)
        self.accumulator = ValueAccumulator(config)
        self.reciprocal = SumReciprocal(config)
        self.normaliser = Normaliser(config)

    def add_to(self, m: Module) -> None:
        """Make every unit a submodule of ``m``."""
        for name, unit in vars(self).items():
            m.submodules[name] = unit

    @property
    def counters(self) -> dict[str, Sequence[Counter]]:
        """Counters of each unit that has some, in the order of the register map."""
        return {
            "intake": self.intake.counters,
            "retire": self.retire.counters,
            "sequencer": self.sequencer.counters,
            "fetch": self.fetch.counters,
            "unpacker": self.unpacker.counters,
            "operands": self.operands.counters,
            "accumulator": self.accumulator.counters,
        }

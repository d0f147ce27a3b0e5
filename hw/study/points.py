"""What the area study measures: units of the core at the published size, each in several forms."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from amaranth.lib import wiring

from hw.config import AttentionConfig, preset
from hw.cores.job_intake import JobIntake
from hw.cores.job_retire import JobRetire
from hw.cores.pe_array import PEArray
from hw.cores.pe_row import PERow
from hw.cores.probability import Probability
from hw.cores.query_store import QueryStore
from hw.cores.scale_bank import ScaleBank
from hw.cores.score_unit import ScoreUnit
from hw.cores.softmax import Softmax
from hw.cores.value_accumulator import ValueAccumulator
from hw.study.codes import DIVIDERS
from hw.study.products import PRODUCTS

CONFIG = preset("paper")


@dataclass(frozen=True)
class Point:
    """One component to synthesise."""

    #: What is asked; the points of a question are compared with each other.
    question: str
    unit: str
    #: What differs from the other points of the question.
    form: str
    make: Callable[[], wiring.Component]

    @property
    def module(self) -> str:
        """A name for the synthesis."""
        text = f"{self.unit}_{self.form}".lower()
        return "".join(c if c.isalnum() else "_" for c in text)


def points() -> Iterator[Point]:
    """Every point, question after question."""
    for name, row in PRODUCTS.items():
        yield Point("digit product", "PERow", name, partial(row, CONFIG))
    for bits in (10, 12, 14, 16):
        yield Point(
            "operand width",
            "PERow",
            f"{bits} bits",
            partial(PERow, CONFIG, operand_bits=bits),
        )
    for lanes in (1, 2, 4):
        yield Point(
            "scale bank width",
            "ScaleBank",
            f"{lanes} lanes",
            partial(ScaleBank, CONFIG, tag_bits=1, lanes=lanes),
        )
    yield Point("exp2 units", "Probability", "with its exp2, one per row", Probability)
    for rows in (1, 2, 4):
        config = replace(CONFIG, rows=rows)
        for unit, make in _per_row(config).items():
            yield Point("one more row", unit, f"{rows} rows", make)
    for jobs in (2, 4, 8):
        config = replace(CONFIG, jobs_in_flight=jobs)
        for unit, make in _per_job(config).items():
            yield Point("one more job in flight", unit, f"{jobs} jobs", make)

    for bits in (2, 8):
        for form, divider in DIVIDERS.items():
            name = f"{form}, {bits} bits"
            yield Point("division by the scale", "CodeDivider", name, partial(divider, bits))


def _per_row(config: AttentionConfig) -> dict[str, Callable[[], wiring.Component]]:
    """Units whose size follows the rows."""
    return {
        "PEArray": partial(PEArray, config, tag_bits=1),
        "ScaleBank": partial(ScaleBank, config, tag_bits=1),
        "ScoreUnit": partial(ScoreUnit, config),
        "Softmax": partial(Softmax, config),
        "ValueAccumulator": partial(ValueAccumulator, config),
        "QueryStore": partial(QueryStore, config),
    }


def _per_job(config: AttentionConfig) -> dict[str, Callable[[], wiring.Component]]:
    """Units whose size follows the jobs in flight."""
    return {
        "JobIntake": partial(JobIntake, config),
        "JobRetire": partial(JobRetire, config),
        "QueryStore": partial(QueryStore, config),
        "ScoreUnit": partial(ScoreUnit, config),
    }

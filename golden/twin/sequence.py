"""Twin of the sequencer: which segments of memory a job reads, in which order."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from hw.config import BURST_BYTES, AttentionConfig
from hw.formats import KVFormat, Mode


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """A checked job; ``chunks`` and ``tail`` follow from its context, addresses are in bytes."""

    slot: int
    chunks: int
    tail: int
    base_address: int
    chunk_address: int
    tail_address: int
    mode: Mode = Mode.KVO

    @classmethod
    def at(
        cls,
        context: int,
        config: AttentionConfig,
        *,
        slot: int,
        addresses: tuple[int, int, int],
        mode: Mode = Mode.KVO,
    ) -> "PlannedJob":
        """The job at ``context`` tokens; ``addresses`` are those of base, chunk and tail region."""
        closed, rest = KVFormat(config).tokens(context, mode)
        base, chunk, tail = addresses
        return cls(
            slot=slot,
            chunks=closed // config.chunk,
            tail=rest,
            base_address=base,
            chunk_address=chunk,
            tail_address=tail,
            mode=mode,
        )


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of bursts to read, and what the unpacker is told of it.

    ``kind`` is BASE_KEYS, TAIL_KEYS, DELTAS, VALUE_SCALES, VALUES or TAIL_VALUES. ``first`` and
    ``last`` mark the ends of a job's estimates (base keys) and of the units of its formal pass
    (tail keys, deltas).
    """

    kind: str
    address: int
    bursts: int
    slot: int
    present_less_one: int
    first: bool = False
    last: bool = False
    #: Codes of a dense cache; 16-bit codes of dense keys or of values outside chunks.
    dense: bool = False
    wide: bool = False


def estimates(job: PlannedJob, config: AttentionConfig) -> list[Segment]:
    """The base key blocks of all chunks; none without closed chunks."""
    size = KVFormat(config).base_block_bytes
    return [
        Segment(
            kind="BASE_KEYS",
            address=job.base_address + chunk // config.chunk * size,
            bursts=size // BURST_BYTES,
            slot=job.slot,
            present_less_one=min(config.chunk, job.chunks - chunk) - 1,
            first=chunk == 0,
            last=chunk + config.chunk >= job.chunks,
        )
        for chunk in range(0, job.chunks, config.chunk)
    ]


def formal_pass(job: PlannedJob, selection: list[int], config: AttentionConfig) -> list[Segment]:
    """Tail blocks, then selected chunks: keys of unit ``u + 1`` before the values of unit ``u``.

    The scales of a value group come before the values of the first of its chunks that follow each
    other.
    """
    layout = KVFormat(config)
    dense = job.mode != Mode.KVO
    key_size, value_size = layout.block_bytes(job.mode)
    wide = job.mode == Mode.DENSE16 if dense else config.tail_value_bits == 16
    scale_size = layout.value_scale_bytes
    blocks = layout.tail_order(job.chunks * config.chunk + job.tail, job.mode)
    #: Kinds and sizes of keys and values, and where they begin.
    units = [
        (
            ("TAIL_KEYS", key_size),
            ("TAIL_VALUES", value_size),
            job.tail_address + block * (key_size + value_size),
        )
        for block in blocks
    ]
    scales: list[list[Segment]] = [[] for _ in blocks]
    group = None
    for chunk in selection:
        before, group = group, chunk // config.group_chunks
        record = job.chunk_address + group * layout.group_bytes
        scales.append([])
        if group != before:
            scales[-1].append(
                Segment(
                    kind="VALUE_SCALES",
                    address=record,
                    bursts=scale_size // BURST_BYTES,
                    slot=job.slot,
                    present_less_one=config.chunk - 1,
                )
            )
        address = record + scale_size + chunk % config.group_chunks * layout.chunk_bytes
        units.append((("DELTAS", layout.delta_bytes), ("VALUES", layout.value_bytes), address))
    keys, values = [], []
    for unit, ((key_kind, key_bytes), (value_kind, value_bytes), address) in enumerate(units):
        absent = max(0, (unit + 1) * config.chunk - job.tail) if unit < len(blocks) else 0
        keys.append(
            Segment(
                kind=key_kind,
                address=address,
                bursts=key_bytes // BURST_BYTES,
                slot=job.slot,
                present_less_one=config.chunk - absent - 1,
                first=unit == 0,
                last=unit == len(units) - 1,
                dense=dense,
                wide=job.mode == Mode.DENSE16,
            )
        )
        values.append(
            Segment(
                kind=value_kind,
                address=address + key_bytes,
                bursts=value_bytes // BURST_BYTES,
                slot=job.slot,
                present_less_one=config.chunk - 1,
                dense=dense,
                wide=value_kind == "TAIL_VALUES" and wide,
            )
        )
    order = [keys[0]]
    for unit in range(len(units)):
        order += [*keys[unit + 1 : unit + 2], *scales[unit], values[unit]]
    return order


def sequence(
    jobs: Iterable[tuple[PlannedJob, list[int]]], config: AttentionConfig
) -> list[Segment]:
    """All segments of jobs that follow each other without a pause.

    The estimates of the next job come before the formal pass of the current one.
    """
    passes = [
        (estimates(job, config), formal_pass(job, selection, config)) for job, selection in jobs
    ]
    order = list(passes[0][0])
    for (_, formal), (next_estimates, _) in pairwise([*passes, ([], [])]):
        order += next_estimates + formal
    return order

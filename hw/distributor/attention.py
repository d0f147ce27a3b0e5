"""The distributor's view of the attention core."""

from typing import Any

from amaranth.lib import data

from hw.config import AttentionConfig
from hw.cores.job_retire import completion_layout
from hw.cores.lanes import LANES
from hw.cores.normaliser import OUTPUT_LAYOUT
from hw.cores.payloads import chunk_bits, job_layout
from hw.cores.query_store import ELEMENTS_PER_BEAT, QUERY_BEAT
from hw.distributor.port import JobStreams
from hw.formats import Mode


def attention_streams(config: AttentionConfig, *, sequence_bits: int = 16) -> JobStreams:
    """The streams of an attention core; ``sequence`` lies above the core's descriptor.

    Parameters
    ----------
    config
        The configuration of every core.
    sequence_bits
        Bits of ``sequence``, at least 1.
    """
    core_job = {name: field.shape for name, field in job_layout(config)}
    values = config.rows * config.head_dim
    return JobStreams(
        job=data.StructLayout({**core_job, "sequence": sequence_bits}),
        query=QUERY_BEAT,
        selection=data.StructLayout({"chunk": chunk_bits(config), "last": 1}),
        output=OUTPUT_LAYOUT,
        completion=completion_layout(config),
        query_beats=values // ELEMENTS_PER_BEAT,
        output_beats=values // LANES,
        most_selected=config.top_chunks,
        jobs_in_flight=config.jobs_in_flight,
    )


def brings_token(job: Any) -> Any:
    """Whether a job of a core that writes brings a token, refused or not."""
    return (job.mode == Mode.KVO) | (job.mode == Mode.SLOTS)


def selects(config: AttentionConfig, job: Any) -> Any:
    """Whether a job that is not refused selects chunks: it has a closed window.

    ``job`` is a payload of ``job``, or has its fields as integers.
    """
    # The window of the newest token and the one before it are open.
    return (job.mode == Mode.KVO) & (job.context > 2 * config.window)

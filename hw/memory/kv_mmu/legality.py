"""What a job or a prompt must be so that it needs pages: what is not legal ends without any."""

from amaranth.hdl import Mux, Value
from amaranth.lib import data

from hw.config import AttentionConfig
from hw.formats import KVFormat, Mode, Status, modes
from hw.memory.kv_mmu.config import MmuConfig


def legal_job(job: data.View, core: AttentionConfig) -> Value:
    """Whether the core does not refuse a job (`system_job_layout`) by itself."""
    longest = Mux(job.mode == Mode.SLOTS, core.slots, core.max_context)
    return (
        (job.config_hash == core.config_hash)
        & (job.mode <= max(modes(core)))
        & (job.context != 0)
        & (job.context <= longest)
        & (job.layer < core.layers)
        & (job.kv_head < core.kv_heads)
    )


def legal_prompt(prompt: data.View, core: AttentionConfig) -> Value:
    """Whether the core does not refuse a prompt (`SYSTEM_PROMPT`) by itself."""
    in_slots = (prompt.mode == Mode.SLOTS) & bool(core.slots)
    longest = Mux(in_slots, max(core.slots - 1, 0), core.max_context)
    return (
        (in_slots | (prompt.mode == Mode.KVO))
        & (prompt.tokens != 0)
        & (prompt.first + prompt.tokens <= longest)
    )


def prompt_faults(prompt: data.View, config: MmuConfig) -> list[tuple[Value, Status]]:
    """What else may be wrong with a prompt, and its status, the lowest code first."""
    core = config.attention
    end = prompt.source_address + prompt.tokens * KVFormat(core).prompt_record_bytes
    return [
        (prompt.layer >= core.layers, Status.LAYER_RANGE),
        (prompt.kv_head >= core.kv_heads, Status.HEAD_RANGE),
        (end > config.staging_bytes, Status.ADDRESS_RANGE),
    ]

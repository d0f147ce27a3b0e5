"""Golden data of the generation bench: caches that grow step by step, interleaved."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from golden.memory_image import (
    JobDescriptor,
    Placement,
    pack_base_blocks,
    pack_chunks,
    pack_tail,
    prompt_records,
    query_beats,
    token_beats,
    unpack_cache,
    unpack_slots,
)
from golden.reference import (
    CompressedCache,
    Quantised,
    Tail,
    prompt_votes,
    quantise_query,
    saliency,
)
from golden.reference.cache import fixed_saliency
from golden.reference.quantiser import symmetric_codes
from golden.tensors import Tensors
from golden.twin.attention import JobResult
from golden.twin.sequence_cache import SequenceCache
from golden.twin.slot_cache import ConstantCache
from hw.config import BURST_BYTES, AttentionConfig
from hw.constants import VOTE_FRACTION
from hw.formats import KVFormat, Mode, Status


@dataclass(frozen=True)
class Step:
    """A decode step of one cache."""

    cache: int
    context: int
    #: Payloads of the streams ``job``, ``query`` and ``token``.
    job: int
    query: list[int]
    token: list[int]
    #: What the job gives, and what the memory holds when it has completed.
    result: JobResult
    after: CompressedCache
    #: How the job ends; what it gives means something only with OK.
    status: Status = Status.OK
    #: In mode `SLOTS` the position and the slot of the token, and the slot of the next one.
    placed: dict[str, int] | None = None

    @property
    def closes(self) -> bool:
        """Whether a window closed in the end."""
        return len(self.after.tail.saliency) < len(self.result.received)


@dataclass(frozen=True)
class Prompt:
    """A prompt that becomes a cache: fields of the ``prompt`` stream."""

    cache: int
    source_address: int
    base_address: int
    chunk_address: int
    tail_address: int
    first: int
    tokens: int
    mode: int


@dataclass(frozen=True)
class Generation:
    """Caches in a memory, the prompts that are imported, and the steps that they take."""

    config: AttentionConfig
    image: bytes
    #: Where the regions of each cache begin, with room for all of its steps.
    placements: list[Placement]
    #: Bytes of each region, base, chunk and tail, of each cache.
    sizes: list[dict[str, int]]
    steps: list[Step]
    prompts: list[Prompt]
    #: The caches in the end.
    final: list[CompressedCache]

    def _tail_in(self, memory: bytes, number: int, golden: CompressedCache) -> Tail:
        """The tail of cache ``number`` that ``memory`` holds, and perhaps a token behind it.

        A window that has closed shows in the numbers of the next step, whose token is not there.
        """
        place = self.placements[number]
        context = golden.context
        if place.mode == Mode.KVO:
            closed = golden.context - len(golden.tail.saliency)
            context += self.config.closed_tokens(golden.context) != closed
        size = KVFormat(self.config).region_bytes(context, place.mode)
        base, chunk, tail = (
            memory[address : address + size[name]]
            for name, address in (
                ("base", place.base_address),
                ("chunk", place.chunk_address),
                ("tail", place.tail_address),
            )
        )
        if place.mode == Mode.SLOTS:
            return unpack_slots(tail, context, self.config).tail
        return unpack_cache(base, chunk, tail, context, self.config).tail

    def differences(self, memory: bytes, number: int, after: CompressedCache) -> list[str]:
        """What ``memory`` has wrong of cache ``number``, which should be ``after``.

        Records are compared byte by byte, the tail by its numbers.
        """
        place = self.placements[number]
        wrong = []
        for name, address, wanted in (
            ("base keys", place.base_address, pack_base_blocks(after.closed, self.config)),
            ("group records", place.chunk_address, pack_chunks(after.closed, self.config)),
        ):
            found = memory[address : address + len(wanted)]
            if found != wanted:
                first = next(
                    i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b
                )
                wrong.append(
                    f"{name}: byte {first} must be {wanted[first]:#x}, not {found[first]:#x}"
                )
        tail, tokens = self._tail_in(memory, number, after), len(after.tail.saliency)
        for field in fields(after.tail):
            held, golden = getattr(tail, field.name), getattr(after.tail, field.name)
            both = [(held, golden)]
            if isinstance(held, Quantised):
                both = list(zip(vars(held).values(), vars(golden).values(), strict=True))
            for mine, theirs in both:
                if not torch.equal(mine[:tokens], theirs):
                    place_of = (mine[:tokens] != theirs).nonzero()[0].tolist()
                    wrong.append(f"tail: {field.name} differs, first at {place_of}")
        return wrong


def generate(
    tensors: Sequence[Tensors],
    prompts: Sequence[int],
    order: Sequence[int],
    config: AttentionConfig,
    *,
    imported: Collection[int] = (),
    modes: Sequence[Mode] | None = None,
) -> Generation:
    """The golden data of caches that begin with a prompt each and take steps in ``order``.

    Parameters
    ----------
    tensors
        Of each cache all tokens: T of them, the prompt's first.
    prompts
        Tokens of each prompt; the cache of a prompt is in the image.
    order
        The cache of each step; as many steps of a cache as it has tokens left at most.
    imported
        Caches whose prompt is not in the image: the hardware is to import it first.
    modes
        Of each cache `KVO` or `SLOTS`; by default `KVO`.
    """
    layout = KVFormat(config)
    caches: list[SequenceCache | ConstantCache] = []
    placements: list[Placement] = []
    sizes = []
    image = bytearray(BURST_BYTES)
    inputs = []
    sources: list[Prompt] = []
    modes = modes or [Mode.KVO] * len(tensors)
    for number, (one, prompt, mode) in enumerate(zip(tensors, prompts, modes, strict=True)):
        total = one.keys.shape[-2]
        keys = one.keys.half().double()
        codes, scale = symmetric_codes(one.values, config.tail_value_bits)
        inputs.append((keys, codes, scale))
        sums = _prompt_words(one.queries[:, :prompt], keys[:prompt], config, mode)
        cache = SequenceCache(config) if mode == Mode.KVO else ConstantCache(config)
        cache.import_prompt(keys[:prompt], codes[:prompt], scale[:prompt], sums)
        size = layout.region_bytes(min(config.max_context, total + 1), mode)
        if mode == Mode.KVO:
            size["tail"] = layout.tail_blocks * layout.tail_block_bytes
        addresses = {}
        for name, content in _contents(cache, prompt, config).items():
            addresses[name] = len(image)
            there = b"" if number in imported else content
            image += there + bytes(size[name] - len(there))
        if number in imported:
            sources.append(
                Prompt(
                    cache=number,
                    source_address=len(image),
                    base_address=addresses["base"],
                    chunk_address=addresses["chunk"],
                    tail_address=addresses["tail"],
                    first=0,
                    tokens=prompt,
                    mode=mode,
                )
            )
            part = slice(prompt)
            image += prompt_records(keys[part], codes[part], scale[part], sums, config)
        if mode == Mode.SLOTS:
            # The number of the cache.
            addresses["chunk"] = sum(place.mode == mode for place in placements)
        caches.append(cache)
        sizes.append(size)
        placements.append(
            Placement(
                context=0,
                base_address=addresses["base"],
                chunk_address=addresses["chunk"],
                tail_address=addresses["tail"],
                mode=mode,
            )
        )
    steps = []
    for number, index in enumerate(order):
        cache, place = caches[index], placements[index]
        keys, codes, scale = inputs[index]
        t = cache.context if isinstance(cache, SequenceCache) else cache.map.now
        slot = cache.append(keys[t], codes[t], scale[t])
        query, query_scale = quantise_query(tensors[index].queries[:, t])
        held = cache.cache
        result = cache.attend(query, query_scale)
        placed: dict[str, int] | None = None
        if isinstance(cache, ConstantCache):
            assert slot is not None
            placed = {"position": t, "slot": slot, "next_slot": cache.map.next_slot}
        elif cache.close_due and cache.context < config.max_context:
            cache.close()
        job = JobDescriptor.at(
            replace(place, context=held.context),
            query_scale,
            config,
            job_id=number & 0xFFFF,
            value_scale=int(scale[t]),
        )
        steps.append(
            Step(
                cache=index,
                context=held.context,
                job=job.pack(config),
                query=query_beats(query),
                token=token_beats(keys[t], codes[t], config),
                result=result,
                after=cache.cache,
                placed=placed,
            )
        )
    final = [cache.cache for cache in caches]
    return Generation(config, bytes(image), placements, sizes, steps, sources, final)


def _prompt_words(queries: Tensor, keys: Tensor, config: AttentionConfig, mode: Mode) -> Tensor:
    """What the memory says of each token of a prompt: its saliency, or votes."""
    if mode == Mode.SLOTS and config.votes:
        units = prompt_votes(queries, keys, config) * (1 << VOTE_FRACTION)
        return (units + 0.5).floor().long()
    return fixed_saliency(saliency(queries, keys, config))


def _contents(
    cache: SequenceCache | ConstantCache, prompt: int, config: AttentionConfig
) -> dict[str, bytes]:
    """The regions of a cache that holds its prompt alone."""
    held = cache.cache
    tail = b""
    if prompt and isinstance(cache, ConstantCache):
        tail = pack_tail(held.tail, prompt, config, Mode.SLOTS)
    elif prompt:
        # What a cache holds after its prompt shows in the numbers of the next step.
        tail = pack_tail(_with_room(held), prompt + 1, config)
    return {
        "base": pack_base_blocks(held.closed, config),
        "chunk": pack_chunks(held.closed, config),
        "tail": tail,
    }


def _with_room(cache: CompressedCache) -> Tail:
    """The tail of ``cache`` and an absent token behind it, whose numbers are 0."""
    tail = cache.tail

    def longer(x: Tensor) -> Tensor:
        return torch.cat((x, torch.zeros_like(x[:1])))

    return Tail(
        keys=tail.keys.each(longer),
        value_codes=longer(tail.value_codes),
        value_scale=longer(tail.value_scale),
        saliency=longer(tail.saliency),
    )

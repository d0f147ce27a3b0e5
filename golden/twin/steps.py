"""Twin of the unpacking units: records as steps of the PE array (docs/contracts.md, section 6).

It starts from the numbers of a cache, not from its bytes. ``closed`` has one leading dimension of
chunks, its value scales are those of each chunk; the tail has tokens as leading dimension.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from golden.reference import CompressedWindow, DenseCache, Tail
from hw.config import DIGITS, AttentionConfig
from hw.formats import StepKind

_LANES = 4
_BYTES = DIGITS // 4


@dataclass(frozen=True)
class Steps:
    """The steps of one segment in order, int64; flags are 0 or 1."""

    kind: StepKind
    #: ``[n, 64]``, 0 to 3.
    digits: Tensor
    #: ``[n]``: the bytes are two's complement.
    signed: Tensor
    #: ``[n]``: the bytes are planes of 16-bit codes.
    wide: Tensor
    #: ``[n]``: the digits are the upper ones of 4-bit codes.
    upper: Tensor
    #: FP16 patterns ``[n, 4]``, 0 in lanes that the kind does not use.
    scale: Tensor
    minimum: Tensor
    #: Key group ``[n]``, and which 16 channels of it the bytes meet, or which 32 the digits.
    group: Tensor
    part: Tensor
    #: ``[n]``: what the key passes are told. ``first`` and ``last`` hold for all steps of a token
    #: or unit: of the first and last base key of a job, of the first and last unit of a job.
    base: Tensor
    tail: Tensor
    dense: Tensor
    opening: Tensor
    group_end: Tensor
    key_end: Tensor
    present: Tensor
    first: Tensor
    last: Tensor
    #: FP16 patterns ``[n]``, of a tail token's value.
    value_scale: Tensor

    @property
    def segment_end(self) -> Tensor:
        """``[n]``: 1 for the last step of the segment."""
        n = len(self.digits)
        return (torch.arange(n) == n - 1).to(torch.int64)


def _digits(numbers: Tensor, count: int) -> Tensor:
    """``[..., k]`` as ``[..., k * count]`` two-bit digits, lowest first."""
    split = (numbers.unsqueeze(-1) >> (2 * torch.arange(count))) & 3
    return split.flatten(-2)


def _steps(kind: StepKind, digits: Tensor, **given: Tensor) -> Steps:
    """Steps in which everything that is not ``given`` is 0; what is given may be a scalar."""
    n = len(digits)
    zero = torch.zeros(n, dtype=torch.int64)
    fields = {
        name: zero
        for name in Steps.__dataclass_fields__
        if name not in ("kind", "digits", "scale", "minimum")
    }
    fields |= {name: torch.zeros(n, _LANES, dtype=torch.int64) for name in ("scale", "minimum")}
    fields |= {name: x.to(torch.int64).expand_as(fields[name]) for name, x in given.items()}
    return Steps(kind=kind, digits=digits, **fields)


def _key_steps(
    codes: Tensor, scale: Tensor, minimum: Tensor, config: AttentionConfig, **given: Tensor
) -> Steps:
    """Keys ``[k, d]`` in steps of 16 bytes, or of up to 32 4-bit codes of a group.

    ``given`` is per key, ``[k]``.
    """
    if config.key_bits == 8:
        kind, channels = StepKind.KEYS, _BYTES
        digits = _digits(codes.reshape(-1, _BYTES), 4)
    else:
        kind, channels = StepKind.KEY_DIGITS, min(config.group, DIGITS // 2)
        # Low digits, then high digits.
        split = _digits(codes.reshape(-1, channels, 1), 2).transpose(-1, -2)
        digits = torch.nn.functional.pad(split, (0, DIGITS // 2 - channels)).flatten(-2)
    keys, per_key = len(codes), config.head_dim // channels
    per_group = config.group // channels
    step = torch.arange(per_key).repeat(keys)
    key = torch.arange(keys).repeat_interleave(per_key)
    group = step // per_group

    def lane_0(numbers: Tensor) -> Tensor:
        return torch.nn.functional.pad(numbers[key, group].unsqueeze(-1), (0, _LANES - 1))

    return _steps(
        kind,
        digits,
        scale=lane_0(scale),
        minimum=lane_0(minimum),
        group=group,
        part=step % per_group,
        group_end=(step % per_group) == per_group - 1,
        key_end=step == per_key - 1,
        **{name: x[key] for name, x in given.items()},
    )


def _block(x: Tensor, block: int, config: AttentionConfig) -> Tensor:
    """The tokens of one block, absent ones as 0: ``[C, ...]``."""
    part = x[block * config.chunk : (block + 1) * config.chunk]
    return torch.cat((part, part.new_zeros(config.chunk - len(part), *part.shape[1:])))


def base_key_steps(closed: CompressedWindow, block: int, config: AttentionConfig) -> Steps:
    """The base keys of the block's chunks; keys that the block has not are no steps."""
    chunks = len(closed.base_codes)
    chunk = torch.arange(block * config.chunk, min((block + 1) * config.chunk, chunks))
    one = torch.ones_like(chunk)
    return _key_steps(
        closed.base_codes[chunk],
        closed.base_scale[chunk],
        closed.base_minimum[chunk],
        config,
        base=one,
        present=one,
        first=chunk == 0,
        last=chunk == chunks - 1,
    )


def tail_key_steps(tail: Tail, block: int, config: AttentionConfig, *, chunks: int) -> Steps:
    """The keys of a tail block, absent ones included; ``chunks`` is the number of closed chunks."""
    tokens = len(tail.value_scale)
    token = torch.arange(block * config.chunk, (block + 1) * config.chunk)
    one = torch.ones_like(token)
    last_unit = chunks == 0 and (block + 1) * config.chunk >= tokens
    return _key_steps(
        _block(tail.keys.codes, block, config),
        _block(tail.keys.scale, block, config),
        _block(tail.keys.minimum, block, config),
        config,
        tail=one,
        present=token < tokens,
        first=one * (block == 0),
        last=one * last_unit,
        value_scale=_block(tail.value_scale, block, config),
    )


def dense_key_steps(cache: DenseCache, block: int, config: AttentionConfig) -> Steps:
    """The keys of a dense block: per token and 16 channels a step for each byte plane."""
    planes = cache.mode.code_bytes
    codes = _block(cache.key_codes, block, config)
    per_key = config.head_dim // _BYTES
    split = codes.reshape(config.chunk, per_key, 1, _BYTES) >> (
        8 * torch.arange(planes).reshape(-1, 1)
    )
    steps = config.chunk * per_key * planes
    step = torch.arange(steps)
    plane = step % planes
    channels = step // planes % per_key
    key = step // (planes * per_key)
    per_group = config.group // _BYTES
    end = (channels == per_key - 1) & (plane == planes - 1)
    one = torch.ones_like(step)
    return _steps(
        StepKind.KEYS,
        _digits((split & 255).reshape(steps, _BYTES), 4),
        signed=plane == planes - 1,
        wide=one * (planes == 2),
        group=channels // per_group,
        part=channels % per_group,
        tail=one,
        dense=one,
        group_end=end,
        key_end=end,
        present=block * config.chunk + key < cache.context,
        first=one * (block == 0),
        last=one * ((block + 1) * config.chunk >= cache.context),
    )


def tail_value_steps(codes: Tensor, bits: int, block: int, config: AttentionConfig) -> Steps:
    """The values of a block of a tail or of a dense cache, signed codes ``[tokens, d]``.

    Per quad of channels and byte plane ``C / 4`` steps of ``16 / C`` channels.
    """
    codes = _block(codes, block, config).T.reshape(-1, 1, config.chunk // _LANES, _BYTES)
    planes = bits // 8
    plane = torch.arange(planes).reshape(1, planes, 1, 1)
    #: ``[quad, plane, step, channel and token]``
    split = (codes >> (8 * plane)) & 255
    top = (plane == planes - 1).expand((*split.shape[:3], 1))
    return _steps(
        StepKind.TAIL_VALUES,
        _digits(split.reshape(-1, _BYTES), 4),
        signed=top.flatten(),
        wide=torch.tensor(bits == 16),
    )


def delta_steps(
    closed: CompressedWindow, chunk: int, config: AttentionConfig, *, last: bool
) -> Steps:
    """The deltas of a chunk, per token and up to 32 channels of a group a step for each digit.

    ``last`` if it is the job's last unit.
    """
    tokens, groups = config.chunk - 1, config.groups
    channels = min(config.group, DIGITS // 2)
    parts = config.group // channels
    planes = config.key_delta_bits // 2
    per_group = parts * planes
    count = tokens * groups * per_group
    digits = torch.zeros(count, 2, DIGITS // 2, dtype=torch.int64)
    for plane in range(planes):
        digit = closed.delta_codes[chunk] >> 2 * plane & 3
        digits[plane::planes, 0, :channels] = digit.reshape(-1, channels)
    digits[::planes, 1, :channels] = closed.delta_mask[chunk].reshape(-1, channels)
    step = torch.arange(count)
    element = step // per_group
    group = element % groups
    group_end = step % per_group == per_group - 1
    pad = (0, _LANES - 1)
    scale = closed.delta_scale[chunk].reshape(-1, 1)[element]
    minimum = closed.delta_minimum[chunk].reshape(-1, 1)[element]
    return _steps(
        StepKind.KEY_DIGITS,
        digits.flatten(1),
        scale=torch.nn.functional.pad(scale, pad),
        minimum=torch.nn.functional.pad(minimum, pad),
        group=group,
        part=step // planes % parts,
        upper=step % planes,
        opening=element == 0,
        group_end=group_end,
        key_end=group_end & (group == groups - 1),
        present=torch.ones_like(step),
        last=torch.tensor(last),
    )


def value_steps(closed: CompressedWindow, chunk: int, config: AttentionConfig) -> Steps:
    """The values of a chunk, four channels a step, or two with chunks of 16 tokens.

    Codes of 4 bits take two steps: their lower digits with the mask, then the upper ones.
    """
    mask = closed.value_mask[chunk].T
    missing = (0, max(0, 7 - mask.shape[1]))
    base = _digits(closed.value_base[chunk].unsqueeze(-1), config.value_bits)
    planes = config.value_bits // 2
    steps = []
    for plane in range(planes):
        codes = closed.value_codes[chunk].T >> 2 * plane & 3
        masks = mask if plane == 0 else torch.zeros_like(mask)
        first = [torch.nn.functional.pad(x[:, :7], missing) for x in (codes, masks)]
        own = base[:, 2 * plane : 2 * plane + 2]
        more = [codes[:, 7:14], masks[:, 7:14], codes[:, 14:], masks[:, 14:]]
        steps.append(torch.cat((*first, own, *more), -1).reshape(-1, DIGITS))
    digits = torch.stack(steps, 1).flatten(0, 1)
    step = torch.arange(len(digits))
    per_quad = _LANES * len(digits) // config.head_dim
    return _steps(
        StepKind.VALUES,
        digits,
        scale=closed.value_scale[chunk].reshape(-1, _LANES)[step // per_quad],
        minimum=closed.value_minimum[chunk].reshape(-1, _LANES)[step // per_quad],
        upper=step % planes,
        group_end=(step % per_quad == per_quad - 1) & torch.tensor(per_quad > 1),
    )

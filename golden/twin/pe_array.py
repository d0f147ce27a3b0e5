"""Twin of the PE array: sums of 64 two-bit digits times operands (docs/contracts.md, section 6)."""

import torch
from torch import Tensor

from hw.config import DIGITS, AttentionConfig
from hw.formats import StepKind

_LANES = 4


def pe_array(
    config: AttentionConfig,
    kind: StepKind,
    digits: Tensor,
    operand: Tensor,
    *,
    signed_bytes: bool = False,
    upper: bool = False,
) -> tuple[Tensor, Tensor]:
    """The lane results ``a`` and ``b`` of steps of one kind, int64 ``[n, rows, 4]`` each.

    Parameters
    ----------
    kind
        What the digits are.
    digits
        ``[n, 64]``, 0 to 3.
    operand
        ``[n, rows, 32]`` as numbers: queries -2047 to 2047 for the key kinds, 0 to 4095 for the
        value kinds.
    signed_bytes
        Whether the bytes of ``KEYS`` and ``TAIL_VALUES`` are two's complement; the other kinds do
        not look at it.
    upper
        Whether the digits of ``VALUES`` are the upper ones of 4-bit codes, and those of the base
        one digit higher still; the other kinds do not look at it.
    """
    n, rows = operand.shape[:2]
    a = torch.zeros(n, rows, _LANES, dtype=torch.int64)
    b = torch.zeros_like(a)
    if kind is StepKind.KEY_DIGITS:
        a[..., 0] = (digits[:, None, :32] * operand).sum(-1)
        b[..., 0] = (digits[:, None, 32:] * operand).sum(-1)
    elif kind is StepKind.VALUES:
        per_step = 2 if config.chunk == 16 else _LANES
        channels = digits.view(n, 1, per_step, -1)
        base, others = operand[:, :, None, 0], operand[:, :, None, 1 : config.chunk]
        base_code = (channels[..., 14] + 4 * channels[..., 15]) << 2 * upper
        # Tokens 1 to 7, 8 to 14, 15; of the first ones only those that the chunk has.
        few = min(7, config.chunk - 1)
        parts = (channels[..., :few], channels[..., 16:23], channels[..., 30:31])
        masks = (channels[..., 7 : 7 + few], channels[..., 23:30], channels[..., 31:32])
        ratio = config.value_step_ratio
        a[..., :per_step] = base_code * base + ratio * (torch.cat(parts, -1) * others).sum(-1)
        b[..., :per_step] = ratio * (base + (torch.cat(masks, -1) * others).sum(-1))
    else:
        weights = torch.tensor([1, 4, 16, 64])
        code = (digits.view(n, 1, DIGITS // 4, 4) * weights).sum(-1)
        if signed_bytes:
            code = torch.where(code >= 128, code - 256, code)
        if kind is StepKind.KEYS:
            a[..., 0] = (code * operand[..., :16]).sum(-1)
        else:
            channels = code.view(n, 1, -1, config.chunk)
            a[..., : channels.shape[2]] = (channels * operand[:, :, None, : config.chunk]).sum(-1)
    return a, b

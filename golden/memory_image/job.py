"""Job descriptors and query beats (docs/contracts.md, sections 1 and 3)."""

import struct
from dataclasses import dataclass

import torch
from torch import Tensor

from golden.memory_image.image import Placement
from golden.reference import to_fp16
from hw.config import BEAT_BITS, AttentionConfig
from hw.formats import FP16_BITS, KVFormat, job_fields

QUERY_ELEMENT_BITS = 16
QUERY_ELEMENTS = BEAT_BITS // QUERY_ELEMENT_BITS


@dataclass(frozen=True, kw_only=True)
class JobDescriptor:
    """One job; every field is the unsigned number of the descriptor field of that name."""

    job_id: int
    config_hash: int
    layer: int
    kv_head: int
    mode: int
    context: int
    base_address: int
    chunk_address: int
    tail_address: int
    #: FP16 bit pattern, looked at in the dense modes.
    value_scale: int
    #: FP16 bit pattern per row.
    query_scale: tuple[int, ...]

    @classmethod
    def at(
        cls,
        placement: Placement,
        query_scale: Tensor,
        config: AttentionConfig,
        *,
        job_id: int,
        layer: int = 0,
        kv_head: int = 0,
        value_scale: int = 0,
    ) -> "JobDescriptor":
        """The job on the cache at ``placement`` with the scales of ``quantise_query``.

        ``value_scale`` is the FP16 pattern of a dense cache.
        """
        return cls(
            job_id=job_id,
            config_hash=config.config_hash,
            layer=layer,
            kv_head=kv_head,
            mode=placement.mode,
            context=placement.context,
            base_address=placement.base_address,
            chunk_address=placement.chunk_address,
            tail_address=placement.tail_address,
            value_scale=value_scale,
            query_scale=tuple(int(scale) for scale in query_scale),
        )

    def pack(self, config: AttentionConfig) -> int:
        """The payload of the ``job`` stream, least significant field first.

        Raises
        ------
        ValueError
            A number does not fit its field, or there are not ``rows`` query scales.
        """
        if len(self.query_scale) != config.rows:
            raise ValueError(
                f"query_scale must have {config.rows} rows, not {len(self.query_scale)}"
            )
        for scale in self.query_scale:
            if not 0 <= scale < 1 << FP16_BITS:
                raise ValueError(f"query_scale must have {FP16_BITS} bits, not {scale:#x}")
        scales = sum(scale << FP16_BITS * row for row, scale in enumerate(self.query_scale))
        payload = 0
        position = 0
        for name, bits in job_fields(config).items():
            number = scales if name == "query_scale" else getattr(self, name)
            if not 0 <= number < 1 << bits:
                raise ValueError(f"{name} must have {bits} bits, not {number:#x}")
            payload |= number << position
            position += bits
        return payload

    @classmethod
    def unpack(cls, payload: int, config: AttentionConfig) -> "JobDescriptor":
        """The inverse of ``pack``."""
        fields: dict[str, int] = {}
        for name, bits in job_fields(config).items():
            fields[name] = payload & ((1 << bits) - 1)
            payload >>= bits
        scales = fields.pop("query_scale")
        rows = (scales >> FP16_BITS * row & 0xFFFF for row in range(config.rows))
        return cls(query_scale=tuple(rows), **fields)


def query_beats(codes: Tensor) -> list[int]:
    """Query codes ``[rows, d]`` as ``query`` payloads: 8 elements a beat, lowest first."""
    elements = codes.reshape(-1, QUERY_ELEMENTS).tolist()
    low = (1 << QUERY_ELEMENT_BITS) - 1
    return [
        sum((element & low) << QUERY_ELEMENT_BITS * i for i, element in enumerate(beat))
        for beat in elements
    ]


def query_codes(beats: list[int], config: AttentionConfig) -> Tensor:
    """The inverse of ``query_beats``: ``[rows, d]``, int64."""
    sign = 1 << (QUERY_ELEMENT_BITS - 1)
    low = (1 << QUERY_ELEMENT_BITS) - 1
    elements = [
        ((beat >> QUERY_ELEMENT_BITS * i & low) ^ sign) - sign
        for beat in beats
        for i in range(QUERY_ELEMENTS)
    ]
    return torch.tensor(elements, dtype=torch.int64).reshape(config.rows, config.head_dim)


def token_beats(key: Tensor, value_codes: Tensor, config: AttentionConfig) -> list[int]:
    """A new token as ``token`` payloads: the key in FP16, then the codes of the value.

    ``key`` is ``[d]``, numbers of FP16; ``value_codes`` ``[d]``, of ``tail_value_bits`` bits.
    """
    row = to_fp16(key).numpy().astype("<u2").tobytes()
    row += value_codes.numpy().astype(f"<i{config.tail_value_bits // 8}").tobytes()
    size = BEAT_BITS // 8
    return [int.from_bytes(row[i : i + size], "little") for i in range(0, len(row), size)]


def prompt_records(
    keys: Tensor, value_codes: Tensor, value_scale: Tensor, sums: Tensor, config: AttentionConfig
) -> bytes:
    """The source of an import: T tokens with their saliency in units of 2**-20 (section 10)."""
    size, records = KVFormat(config).prompt_record_bytes, b""
    for key, codes, scale, saliency in zip(keys, value_codes, value_scale, sums, strict=True):
        header = struct.pack("<HHI8x", int(scale), 0, int(saliency))
        beats = token_beats(key, codes, config)
        row = header + b"".join(beat.to_bytes(BEAT_BITS // 8, "little") for beat in beats)
        records += row.ljust(size, b"\0")
    return records

"""Memory contents in the order in which the device model keeps them."""

from __future__ import annotations

import numpy as np

from hw.memory.dram import AddressMap


def arrange(image: bytes, address_map: AddressMap) -> bytes:
    """Return contents by address as contents in the order of the device's words.

    The device numbers its words by row, bank group, bank, column and place in the burst. Whole
    rows of all banks come out, with zeros behind the end of ``image``: n bytes become
    n rounded up to ``banks * row_bytes``.

    Parameters
    ----------
    image
        Bytes from address 0 on.
    address_map
        The map of the pseudo-channel.
    """
    standard = address_map.standard
    stripe = standard.banks * standard.row_bytes
    rows = -(-len(image) // stripe)
    if rows > standard.rows:
        raise ValueError(f"image must have at most {standard.bytes} bytes, not {len(image)}")
    padded = np.zeros(rows * stripe, np.uint8)
    padded[: len(image)] = np.frombuffer(image, np.uint8)
    bursts = padded.reshape(-1, standard.burst_bytes)
    index = np.arange(len(bursts), dtype=np.int64)
    bits = [index >> i & 1 for i in range(address_map.index_bits)]
    fields = {
        name: sum((bit << i for i, bit in enumerate(values)), np.zeros_like(index))
        for name, values in address_map.fields(bits).items()
    }
    place = fields["row"] * standard.bank_groups + fields["bank_group"]
    place = place * standard.banks_per_group + fields["bank"]
    place = place * standard.columns + fields["column"]
    arranged = np.empty_like(bursts)
    arranged[place] = bursts
    return arranged.tobytes()

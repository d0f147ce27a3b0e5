"""Fixed-point positions and tables that the datapath and its golden twin share (docs/contracts.md).

Constants only: the twin in ``golden`` and the RTL each write their own arithmetic.
"""

from hw.formats import Mode

#: Operand of the PE array: a signed query (-2047..2047) or an unsigned probability (0..4095).
OPERAND_BITS = 12
QUERY_MAX = 2047
PROBABILITY_MAX = 4095
PROBABILITY_FRACTION = 12
#: A query element is ``code * scale * 2**-QUERY_FRACTION``, ``scale`` the FP16 of the head.
QUERY_FRACTION = 11
#: A tail value is ``code * scale * 2**-(bits - 1)``, ``scale`` the FP16 of the token.

#: First sum of one lane of the PE array, signed. It also holds the key sum of a dense key, which is
#: wider than what the array makes.
DOT_BITS = 29
#: Sum of a group's queries, signed.
QUERY_SUM_BITS = 20
#: One scale-bank result, signed, saturating.
SCALED_BITS = 46
#: ``shift = SCALED_BIAS - exponent`` aligns ``mantissa * sum`` to the scale bank's output.
SCALED_BIAS = 17
#: Fraction bits of the scale bank's output for keys and for values.
KEY_FRACTION = 8
VALUE_FRACTION = 20
#: Key sum of one token (query units), signed, saturating.
KEY_SUM_BITS = 32
#: ``key sum = round(dot product of the codes >> shift)`` of a dense key.
DENSE_KEY_SHIFT = {Mode.DENSE8: -1, Mode.DENSE16: 7}
#: ``contribution = round(R * v >> (TAIL_VALUE_SHIFT - exponent))`` of the tail, with the sum ``v``
#: of values in units of 2**-15.
TAIL_VALUE_SHIFT = VALUE_FRACTION + 1
#: Score (log2 units), signed, saturating.
SCORE_BITS = 24
SCORE_FRACTION = 12
#: ``score = round(key_sum * mantissa >> (SCORE_BIAS - exponent))``.
SCORE_BIAS = 32
#: Running maximum of a row: a signed integer exponent.
MAXIMUM_BITS = 13
#: Largest alignment shift that is told apart; it empties any accumulator.
SHIFT_MAX = 63
SHIFT_BITS = 6
#: Fraction bits of the softmax sum.
SUM_FRACTION = 20
#: Fraction bits of the attention that a token has received, from one step or (its saliency) from
#: many.
RECEIVED_FRACTION = 20
#: Fraction bits of ``slot_decay``.
DECAY_FRACTION = 8
#: Fraction bits of ``slot_vote_mean`` and ``slot_vote_sigma``, and of votes in memory.
THRESHOLD_FRACTION = 8
VOTE_FRACTION = 16
#: Output element: signed, saturating.
OUTPUT_BITS = 32
OUTPUT_FRACTION = 15

#: Numbers that the quantiser takes are integers in units of 2**-24, the smallest FP16 step: signed,
#: below 2**18 in size. Twice the largest FP16 number and its rounding error fit.
FIXED_FRACTION = 24
FIXED_BITS = FIXED_FRACTION + 19
#: Smallest scale of the affine quantiser, 1e-5 as FP16: an FP16 subnormal, 168 units.
SCALE_FLOOR = 168

#: Piecewise linear ``2**f`` for f in [0, 1): 16 segments of 256 steps. Segment i is
#: ``EXP2_OFFSET[i] + (EXP2_SLOPE[i] * x >> 8)`` with x the low 8 bits of the 12-bit fraction; the
#: result has EXP2_FRACTION fraction bits. The offsets sit below the chord's ends by half of the
#: bend, which halves the largest error; tb/cores/test_exp2.py checks every one of the 4096 inputs.
EXP2_SEGMENTS = 16
EXP2_FRACTION = 14


def _exp2_table() -> tuple[tuple[int, ...], tuple[int, ...]]:
    ends = [2.0 ** (i / EXP2_SEGMENTS) for i in range(EXP2_SEGMENTS + 1)]
    middle = [2.0 ** ((i + 0.5) / EXP2_SEGMENTS) for i in range(EXP2_SEGMENTS)]
    unit = 1 << EXP2_FRACTION
    offset = []
    slope = []
    for i in range(EXP2_SEGMENTS):
        bend = (ends[i] + ends[i + 1]) / 2 - middle[i]
        offset.append(max(unit, round((ends[i] - bend / 2) * unit)))
        slope.append(round((ends[i + 1] - ends[i]) * unit))
    return tuple(offset), tuple(slope)


EXP2_OFFSET, EXP2_SLOPE = _exp2_table()

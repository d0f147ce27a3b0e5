"""How sums and scores find their way in an attention core."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import connect, flipped

from hw.config import AttentionConfig
from hw.cores.attention_units import AttentionUnits
from hw.cores.payloads import scaled_tag
from hw.cores.saliency_update import SaliencyUpdate
from hw.cores.score_tap import ScoreTap
from hw.cores.slot_votes import SlotVotes
from hw.cores.victim_select import VictimSelect
from hw.formats import StepKind
from hw.streams import StreamFIFO, fork


def route_scaled_sums(m: Module, config: AttentionConfig, units: AttentionUnits) -> None:
    """Scaled sums of keys go to the key accumulator, those of values to the merge."""
    scaled, keys, values = units.scale_bank.scaled, units.key_accumulator.scaled, units.merge.scaled
    tag = data.View(scaled_tag(config), scaled.payload.tag)
    is_value = tag.kind == StepKind.VALUES
    m.d.comb += [
        keys.payload.key.eq(tag.key),
        keys.valid.eq(scaled.valid & ~is_value),
        values.payload.eq(scaled.payload.y),
        values.valid.eq(scaled.valid & is_value),
    ]
    for row in range(config.rows):
        m.d.comb += keys.payload.y[row].eq(scaled.payload.y[row][0])
    with m.If(is_value):
        m.d.comb += scaled.ready.eq(values.ready)
    with m.Else():
        m.d.comb += scaled.ready.eq(keys.ready)


def select_chunks(
    m: Module, config: AttentionConfig, units: AttentionUnits, selection: stream.Interface
) -> None:
    """Send each selected chunk to the sequencer and out, its key sums to the key accumulator.

    Both queues hold the lists of two jobs: one in its formal pass, one that waits for it.
    """
    selected, wanted, base = (
        units.selector.selected,
        units.sequencer.selected,
        units.key_accumulator.base,
    )
    depth = 2 * config.top_chunks
    m.submodules.chunks = chunks = StreamFIFO(wanted.payload.shape(), depth=depth)
    m.submodules.bases = bases = StreamFIFO(base.payload.shape(), depth=depth)
    connect(m, chunks.output, wanted)
    connect(m, bases.output, base)
    fork(m, selected, selection, chunks.input, bases.input)
    for sink in (selection, chunks.input):
        m.d.comb += [
            sink.payload.chunk.eq(selected.payload.chunk),
            sink.payload.last.eq(selected.payload.last),
        ]
    m.d.comb += bases.input.payload.eq(selected.payload.key_sum)


def use_scores(m: Module, units: AttentionUnits) -> None:
    """Scores and reciprocals serve attention alone; the words of saliency are dropped."""
    connect(m, units.score_unit.scores, units.softmax.scores)
    connect(m, units.reciprocal.reciprocals, units.normaliser.reciprocals)
    m.d.comb += units.unpacker.saliency.ready.eq(1)


def tap_scores(
    m: Module, config: AttentionConfig, units: AttentionUnits, core: wiring.Component
) -> None:
    """Scores and reciprocals also say what each token of the tail receives.

    Parameters
    ----------
    core
        The core with ``writes``: its ``saliency`` and, with slots, ``slot_uses`` and ``victim``
        are connected.
    """
    m.submodules.tap = tap = ScoreTap(config, depth=config.tail_tokens)
    scores, reciprocals = units.score_unit.scores, units.reciprocal.reciprocals
    fork(m, scores, units.softmax.scores, tap.scores)
    fork(m, reciprocals, units.normaliser.reciprocals, tap.reciprocals)
    token = Signal(range(config.chunk))
    with m.If(scores.valid & scores.ready):
        m.d.sync += token.eq(token + 1)
    m.d.comb += [
        units.softmax.scores.payload.eq(scores.payload),
        tap.scores.payload.score.eq(scores.payload.score),
        tap.scores.payload.kept.eq(units.score_unit.salient),
        tap.scores.payload.last.eq(scores.payload.last & (token == config.chunk - 1)),
        tap.scores.payload.slot.eq(scores.payload.slot),
        units.normaliser.reciprocals.payload.eq(reciprocals.payload),
        tap.reciprocals.payload.eq(reciprocals.payload),
    ]
    _update_saliencies(m, config, units, tap, core)


def _update_saliencies(
    m: Module,
    config: AttentionConfig,
    units: AttentionUnits,
    tap: ScoreTap,
    core: wiring.Component,
) -> None:
    """What was received, or the votes made of it, is added to the words in memory."""
    m.submodules.saliency_update = update = SaliencyUpdate(config)
    connect(m, units.unpacker.saliency, update.before)
    given = tap.received
    if config.votes:
        m.submodules.slot_votes = votes = SlotVotes(config)
        connect(m, tap.received, votes.received)
        m.d.comb += votes.uses.eq(core.slot_uses)
        given = votes.votes
    connect(m, given, update.received)
    connect(m, update.after, flipped(core.saliency))
    if config.slots:
        m.submodules.victim_select = select = VictimSelect(config)
        m.d.comb += [
            update.uses.eq(core.slot_uses),
            select.uses.eq(core.slot_uses),
            select.scores.eq(update.scores),
            core.victim.eq(select.victim),
        ]

"""How jobs enter and leave the data path of an attention core."""

from amaranth.hdl import Array, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import connect, flipped

from hw.cores.attention_units import AttentionUnits
from hw.formats import Status
from hw.streams import StreamFIFO, fork


def admit_jobs(m: Module, units: AttentionUnits, tickets: StreamFIFO) -> None:
    """Checked jobs go to the sequencer, their tickets to the end of the line."""
    connect(m, units.intake.ticket, tickets.input)
    connect(m, units.intake.planned, units.sequencer.planned)


def announce_jobs(
    m: Module, units: AttentionUnits, tickets: StreamFIFO, core: wiring.Component
) -> None:
    """Checked jobs are announced outside, refused ones too; those admitted go to the sequencer.

    Parameters
    ----------
    core
        The core with ``writes``: its ``announced`` and ``admitted`` are connected.
    """
    ticket, planned, announced = units.intake.ticket, units.intake.planned, core.announced
    connect(m, flipped(core.admitted), units.sequencer.planned)
    # The intake offers a ticket, and when it was taken the job if it was not refused.
    refused = Signal()
    codes = [ticket.payload.status == code for code in Status if code.refused]
    allowed = ~refused | announced.ready
    value_scales = Array(list(units.intake.value_scale))
    m.d.comb += [
        refused.eq(Cat(*codes).any()),
        tickets.input.payload.eq(ticket.payload),
        tickets.input.valid.eq(ticket.valid & allowed),
        ticket.ready.eq(tickets.input.ready & allowed),
        announced.valid.eq(planned.valid | (ticket.valid & refused & tickets.input.ready)),
        announced.payload.refused.eq(~planned.valid),
        announced.payload.mode.eq(units.intake.ticket_mode),
        announced.payload.job.eq(planned.payload),
        announced.payload.value_scale.eq(value_scales[planned.payload.slot]),
        planned.ready.eq(announced.ready),
    ]


def finish_jobs(m: Module, units: AttentionUnits, core: wiring.Component) -> None:
    """Statistics go to the completion and, as reciprocals, to the normaliser.

    Parameters
    ----------
    core
        Its ``output`` and ``completion`` are connected.
    """
    statistics, retire, sums = units.softmax.statistics, units.retire, units.reciprocal.sums
    m.submodules.statistics = queue = StreamFIFO(statistics.payload.shape(), depth=2)
    fork(m, statistics, queue.input, sums)
    connect(m, queue.output, retire.statistics)
    connect(m, units.normaliser.output, flipped(core.output))
    connect(m, retire.completion, flipped(core.completion))
    m.d.comb += [
        queue.input.payload.eq(statistics.payload),
        sums.payload.sum.eq(statistics.payload.sum),
        sums.payload.maximum.eq(statistics.payload.maximum),
        retire.output_sent.eq(core.output.valid & core.output.ready),
        retire.memory_error.eq(units.unpacker.memory_error),
        retire.memory_error_slot.eq(units.unpacker.memory_error_slot),
        retire.scale_error.eq(units.unpacker.scale_error),
        retire.scale_error_slot.eq(units.unpacker.scale_error_slot),
        units.intake.retired.eq(retire.retired),
    ]

// A DRAM channel behind the DRAM port of docs/dram.md: rules, contents, counters, command trace.
//
// The commands of a clock are sampled at its rising edge, phase after phase and, where rows and columns
// have a bus each, row slot before column slot. DRAM clock 0 is the first edge with `rst` low. Reset
// closes all rows and forgets what was owed and counted; the contents stay.
//
// Every parameter comes from the table of the standard (tb/memory/dram/device.py). Plusargs:
//   +NAME_trace=PATH   write the command trace, violations included
//   +NAME_stop=0       count and record violations, but go on (default 1: stop at the first)
//   +NAME_image0=PATH  contents of pseudo-channel 0, see dram_array; likewise for 1
//   +NAME_tRC=N        another value of a timing parameter, for experiments; likewise for each
module dram_device
    import dram_package::*;
#(
    parameter string NAME = "dram",
    parameter string STANDARD = "",
    parameter int GEAR = 1,
    parameter int BUSES = 1,  // 2: slots alternate between row bus and column bus
    parameter int PSEUDO_CHANNELS = 1,
    parameter int STACKS = 1,
    parameter int BANK_GROUPS = 4,
    parameter int BANKS_PER_GROUP = 4,
    parameter int ROWS = 32768,
    parameter int COLUMNS = 64,
    parameter int BURST_CYCLES = 2,
    parameter int ACTIVATE_CYCLES = 1,
    parameter int ACTIVATE_REFERENCE = 0,
    parameter int BANKS_PER_REFRESH = 0,
    parameter int POSTPONED_REFRESHES = 8,
    parameter int DATA_CLOCK = 0,
    parameter int COMMANDS = 0,  // bit i: the family has command i
    parameter logic [16*TIMINGS-1:0] TIMING = '0,
    parameter int DENSE_WORDS = 65536,
    // Widths of the fields of a slot; not to be set.
    parameter int CHANNEL_BITS = PSEUDO_CHANNELS > 1 ? $clog2(PSEUDO_CHANNELS) : 1,
    parameter int GROUP_BITS = BANK_GROUPS > 1 ? $clog2(BANK_GROUPS) : 1,
    parameter int BANK_BITS = BANKS_PER_GROUP > 1 ? $clog2(BANKS_PER_GROUP) : 1,
    parameter int ROW_BITS = ROWS > 1 ? $clog2(ROWS) : 1,
    parameter int COLUMN_BITS = COLUMNS > 1 ? $clog2(COLUMNS) : 1,
    parameter int SLOT_BITS = 4 + CHANNEL_BITS + GROUP_BITS + BANK_BITS + ROW_BITS + COLUMN_BITS
) (
    input  logic                                  clk,
    input  logic                                  rst,
    input  logic [GEAR*BUSES*SLOT_BITS-1:0]       command,
    input  logic [128*GEAR*PSEUDO_CHANNELS-1:0]   write_data,
    input  logic [16*GEAR*PSEUDO_CHANNELS-1:0]    write_mask,
    output logic [128*GEAR*PSEUDO_CHANNELS-1:0]   read_data,
    output logic [GEAR*PSEUDO_CHANNELS-1:0]       read_valid,
    // Since the last reset, all pseudo-channels together.
    output logic [31:0]                           violations,
    output logic [31:0]                           activations,
    output logic [31:0]                           precharges,  // commands, PREA counted once
    output logic [31:0]                           reads,
    output logic [31:0]                           writes,
    output logic [31:0]                           all_bank_refreshes,
    output logic [31:0]                           per_bank_refreshes,
    output logic [31:0]                           busy,        // DRAM clocks with data, summed
    output logic [63:0]                           bytes_moved  // on the data pins, both ways
);
    localparam int SLOTS = GEAR * BUSES;

    int          now, trace, row_bus_free;
    bit          stop;
    string       path;
    logic [31:0] own_violations;

    logic [31:0] rule_violations [PSEUDO_CHANNELS], each_activations [PSEUDO_CHANNELS],
                 each_precharges [PSEUDO_CHANNELS], each_reads [PSEUDO_CHANNELS],
                 each_writes [PSEUDO_CHANNELS], each_all_bank [PSEUDO_CHANNELS],
                 each_per_bank [PSEUDO_CHANNELS], each_busy [PSEUDO_CHANNELS];

    // The slots, decoded.
    command_e slot_command [SLOTS];
    bit       slot_legal [SLOTS];
    int       slot_channel [SLOTS], slot_group [SLOTS], slot_bank [SLOTS];
    int       slot_row [SLOTS], slot_column [SLOTS];

    always_comb
        for (int slot = 0; slot < SLOTS; slot++) begin
            logic [3:0]              code;
            logic [CHANNEL_BITS-1:0] channel;
            logic [GROUP_BITS-1:0]   group;
            logic [BANK_BITS-1:0]    in_group;
            logic [ROW_BITS-1:0]     in_bank;
            logic [COLUMN_BITS-1:0]  in_row;
            {in_row, in_bank, in_group, group, channel, code} = command[slot*SLOT_BITS +: SLOT_BITS];
            slot_legal[slot]   = COMMANDS[32'(code)] && 32'(channel) < PSEUDO_CHANNELS;
            slot_command[slot] = command_e'(32'(code));
            slot_channel[slot] = 32'(channel);
            slot_group[slot]   = 32'(group);
            slot_bank[slot]    = 32'(in_group);
            slot_row[slot]     = 32'(in_bank);
            slot_column[slot]  = 32'(in_row);
        end

    function automatic void violate(input int at, input int channel, input rule_e rule);
        own_violations = own_violations + 1;
        if (trace != 0) $fdisplay(trace, "! %0d,%0d,%s", at, channel, rule.name());
        if (stop)
            $fatal(1, "%s: %s violated in cycle %0d of pseudo-channel %0d",
                   NAME, rule.name(), at, channel);
    endfunction

    // Rules of the buses, which the pseudo-channels share.
    function automatic void check_slot(input int at, input int slot);
        bit wrong;
        if (!slot_legal[slot]) violate(at, slot_channel[slot], COMMAND);
        else if (BUSES == 2) begin
            wrong = is_column(slot_command[slot]) != (slot % BUSES == 1);
            if (!is_column(slot_command[slot])) begin
                wrong = wrong || at < row_bus_free;
                if (slot_command[slot] == ACT) row_bus_free = at + ACTIVATE_CYCLES;
            end
            if (wrong) violate(at, slot_channel[slot], BUS);
        end
        if (trace != 0)
            $fdisplay(trace, "%0d,%s,%0d,%0d,%0d,%0d,%0d,%0d", at, slot_command[slot].name(),
                      slot_channel[slot], slot_group[slot], slot_bank[slot], slot_row[slot],
                      slot_column[slot], slot % BUSES);
    endfunction

    function automatic void end_trace();
        if (trace != 0 && now != 0) $fdisplay(trace, "end %0d", now);
    endfunction

    initial begin
        now = 0;
        trace = 0;
        row_bus_free = 0;
        own_violations = '0;
        stop = 1'b1;
        void'($value$plusargs({NAME, "_stop=%d"}, stop));
        if ($value$plusargs({NAME, "_trace=%s"}, path)) begin
            trace = $fopen(path, "w");
            if (trace == 0) $fatal(1, "%s: cannot write %s", NAME, path);
            $fdisplay(trace, "# DRAM command trace 1: %s", STANDARD);
            $fdisplay(trace, "# time,command,pseudo-channel,bank group,bank,row,column,bus");
        end
    end

    always_ff @(posedge clk) begin
        if (rst) begin
            end_trace();
            now <= 0;
            row_bus_free = 0;
            own_violations = '0;
        end else begin
            now <= now + GEAR;
            for (int slot = 0; slot < SLOTS; slot++)
                if (slot_command[slot] != NOP) check_slot(now + slot / BUSES, slot);
        end
    end

    final begin
        end_trace();
        if (trace != 0) $fclose(trace);
    end

    for (genvar channel = 0; channel < PSEUDO_CHANNELS; channel++) begin : pseudo_channel
        command_e own_command [SLOTS];

        always_comb
            for (int slot = 0; slot < SLOTS; slot++)
                own_command[slot] = slot_legal[slot] && slot_channel[slot] == channel
                    ? slot_command[slot] : NOP;

        dram_rules #(
            .NAME(NAME), .GEAR(GEAR), .BUSES(BUSES), .STACKS(STACKS),
            .BANK_GROUPS(BANK_GROUPS), .BANKS_PER_GROUP(BANKS_PER_GROUP),
            .BURST_CYCLES(BURST_CYCLES), .ACTIVATE_CYCLES(ACTIVATE_CYCLES),
            .ACTIVATE_REFERENCE(ACTIVATE_REFERENCE), .BANKS_PER_REFRESH(BANKS_PER_REFRESH),
            .POSTPONED_REFRESHES(POSTPONED_REFRESHES), .DATA_CLOCK(DATA_CLOCK != 0), .TIMING(TIMING)
        ) rules (
            .clk(clk), .rst(rst), .pseudo_channel(channel), .now(now), .trace(trace), .stop(stop), .command(own_command),
            .bank_group(slot_group), .bank(slot_bank), .violations(rule_violations[channel])
        );

        dram_array #(
            .NAME(NAME), .GEAR(GEAR), .BUSES(BUSES),
            .BANK_GROUPS(BANK_GROUPS), .BANKS_PER_GROUP(BANKS_PER_GROUP), .COLUMNS(COLUMNS),
            .BURST_CYCLES(BURST_CYCLES), .DENSE_WORDS(DENSE_WORDS),
            .READ_LATENCY(int'(TIMING[16*int'(tCL) +: 16])),
            .WRITE_LATENCY(int'(TIMING[16*int'(tCWL) +: 16]))
        ) cells (
            .clk(clk), .rst(rst), .pseudo_channel(channel), .now(now), .command(own_command),
            .bank_group(slot_group), .bank(slot_bank), .row(slot_row), .column(slot_column),
            .write_data(write_data[128*GEAR*channel +: 128*GEAR]),
            .write_mask(write_mask[16*GEAR*channel +: 16*GEAR]),
            .read_data(read_data[128*GEAR*channel +: 128*GEAR]),
            .read_valid(read_valid[GEAR*channel +: GEAR]),
            .activations(each_activations[channel]), .precharges(each_precharges[channel]),
            .reads(each_reads[channel]), .writes(each_writes[channel]),
            .all_bank_refreshes(each_all_bank[channel]),
            .per_bank_refreshes(each_per_bank[channel]), .busy(each_busy[channel])
        );
    end

    always_comb begin
        violations = own_violations;
        {activations, precharges, reads, writes} = '0;
        {all_bank_refreshes, per_bank_refreshes, busy} = '0;
        for (int channel = 0; channel < PSEUDO_CHANNELS; channel++) begin
            violations = violations + rule_violations[channel];
            activations = activations + each_activations[channel];
            precharges = precharges + each_precharges[channel];
            reads = reads + each_reads[channel];
            writes = writes + each_writes[channel];
            all_bank_refreshes = all_bank_refreshes + each_all_bank[channel];
            per_bank_refreshes = per_bank_refreshes + each_per_bank[channel];
            busy = busy + each_busy[channel];
        end
        bytes_moved = 64'(busy) * 16;
    end
endmodule

// The cells and the data bus of one pseudo-channel: real latencies, sparse contents, counters.
//
// A word is what the data bus moves in one DRAM clock, 16 bytes. Words are numbered by row, bank group,
// bank, column and place in the burst, the row first. The first DENSE_WORDS lie in an array, which
// an image file fills; the others exist once they are written. What was never written reads as FILLER.
//
// A read in cycle t puts its first word on the bus in cycle t + tCL; a write takes its first word from
// the bus in cycle t + tCWL. Rules are checked elsewhere (dram_rules).
//
// Plusargs: +NAME_image<pseudo-channel>=PATH, a binary file in the order of the words.
module dram_array
    import dram_package::*;
#(
    parameter string NAME = "dram",
    parameter int GEAR = 1,
    parameter int BUSES = 1,
    parameter int BANK_GROUPS = 4,
    parameter int BANKS_PER_GROUP = 4,
    parameter int COLUMNS = 64,
    parameter int BURST_CYCLES = 2,
    parameter int DENSE_WORDS = 65536,
    parameter int READ_LATENCY = 17,
    parameter int WRITE_LATENCY = 9
) (
    input  logic                clk,
    input  logic                rst,
    input  int                  pseudo_channel,
    input  int                  now,
    input  command_e            command [GEAR*BUSES],
    input  int                  bank_group [GEAR*BUSES],
    input  int                  bank [GEAR*BUSES],
    input  int                  row [GEAR*BUSES],
    input  int                  column [GEAR*BUSES],
    input  logic [128*GEAR-1:0] write_data,
    input  logic [16*GEAR-1:0]  write_mask,  // a byte whose bit is 1 stays as it is
    output logic [128*GEAR-1:0] read_data,
    output logic [GEAR-1:0]     read_valid,
    output logic [31:0]         activations,
    output logic [31:0]         precharges,
    output logic [31:0]         reads,
    output logic [31:0]         writes,
    output logic [31:0]         all_bank_refreshes,
    output logic [31:0]         per_bank_refreshes,
    output logic [31:0]         busy  // DRAM clocks in which the data bus carries a word
); /*verilator no_inline_module*/
    localparam int BANKS = BANK_GROUPS * BANKS_PER_GROUP;
    localparam int SLOTS = 128;  // cycles that the bus is planned ahead; more than any latency
    localparam logic [127:0] FILLER = {4{32'hDEADBEEF}};

    string path;
    int    file, loaded;

    bit [127:0] dense [DENSE_WORDS];  // byte 0 of a word is the first in the file: bits 127..120
    bit [127:0] sparse [longint unsigned];
    int         row_of [BANKS];

    // What the data bus will carry, by cycle modulo SLOTS.
    bit              reading [SLOTS], writing [SLOTS];
    longint unsigned read_word [SLOTS], write_word [SLOTS];

    // Byte by byte: a streaming operator becomes a slow loop over bits.
    function automatic logic [127:0] reversed(input logic [127:0] word);
        for (int i = 0; i < 16; i++) reversed[8*i +: 8] = word[8*(15-i) +: 8];
    endfunction

    function automatic logic [127:0] contents(input longint unsigned word);
        if (word < 64'(DENSE_WORDS)) return reversed(dense[int'(word)]);
        if (sparse.exists(word) != 0) return sparse[word];
        return FILLER;
    endfunction

    function automatic void store(
        input longint unsigned word, input logic [127:0] value, input logic [15:0] mask
    );
        logic [127:0] merged;
        merged = value;
        if (mask != '0) begin
            merged = contents(word);
            for (int i = 0; i < 16; i++) if (!mask[i]) merged[8*i +: 8] = value[8*i +: 8];
        end
        if (word < 64'(DENSE_WORDS)) dense[int'(word)] = reversed(merged);
        else sparse[word] = merged;
    endfunction

    function automatic longint unsigned first_word(input int b, input int in_row);
        return ((longint'(row_of[b]) * BANKS + longint'(b)) * COLUMNS + longint'(in_row))
            * BURST_CYCLES;
    endfunction

    function automatic void execute(
        input int at, input command_e issued, input int b, input int in_bank, input int in_row
    );
        case (issued)
            ACT, ACT1: begin
                row_of[b] = in_bank;
                activations = activations + 1;
            end
            RD, RDA: begin
                for (int i = 0; i < BURST_CYCLES; i++) begin
                    reading[(at + READ_LATENCY + i) % SLOTS] = 1'b1;
                    read_word[(at + READ_LATENCY + i) % SLOTS] = first_word(b, in_row) + longint'(i);
                end
                reads = reads + 1;
            end
            WR, WRA: begin
                for (int i = 0; i < BURST_CYCLES; i++) begin
                    writing[(at + WRITE_LATENCY + i) % SLOTS] = 1'b1;
                    write_word[(at + WRITE_LATENCY + i) % SLOTS] =
                        first_word(b, in_row) + longint'(i);
                end
                writes = writes + 1;
            end
            PRE, PREA: precharges = precharges + 1;
            REFAB:     all_bank_refreshes = all_bank_refreshes + 1;
            REFPB:     per_bank_refreshes = per_bank_refreshes + 1;
            default: ;
        endcase
    endfunction

    function automatic void forget();
        for (int i = 0; i < SLOTS; i++) begin
            reading[i] = 1'b0;
            writing[i] = 1'b0;
        end
        activations = '0;
        precharges = '0;
        reads = '0;
        writes = '0;
        all_bank_refreshes = '0;
        per_bank_refreshes = '0;
        busy = '0;
    endfunction

    initial begin
        if (READ_LATENCY + BURST_CYCLES > SLOTS - 2 || WRITE_LATENCY + BURST_CYCLES > SLOTS - 2
            || WRITE_LATENCY < 1 || READ_LATENCY < 2 * GEAR)
            $fatal(1, "%s: latencies of %0d and %0d cycles", NAME, READ_LATENCY, WRITE_LATENCY);
        loaded = 0;
        if ($value$plusargs({NAME, "_image", "0" + 8'(pseudo_channel), "=%s"}, path)) begin
            file = $fopen(path, "rb");
            if (file == 0) $fatal(1, "%s: cannot read %s", NAME, path);
            loaded = ($fread(dense, file) + 15) / 16;
            if ($fgetc(file) != -1)
                $fatal(1, "%s: %s is larger than %0d bytes", NAME, path, 16 * DENSE_WORDS);
            $fclose(file);
        end
        for (int i = loaded; i < DENSE_WORDS; i++) dense[i] = reversed(FILLER);
        forget();
        read_data  = '0;
        read_valid = '0;
    end

    always_ff @(posedge clk) begin
        if (rst) begin
            forget();
            read_valid <= '0;
        end else
            for (int phase = 0; phase < GEAR; phase++) begin
                int place;
                place = (now + phase) % SLOTS;
                if (writing[place]) begin
                    store(write_word[place], write_data[128*phase +: 128],
                          write_mask[16*phase +: 16]);
                    writing[place] = 1'b0;
                    busy = busy + 1;
                end
                for (int slot = phase * BUSES; slot < (phase + 1) * BUSES; slot++)
                    if (command[slot] != NOP)
                        execute(now + phase, command[slot],
                                bank_group[slot] * BANKS_PER_GROUP + bank[slot],
                                row[slot], column[slot]);
                // What the controller sees in the next clock.
                place = (now + GEAR + phase) % SLOTS;
                read_valid[phase] <= reading[place];
                if (reading[place]) begin
                    read_data[128*phase +: 128] <= contents(read_word[place]);
                    reading[place] = 1'b0;
                    busy = busy + 1;
                end
            end
    end
endmodule

// Plays a file of commands and write data into a DRAM port and records what is read.
//
// Lines of +player_file, in order of time (DRAM clocks since the last reset):
//   C <time> <bus> <slot>            a command slot, hexadecimal, on bus 0 or 1
//   W <time> <channel> <data> <mask> a word on the data bus, hexadecimal
//   R <time> 0 0                     reset instead of this clock; time begins again
//   E <time> 0 0                     the end
// +player_reads=PATH receives "<run> <time> <channel> <data>" per word read; `run` counts the resets.
module dram_player #(
    parameter int GEAR = 1,
    parameter int BUSES = 1,
    parameter int PSEUDO_CHANNELS = 1,
    parameter int SLOT_BITS = 32
) (
    input  logic                                clk,
    output logic                                rst,
    output logic [GEAR*BUSES*SLOT_BITS-1:0]     command,
    output logic [128*GEAR*PSEUDO_CHANNELS-1:0] write_data,
    output logic [16*GEAR*PSEUDO_CHANNELS-1:0]  write_mask,
    input  logic [128*GEAR*PSEUDO_CHANNELS-1:0] read_data,
    input  logic [GEAR*PSEUDO_CHANNELS-1:0]     read_valid,
    output logic                                done
);
    string path;
    int    stimulus, reads, following, resets, runs;

    // The next line of the file.
    byte          kind;
    int           due, place;
    logic [127:0] value;
    logic [15:0]  mask;

    logic [GEAR*BUSES*SLOT_BITS-1:0]     slots;
    logic [128*GEAR*PSEUDO_CHANNELS-1:0] words;
    logic [16*GEAR*PSEUDO_CHANNELS-1:0]  masks;

    function automatic void next_line();
        string letter;
        int    found;
        mask = '0;
        found = $fscanf(stimulus, "%s %d %d %h", letter, due, place, value);
        if (found != 4) $fatal(1, "player: a line of the stimulus has %0d fields", found);
        kind = letter[0];
        if (kind == "W" && $fscanf(stimulus, "%h", mask) != 1) $fatal(1, "player: no mask");
        if (due < following && kind != "R" && kind != "E")
            $fatal(1, "player: a line for clock %0d comes after clock %0d", due, following);
    endfunction

    initial begin
        if (!$value$plusargs("player_file=%s", path)) $fatal(1, "player: no file");
        stimulus = $fopen(path, "r");
        if (!$value$plusargs("player_reads=%s", path)) $fatal(1, "player: no file for the reads");
        reads = $fopen(path, "w");
        if (stimulus == 0 || reads == 0) $fatal(1, "player: a file cannot be opened");
        following = 0;
        runs = 0;
        resets = 2;
        rst = 1'b1;
        done = 1'b0;
        command = '0;
        write_data = '0;
        write_mask = '0;
        next_line();
    end

    always_ff @(posedge clk) begin
        slots = '0;
        words = '0;
        masks = '0;
        if (!rst)
            for (int channel = 0; channel < PSEUDO_CHANNELS; channel++)
                for (int phase = 0; phase < GEAR; phase++)
                    if (read_valid[GEAR*channel+phase])
                        $fdisplay(reads, "%0d %0d %0d %h", runs, following - GEAR + phase, channel,
                                  read_data[128*(GEAR*channel+phase) +: 128]);
        if (resets != 0) begin
            resets = resets - 1;
            if (resets == 0) rst <= 1'b0;
        end
        if (resets == 0) begin
            for (int phase = 0; phase < GEAR; phase++)
                while (due == following + phase && (kind == "C" || kind == "W")) begin
                    if (kind == "C")
                        slots[(phase*BUSES+place)*SLOT_BITS +: SLOT_BITS] = value[SLOT_BITS-1:0];
                    else begin
                        words[128*(GEAR*place+phase) +: 128] = value;
                        masks[16*(GEAR*place+phase) +: 16] = mask;
                    end
                    next_line();
                end
            following = following + GEAR;
            if ((kind == "R" || kind == "E") && due < following) begin
                if (kind == "E") done <= 1'b1;
                else begin
                    rst <= 1'b1;
                    resets = 2;
                    runs = runs + 1;
                    following = 0;
                    slots = '0;
                    next_line();
                end
            end
        end
        command    <= slots;
        write_data <= words;
        write_mask <= masks;
    end

    final begin
        $fclose(stimulus);
        $fclose(reads);
    end
endmodule

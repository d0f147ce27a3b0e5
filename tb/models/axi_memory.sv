// A memory behind AXI4 that looks for everything a master must not do.
//
// Reads are answered in any order of the IDs, word by word; those of one ID in the order in which they
// came. A write is done when its response is sent, not before, so that a master that does not wait
// for it reads old data. Responses of one ID keep their order. W may run ahead of AW.
//
// Plusargs, NAME being the parameter:
//   +NAME_image=PATH         binary file that holds the first bytes of the memory; the others are 0
//   +NAME_latency_min=N      cycles from AR, or AW and the last W, to the first R, or B (default 4)
//   +NAME_latency_max=N      the latency is uniform from min to max (default: the min)
//   +NAME_shuffle=1          any order that AXI allows (default 0: the order of arrival)
//   +NAME_stall=S            each of ARREADY, AWREADY, WREADY is low with probability S/256
//   +NAME_gap=S              no R, no B in a cycle with probability S/256 each
//   +NAME_error_address=HEX  bursts that touch the bytes from here on ...
//   +NAME_error_bytes=N      ... to here get SLVERR or DECERR, in every word, and write nothing
//   +seed=N                  seed of everything random
//
// These stop the simulation with a message: a VALID or its payload that does not wait for READY, a
// burst that is not INCR, not of full words, unaligned, across a multiple of 4 KiB or behind the
// memory, a WLAST too early or missing.
module axi_memory #(
    parameter longint unsigned BYTES      = 1 << 16,
    parameter int unsigned     WORD_BYTES = 16,
    parameter int unsigned     ID_BITS    = 4,
    parameter string           NAME       = "axi"
) (
    input  logic                    clk,
    input  logic                    rst,
    input  logic [ID_BITS-1:0]      awid,
    input  logic [31:0]             awaddr,
    input  logic [7:0]              awlen,
    input  logic [2:0]              awsize,
    input  logic [1:0]              awburst,
    input  logic                    awlock,
    input  logic [3:0]              awcache,
    input  logic [2:0]              awprot,
    input  logic                    awvalid,
    output logic                    awready,
    input  logic [8*WORD_BYTES-1:0] wdata,
    input  logic [WORD_BYTES-1:0]   wstrb,
    input  logic                    wlast,
    input  logic                    wvalid,
    output logic                    wready,
    output logic [ID_BITS-1:0]      bid,
    output logic [1:0]              bresp,
    output logic                    bvalid,
    input  logic                    bready,
    input  logic [ID_BITS-1:0]      arid,
    input  logic [31:0]             araddr,
    input  logic [7:0]              arlen,
    input  logic [2:0]              arsize,
    input  logic [1:0]              arburst,
    input  logic                    arlock,
    input  logic [3:0]              arcache,
    input  logic [2:0]              arprot,
    input  logic                    arvalid,
    output logic                    arready,
    output logic [ID_BITS-1:0]      rid,
    output logic [8*WORD_BYTES-1:0] rdata,
    output logic [1:0]              rresp,
    output logic                    rlast,
    output logic                    rvalid,
    input  logic                    rready,
    output logic [31:0]             read_bursts,   // since the last reset
    output logic [31:0]             write_bursts,
    output logic [31:0]             reads_at_once  // most read bursts under way
);
    localparam int unsigned PLACES = 2 << ID_BITS;
    localparam int unsigned WORDS  = int'(BYTES) / WORD_BYTES;

    typedef struct {
        logic [ID_BITS-1:0] id;
        int unsigned        address, left;  // of the next word to come; words to come
        int unsigned        first, words;   // of the burst, in words of the memory and of `stored`
        logic [31:0]        due;
        bit                 refused;
    } burst_t;

    bit [8*WORD_BYTES-1:0] memory [WORDS];
    bit [7:0]              image [WORDS * WORD_BYTES];
    burst_t reads [PLACES], writes [PLACES];
    int unsigned read_count, write_count, complete;  // writes whose words have all come: the oldest

    // Words of W, as a ring, and where the next ones come from.
    localparam int unsigned RING = 64 * PLACES;
    bit [8*WORD_BYTES-1:0] data_of [RING];
    bit [WORD_BYTES-1:0]   strobe_of [RING];
    bit                    last_of [RING];
    int unsigned           words_in, words_used;

    string           path;
    int              file, loaded;
    int unsigned     latency_min, latency_max, stall, gap, seed;
    longint unsigned error_address, error_bytes;
    bit              shuffle;
    logic [31:0]     random, now;
    int unsigned     chosen, candidates;

    function automatic int unsigned below(input int unsigned bound);
        random = random ^ (random << 13);
        random = random ^ (random >> 17);
        random = random ^ (random << 5);
        below = {8'd0, random[31:8]} % bound;
    endfunction

    function automatic bit happens(input int unsigned probability);
        happens = probability != 0 && below(256) < probability;
    endfunction

    function automatic burst_t accepted(
        input string what, input logic [ID_BITS-1:0] id, input logic [31:0] address,
        input logic [7:0] length, input logic [2:0] size, input logic [1:0] kind
    );
        longint unsigned bytes;
        bytes = (64'(length) + 1) * WORD_BYTES;
        if (kind != 2'b01) $fatal(1, "%s: %s burst of kind %0d", NAME, what, kind);
        if ((1 << size) != WORD_BYTES) $fatal(1, "%s: %s words of %0d bytes", NAME, what, 1 << size);
        if (address % WORD_BYTES != 0) $fatal(1, "%s: %s unaligned at 0x%0h", NAME, what, address);
        if (64'(address[11:0]) + bytes > 4096)
            $fatal(1, "%s: %s of %0d bytes at 0x%0h crosses 4 KiB", NAME, what, bytes, address);
        if (64'(address) + bytes > BYTES)
            $fatal(1, "%s: %s at 0x%0h ends behind the memory", NAME, what, address);
        accepted.id      = id;
        accepted.address = address / WORD_BYTES;
        accepted.first   = address / WORD_BYTES;
        accepted.words   = 32'(length) + 1;
        accepted.left    = 32'(length) + 1;
        accepted.due     = now + latency_min + below(latency_max - latency_min + 1);
        accepted.refused = 64'(address) + bytes > error_address
                           && 64'(address) < error_address + error_bytes;
    endfunction

    // A burst that is due and first of its ID; `count` when there is none.
    function automatic int unsigned choose(input burst_t bursts [PLACES], input int unsigned count);
        bit first;
        choose = count;
        candidates = 0;
        for (int unsigned i = 0; i < count; i++) begin
            first = bursts[i].due <= now;
            for (int unsigned j = 0; j < i; j++) if (bursts[j].id == bursts[i].id) first = 1'b0;
            if (first && (shuffle || i == 0)) begin
                candidates = candidates + 1;
                if (below(candidates) == 0) choose = i;
            end
        end
    endfunction

    function automatic void read_word(input int unsigned place);
        rid   <= reads[place].id;
        rdata <= reads[place].refused ? '1 : memory[reads[place].address];
        rresp <= reads[place].refused ? (reads[place].id[0] ? 2'b10 : 2'b11) : 2'b00;
        rlast <= reads[place].left == 1;
        reads[place].address = reads[place].address + 1;
        reads[place].left    = reads[place].left - 1;
        if (reads[place].left == 0) begin
            read_count = read_count - 1;
            for (int unsigned i = place; i < read_count; i++) reads[i] = reads[i+1];
        end
    endfunction

    // Words of W belong to the writes in the order of AW: `address` is their place in the ring.
    function automatic void match_words();
        while (complete < write_count && words_in - words_used >= writes[complete].words) begin
            writes[complete].address = words_used;
            for (int unsigned i = 0; i < writes[complete].words; i++)
                if (last_of[(words_used + i) % RING] != (i + 1 == writes[complete].words))
                    $fatal(1, "%s: WLAST wrong at word %0d of %0d", NAME, i, writes[complete].words);
            words_used = words_used + writes[complete].words;
            writes[complete].due =
                now + latency_min + below(latency_max - latency_min + 1);
            complete = complete + 1;
        end
    endfunction

    function automatic void do_write(input int unsigned place);
        if (!writes[place].refused)
            for (int unsigned i = 0; i < writes[place].words; i++)
                for (int unsigned b = 0; b < WORD_BYTES; b++)
                    if (strobe_of[(writes[place].address + i) % RING][b])
                        memory[writes[place].first + i][8*b +: 8] =
                            data_of[(writes[place].address + i) % RING][8*b +: 8];
        bid   <= writes[place].id;
        bresp <= writes[place].refused ? (writes[place].id[0] ? 2'b10 : 2'b11) : 2'b00;
        write_count = write_count - 1;
        complete    = complete - 1;
        for (int unsigned i = place; i < write_count; i++) writes[i] = writes[i+1];
    endfunction

    // VALID waits for READY, with its payload.
    localparam int unsigned ADDRESS_WIDTH = ID_BITS + 53;
    logic                     aw_waits, w_waits, ar_waits;
    logic [ADDRESS_WIDTH-1:0] aw, ar, aw_before, ar_before;
    logic [9*WORD_BYTES:0]    w, w_before;
    assign aw = {awid, awaddr, awlen, awsize, awburst, awlock, awcache, awprot};
    assign ar = {arid, araddr, arlen, arsize, arburst, arlock, arcache, arprot};
    assign w  = {wdata, wstrb, wlast};
    function automatic void check_waiting();
        if (aw_waits && !(awvalid && aw == aw_before))
            $fatal(1, "%s: AW does not wait for AWREADY", NAME);
        if (ar_waits && !(arvalid && ar == ar_before))
            $fatal(1, "%s: AR does not wait for ARREADY", NAME);
        if (w_waits && !(wvalid && w == w_before))
            $fatal(1, "%s: W does not wait for WREADY", NAME);
        aw_waits  = awvalid && !awready;
        ar_waits  = arvalid && !arready;
        w_waits   = wvalid && !wready;
        aw_before = aw;
        ar_before = ar;
        w_before  = w;
    endfunction

    function automatic void forget();
        read_count = 0;  write_count = 0;  complete = 0;
        words_in   = 0;  words_used  = 0;  now      = '0;
        aw_waits = 1'b0; ar_waits = 1'b0; w_waits = 1'b0;
    endfunction

    initial begin
        latency_min = 4;  stall = 0;  gap = 0;  seed = 1;  shuffle = 1'b0;
        error_address = 0;  error_bytes = 0;
        void'($value$plusargs({NAME, "_latency_min=%d"}, latency_min));
        latency_max = latency_min;
        void'($value$plusargs({NAME, "_latency_max=%d"}, latency_max));
        void'($value$plusargs({NAME, "_shuffle=%d"}, shuffle));
        void'($value$plusargs({NAME, "_stall=%d"}, stall));
        void'($value$plusargs({NAME, "_gap=%d"}, gap));
        void'($value$plusargs({NAME, "_error_address=%h"}, error_address));
        void'($value$plusargs({NAME, "_error_bytes=%d"}, error_bytes));
        void'($value$plusargs("seed=%d", seed));
        if ($value$plusargs({NAME, "_image=%s"}, path)) begin
            file = $fopen(path, "rb");
            if (file == 0) $fatal(1, "%s: cannot read %s", NAME, path);
            loaded = $fread(image, file);
            $fclose(file);
        end
        random = (seed * 32'h9E3779B9) | 32'h1;
        forget();
    end

    always_ff @(posedge clk) begin
        if (rst) begin
            forget();
            // The contents are those of the image again, so that a run may start anew.
            for (int unsigned i = 0; i < WORDS; i++)
                for (int unsigned b = 0; b < WORD_BYTES; b++)
                    memory[i][8*b +: 8] = image[i * WORD_BYTES + b];
            arready <= 1'b0;  awready <= 1'b0;  wready <= 1'b0;
            rvalid  <= 1'b0;  bvalid  <= 1'b0;
            read_bursts <= '0;  write_bursts <= '0;  reads_at_once <= '0;
        end else begin
            check_waiting();
            now = now + 1;
            if (arvalid && arready) begin
                reads[read_count] = accepted("read", arid, araddr, arlen, arsize, arburst);
                read_count  = read_count + 1;
                read_bursts <= read_bursts + 1;
                if (read_count > reads_at_once) reads_at_once <= read_count;
            end
            if (awvalid && awready) begin
                writes[write_count] = accepted("write", awid, awaddr, awlen, awsize, awburst);
                write_count  = write_count + 1;
                write_bursts <= write_bursts + 1;
            end
            if (wvalid && wready) begin
                data_of[words_in % RING]   = wdata;
                strobe_of[words_in % RING] = wstrb;
                last_of[words_in % RING]   = wlast;
                words_in = words_in + 1;
            end
            match_words();
            if (!rvalid || rready) begin
                chosen = happens(gap) ? read_count : choose(reads, read_count);
                rvalid <= chosen != read_count;
                if (chosen != read_count) read_word(chosen);
            end
            if (!bvalid || bready) begin
                chosen = happens(gap) ? complete : choose(writes, complete);
                bvalid <= chosen != complete;
                if (chosen != complete) do_write(chosen);
            end
            arready <= read_count < PLACES - 1 && !happens(stall);
            awready <= write_count < PLACES - 1 && !happens(stall);
            wready  <= words_in - words_used < RING - 512 && !happens(stall);
        end
    end
endmodule

// A memory behind the ports of docs/memory.md, section 2: one beat of 16 bytes per cycle at best each way.
//
// The payloads are the packed streams of the ports, lowest field first:
//   request   address (32), bursts less one (4), tag (TAG_BITS); of writes WRITE_TAG_BITS
//   response  data (128), tag (TAG_BITS), beat (5), error (1)
//   data      data (128), enable (16)
//   written   tag (WRITE_TAG_BITS), error (1)
//
// The first beat of an answer comes `latency` cycles after its request was taken, later when beats of
// other requests are in the way. Without `shuffle` the requests are answered one after the other in
// the order they came, beat after beat; with it every cycle picks one of the requests that are due and
// one of its beats, so that both the answers and their beats mix. With a fixed latency, no gaps and enough requests there is a beat in every
// cycle. Reset forgets the requests under way and zeroes the counters; the contents stay.
//
// With `reload` a reset reads the image again and empties the log.
//
// Plusargs, NAME being the parameter:
//   +NAME_image=PATH         binary file that holds the first bytes of the memory; what lies behind
//                            them reads as FILLER. Without a file all of it does.
//   +NAME_latency_min=N      cycles, at least 1 (default 8)
//   +NAME_latency_max=N      the latency of a request is uniform from min to max (default: the min)
//   +NAME_shuffle=1          any order of requests and beats (default 0)
//   +NAME_request_stall=S    `request__ready` is low in a cycle with probability S/256, S in 0..255
//   +NAME_response_gap=S     no beat in a cycle with probability S/256, S in 0..255
//   +NAME_error_address=HEX  beats of the bytes from here on ...
//   +NAME_error_bytes=N      ... to here come with `error` and all ones (default 0: none); a write that
//                            touches them changes nothing and ends with `error`
//   +NAME_reload=1           see above (default 0)
//   +NAME_log=PATH           a line for each written beat: mark, beat number, data, enable (hexadecimal)
//   +seed=N                  seed of everything random; each NAME derives a sequence of its own
//
// A request with a tag that is under way, an unaligned address, or an end behind the memory, and a
// `response__ready` that is low stop the simulation with a message. A request is at most 16 bursts
// by the width of its field. What is written must lie within the image. A write ends as late as a read
// begins to be answered; its data can be read at once.
module writable_memory #(
    parameter longint unsigned BYTES    = 1 << 20,  // a multiple of 32, up to 2**32
    parameter int unsigned     TAG_BITS = 4,
    parameter int unsigned     WRITE_TAG_BITS = 4,
    parameter string           NAME     = "memory"
) (
    input  logic                  clk,
    input  logic                  rst,
    input  logic                  request__valid,
    input  logic [TAG_BITS+35:0]  request__payload,
    output logic                  request__ready,
    output logic                  response__valid,
    output logic [TAG_BITS+133:0] response__payload,
    input  logic                  response__ready,
    output logic [31:0]           requests,  // taken since the last reset
    output logic [31:0]           beats,     // sent since the last reset
    output logic [31:0]           busy,      // cycles with a request under way since the last reset
    input  logic [31:0]           mark,      // written to the log
    input  logic                         write__request__valid,
    input  logic [WRITE_TAG_BITS+35:0]   write__request__payload,
    output logic                         write__request__ready,
    input  logic                         write__data__valid,
    input  logic [143:0]                 write__data__payload,
    output logic                         write__data__ready,
    output logic                         write__written__valid,
    output logic [WRITE_TAG_BITS:0]      write__written__payload,
    input  logic                         write__written__ready,
    output logic [31:0]                  written  // beats since the last reset
);
    localparam int unsigned TAGS  = 1 << TAG_BITS;
    localparam int unsigned WORDS = int'(BYTES / 16);
    localparam logic [127:0] FILLER = {4{32'hDEADBEEF}};

    string           path;
    int              file, loaded;
    int unsigned     latency_min, latency_max, request_stall, response_gap, seed;
    longint unsigned error_address, error_bytes;
    bit              shuffle;

    bit [127:0]  words [WORDS];  // byte 0 of a beat is the first in the file: bits 127..120
    logic [31:0] random, now;

    // What is under way, by place in the order of arrival; place 0 is the oldest.
    int unsigned         pending, chosen, candidates;
    logic [TAG_BITS-1:0] tag_of   [TAGS];
    int unsigned         word_of  [TAGS];
    int unsigned         beats_of [TAGS];  // to come
    bit [31:0]           sent_of  [TAGS];  // a bit for each beat of the request
    logic [31:0]         due_of   [TAGS];

    // Writes: requests whose data are to come, the oldest first, and ends that are to be told.
    localparam int unsigned ROOM = 4;
    int unsigned               asked, place;
    logic [WRITE_TAG_BITS+35:0] asked_of [ROOM];
    bit                        spoilt;
    int unsigned               ends;
    logic [WRITE_TAG_BITS:0]   end_of  [1 << WRITE_TAG_BITS];
    logic [31:0]               told_of [1 << WRITE_TAG_BITS];
    int                        log_file;
    bit                        reload, fresh;
    string                     log_path;

    function automatic logic [31:0] next_random(input logic [31:0] state);
        next_random = state ^ (state << 13);
        next_random = next_random ^ (next_random >> 17);
        next_random = next_random ^ (next_random << 5);
    endfunction

    function automatic int unsigned below(input int unsigned bound);
        random = next_random(random);
        below = {8'd0, random[31:8]} % bound;
    endfunction

    function automatic bit happens(input int unsigned probability);
        happens = probability != 0 && below(256) < probability;
    endfunction

    function automatic void accept();
        logic [31:0]         address;
        logic [3:0]          bursts_less_one;
        logic [TAG_BITS-1:0] tag;
        {tag, bursts_less_one, address} = request__payload;
        for (int unsigned i = 0; i < pending; i++)
            if (tag_of[i] == tag)
                $fatal(1, "%s: request with tag %0d, which is under way", NAME, tag);
        if (address % 32 != 0)
            $fatal(1, "%s: request at unaligned address 0x%0h", NAME, address);
        if (64'(address) + 32 * (64'(bursts_less_one) + 1) > BYTES)
            $fatal(1, "%s: request for %0d bursts at 0x%0h ends behind the memory of 0x%0h bytes",
                   NAME, 32'(bursts_less_one) + 1, address, BYTES);
        tag_of[pending]   = tag;
        word_of[pending]  = address / 16;
        beats_of[pending] = 2 * (32'(bursts_less_one) + 1);
        sent_of[pending]  = ~32'd0 << beats_of[pending];
        due_of[pending]   = now + latency_min - 1 + below(latency_max - latency_min + 1);
        pending  = pending + 1;
        requests <= requests + 1;
    endfunction

    // The place to serve in this cycle; `pending` when none is due.
    function automatic int unsigned choose();
        choose = pending;
        if (!shuffle) begin
            if (pending != 0 && due_of[0] <= now) choose = 0;
        end else begin
            candidates = 0;
            for (int unsigned i = 0; i < pending; i++)
                if (due_of[i] <= now) begin
                    candidates = candidates + 1;
                    if (below(candidates) == 0) choose = i;
                end
        end
    endfunction

    function automatic logic [127:0] contents(input int unsigned word);
        // Byte by byte: a streaming operator becomes a slow loop over bits.
        for (int i = 0; i < 16; i++) contents[8*i +: 8] = words[word][8*(15-i) +: 8];
        if (word >= loaded) contents = FILLER;
    endfunction

    function automatic void serve(input int unsigned place);
        longint unsigned address;
        int unsigned     word, skipped;
        bit              refused;
        logic [4:0]      beat;
        skipped = shuffle ? below(beats_of[place]) : 0;
        beat = 5'd0;
        while (sent_of[place][beat] || skipped != 0) begin
            if (!sent_of[place][beat]) skipped = skipped - 1;
            beat = beat + 1;
        end
        word    = word_of[place] + 32'(beat);
        address = 64'(word) * 16;
        refused = address + 16 > error_address && address < error_address + error_bytes;
        response__payload <= {
            refused, beat, tag_of[place], refused ? {128{1'b1}} : contents(word)
        };
        beats           <= beats + 1;
        sent_of[place][beat] = 1'b1;
        beats_of[place]      = beats_of[place] - 1;
        if (beats_of[place] == 0) begin
            pending = pending - 1;
            for (int unsigned i = place; i < pending; i++) begin
                tag_of[i]   = tag_of[i+1];
                word_of[i]  = word_of[i+1];
                beats_of[i] = beats_of[i+1];
                sent_of[i]  = sent_of[i+1];
                due_of[i]   = due_of[i+1];
            end
        end
    endfunction

    // The image, and an empty log.
    function automatic void load();
        if ($value$plusargs({NAME, "_image=%s"}, path)) begin
            file = $fopen(path, "rb");
            if (file == 0) $fatal(1, "%s: cannot read %s", NAME, path);
            loaded = ($fread(words, file) + 15) / 16;
            $fclose(file);
        end
        if (log_file != 0) $fclose(log_file);
        log_file = 0;
        if ($value$plusargs({NAME, "_log=%s"}, log_path)) begin
            log_file = $fopen(log_path, "w");
            if (log_file == 0) $fatal(1, "%s: cannot write %s", NAME, log_path);
        end
    endfunction

    // The beat that `write__data` offers, of the oldest request.
    function automatic void write();
        logic [31:0]               address, word;
        logic [3:0]                bursts_less_one;
        logic [WRITE_TAG_BITS-1:0] tag;
        {tag, bursts_less_one, address} = asked_of[0];
        word = address / 16 + place;
        if (address % 32 != 0)
            $fatal(1, "%s: write to unaligned address 0x%0h", NAME, address);
        if (word >= loaded)
            $fatal(1, "%s: write to 0x%0h, which is behind the image", NAME, word * 16);
        if (64'(word) * 16 + 16 > error_address && 64'(word) * 16 < error_address + error_bytes)
            spoilt = 1'b1;
        else begin
            for (int i = 0; i < 16; i++)
                if (write__data__payload[128 + i])
                    words[word][8*(15-i) +: 8] = write__data__payload[8*i +: 8];
            if (log_file != 0)
                $fdisplay(log_file, "%0h %0h %h %h", mark, word, write__data__payload[127:0],
                          write__data__payload[143:128]);
        end
        written <= written + 1;
        place = place + 1;
        if (place == 2 * (32'(bursts_less_one) + 1)) begin
            end_of[ends]  = {spoilt, tag};
            told_of[ends] = now + latency_min - 1 + below(latency_max - latency_min + 1);
            ends   = ends + 1;
            place  = 0;
            spoilt = 1'b0;
            asked  = asked - 1;
            for (int unsigned i = 0; i < asked; i++) asked_of[i] = asked_of[i+1];
        end
    endfunction

    // The first end that is due.
    function automatic void tell();
        int unsigned first;
        first = ends;
        for (int unsigned i = 0; i < ends; i++)
            if (first == ends && told_of[i] <= now) first = i;
        write__written__valid <= first != ends;
        if (first != ends) begin
            write__written__payload <= end_of[first];
            ends = ends - 1;
            for (int unsigned i = first; i < ends; i++) begin
                end_of[i]  = end_of[i+1];
                told_of[i] = told_of[i+1];
            end
        end
    endfunction

    initial begin
        latency_min   = 8;
        shuffle       = 1'b0;
        request_stall = 0;
        response_gap  = 0;
        error_address = 0;
        error_bytes   = 0;
        seed          = 1;
        loaded        = 0;
        log_file      = 0;
        void'($value$plusargs({NAME, "_latency_min=%d"}, latency_min));
        latency_max = latency_min;
        void'($value$plusargs({NAME, "_latency_max=%d"}, latency_max));
        void'($value$plusargs({NAME, "_shuffle=%d"}, shuffle));
        void'($value$plusargs({NAME, "_request_stall=%d"}, request_stall));
        void'($value$plusargs({NAME, "_response_gap=%d"}, response_gap));
        void'($value$plusargs({NAME, "_error_address=%h"}, error_address));
        void'($value$plusargs({NAME, "_error_bytes=%d"}, error_bytes));
        void'($value$plusargs("seed=%d", seed));
        if (latency_min < 1 || latency_max < latency_min)
            $fatal(1, "%s: latency from %0d to %0d", NAME, latency_min, latency_max);
        reload = 1'b0;
        fresh  = 1'b1;
        void'($value$plusargs({NAME, "_reload=%d"}, reload));
        load();
        random = (seed * 32'h9E3779B9) | 32'h1;
        for (int i = 0; i < NAME.len(); i++) random = next_random(random ^ 32'(NAME[i])) | 32'h1;
        write__request__ready = 1'b0;
        write__data__ready    = 1'b0;
        write__written__valid = 1'b0;
        asked   = 0;
        place   = 0;
        ends    = 0;
        spoilt  = 1'b0;
        written = '0;
        request__ready  = 1'b0;
        response__valid = 1'b0;
        pending         = 0;
        now             = '0;
        requests        = '0;
        beats           = '0;
        busy            = '0;
    end

    always_ff @(posedge clk) begin
        if (rst) begin
            if (reload && !fresh) load();
            fresh = 1'b1;
            pending         = 0;
            now             = '0;
            request__ready  <= 1'b0;
            response__valid <= 1'b0;
            requests        <= '0;
            beats           <= '0;
            busy            <= '0;
            asked  = 0;
            place  = 0;
            ends   = 0;
            spoilt = 1'b0;
            written <= '0;
            write__request__ready <= 1'b0;
            write__data__ready    <= 1'b0;
            write__written__valid <= 1'b0;
        end else begin
            if (response__valid && !response__ready)
                $fatal(1, "%s: response.ready is low", NAME);
            fresh = 1'b0;
            now = now + 1;
            if (request__valid && request__ready) accept();
            if (pending != 0) busy <= busy + 1;
            if (write__written__valid && !write__written__ready)
                $fatal(1, "%s: written.ready is low", NAME);
            if (write__data__valid && write__data__ready) write();
            if (write__request__valid && write__request__ready) begin
                asked_of[asked] = write__request__payload;
                asked = asked + 1;
            end
            tell();
            write__request__ready <= asked < ROOM && !happens(request_stall);
            write__data__ready    <= asked != 0 && !happens(response_gap);
            chosen = happens(response_gap) ? pending : choose();
            response__valid <= chosen != pending;
            if (chosen != pending) serve(chosen);
            request__ready <= !happens(request_stall);
        end
    end
endmodule

// The same for readers alone.
module ideal_memory #(
    parameter longint unsigned BYTES    = 1 << 20,
    parameter int unsigned     TAG_BITS = 4,
    parameter string           NAME     = "memory"
) (
    input  logic                  clk,
    input  logic                  rst,
    input  logic                  request__valid,
    input  logic [TAG_BITS+35:0]  request__payload,
    output logic                  request__ready,
    output logic                  response__valid,
    output logic [TAG_BITS+133:0] response__payload,
    input  logic                  response__ready,
    output logic [31:0]           requests,
    output logic [31:0]           beats,
    output logic [31:0]           busy
);
    writable_memory #(.BYTES(BYTES), .TAG_BITS(TAG_BITS), .NAME(NAME)) memory (
        .clk, .rst, .request__valid, .request__payload, .request__ready,
        .response__valid, .response__payload, .response__ready, .requests, .beats, .busy,
        .mark('0),
        .write__request__valid(1'b0), .write__request__payload('0), .write__request__ready(),
        .write__data__valid(1'b0), .write__data__payload('0), .write__data__ready(),
        .write__written__valid(), .write__written__payload(), .write__written__ready(1'b1),
        .written()
    );
endmodule

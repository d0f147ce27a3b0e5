// The core behind named signals: a start for your own design, checked by tb/tools/test_wrapper.py.
//
// Widths and bit positions come from attention_core_pkg.sv, which `make verilog` writes beside the
// core; nothing here depends on a parameter. The wrapper fills in the config hash, takes the list
// of selected chunks off the core's hands, and leaves the counters alone.
module attention_wrapper
    import attention_core_pkg::*;
(
    input  logic                            clk,
    input  logic                            rst,  // synchronous, at any time

    // One job: its descriptor, and beside it ROWS * HEAD_DIM / 8 query beats.
    input  logic                            job_valid,
    output logic                            job_ready,
    input  job_job_id_t                     job_id,
    input  job_layer_t                      job_layer,
    input  job_kv_head_t                    job_kv_head,
    input  job_mode_t                       job_mode,
    input  job_context_t                    job_context,
    input  job_base_address_t               job_base_address,
    input  job_chunk_address_t              job_chunk_address,
    input  job_tail_address_t               job_tail_address,
    input  job_value_scale_t                job_value_scale,
    input  job_query_scale_t                job_query_scale,
    input  logic                            query_valid,
    output logic                            query_ready,
    input  query_t                          query_elements,

    // Memory: a burst is 32 bytes, an answer 2 beats per burst, numbered, in any order. Answers are
    // always taken.
    output logic                            request_valid,
    input  logic                            request_ready,
    output memory_request_address_t         request_address,
    output memory_request_bursts_less_one_t request_bursts_less_one,
    output memory_request_tag_t             request_tag,
    input  logic                            response_valid,
    input  memory_response_data_t           response_data,
    input  memory_response_tag_t            response_tag,
    input  memory_response_beat_t           response_beat,
    input  memory_response_error_t          response_error,

    // Results: ROWS * HEAD_DIM / 4 output beats, then the completion.
    output logic                            output_valid,
    input  logic                            output_ready,
    output output_data_t                    output_channels,
    output logic                            completion_valid,
    input  logic                            completion_ready,
    output completion_job_id_t              completion_job_id,
    output completion_status_t              completion_status
);
    job_t             job;
    memory_request_t  request;
    memory_response_t response;
    output_t          result;
    completion_t      completion;

    assign job = '{
        job_id:        job_id,
        config_hash:   CONFIG_HASH,
        layer:         job_layer,
        kv_head:       job_kv_head,
        mode:          job_mode,
        context_:      job_context,
        base_address:  job_base_address,
        chunk_address: job_chunk_address,
        tail_address:  job_tail_address,
        value_scale:   job_value_scale,
        query_scale:   job_query_scale
    };
    assign response = '{
        data:  response_data,
        tag:   response_tag,
        beat:  response_beat,
        error: response_error
    };

    assign request_address         = request.address;
    assign request_bursts_less_one = request.bursts_less_one;
    assign request_tag             = request.tag;
    assign output_channels         = result.data;
    assign completion_job_id       = completion.job_id;
    assign completion_status       = completion.status;

    // Not used here: the statistics of the rows, the selected chunks, the counters.
    selection_t  selection_unused;
    logic        selection_valid_unused, response_ready_unused, statistics_unused;
    logic [31:0] counter_unused;
    assign statistics_unused = ^{completion.sum, completion.maximum};

    attention_core core (
        .clk                       (clk),
        .rst                       (rst),
        .job__valid                (job_valid),
        .job__ready                (job_ready),
        .job__payload              (job),
        .query__valid              (query_valid),
        .query__ready              (query_ready),
        .query__payload            (query_elements),
        .memory__request__valid    (request_valid),
        .memory__request__ready    (request_ready),
        .memory__request__payload  (request),
        .memory__response__valid   (response_valid),
        .memory__response__ready   (response_ready_unused),
        .memory__response__payload (response),
        .selection__valid          (selection_valid_unused),
        .selection__ready          (1'b1),
        .selection__payload        (selection_unused),
        .output__valid             (output_valid),
        .output__ready             (output_ready),
        .output__payload           (result),
        .completion__valid         (completion_valid),
        .completion__ready         (completion_ready),
        .completion__payload       (completion),
        .counter_address           ('0),
        .counter_clear             (1'b0),
        .counter_data              (counter_unused)
    );
endmodule

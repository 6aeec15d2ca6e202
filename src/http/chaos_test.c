/* Random histories: many requests at once against a server that echoes, streams, pauses, breaks off and lets wait, with clients that pause and
 * cancel. From a seed, so that a failure can be replayed (TIDEMILL_SEED=n). What must hold: each exchange and each request ends exactly once, whole
 * answers are what was asked for, nothing is left behind. */
#include "http/http_fixture_priv.h"

#define REQUESTS 400
#define CONCURRENT 24

struct chaos {
    struct fixture fixture;
    uint64_t seed;
    int exchanges_open, exchanges_seen;
    int requests_open, requests_started, whole, broken, cancelled;
};

static uint32_t roll(struct chaos *chaos, uint32_t sides) {
    chaos->seed = chaos->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(chaos->seed >> 33) % sides;
}

/* The body of answer n: its length and bytes follow from n. */
static size_t body_len(uint32_t n) {
    static const size_t lens[] = {0, 1, 100, 5000, 70000, 600000};
    return lens[n % ARRAY_LEN(lens)] + n % 7;
}
static char body_byte(uint32_t n, size_t at) {
    return (char)('a' + (n + at / 3) % 26);
}

/* --- the server --- */

struct visit {
    struct chaos *chaos;
    struct http_exchange *exchange;
    struct loop_timer timer;
    uint32_t number;
    size_t sent, received;
    int closed;
    bool answered;
};

static void on_close(void *userdata, struct http_exchange *exchange, bool complete) {
    struct visit *visit = userdata;
    (void)exchange, (void)complete;
    assert_int_equal(++visit->closed, 1);
    visit->chaos->exchanges_open--;
    loop_timer_cancel(&visit->timer);
    free(visit);
}

/* Writes on until the queue is full or all is said. */
static void write_on(void *userdata, struct http_exchange *exchange) {
    struct visit *visit = userdata;
    char piece[30000];
    size_t len = body_len(visit->number);
    while (visit->sent < len) {
        size_t wish = 1 + roll(visit->chaos, sizeof piece), part = MIN(wish, len - visit->sent);
        for (size_t i = 0; i < part; i++)
            piece[i] = body_byte(visit->number, visit->sent + i);
        if (roll(visit->chaos, 400) == 0) {
            http_abort(exchange);
            return;
        }
        int r = http_write(exchange, slice_make(piece, part));
        if (r == -EPIPE)
            return; /* the client is gone, on_close will tell */
        assert_int_equal(r, 0);
        visit->sent += part;
        if (http_write_pending(exchange) > 100000)
            return; /* on_drained goes on */
    }
    http_respond_end(exchange);
}

static void answer(struct visit *visit) {
    struct http_exchange *exchange = visit->exchange;
    visit->answered = true;
    http_on_drained(exchange, write_on, visit);
    http_respond_begin(exchange, 200, "text/plain", roll(visit->chaos, 2) ? -1 : (int64_t)body_len(visit->number), NULL);
    write_on(visit, exchange);
}

static void on_later(void *userdata) {
    struct visit *visit = userdata;
    if (visit->answered)
        http_resume_body(visit->exchange);
    else
        answer(visit);
}

static void on_resume(void *userdata) {
    struct visit *visit = userdata;
    http_resume_body(visit->exchange);
}

static void on_body(void *userdata, struct http_exchange *exchange, struct slice body) {
    struct visit *visit = userdata;
    (void)exchange, (void)body;
    if (roll(visit->chaos, 3) > 0) {
        answer(visit);
        return;
    }
    loop_timer_init(&visit->timer, visit->chaos->fixture.loop, on_later, visit);
    loop_timer_set(&visit->timer, roll(visit->chaos, 3));
}

static void on_piece(void *userdata, struct http_exchange *exchange, struct slice data) {
    struct visit *visit = userdata;
    visit->received += data.len;
    if (data.len == 0) {
        answer(visit);
    } else if (roll(visit->chaos, 4) == 0) {
        http_pause_body(exchange);
        loop_timer_init(&visit->timer, visit->chaos->fixture.loop, on_resume, visit);
        loop_timer_set(&visit->timer, 0);
    } else if (roll(visit->chaos, 40) == 0) {
        http_abort(exchange);
    }
}

static void on_request(void *userdata, struct http_exchange *exchange) {
    struct chaos *chaos = userdata;
    struct visit *visit = calloc(1, sizeof *visit);
    uint64_t number = 0;
    assert_int_equal(slice_parse_u64(slice_from(http_path(exchange), 1), UINT32_MAX, &number), 0);
    *visit = (struct visit){.chaos = chaos, .exchange = exchange, .number = (uint32_t)number};
    chaos->exchanges_open++;
    chaos->exchanges_seen++;
    http_on_close(exchange, on_close, visit);
    switch (roll(chaos, 5)) {
    case 0: http_read_body(exchange, 50000, on_body, visit); break;
    case 1: http_stream_body(exchange, on_piece, visit); break;
    case 2: on_body(visit, exchange, (struct slice){0}); break;
    default: answer(visit); /* the body, if any, stays unread */
    }
}

/* --- the clients --- */

struct call {
    struct chaos *chaos;
    struct http_request *request;
    struct loop_timer timer;
    uint32_t number;
    size_t received;
    int status;
};

static void call_free(struct call *call) {
    call->chaos->requests_open--;
    loop_timer_cancel(&call->timer);
    free(call);
}

static void on_call_resume(void *userdata) {
    struct call *call = userdata;
    http_request_resume(call->request);
}

static void on_call_head(void *userdata, const struct http_answer *head) {
    struct call *call = userdata;
    call->status = head->status;
}

static void on_call_data(void *userdata, struct slice data) {
    struct call *call = userdata;
    for (size_t i = 0; i < data.len && call->status == 200; i++)
        if (data.data[i] != body_byte(call->number, call->received + i))
            fail_msg("byte %zu of answer %u", call->received + i, call->number);
    call->received += data.len;
    uint32_t what = roll(call->chaos, 60);
    if (what == 0) {
        call->chaos->cancelled++;
        http_request_cancel(call->request);
        call_free(call);
    } else if (what < 10) {
        http_request_pause(call->request);
        loop_timer_set(&call->timer, roll(call->chaos, 3));
    }
}

static void on_call_end(void *userdata, int error) {
    struct call *call = userdata;
    if (error == 0 && call->status == 200)
        assert_int_equal(call->received, body_len(call->number));
    if (error == 0)
        call->chaos->whole++;
    else
        call->chaos->broken++;
    call_free(call);
}

static void on_call_answer(void *userdata, const struct http_answer *answer) {
    struct call *call = userdata;
    call->status = answer->status;
    if (answer->error == 0 && answer->status == 200)
        assert_int_equal(answer->body.len, body_len(call->number));
    call->received = answer->body.len;
    on_call_end(call, answer->error);
}

static void start_call(struct chaos *chaos) {
    static const struct http_stream_handlers handlers = {.on_head = on_call_head, .on_data = on_call_data, .on_end = on_call_end};
    static char upload[200000];
    struct call *call = calloc(1, sizeof *call);
    char target[32];
    *call = (struct call){.chaos = chaos, .number = (uint32_t)chaos->requests_started++};
    loop_timer_init(&call->timer, chaos->fixture.loop, on_call_resume, call);
    snprintf(target, sizeof target, "/%u", call->number);
    bool uploads = roll(chaos, 3) == 0;
    struct http_request_options options = {
        .method = uploads ? "POST" : "GET", .target = target, .body = slice_make(upload, uploads ? roll(chaos, sizeof upload) : 0)};
    chaos->requests_open++;
    int r = roll(chaos, 2) ? http_client_stream(chaos->fixture.client, &options, &handlers, call, &call->request)
                           : http_client_send(chaos->fixture.client, &options, on_call_answer, call, &call->request);
    assert_int_equal(r, 0);
    if (roll(chaos, 25) == 0) {
        chaos->cancelled++;
        http_request_cancel(call->request);
        call_free(call);
    }
}

static void run(uint64_t seed, bool secure) {
    struct chaos chaos = {.seed = seed};
    CLEANUP(tls_context_unrefp) struct tls_context *server_tls = NULL;
    CLEANUP(tls_context_unrefp) struct tls_context *client_tls = NULL;
    struct pki_pair authority = {0}, pair = {0};
    struct diag diag = DIAG_INIT;
    if (secure) {
        int64_t now = sys_wall_ns() / 1000000000;
        struct pki_subject subject = {
            .common_name = "s", .ip_addresses = (const char *const[]){"127.0.0.1", NULL}, .server = true, .now_s = now, .days = 1};
        assert_int_equal(pki_authority_new("a", now, 1, &authority), 0);
        assert_int_equal(pki_issue(&authority, &subject, &pair), 0);
        char *key = slice_dup(secret_reveal(pair.key_pem));
        assert_int_equal(
            tls_context_new(&(struct tls_options){.certificate_pem = pair.certificate_pem, .key_pem = key, .server = true}, &server_tls, &diag), 0);
        assert_int_equal(tls_context_new(&(struct tls_options){.ca_pem = authority.certificate_pem}, &client_tls, &diag), 0);
        free(key);
    }
    fixture_serve(&chaos.fixture, secure, &(struct http_server_options){.handler = on_request, .userdata = &chaos, .tls = server_tls});
    fixture_connect(&chaos.fixture, client_tls);
    while (chaos.requests_started < REQUESTS || chaos.requests_open > 0) {
        while (chaos.requests_started < REQUESTS && chaos.requests_open < CONCURRENT)
            start_call(&chaos);
        assert_int_equal(loop_turn(chaos.fixture.loop, 1000), 0);
    }
    assert_int_equal(chaos.whole + chaos.broken + chaos.cancelled, REQUESTS);
    assert_true(chaos.whole > REQUESTS / 4);
    http_client_free(TAKE(chaos.fixture.client));
    WAIT_FOR(&chaos.fixture, chaos.exchanges_open == 0);
    WAIT_FOR(&chaos.fixture, http_server_connections(chaos.fixture.server) == 0);
    fixture_end(&chaos.fixture);
    pki_pair_deinit(&authority);
    pki_pair_deinit(&pair);
}

static void run_seeds(bool secure) {
    const char *given = getenv("TIDEMILL_SEED");
    uint64_t first = 1, seeds = secure ? 2 : 3;
    if (given && slice_parse_u64(slice_of(given), UINT64_MAX, &first) == 0)
        seeds = 1;
    for (uint64_t seed = first; seed < first + seeds; seed++) {
        print_message("seed %" PRIu64 "\n", seed);
        run(seed, secure);
    }
}

UNIT_TEST(random_histories_end_well) {
    run_seeds(false);
}

UNIT_TEST(random_histories_over_tls_end_well) {
    run_seeds(true);
}

UNIT_MAIN(UNIT(random_histories_end_well), UNIT(random_histories_over_tls_end_well))

/* Metering: counters beside the request path, text on demand. Histogram bounds suit web requests; the last bucket is +Inf. */
#include "proxy/proxy_priv.h"

static const struct {
    int64_t ns;
    const char *text;
} bounds[METER_BUCKETS] = {
    {500000, "0.0005"}, {1000000, "0.001"}, {2500000, "0.0025"}, {5000000, "0.005"}, {10000000, "0.01"},  {25000000, "0.025"},
    {50000000, "0.05"}, {100000000, "0.1"}, {250000000, "0.25"}, {1000000000, "1"},  {2500000000, "2.5"}, {10000000000, "10"},
};

void meter_count(struct meter *meter, int status, int64_t duration_ns) {
    meter->requests[status >= 100 && status < 600 ? status / 100 : 0]++;
    size_t bucket = 0;
    while (bucket < METER_BUCKETS && duration_ns > bounds[bucket].ns)
        bucket++;
    meter->latency_buckets[bucket]++;
    meter->latency_sum_ns += (uint64_t)MAX(duration_ns, 0);
}

static void label_value(struct buffer *out, const char *text) {
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            buffer_append_byte(out, '\\');
        buffer_append_byte(out, *text == '\n' ? ' ' : *text);
    }
}

static void labels(struct buffer *out, const struct proxy_upstream *upstream) {
    buffer_append_slice(out, SLICE("{namespace=\""));
    label_value(out, upstream ? upstream->namespace : "");
    buffer_append_slice(out, SLICE("\",service=\""));
    label_value(out, upstream ? upstream->service : "");
    buffer_append_slice(out, SLICE("\",port=\""));
    label_value(out, upstream ? upstream->port : "");
    buffer_append_byte(out, '"');
}

static const char *const class_names[6] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

enum meter_family { METER_REQUESTS, METER_IN_FLIGHT, METER_BYTES_IN, METER_BYTES_OUT, METER_LATENCY, METER_ENDPOINTS, METER_FAMILIES };

static const struct {
    const char *name, *type, *help;
} families[METER_FAMILIES] = {
    {"tidemill_gateway_requests_total", "counter", "Requests by class of status; none: the client left before an answer."},
    {"tidemill_gateway_service_requests_in_flight", "gauge", "Requests being served."},
    {"tidemill_gateway_request_bytes_total", "counter", "Bytes received from clients."},
    {"tidemill_gateway_response_bytes_total", "counter", "Bytes sent to clients."},
    {"tidemill_gateway_request_duration_seconds", "histogram", "From the request's head to the response's last byte."},
    {"tidemill_gateway_service_endpoints_ready", "gauge", "Endpoints that take new requests."},
};

static void histogram(struct buffer *out, const char *name, const struct proxy_upstream *upstream, const struct meter *meter) {
    uint64_t count = 0;
    for (size_t i = 0; i <= METER_BUCKETS; i++) {
        count += meter->latency_buckets[i];
        buffer_printf(out, "%s_bucket", name);
        labels(out, upstream);
        buffer_printf(out, ",le=\"%s\"} %" PRIu64 "\n", i < METER_BUCKETS ? bounds[i].text : "+Inf", count);
    }
    buffer_printf(out, "%s_sum", name);
    labels(out, upstream);
    buffer_printf(out, "} %" PRIu64 ".%09" PRIu64 "\n%s_count", meter->latency_sum_ns / 1000000000, meter->latency_sum_ns % 1000000000, name);
    labels(out, upstream);
    buffer_printf(out, "} %" PRIu64 "\n", count);
}

static size_t endpoints_ready(const struct proxy_upstream *upstream) {
    size_t ready = 0;
    for (size_t i = 0; upstream && i < upstream->endpoints.count; i++)
        ready += upstream->endpoints.items[i]->view.ready;
    return ready;
}

static void samples(struct buffer *out, enum meter_family family, const struct proxy_upstream *upstream, const struct meter *meter) {
    const char *name = families[family].name;
    if (family == METER_LATENCY) {
        histogram(out, name, upstream, meter);
        return;
    }
    for (size_t i = 0; family == METER_REQUESTS && i < ARRAY_LEN(class_names); i++) {
        buffer_append_text(out, name);
        labels(out, upstream);
        buffer_printf(out, ",code=\"%s\"} %" PRIu64 "\n", class_names[i], meter->requests[i]);
    }
    if (family == METER_REQUESTS)
        return;
    uint64_t value = family == METER_IN_FLIGHT   ? meter->in_flight
                     : family == METER_BYTES_IN  ? meter->bytes_in
                     : family == METER_BYTES_OUT ? meter->bytes_out
                                                 : endpoints_ready(upstream);
    buffer_append_text(out, name);
    labels(out, upstream);
    buffer_printf(out, "} %" PRIu64 "\n", value);
}

static void simple(struct buffer *out, const char *name, const char *type, const char *help, uint64_t value) {
    buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name, value);
}

int proxy_format_metrics(const struct proxy *proxy, struct buffer *out) {
    const struct proxy_stats *stats = &proxy->stats;
    simple(out, "tidemill_gateway_connections", "gauge", "Open client connections.", stats->connections);
    simple(out, "tidemill_gateway_connections_idle", "gauge", "Open client connections without a request.", stats->connections_idle);
    simple(out, "tidemill_gateway_connections_accepted_total", "counter", "Client connections accepted.", stats->accepted);
    simple(out, "tidemill_gateway_requests_in_flight", "gauge", "Requests being served.", stats->requests_in_flight);
    simple(out, "tidemill_gateway_requests_held", "gauge", "Requests that wait for an endpoint.", stats->requests_held);
    simple(out, "tidemill_gateway_requests_malformed_total", "counter", "Requests refused by the parser.", stats->malformed);
    simple(out, "tidemill_gateway_retries_total", "counter", "Attempts that were repeated on another connection.", stats->retries);
    simple(out, "tidemill_gateway_connect_failures_total", "counter", "Connections to endpoints that failed.", stats->connect_failures);
    simple(out, "tidemill_gateway_upstream_connections_total", "counter", "Connections opened to endpoints.", stats->upstream_connections);
    simple(out, "tidemill_gateway_upstream_reused_total", "counter", "Requests sent on a kept connection.", stats->upstream_reused);
    simple(out, "tidemill_gateway_routes", "gauge", "Routes of the snapshot in use.", proxy->routes ? proxy_routes_count(proxy->routes) : 0);
    for (size_t family = 0; family < METER_FAMILIES; family++) {
        buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", families[family].name, families[family].help, families[family].name,
                      families[family].type);
        if (family != METER_ENDPOINTS)
            samples(out, (enum meter_family)family, NULL, &proxy->unmatched);
        void *value;
        for (size_t at = 0; map_next(proxy->upstreams, &at, NULL, &value);) {
            const struct proxy_upstream *upstream = value;
            samples(out, (enum meter_family)family, upstream, &upstream->meter);
        }
    }
    return buffer_error(out);
}

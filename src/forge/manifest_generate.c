/* What a repository with only a Dockerfile gets: a Deployment with a readiness probe, a Service and an Ingress, as the same YAML a person would
 * write, so that it can be copied into deploy/ and grown from there. The port is what the Dockerfile EXPOSEs. */
#include "forge/pipeline.h"

#include <ctype.h>

#define PORT_DEFAULT 8080

static struct slice next_word(struct slice *line) {
    *line = slice_trim(*line);
    size_t len = 0;
    while (len < line->len && !isspace((unsigned char)line->data[len]))
        len++;
    struct slice word = slice_head(*line, len);
    *line = slice_from(*line, len);
    return word;
}

/* A new FROM begins a new image and forgets the ports of the one before it. */
int dockerfile_exposed_port(struct slice text) {
    int port = 0;
    while (text.len > 0) {
        struct slice line = slice_cut(&text, '\n');
        struct slice instruction = next_word(&line);
        if (slice_equal_nocase(instruction, SLICE("FROM")))
            port = 0;
        if (!slice_equal_nocase(instruction, SLICE("EXPOSE")) || port)
            continue;
        struct slice word = next_word(&line);
        ptrdiff_t slash = slice_index(word, '/');
        uint64_t number = 0;
        bool tcp = slash < 0 || slice_equal_nocase(slice_from(word, (size_t)slash), SLICE("/tcp"));
        if (tcp && slice_parse_u64(slash < 0 ? word : slice_head(word, (size_t)slash), 65535, &number) == 0 && number > 0)
            port = (int)number;
    }
    return port ? port : PORT_DEFAULT;
}

static const char deployment[] = "apiVersion: apps/v1\n"
                                 "kind: Deployment\n"
                                 "metadata:\n"
                                 "  name: %s\n"
                                 "  labels: {app: %s}\n"
                                 "spec:\n"
                                 "  replicas: 1\n"
                                 "  selector:\n"
                                 "    matchLabels: {app: %s}\n"
                                 "  template:\n"
                                 "    metadata:\n"
                                 "      labels: {app: %s}\n"
                                 "    spec:\n"
                                 "      containers:\n"
                                 "        - name: app\n"
                                 "          image: %s\n"
                                 "          env:\n"
                                 "            - {name: PORT, value: \"%d\"}\n"
                                 "          ports:\n"
                                 "            - {name: http, containerPort: %d}\n"
                                 "          readinessProbe:\n"
                                 "            tcpSocket: {port: http}\n"
                                 "            periodSeconds: 1\n";
static const char service[] = "---\n"
                              "apiVersion: v1\n"
                              "kind: Service\n"
                              "metadata:\n"
                              "  name: %s\n"
                              "  labels: {app: %s}\n"
                              "spec:\n"
                              "  selector: {app: %s}\n"
                              "  ports:\n"
                              "    - {name: http, port: 80, targetPort: http}\n";
static const char ingress[] = "---\n"
                              "apiVersion: networking.k8s.io/v1\n"
                              "kind: Ingress\n"
                              "metadata:\n"
                              "  name: %s\n"
                              "  labels: {app: %s}\n"
                              "spec:\n"
                              "  rules:\n"
                              "    - host: %s.%s\n"
                              "      http:\n"
                              "        paths:\n"
                              "          - path: /\n"
                              "            pathType: Prefix\n"
                              "            backend:\n"
                              "              service: {name: %s, port: {number: 80}}\n";

int manifest_generate(const struct manifest_options *options, struct buffer *out) {
    const char *app = options->app;
    buffer_printf(out, deployment, app, app, app, app, options->image, options->port, options->port);
    buffer_printf(out, service, app, app, app);
    return buffer_printf(out, ingress, app, app, app, options->domain, app);
}

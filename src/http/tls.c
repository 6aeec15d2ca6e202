/* TLS by OpenSSL 3 through memory BIOs.
 *
 * Contexts are immutable and reference counted: a renewed certificate is a new context, running sessions keep the old one. Minimum TLS 1.2, no
 * compression, no renegotiation. A server that is given a CA asks for a client certificate but also serves those who have none (they may bring a
 * bearer token); one that is presented and does not verify ends the handshake. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "http/tls.h"

#define ALPN_BYTES_MAX 64

struct tls_context {
    SSL_CTX *ssl;
    unsigned references;
    bool server;
    unsigned char alpn[ALPN_BYTES_MAX]; /* wire format: length, name, … */
    unsigned alpn_len;
};

struct tls_session {
    struct tls_context *context;
    SSL *ssl;
    BIO *incoming, *outgoing; /* owned by ssl */
    bool handshaken;
};

/* --- contexts --- */

static int openssl_error(struct diag *diag, const char *what) {
    char text[200] = "unknown error";
    unsigned long error = ERR_peek_last_error();
    if (error)
        ERR_error_string_n(error, text, sizeof text);
    ERR_clear_error();
    return diag_set(diag, -EINVAL, "%s: %s", what, text);
}

/* The first certificate is ours, the others its chain. */
static int use_certificate(SSL_CTX *ssl, const char *pem, struct diag *diag) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    if (!bio)
        return -ENOMEM;
    X509 *certificate = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    int r = certificate && SSL_CTX_use_certificate(ssl, certificate) == 1 ? 0 : openssl_error(diag, "the certificate cannot be used");
    X509_free(certificate);
    while (r == 0 && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
        if (SSL_CTX_add0_chain_cert(ssl, certificate) != 1) {
            X509_free(certificate);
            r = openssl_error(diag, "the certificate chain cannot be used");
        }
    ERR_clear_error(); /* the end of the PEM text */
    BIO_free(bio);
    return r;
}

static int use_key(SSL_CTX *ssl, const char *pem, struct diag *diag) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    if (!bio)
        return -ENOMEM;
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
    int r = key && SSL_CTX_use_PrivateKey(ssl, key) == 1 ? 0 : openssl_error(diag, "the private key cannot be used");
    if (r == 0 && SSL_CTX_check_private_key(ssl) != 1)
        r = openssl_error(diag, "the private key does not belong to the certificate");
    EVP_PKEY_free(key);
    BIO_free(bio);
    return r;
}

static int use_authority(SSL_CTX *ssl, const char *pem, bool server, struct diag *diag) {
    BIO *bio = BIO_new_mem_buf(pem, -1);
    if (!bio)
        return -ENOMEM;
    int count = 0;
    X509 *certificate;
    while ((certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), certificate) == 1 && (!server || SSL_CTX_add_client_CA(ssl, certificate) == 1))
            count++;
        X509_free(certificate);
    }
    BIO_free(bio);
    ERR_clear_error();
    return count ? 0 : diag_set(diag, -EINVAL, "the certificate authority's text holds no certificate in PEM format");
}

static int set_alpn(struct tls_context *context, const char *const *names) {
    static const char *const http[] = {"http/1.1", NULL};
    for (names = names ? names : http; *names; names++) {
        size_t len = strlen(*names);
        if (len == 0 || context->alpn_len + len + 1 > ALPN_BYTES_MAX)
            return -EINVAL;
        context->alpn[context->alpn_len++] = (unsigned char)len;
        memcpy(context->alpn + context->alpn_len, *names, len);
        context->alpn_len += (unsigned)len;
    }
    return 0;
}

/* Our preference among what the client offers; no overlap goes on without. */
static int on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len, const unsigned char *offered, unsigned offered_len, void *userdata) {
    (void)ssl;
    const struct tls_context *context = userdata;
    unsigned char *chosen;
    if (SSL_select_next_proto(&chosen, ret_len, context->alpn, context->alpn_len, offered, offered_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *ret = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static int configure(struct tls_context *context, const struct tls_options *options, struct diag *diag) {
    SSL_CTX *ssl = context->ssl;
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets carry the state */
    SSL_CTX_set_session_id_context(ssl, (const unsigned char *)"tidemill", 8);
    int r = set_alpn(context, options->alpn);
    if (r < 0)
        return diag_set(diag, r, "the list of application protocols is malformed");
    if (options->certificate_pem)
        r = use_certificate(ssl, options->certificate_pem, diag);
    if (r == 0 && options->key_pem)
        r = use_key(ssl, options->key_pem, diag);
    if (r == 0 && options->ca_pem)
        r = use_authority(ssl, options->ca_pem, options->server, diag);
    if (r == 0 && !options->ca_pem && !options->server)
        SSL_CTX_set_default_verify_paths(ssl);
    if (options->server) {
        SSL_CTX_set_alpn_select_cb(ssl, on_alpn, context);
        SSL_CTX_set_verify(ssl, options->ca_pem ? SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE : SSL_VERIFY_NONE, NULL);
    } else {
        SSL_CTX_set_alpn_protos(ssl, context->alpn, context->alpn_len);
        SSL_CTX_set_verify(ssl, options->any_peer ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    }
    return r;
}

int tls_context_new(const struct tls_options *options, struct tls_context **ret, struct diag *diag) {
    CLEANUP(tls_context_unrefp) struct tls_context *context = calloc(1, sizeof *context);
    if (!context)
        return -ENOMEM;
    context->references = 1;
    context->server = options->server;
    context->ssl = SSL_CTX_new(options->server ? TLS_server_method() : TLS_client_method());
    if (!context->ssl)
        return -ENOMEM;
    int r = configure(context, options, diag);
    if (r == 0)
        *ret = TAKE(context);
    return r;
}

struct tls_context *tls_context_ref(struct tls_context *context) {
    context->references++;
    return context;
}

void tls_context_unref(struct tls_context *context) {
    if (!context || --context->references > 0)
        return;
    SSL_CTX_free(context->ssl);
    free(context);
}

/* --- sessions --- */

/* The certificate must be for this name or address. */
static int expect_peer(SSL *ssl, const char *name) {
    struct in6_addr address;
    if (inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1 ? 0 : -EINVAL;
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set1_host(ssl, name) == 1 && SSL_set_tlsext_host_name(ssl, name) == 1 ? 0 : -EINVAL;
}

int tls_session_new(struct tls_context *context, const char *peer_name, struct tls_session **ret) {
    struct tls_session *session = calloc(1, sizeof *session);
    if (!session)
        return -ENOMEM;
    session->context = tls_context_ref(context);
    session->ssl = SSL_new(context->ssl);
    session->incoming = BIO_new(BIO_s_mem());
    session->outgoing = BIO_new(BIO_s_mem());
    if (!session->ssl || !session->incoming || !session->outgoing) {
        BIO_free(session->incoming);
        BIO_free(session->outgoing);
        tls_session_free(session);
        return -ENOMEM;
    }
    SSL_set_bio(session->ssl, session->incoming, session->outgoing);
    if (context->server)
        SSL_set_accept_state(session->ssl);
    else
        SSL_set_connect_state(session->ssl);
    int r = peer_name ? expect_peer(session->ssl, peer_name) : 0;
    if (r < 0) {
        tls_session_free(session);
        return r;
    }
    *ret = session;
    return 0;
}

void tls_session_free(struct tls_session *session) {
    if (!session)
        return;
    SSL_free(session->ssl);
    tls_context_unref(session->context);
    free(session);
}

int tls_session_feed(struct tls_session *session, struct slice records) {
    ASSERT(records.len <= INT32_MAX);
    return BIO_write(session->incoming, records.data, (int)records.len) == (int)records.len ? 0 : -ENOMEM;
}

/* What a failed SSL call means for the connection. */
static int failure(struct tls_session *session, int result) {
    int error = SSL_get_error(session->ssl, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return -EAGAIN;
    bool refused = !session->handshaken && SSL_get_verify_result(session->ssl) != X509_V_OK;
    ERR_clear_error();
    return refused ? -EACCES : -EPROTO;
}

int tls_session_handshake(struct tls_session *session) {
    ERR_clear_error();
    int result = SSL_do_handshake(session->ssl);
    if (result != 1)
        return failure(session, result);
    session->handshaken = true;
    return 0;
}

ssize_t tls_session_read(struct tls_session *session, char *bytes, size_t len) {
    ERR_clear_error();
    int n = SSL_read(session->ssl, bytes, (int)MIN(len, (size_t)INT32_MAX));
    if (n > 0)
        return n;
    if (SSL_get_shutdown(session->ssl) & SSL_RECEIVED_SHUTDOWN) {
        ERR_clear_error();
        return 0;
    }
    return failure(session, n);
}

ssize_t tls_session_write(struct tls_session *session, struct slice bytes) {
    ERR_clear_error();
    int n = SSL_write(session->ssl, bytes.data, (int)MIN(bytes.len, (size_t)INT32_MAX));
    return n > 0 ? n : failure(session, n);
}

int tls_session_take(struct tls_session *session, struct buffer *records) {
    for (size_t pending; (pending = BIO_ctrl_pending(session->outgoing)) > 0;) {
        int r = buffer_reserve(records, pending);
        if (r < 0)
            return r;
        int n = BIO_read(session->outgoing, records->data + records->len, (int)pending);
        if (n <= 0)
            return -EPROTO;
        buffer_commit(records, (size_t)n);
    }
    return 0;
}

void tls_session_shutdown(struct tls_session *session) {
    if (session->handshaken)
        SSL_shutdown(session->ssl);
    ERR_clear_error();
}

/* A part of a subject in UTF-8. Names with a NUL inside are refused: they would compare as something they are not. */
static const char *name_text(struct arena *arena, X509_NAME *subject, int index) {
    unsigned char *text = NULL;
    int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
    char *copy = len >= 0 && !memchr(text, 0, (size_t)len) ? arena_dup(arena, slice_make(text, (size_t)len)) : NULL;
    OPENSSL_free(text);
    return copy;
}

int tls_session_peer(struct tls_session *session, struct arena *arena, const char **ret_common_name, const char *const **ret_organizations) {
    X509 *certificate = SSL_get0_peer_certificate(session->ssl);
    *ret_common_name = NULL;
    *ret_organizations = NULL;
    if (!certificate || SSL_get_verify_result(session->ssl) != X509_V_OK)
        return 0;
    X509_NAME *subject = X509_get_subject_name(certificate);
    int entries = X509_NAME_entry_count(subject), index = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    const char **organizations = arena_array(arena, (size_t)entries + 1, sizeof *organizations);
    const char *common_name = index >= 0 ? name_text(arena, subject, index) : NULL;
    size_t count = 0;
    if (!organizations)
        return -ENOMEM;
    for (index = -1; (index = X509_NAME_get_index_by_NID(subject, NID_organizationName, index)) >= 0;) {
        organizations[count] = name_text(arena, subject, index);
        count += organizations[count] != NULL;
    }
    *ret_common_name = common_name;
    *ret_organizations = organizations;
    return 0;
}

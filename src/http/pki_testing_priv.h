/* What tests ask of certificates. */
#ifndef TIDEMILL_HTTP_PKI_TESTING_PRIV_H
#define TIDEMILL_HTTP_PKI_TESTING_PRIV_H

#include <time.h>

#include "http/pki_priv.h"
#include "unit.h"

/* notAfter in seconds since 1970. */
static inline int64_t expiry_of(const char *certificate_pem) {
    CLEANUP(pki_x509_freep) X509 *x509 = pki_parse_certificate(certificate_pem);
    struct tm tm;
    assert_non_null(x509);
    assert_int_equal(ASN1_TIME_to_tm(X509_get0_notAfter(x509), &tm), 1);
    return (int64_t)timegm(&tm);
}

#endif

/* What the files about certificates share. */
#ifndef TIDEMILL_HTTP_PKI_PRIV_H
#define TIDEMILL_HTTP_PKI_PRIV_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "http/pki.h"

void pki_x509_freep(X509 **x509);
void pki_pkey_freep(EVP_PKEY **key);
void pki_bio_freep(BIO **bio);
/* NULL when it is none. */
X509 *pki_parse_certificate(const char *pem);
EVP_PKEY *pki_parse_key(struct slice pem);
/* 127 random bits. */
int pki_set_serial(X509 *x509);
int pki_add_extension(X509 *x509, X509 *issuer, int nid, const char *value);
/* What was written to a memory BIO, as text to be freed. */
int pki_read_pem(BIO *bio, char **ret);

#endif

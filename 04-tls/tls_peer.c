/*
 * tls_peer: see tls_peer.h for what each function promises. First whom we talk
 * to: which name, and which certificate is not good; then what went wrong.
 */
#include "tls_peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "../common/quote.h" /* quote() */

/* --- Whom we talk to ------------------------------------------------------ */

/* Puts the address that name is into *bytes. Returns how many these are, or 0:
 * it is a name. What follows a "%" is for this machine alone. */
static size_t read_address(const char *name, unsigned char bytes[16])
{
    char address[INET6_ADDRSTRLEN + 1];

    snprintf(address, sizeof address, "%.*s", (int)strcspn(name, "%"), name);
    if (inet_pton(AF_INET, address, bytes) == 1)
        return 4;
    return inet_pton(AF_INET6, address, bytes) == 1 ? 16 : 0;
}

/* ".org" would mean every name below org to OpenSSL, and "" any name at all. */
bool tls_is_name(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= 253 && name[0] != '.' && name[len - 1] != '.';
}

/*
 * Only what stands in the certificate's list of names (SAN) counts, and not
 * its CN, which is a label for people (RFC 9525, 2); and a "*" only if it is
 * all of the first part of a name. SNI is for names only (RFC 6066, 3).
 */
bool tls_expect(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *parameters = SSL_get0_param(ssl);
    unsigned char address[16];
    size_t len = read_address(name, address);
    char copy[256]; /* OpenSSL's macro takes no const, and makes its own */

    X509_VERIFY_PARAM_set_hostflags(parameters,
                                    X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                        X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (len > 0)
        return X509_VERIFY_PARAM_set1_ip(parameters, address, len) == 1;
    snprintf(copy, sizeof copy, "%s", name);
    return tls_is_name(name) &&
           X509_VERIFY_PARAM_set1_host(parameters, name, 0) == 1 &&
           SSL_set_tlsext_host_name(ssl, copy) == 1;
}

/* Returns in plain words what one of OpenSSL's verdicts means. */
static const char *plain_words(int verdict)
{
    static const struct {
        int verdict;
        const char *words;
    } known[] = {
        {X509_V_ERR_CERT_HAS_EXPIRED, "its time is over"},
        {X509_V_ERR_CERT_NOT_YET_VALID, "its time has not come"},
        {X509_V_ERR_HOSTNAME_MISMATCH, "it is not for the name that we want"},
        {X509_V_ERR_IP_ADDRESS_MISMATCH,
         "it is not for the address that we want"},
        {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
         "it vouches for itself, and we do not trust it"},
        {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
         "it is a CA that we do not trust"},
        {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
         "who signed it is neither trusted nor shown"},
        {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
         "who signed it is neither trusted nor shown"},
        {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
         "who signed it is neither trusted nor shown"},
        {X509_V_ERR_CERT_SIGNATURE_FAILURE,
         "it has been changed, or somebody else has signed it"},
        {X509_V_ERR_INVALID_PURPOSE, "it was made for something else"},
        {X509_V_ERR_INVALID_CA, "it signs for others, and is no CA"},
        {X509_V_ERR_PATH_LENGTH_EXCEEDED, "it signs for a CA, and may not"},
        {X509_V_ERR_PERMITTED_VIOLATION, "its CA may not sign for this name"},
        {X509_V_ERR_EXCLUDED_VIOLATION, "its CA may not sign for this name"},
        {X509_V_ERR_CERT_REVOKED, "its CA has taken it back"},
        {X509_V_ERR_UNABLE_TO_GET_CRL,
         "there is no list of what its CA has taken back"},
        {X509_V_ERR_CRL_HAS_EXPIRED,
         "the list of what its CA has taken back is too old"},
        {X509_V_ERR_EE_KEY_TOO_SMALL, "its key can be found out"},
        {X509_V_ERR_CA_KEY_TOO_SMALL, "its key can be found out"},
        {X509_V_ERR_CA_MD_TOO_WEAK, "its signature can be forged"},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].verdict == verdict)
            return known[i].words;
    return "it is not good";
}

/* Notes which certificate of a chain is the first that is wrong. It changes no
 * verdict: what good says is what it returns. */
static int note_flaw(int good, X509_STORE_CTX *chain)
{
    const SSL *ssl =
        X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct tls_error *flaw = SSL_get_app_data(ssl);
    X509 *cert = X509_STORE_CTX_get_current_cert(chain);
    int verdict = X509_STORE_CTX_get_error(chain);
    char subject[256] = "";

    if (good || flaw == NULL || flaw->text[0] != '\0')
        return good;
    if (cert != NULL)
        X509_NAME_oneline(X509_get_subject_name(cert), subject, sizeof subject);
    snprintf(flaw->text, sizeof flaw->text, "certificate of %s: %s (%s)",
             quote(subject, strlen(subject)).text, plain_words(verdict),
             X509_verify_cert_error_string(verdict));
    return good;
}

void tls_note_flaws(SSL *ssl, struct tls_error *flaw)
{
    SSL_set_app_data(ssl, flaw);
    SSL_set_verify(ssl, SSL_get_verify_mode(ssl), note_flaw);
}

/* --- What went wrong ------------------------------------------------------ */

const char *tls_first_error(void)
{
    unsigned long error = ERR_peek_error();
    const char *text = ERR_reason_error_string(error);

    if (ERR_SYSTEM_ERROR(error))
        return strerror(ERR_GET_REASON(error));
    return text != NULL ? text : "failed, and OpenSSL does not say why";
}

void tls_begin(void)
{
    ERR_clear_error();
    errno = 0;
}

bool tls_again(const SSL *ssl, int result)
{
    int why = SSL_get_error(ssl, result);

    return (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) &&
           errno != EAGAIN;
}

bool tls_was_cut(const SSL *ssl, int result)
{
    return SSL_get_error(ssl, result) == SSL_ERROR_SSL &&
           ERR_GET_REASON(ERR_peek_error()) ==
               SSL_R_UNEXPECTED_EOF_WHILE_READING;
}

/* What TLS itself says is nearer to what has happened than what it stumbled
 * over: "bad record mac", and not "cipher operation failed" below it. */
static const char *tls_words(void)
{
    unsigned long error = ERR_peek_last_error();

    if (ERR_GET_LIB(error) == ERR_LIB_SSL && !ERR_COMMON_ERROR(error))
        return ERR_reason_error_string(error);
    return tls_first_error();
}

/* SSL_ERROR_SYSCALL is errno's matter; SSL_ERROR_SSL is in OpenSSL's queue. A
 * blocking call that has waited too long wants to be made again. */
const char *tls_reason(const SSL *ssl, int result, char *text, size_t size)
{
    const struct tls_error *flaw = SSL_get_app_data(ssl);
    int system = errno;
    const char *why;

    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_SYSCALL:
        why = system != 0 ? strerror(system) : "the connection has ended";
        break;
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        why = strerror(ETIMEDOUT);
        break;
    case SSL_ERROR_ZERO_RETURN: /* or a write failed after that */
        why = system != 0 ? strerror(system)
                          : "the peer has ended the conversation";
        break;
    default:
        why = tls_words();
        if (flaw != NULL && flaw->text[0] != '\0')
            why = flaw->text;
        if (tls_was_cut(ssl, result))
            why = "truncated: it ended without close_notify";
    }
    snprintf(text, size, "%s", why);
    return text;
}

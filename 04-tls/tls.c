/*
 * tls: see tls.h for what each function promises. Read new_context() first,
 * which both kinds begin with, then tls_client_context() and
 * tls_server_context(). Of what a server adds, ALPN, resumption and mutual TLS
 * can be read in any order.
 */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../common/quote.h" /* quote() */

/* --- Files ---------------------------------------------------------------- */

/* Returns NULL, and notes what is wrong with which file. */
static SSL_CTX *file_error(struct tls_error *error, const char *what,
                           const char *file, const char *why)
{
    snprintf(error->text, sizeof error->text, "%s %s: %s", what,
             quote(file, strlen(file)).text, why);
    return NULL;
}

/* OpenSSL would ask at the terminal, and a server that starts at night has
 * none. Notes that it was asked. */
static int refuse_password(char *buf, int size, int writing, void *encrypted)
{
    (void)buf, (void)size, (void)writing;
    *(bool *)encrypted = true;
    return -1;
}

/* Returns what is wrong with the file as a place for a secret, or NULL. */
static const char *exposed(int fd)
{
    struct stat status;

    if (fstat(fd, &status) < 0)
        return strerror(errno);
    if (S_ISDIR(status.st_mode))
        return strerror(EISDIR);
    if (status.st_mode & S_IROTH)
        return "everybody may read it; \"chmod 600\" mends that (and if "
               "anybody has, make a new one)";
    return NULL;
}

/* The file is looked at through the descriptor that is read: by its name, it
 * could be another one by then. */
static bool use_key(SSL_CTX *context, const char *file, struct tls_error *error)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    const char *flaw = fd < 0 ? strerror(errno) : exposed(fd);
    BIO *bio = flaw == NULL ? BIO_new_fd(fd, BIO_NOCLOSE) : NULL;
    const X509 *cert = SSL_CTX_get0_certificate(context);
    EVP_PKEY *key = NULL;
    bool good = false, fits = false, encrypted = false;

    if (bio != NULL) {
        key = PEM_read_bio_PrivateKey(bio, NULL, refuse_password, &encrypted);
        fits = key != NULL && X509_check_private_key(cert, key) == 1;
        good = fits && SSL_CTX_use_PrivateKey(context, key) == 1;
    }
    if (encrypted)
        flaw = "it is encrypted, and nobody is asked for its pass phrase";
    else if (bio != NULL && key == NULL)
        flaw = "there is no private key in it (in PEM form)";
    else if (bio != NULL && !fits)
        flaw = "it is not the key of the certificate (key values mismatch)";
    if (!good)
        file_error(error, "key", file, flaw != NULL ? flaw : tls_first_error());
    EVP_PKEY_free(key); /* the context has its own share */
    BIO_free(bio);
    if (fd >= 0)
        close(fd);
    return good;
}

/* Takes our certificate and its key, if we have one. */
static bool use_certificate(SSL_CTX *context, const struct tls_files *files,
                            struct tls_error *error)
{
    if (files->cert == NULL)
        return true;
    if (SSL_CTX_use_certificate_chain_file(context, files->cert) != 1) {
        file_error(error, "certificate", files->cert, tls_first_error());
        return false;
    }
    return use_key(context, files->key, error);
}

/* Where the file has a list of revoked certificates (a CRL, RFC 5280, 5), each
 * certificate of a chain is looked for, also those of the CAs between: a list
 * of each one's CA must be there then, and not be too old. */
static void heed_revocation(X509_STORE *store)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++)
        if (X509_OBJECT_get0_X509_CRL(sk_X509_OBJECT_value(objects, i)) != NULL)
            X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK |
                                            X509_V_FLAG_CRL_CHECK_ALL);
}

static bool use_ca(SSL_CTX *context, const char *file, struct tls_error *error)
{
    if (SSL_CTX_load_verify_file(context, file) != 1) {
        file_error(error, "CA", file, tls_first_error());
        return false;
    }
    heed_revocation(SSL_CTX_get_cert_store(context));
    return true;
}

/* --- Which TLS ------------------------------------------------------------ */

/* TLS 1.2 and 1.3, and of what 1.2 has only what keeps past conversations
 * secret when a key is lost (ECDHE) and needs no padding (AEAD): the six that
 * Mozilla calls intermediate. 1.3 has no others. Level 2 is keys and digests of
 * at least 112 bits of security, so no RSA of 1,024 bits and no SHA-1: some
 * systems' OpenSSL begins with level 1. */
static bool limit_protocol(SSL_CTX *context)
{
    char groups[] = "X25519:P-256:P-384"; /* no const in OpenSSL's macro */

    SSL_CTX_set_security_level(context, 2);
    return SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
           SSL_CTX_set_cipher_list(context,
                                   "ECDHE-ECDSA-AES128-GCM-SHA256:"
                                   "ECDHE-RSA-AES128-GCM-SHA256:"
                                   "ECDHE-ECDSA-AES256-GCM-SHA384:"
                                   "ECDHE-RSA-AES256-GCM-SHA384:"
                                   "ECDHE-ECDSA-CHACHA20-POLY1305:"
                                   "ECDHE-RSA-CHACHA20-POLY1305") == 1 &&
           SSL_CTX_set1_groups_list(context, groups) == 1;
}

/* What a server and a client share. Early data is off unless it is asked for,
 * and nothing here asks: it could be replayed. */
static SSL_CTX *new_context(const SSL_METHOD *method, struct tls_error *error)
{
    SSL_CTX *context;

    error->text[0] = '\0';
    ERR_clear_error();
    context = SSL_CTX_new(method);
    if (context == NULL || !limit_protocol(context)) {
        snprintf(error->text, sizeof error->text, "TLS: %s", tls_first_error());
        SSL_CTX_free(context);
        return NULL;
    }
    SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION |
                                     SSL_OP_NO_RENEGOTIATION |
                                     SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* SSL_write() may take a part, as send() does, and the rest of a buffer
     * may have moved when it is offered again; a connection that rests gives
     * its 16 KiB buffers back. And SSL_read() returns after each record, even
     * if it was not data: a peer that sends nothing but such records has one
     * in each turn, and does not keep us. */
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                  SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
    return context;
}

/* --- ALPN ----------------------------------------------------------------- */

/* The client says what it can speak. If ours is not among it, it has come
 * to the wrong port, and is told so. If it says nothing, it is not asked. */
static int choose_protocol(SSL *ssl, const unsigned char **chosen,
                           unsigned char *chosen_len,
                           const unsigned char *offered, unsigned offered_len,
                           void *alpn)
{
    const unsigned char *ours = alpn;
    size_t len = strlen(alpn);

    (void)ssl;
    for (unsigned at = 0; at < offered_len; at += 1u + offered[at])
        if (offered[at] == len && offered_len - at > len &&
            memcmp(offered + at + 1, ours, len) == 0) {
            *chosen = offered + at + 1;
            *chosen_len = offered[at];
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* OpenSSL has no const for what it only hands on. */
static void answer_alpn(SSL_CTX *context, const char *alpn)
{
    void *argument;

    memcpy(&argument, &alpn, sizeof argument);
    SSL_CTX_set_alpn_select_cb(context, choose_protocol, argument);
}

/* Says which protocol we speak: a byte with its length, and its name. */
static bool offer_protocol(SSL_CTX *context, const char *alpn)
{
    unsigned char list[256];
    size_t len = alpn != NULL ? strlen(alpn) : 0;

    if (len == 0 || len > 255)
        return len == 0;
    list[0] = (unsigned char)len;
    memcpy(list + 1, alpn, len);
    /* 0 is good: unlike all its neighbours. */
    return SSL_CTX_set_alpn_protos(context, list, (unsigned)len + 1) == 0;
}

/* --- Resumption ----------------------------------------------------------- */

/* The rest of it is keep_session() in tls_channel.c, for the client, and
 * keep_tickets() in tls-app-server.c. */

/* Adds all that decides whom we trust: CAs, and what they have revoked. Returns
 * false if there is no digest. */
static bool digest_store(X509_STORE *store, EVP_MD_CTX *digest)
{
    STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);

    for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
        X509_OBJECT *object = sk_X509_OBJECT_value(objects, i);
        X509 *cert = X509_OBJECT_get0_X509(object);
        X509_CRL *crl = X509_OBJECT_get0_X509_CRL(object);
        unsigned char hash[EVP_MAX_MD_SIZE];
        unsigned len = 0;

        if ((cert != NULL && !X509_digest(cert, EVP_sha256(), hash, &len)) ||
            (crl != NULL && !X509_CRL_digest(crl, EVP_sha256(), hash, &len)) ||
            !EVP_DigestUpdate(digest, hash, len))
            return false;
    }
    return true;
}

/*
 * A session is resumed without asking for a certificate again: only where its
 * first handshake would have been the same. So whom we trust is part of the
 * session id context: who is revoked today has no use of yesterday's ticket.
 * Without any, OpenSSL refuses to resume a session in which the client had a
 * certificate, and breaks off.
 */
static bool name_sessions(SSL_CTX *context)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    unsigned char id[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    bool good = digest != NULL &&
                EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1 &&
                digest_store(SSL_CTX_get_cert_store(context), digest) &&
                EVP_DigestFinal_ex(digest, id, &len) == 1 &&
                SSL_CTX_set_session_id_context(context, id, len) == 1;

    EVP_MD_CTX_free(digest);
    return good;
}

/*
 * A ticket is worth no more than the certificate that its client has shown for
 * it. Where that has ended since, there is a full handshake, which says so: or
 * else each ticket would bring the next one, and the client would stay for
 * ever.
 */
static SSL_TICKET_RETURN judge_ticket(SSL *ssl, SSL_SESSION *session,
                                      const unsigned char *key_name,
                                      size_t key_name_len,
                                      SSL_TICKET_STATUS status, void *data)
{
    X509 *cert = session != NULL ? SSL_SESSION_get0_peer(session) : NULL;

    (void)ssl, (void)key_name, (void)key_name_len, (void)data;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW; /* it is none of ours */
    if (cert != NULL && X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE
                                        : SSL_TICKET_RETURN_USE_RENEW;
}

/* What a session needs is in the ticket that its client keeps, encrypted: a
 * server for thousands has no table of them to fill. The key to the tickets is
 * drawn with the context and lives as long as the program: whoever steals it
 * can read what was said in resumed sessions of TLS 1.2. Those of 1.3 agree on
 * new secrets each time. */
static bool offer_resumption(SSL_CTX *context)
{
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_ticket_cb(context, NULL, judge_ticket, NULL);
    return name_sessions(context);
}

/* --- Mutual TLS ----------------------------------------------------------- */

/* Wants a certificate of each client, of one of the CAs in the file, which the
 * client is told. */
static bool require_clients(SSL_CTX *context, const char *ca,
                            struct tls_error *error)
{
    STACK_OF(X509_NAME) * names;

    if (ca == NULL)
        return true;
    if (!use_ca(context, ca, error))
        return false;
    names = SSL_load_client_CA_file(ca);
    if (names == NULL) {
        file_error(error, "CA", ca, tls_first_error());
        return false;
    }
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(context,
                       SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    return true;
}

/* --- The contexts --------------------------------------------------------- */

SSL_CTX *tls_server_context(const struct tls_files *files, const char *alpn,
                            struct tls_error *error)
{
    SSL_CTX *context = new_context(TLS_server_method(), error);

    if (context == NULL)
        return NULL;
    if (alpn != NULL)
        answer_alpn(context, alpn);
    if (use_certificate(context, files, error) &&
        require_clients(context, files->ca, error) && offer_resumption(context))
        return context;
    if (error->text[0] == '\0')
        snprintf(error->text, sizeof error->text, "TLS: %s", tls_first_error());
    SSL_CTX_free(context);
    return NULL;
}

SSL_CTX *tls_client_context(const struct tls_files *files, const char *alpn,
                            struct tls_error *error)
{
    SSL_CTX *context = new_context(TLS_client_method(), error);

    if (context == NULL)
        return NULL;
    /* Without this, any certificate will do, and so will anybody. */
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (use_certificate(context, files, error) &&
        (files->ca != NULL ? use_ca(context, files->ca, error)
                           : SSL_CTX_set_default_verify_paths(context) == 1) &&
        offer_protocol(context, alpn))
        return context;
    if (error->text[0] == '\0')
        snprintf(error->text, sizeof error->text, "TLS: %s", tls_first_error());
    SSL_CTX_free(context);
    return NULL;
}

/* --- The key log ---------------------------------------------------------- */

static void log_secret(const SSL *ssl, const char *line)
{
    const int *log = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    dprintf(*log, "%s\n", line);
}

/* Returns whether only the owner can read the file from now on. A pipe or a
 * device is left as it is: to change /dev/null would be felt by all. */
static bool make_private(int fd)
{
    struct stat status;

    return fstat(fd, &status) == 0 &&
           (!S_ISREG(status.st_mode) || fchmod(fd, 0600) == 0);
}

bool tls_log_secrets(SSL_CTX *context, const char *file, int *log,
                     struct tls_error *error)
{
    *log = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (*log < 0 || !make_private(*log)) {
        file_error(error, "key log", file, strerror(errno));
        if (*log >= 0)
            close(*log);
        return false;
    }
    SSL_CTX_set_app_data(context, log);
    SSL_CTX_set_keylog_callback(context, log_secret);
    return true;
}

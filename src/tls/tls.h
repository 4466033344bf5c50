/* tls: certificates of a cluster, and TLS sessions over memory, between nodes and with clients.
 *
 * A cluster has a CA of its own. Each node has a key that never leaves it and a certificate of that CA, whose URI name
 * `nilo://<cluster uuid>/node/<node id>` is the node's identity. Who has no certificate yet gets one with a join token, which
 * names the cluster's CA and carries a secret. A session is sans-I/O: bytes in, bytes out; sockets are the user's.
 *
 * Files of a directory: ca.pem, ca.key (only where the CA lives), node.pem, node.key; mode 0600, each replaced whole.
 * Keys are EC P-256 by OpenSSL's own randomness; times come from os, which OpenSSL is told too (G19: a wrong wall clock can
 * only make certificates look expired).
 *
 * Threads: a context and its sessions belong to one thread; the file functions are for any thread that may use the disk. */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include "base/bytes.h"
#include "base/fault.h"
#include "os/os.h"

enum tls_outcome {
        TLS_NOT_FOUND = 1, /* a file that is needed is absent; the problem names it */
        TLS_EXISTS,        /* it is there already and is not replaced */
        TLS_INVALID,       /* unreadable, or not what it should be; the problem says why */
        TLS_FULL,          /* no space on the device; what was there is unchanged */
};

enum {
        TLS_PROBLEM_SIZE = 256,
        TLS_FINGERPRINT_SIZE = 32,     /* SHA-256 of a certificate, as `openssl x509 -fingerprint -sha256` shows it */
        TLS_NAMES_MAX = 16,            /* DNS names and IPs of one certificate */
        TLS_NAME_SIZE_MAX = 253,
        TLS_LOGIN_SIZE = 128,          /* of a user in a certificate, with NUL */
        TLS_PEM_SIZE_MAX = 64 * 1024,  /* of a file, a request, a certificate */
        TLS_AUTHORITY_DAYS = 3653,
        TLS_NODE_DAYS = 365,
        TLS_RENEW_BEFORE_DAYS = 60,    /* a certificate with less left is due for renewal */
};

/* What went wrong, for people; "" if nothing. Filled by functions that give an outcome. */
struct tls_problem {
        char text[TLS_PROBLEM_SIZE];
};

struct tls_identity {
        uint8_t cluster_uuid[16];
        uint64_t node_id;
};

/* ---- certificates in a directory ---- */

/* Makes a cluster's CA: ca.key and ca.pem. 0, TLS_EXISTS, TLS_FULL or a fault. */
MUST_CHECK int tls_authority_make(struct os *os, const char *directory, const uint8_t cluster_uuid[16],
        struct tls_problem *problem);

/* Has this node's key (made if absent, kept if there) certified by the CA of the same directory: node.pem, valid for
 * TLS_NODE_DAYS. `names` are the DNS names and IP literals under which the node is reached.
 * 0, TLS_NOT_FOUND (no CA key here), TLS_INVALID (a name, a file), TLS_FULL or a fault. */
MUST_CHECK int tls_node_certificate_make(struct os *os, const char *directory, uint64_t node_id, const char *const *names,
        unsigned count, struct tls_problem *problem);
/* The same for the node that node.pem names, with the names that it has. The key stays, so that key and certificate fit at
 * whatever moment a crash comes. */
MUST_CHECK int tls_node_certificate_renew(struct os *os, const char *directory, struct tls_problem *problem);

/* A DNS name or IP literal, as certificates have them. */
bool tls_name_is_valid(const char *name);
/* Sees to it that node.pem is there, of this node and the CA beside it, not due for renewal, and has all these names: makes
 * it anew if not. What it names already it goes on naming, as far as there is room. Results as of _make. */
MUST_CHECK int tls_node_certificate_cover(struct os *os, const char *directory, uint64_t node_id, const char *const *names,
        unsigned count, bool *ret_is_new, struct tls_problem *problem);

/* Makes node.key if absent and adds a signing request (PEM) for it to `out`. The key stays here. */
MUST_CHECK int tls_request_make(struct os *os, const char *directory, struct buffer *out, struct tls_problem *problem);
/* Signs a request with the CA's key: adds the certificate (PEM) to `out`. Only the request's key counts, which must be
 * EC P-256 and have signed the request; identity and names are the caller's word.
 * 0, TLS_NOT_FOUND, TLS_INVALID or a fault. */
MUST_CHECK int tls_request_sign(struct os *os, const char *directory, struct bytes request, uint64_t node_id,
        const char *const *names, unsigned count, struct buffer *out, struct tls_problem *problem);
/* Checks that the certificate is of that CA, for this directory's key and valid now, then writes ca.pem and node.pem. A
 * ca.pem that is there must be the same. 0, TLS_INVALID, TLS_EXISTS (another CA is there), TLS_FULL or a fault. */
MUST_CHECK int tls_certificate_install(struct os *os, const char *directory, struct bytes ca_pem, struct bytes node_pem,
        struct tls_problem *problem);

struct tls_certificate_info {
        bool is_authority;
        struct tls_identity identity; /* node_id is 0 for a CA, and of a certificate that is not ours */
        uint64_t from_us;             /* wall clock */
        uint64_t until_us;
        bool is_due;                  /* less than TLS_RENEW_BEFORE_DAYS are left */
        uint8_t fingerprint[TLS_FINGERPRINT_SIZE];
        char names[1024];             /* comma separated */
};
/* Reads `ca.pem` or `node.pem` (`file`) of the directory. 0, TLS_NOT_FOUND, TLS_INVALID or a fault. */
MUST_CHECK int tls_certificate_info(struct os *os, const char *directory, const char *file, struct tls_certificate_info *ret,
        struct tls_problem *problem);

/* ---- contexts ---- */

enum tls_peer_certificate {
        TLS_PEER_REQUIRED, /* both sides show a certificate of the cluster's CA with a node's identity */
        TLS_PEER_OPTIONAL, /* a client may come without; one that it shows is verified all the same */
        TLS_PEER_NONE,     /* a server asks for none */
};

struct tls_context_options {
        struct os *os;
        const char *directory; /* ca.pem, node.pem, node.key; NULL: no certificate of its own (a joiner) */
        enum tls_peer_certificate peer_certificate; /* what the server side asks for */
        bool allows_tls12;     /* with AEAD ciphers; else TLS 1.3 only */
        bool has_tickets;      /* session tickets: for gateway; never between nodes */
        const char *alpn;      /* "h2,http/1.1": what is spoken, best first; NULL: no ALPN. A server refuses who offers only
                                  others */
        /* Of a joiner: the server's chain must end in the CA whose fingerprint begins with these bytes (at least 16). */
        struct bytes ca_fingerprint;
};
struct tls_context;
/* 0, TLS_NOT_FOUND, TLS_INVALID (a file, key and certificate do not fit, not of this CA) or a fault. */
MUST_CHECK int tls_context_open(const struct tls_context_options *options, struct tls_context **ret,
        struct tls_problem *problem);
/* Reads the files again: sessions from now on use them. On anything but 0 the old ones stay. */
MUST_CHECK int tls_context_reload(struct tls_context *context, struct tls_problem *problem);
/* Of a joiner: true when a server has shown a chain without that CA since it was asked last; then *ret is the fingerprint of
 * the last certificate of its chain, which is another CA's. */
bool tls_context_met_other_authority(struct tls_context *context, uint8_t ret[TLS_FINGERPRINT_SIZE]);

/* What clients meet: TLS 1.3 and 1.2 with AEAD and ECDHE, the server's preference, no renegotiation, no compression. */
struct tls_server_options {
        struct os *os;
        const char *directory;        /* with node.pem, node.key and ca.pem; NULL: the two files below */
        const char *certificate_file; /* PEM: the certificate, then those between it and its CA */
        const char *key_file;         /* PEM, not encrypted */
        const char *client_ca_file;   /* PEM, of any number: a client may show a certificate of these; NULL: none is asked for */
        const char *alpn;             /* as above */
        struct os *files;             /* whose disk has the named files; NULL: that of `os` */
};
/* As tls_context_open. */
MUST_CHECK int tls_server_open(const struct tls_server_options *options, struct tls_context **ret,
        struct tls_problem *problem);

/* Who connects to such a server. It is verified by a CA and by its name, unless verifies_nothing was said. */
struct tls_client_options {
        struct os *os;
        const char *ca_file;          /* PEM, of any number; NULL: those of the system */
        struct bytes ca_fingerprint;  /* instead, of TLS_FINGERPRINT_SIZE: of a CA in the chain that the server sends */
        bool verifies_nothing;        /* whoever answers is believed */
        const char *certificate_file; /* of a user, as above; NULL: none */
        const char *key_file;
        const char *alpn;
};
MUST_CHECK int tls_client_open(const struct tls_client_options *options, struct tls_context **ret,
        struct tls_problem *problem);

/* SHA-256 over the files of a context as they are now. Any thread: only what never changes of the context is looked at. */
void tls_context_digest_files(const struct tls_context *context, uint8_t ret[TLS_FINGERPRINT_SIZE]);
/* They are no longer those that it was opened or last reloaded with. */
bool tls_context_is_stale(const struct tls_context *context, const uint8_t digest[TLS_FINGERPRINT_SIZE]);

/* Empties *context; NULL is fine. Its sessions live on. */
void tls_context_close(struct tls_context **context);
/* The certificate that it shows; false for a context without. */
bool tls_context_certificate(const struct tls_context *context, struct tls_certificate_info *ret);
/* The identity in node.pem; false for a context without. */
bool tls_context_identity(const struct tls_context *context, struct tls_identity *ret);

/* ---- sessions ---- */

enum tls_state {
        TLS_HANDSHAKING,
        TLS_OPEN,
        TLS_ENDED,  /* the peer has said that it sends no more */
        TLS_FAILED, /* tls_session_problem says why; what tls_session_output gives is still worth sending: the alert */
};
struct tls_session;

/* A client's first bytes are in tls_session_output at once. A session keeps no more than one record (17 KiB) or handshake
 * message (64 KiB) of what it was fed. */
MUST_CHECK int tls_session_new(struct tls_context *context, bool is_server, struct tls_session **ret);
/* Of a client context: `host` is the DNS name or IP that the server's certificate must have. */
MUST_CHECK int tls_session_new_client(struct tls_context *context, const char *host, struct tls_session **ret);
void tls_session_free(struct tls_session **session); /* NULL is fine */

/* Takes received bytes; adds the plaintext in them to `plain`. There may be new output afterwards, and a new state. What
 * comes after TLS_ENDED or TLS_FAILED is dropped. */
enum tls_state tls_session_feed(struct tls_session *session, struct bytes received, struct buffer *plain);
/* Encrypts. Only while TLS_OPEN or TLS_ENDED. */
void tls_session_write(struct tls_session *session, struct bytes plain);
/* Says the end to the peer: the last output. */
void tls_session_end(struct tls_session *session);
/* What is to be sent, in order; valid until the next call with the session. tls_session_sent empties it. Its size is bounded
 * by what was written and fed since. */
struct bytes tls_session_output(struct tls_session *session);
void tls_session_sent(struct tls_session *session);

enum tls_state tls_session_state(const struct tls_session *session);
/* Why it failed: "the certificate expired on 2027-03-01", "not signed by this cluster's CA"; "" while it has not. */
const char *tls_session_problem(const struct tls_session *session);
/* The identity that the peer has proved; false while handshaking and of a peer without a certificate. */
bool tls_session_peer(const struct tls_session *session, struct tls_identity *ret);
/* The user whom a client's certificate names: its CN. "" without one, while handshaking, and for a node's certificate. */
const char *tls_session_peer_login(const struct tls_session *session);
/* What a session holds in memory, its engine's share estimated. */
size_t tls_session_memory(const struct tls_session *session);
/* The protocol agreed on by ALPN; "" for none. */
const char *tls_session_alpn(const struct tls_session *session);

/* ---- join tokens ---- */

enum {
        TLS_TOKEN_FINGERPRINT_SIZE = 16,
        TLS_TOKEN_SECRET_SIZE = 32,
        TLS_TOKEN_TEXT_SIZE = 12 + 96 + 1, /* "nilo-join-1-", 60 bytes in base32, NUL */
};
/* Shown once, as text. The fingerprint lets a joiner verify the cluster before it says anything; the secret, said only inside
 * that verified session, lets the cluster verify the joiner. */
struct tls_join_token {
        uint8_t ca_fingerprint[TLS_TOKEN_FINGERPRINT_SIZE];
        uint64_t id;
        uint8_t secret[TLS_TOKEN_SECRET_SIZE];
};
/* What is stored of a token, with expiry and uses by the caller. */
struct tls_join_token_hash {
        uint64_t id;
        uint8_t salt[16];
        uint8_t hash[32]; /* HMAC-SHA-256 by the salt */
};
void tls_join_token_make(struct os *os, const uint8_t ca_fingerprint[TLS_FINGERPRINT_SIZE], struct tls_join_token *ret);
void tls_join_token_encode(const struct tls_join_token *token, char ret[TLS_TOKEN_TEXT_SIZE]);
/* False for anything but what encode makes (letters of either case): a slip of the hand is seen by a checksum. */
MUST_CHECK bool tls_join_token_parse(const char *text, struct tls_join_token *ret);
void tls_join_token_hash(struct os *os, const struct tls_join_token *token, struct tls_join_token_hash *ret);
/* Takes the same time whatever differs. */
MUST_CHECK bool tls_join_token_verify(const struct tls_join_token_hash *hash, uint64_t id,
        const uint8_t secret[TLS_TOKEN_SECRET_SIZE]);

/* ---- a secret that both know ---- */

enum { TLS_HMAC_SIZE = 32 };
/* HMAC-SHA-256. */
void tls_hmac(struct bytes key, struct bytes text, uint8_t ret[TLS_HMAC_SIZE]);
/* Takes the same time whatever differs. */
MUST_CHECK bool tls_hmac_verify(struct bytes key, struct bytes text, const uint8_t hmac[TLS_HMAC_SIZE]);

#endif

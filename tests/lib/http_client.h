/* The smallest HTTP/1.1 client that a test can do with: blocking, one connection per request. For a thread beside the loop,
 * or another process. */
#ifndef TESTS_LIB_HTTP_CLIENT_H
#define TESTS_LIB_HTTP_CLIENT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { HTTP_ANSWER_SIZE = 256 * 1024, HTTP_TIMEOUT_SECONDS = 5 };

/* -1 when nobody listens. */
static inline int http_connect(uint16_t port)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        struct timeval timeout = {.tv_sec = HTTP_TIMEOUT_SECONDS};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
        if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
                return fd;
        close(fd);
        return -1;
}

/* Sends a request; `headers` are whole lines that end with "\r\n", or "". */
static inline void http_send(int fd, const char *method, const char *path, const char *headers, const char *body)
{
        char text[8192];
        int n = snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n%s\r\n%s", method, path,
                strlen(body), headers, body);

        if (send(fd, text, (size_t)n, MSG_NOSIGNAL) != n)
                abort();
}

/* Reads until the end of the connection, until `needle` has come, or until nothing more comes in time. Gives what was read,
 * NUL-terminated. */
static inline char *http_read(int fd, const char *needle)
{
        static _Thread_local char answer[HTTP_ANSWER_SIZE];
        size_t size = 0;

        answer[0] = 0;
        while (size + 1 < sizeof answer && !(needle && strstr(answer, needle))) {
                ssize_t n = recv(fd, answer + size, sizeof answer - 1 - size, 0);

                if (n <= 0)
                        break;
                size += (size_t)n;
                answer[size] = 0;
        }
        return answer;
}

/* One request and its whole answer, head included; "" when nobody listens. */
static inline char *http_ask(uint16_t port, const char *method, const char *path, const char *headers, const char *body)
{
        static char nothing[1];
        char more[1024];
        char *answer = nothing;
        int fd = http_connect(port);

        if (fd < 0)
                return answer;
        snprintf(more, sizeof more, "Connection: close\r\n%s", headers);
        http_send(fd, method, path, more, body);
        answer = http_read(fd, NULL);
        close(fd);
        return answer;
}

static inline int http_status(const char *answer)
{
        return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

static inline const char *http_body(const char *answer)
{
        const char *end = strstr(answer, "\r\n\r\n");

        return end ? end + 4 : "";
}

#endif

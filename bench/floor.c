/* The floor: group commit over TCP and nothing else. One thread takes what has arrived on all connections,
 * writes it with one pwrite over zero-filled space, syncs once, answers all. No framing, index, version
 * check. A message is `size` x `batch` bytes, its answer 8. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

enum {
        FLOOR_FILE_SIZE = 256 << 20,
        FLOOR_CONNECTIONS_MAX = 1024,
        FLOOR_READ_SIZE = 1 << 20,
        FLOOR_ANSWER_SIZE = 8
};

static int zero_filled(const char *path)
{
        static char zeros[1 << 20];
        int fd = open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);

        if (fd < 0)
                load_die(path);
        for (size_t i = 0; i < FLOOR_FILE_SIZE / sizeof zeros; i++)
                if (write(fd, zeros, sizeof zeros) != sizeof zeros)
                        load_die("write");
        if (fsync(fd))
                load_die("fsync");
        return fd;
}

int load_fdatasync(const struct load_options *o)
{
        struct load_samples samples = {0};
        char *data = calloc(1, o->size);
        int fd = zero_filled(o->file);
        uint64_t start = load_now_us();
        uint64_t end = start + (uint64_t)(o->seconds * 1e6);
        off_t at = 0;

        for (uint64_t before = start; before < end;) {
                uint64_t after;

                if (pwrite(fd, data, o->size, at) != (ssize_t)o->size || fdatasync(fd))
                        load_die("fdatasync");
                at = (at + o->size) % (FLOOR_FILE_SIZE - o->size);
                after = load_now_us();
                load_sample(&samples, after - before);
                before = after;
        }
        load_print(samples.count, samples.count, (double)(load_now_us() - start) / 1e6, &samples);
        unlink(o->file);
        free(data);
        return 0;
}

static void no_delay(int fd)
{
        int one = 1;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

int load_floor_server(const struct load_options *o)
{
        static uint8_t data[FLOOR_READ_SIZE];
        static size_t pending[FLOOR_CONNECTIONS_MAX];
        static unsigned answers[FLOOR_CONNECTIONS_MAX];
        static uint8_t answer[FLOOR_ANSWER_SIZE * 4096];
        struct sockaddr_in address = {
                .sin_family = AF_INET, .sin_port = htons(o->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        size_t message_size = (size_t)o->size * o->batch;
        int file = zero_filled(o->file);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        int one = 1;
        off_t at = 0;
        struct epoll_event events[FLOOR_CONNECTIONS_MAX];
        struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};

        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024))
                load_die("bind");
        epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
        printf("ready\n");
        fflush(stdout);
        for (;;) {
                int n = epoll_wait(epoll, events, FLOOR_CONNECTIONS_MAX, -1);
                size_t gathered = 0;

                for (int i = 0; i < n; i++) {
                        int fd = events[i].data.fd;
                        ssize_t got;

                        if (fd == listener) {
                                int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

                                if (client < 0 || client >= FLOOR_CONNECTIONS_MAX)
                                        continue;
                                no_delay(client);
                                event = (struct epoll_event){.events = EPOLLIN, .data.fd = client};
                                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
                                pending[client] = 0;
                                continue;
                        }
                        if (gathered + 65536 > sizeof data)
                                continue;
                        got = read(fd, data + gathered, sizeof data - gathered);
                        if (got <= 0) {
                                close(fd);
                                continue;
                        }
                        gathered += (size_t)got;
                        pending[fd] += (size_t)got;
                        answers[fd] = (unsigned)(pending[fd] / message_size);
                        pending[fd] %= message_size;
                }
                if (!gathered)
                        continue;
                if (at + (off_t)gathered > FLOOR_FILE_SIZE)
                        at = 0;
                if (pwrite(file, data, gathered, at) != (ssize_t)gathered || fdatasync(file))
                        load_die("fdatasync");
                at += (off_t)gathered;
                for (int i = 0; i < n; i++) {
                        int fd = events[i].data.fd;

                        if (fd == listener || !answers[fd])
                                continue;
                        if (write(fd, answer, (size_t)answers[fd] * FLOOR_ANSWER_SIZE) < 0)
                                close(fd);
                        answers[fd] = 0;
                }
        }
}

struct floor_client {
        int fd;
        size_t got;
        uint64_t sent_at;
};

static void floor_send(struct floor_client *c, const uint8_t *message, size_t size)
{
        size_t done = 0;

        c->sent_at = load_now_us();
        c->got = 0;
        while (done < size) {
                ssize_t n = write(c->fd, message + done, size - done);

                if (n < 0 && errno != EAGAIN)
                        load_die("write");
                done += n > 0 ? (size_t)n : 0;
        }
}

int load_floor(const struct load_options *o)
{
        struct sockaddr_in address = {
                .sin_family = AF_INET, .sin_port = htons(o->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        size_t message_size = (size_t)o->size * o->batch;
        uint8_t *message = calloc(1, message_size);
        struct floor_client *clients = calloc(o->writers, sizeof *clients);
        struct load_samples samples = {0};
        struct epoll_event events[1024];
        int epoll = epoll_create1(EPOLL_CLOEXEC);
        uint64_t start;
        uint64_t end;

        for (unsigned i = 0; i < o->writers; i++) {
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};

                clients[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (connect(clients[i].fd, (struct sockaddr *)&address, sizeof address))
                        load_die("connect");
                no_delay(clients[i].fd);
                fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);
                epoll_ctl(epoll, EPOLL_CTL_ADD, clients[i].fd, &event);
        }
        start = load_now_us();
        end = start + (uint64_t)(o->seconds * 1e6);
        for (unsigned i = 0; i < o->writers; i++)
                floor_send(&clients[i], message, message_size);
        while (load_now_us() < end) {
                int n = epoll_wait(epoll, events, 1024, 1000);

                for (int i = 0; i < n; i++) {
                        struct floor_client *c = &clients[events[i].data.u32];
                        uint8_t answer[64];
                        ssize_t got = read(c->fd, answer, sizeof answer);

                        if (got <= 0)
                                load_die("read");
                        c->got += (size_t)got;
                        if (c->got < FLOOR_ANSWER_SIZE)
                                continue;
                        load_sample(&samples, load_now_us() - c->sent_at);
                        floor_send(c, message, message_size);
                }
        }
        load_print(samples.count, samples.count * o->batch, (double)(load_now_us() - start) / 1e6, &samples);
        return 0;
}

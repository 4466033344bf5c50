/* Addresses of nodes: "host:port", "[IPv6]:port". */
#include "peers/room.h"

#include <arpa/inet.h>
#include <stdlib.h>

static bool is_host_byte(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
               c == '.' || c == '_';
}

static bool port_parse(const char *text, uint16_t *ret)
{
        unsigned long port = 0;
        size_t i;

        for (i = 0; text[i] >= '0' && text[i] <= '9' && i < 5; i++)
                port = port * 10 + (unsigned long)(text[i] - '0');
        if (i == 0 || text[i] || port == 0 || port > UINT16_MAX)
                return false;
        *ret = (uint16_t)port;
        return true;
}

bool host_port_parse(const char *text, struct host_port *ret)
{
        const char *host = text, *end;
        size_t size, i;
        uint8_t ip[16];

        if (*text == '[') {
                host = text + 1;
                end = strchr(host, ']');
                if (!end || end[1] != ':' || !port_parse(end + 2, &ret->port))
                        return false;
        } else {
                end = strchr(text, ':');
                if (!end || !port_parse(end + 1, &ret->port))
                        return false;
        }
        size = (size_t)(end - host);
        if (size == 0 || size >= HOST_SIZE)
                return false;
        memcpy(ret->host, host, size);
        ret->host[size] = 0;
        if (*text == '[')
                return inet_pton(AF_INET6, ret->host, ip) == 1;
        for (i = 0; i < size; i++)
                if (!is_host_byte(host[i]))
                        return false;
        return true;
}

bool host_is_ip(const char *host)
{
        uint8_t ip[16];

        return inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1;
}

bool host_is_loopback(const char *host)
{
        static const uint8_t loopback[16] = {[15] = 1}, mapped[12] = {[10] = 0xff, [11] = 0xff};
        uint8_t ip[16];

        if (inet_pton(AF_INET, host, ip) == 1)
                return ip[0] == 127;
        if (inet_pton(AF_INET6, host, ip) == 1)
                return memcmp(ip, loopback, 16) == 0 || (memcmp(ip, mapped, 12) == 0 && ip[12] == 127);
        return strcmp(host, "localhost") == 0;
}

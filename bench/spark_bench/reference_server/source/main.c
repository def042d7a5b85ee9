/* reference [--port N] [--ipv6] [--parent PID]
 *
 * Listens on loopback only and prints its URL. Port 0, the default: a free one. With --parent it
 * dies with that process. */
#define _GNU_SOURCE
#include "reference_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST_EVENTS 1024
#define BACKLOG 8192

int poller;

typedef struct {
    uint16_t port;
    bool ipv6;
    pid_t parent;
} Options;

static long number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*end || end == text || value < 0 || value > most) {
        fprintf(stderr, "reference: not a number from 0 to %ld: %s\n", most, text);
        exit(2);
    }
    return value;
}

static Options read_options(int count, char **words)
{
    Options options = {0};
    for (int i = 1; i < count; i++) {
        if (!strcmp(words[i], "--ipv6")) {
            options.ipv6 = true;
        } else if (!strcmp(words[i], "--port") && i + 1 < count) {
            options.port = (uint16_t)number(words[++i], UINT16_MAX);
        } else if (!strcmp(words[i], "--parent") && i + 1 < count) {
            options.parent = (pid_t)number(words[++i], INT32_MAX);
        } else {
            fprintf(stderr, "usage: reference [--port N] [--ipv6] [--parent PID]\n");
            exit(2);
        }
    }
    return options;
}

static void die_with(pid_t parent)
{
    if (!parent)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* gone before the line above */
        exit(1);
}

static void allow_many_sockets(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void bind_ipv4(int listener, uint16_t *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(*port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size))
        die("bind 127.0.0.1");
    getsockname(listener, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
}

static void bind_ipv6(int listener, uint16_t *port)
{
    struct sockaddr_in6 address = {
        .sin6_family = AF_INET6,
        .sin6_port = htons(*port),
        .sin6_addr = in6addr_loopback,
    };
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size))
        die("bind ::1");
    getsockname(listener, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin6_port);
}

static int listen_on(Options options)
{
    int on = 1;
    uint16_t port = options.port;
    int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int listener = socket(options.ipv6 ? AF_INET6 : AF_INET, type, 0);
    if (listener < 0)
        die("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (options.ipv6)
        bind_ipv6(listener, &port);
    else
        bind_ipv4(listener, &port);
    if (listen(listener, BACKLOG))
        die("listen");
    printf("http://%s:%u\n", options.ipv6 ? "[::1]" : "127.0.0.1", port);
    fflush(stdout);
    return listener;
}

static void serve_socket(const struct epoll_event *event, int listener)
{
    Connection *connection = event->data.ptr;
    if (!connection) {
        connections_accept(listener);
        return;
    }
    if (connection->dead)
        return;
    if (event->events & EPOLLOUT) {
        if (!connection_flush(connection)) {
            connection_close(connection);
            return;
        }
        if (connection->close_after && !connection->stream)
            connection_idle(connection);
    }
    if (!connection->dead && event->events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
        connection_read(connection);
}

/* Until a socket has something or the schedule is due, to the nanosecond. */
static int wait_for_events(struct epoll_event *events)
{
    uint64_t due = schedule_next();
    if (due == NEVER)
        return epoll_pwait2(poller, events, MOST_EVENTS, NULL, NULL);
    uint64_t now = now_ns();
    uint64_t left = due > now ? due - now : 0;
    struct timespec timeout = {
        .tv_sec = (time_t)(left / NS_PER_S),
        .tv_nsec = (long)(left % NS_PER_S),
    };
    return epoll_pwait2(poller, events, MOST_EVENTS, &timeout, NULL);
}

static void serve(int listener)
{
    static struct epoll_event events[MOST_EVENTS];
    for (;;) {
        int count = wait_for_events(events);
        if (count < 0 && errno != EINTR)
            die("epoll_pwait2 (Linux 5.11 or later is needed)");
        for (int i = 0; i < count; i++)
            serve_socket(&events[i], listener);
        schedule_run();
        connections_bury();
    }
}

int main(int count, char **words)
{
    Options options = read_options(count, words);
    die_with(options.parent);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1); /* ns; the default of 50 us would be late by as much */
    allow_many_sockets();
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        die("epoll");
    int listener = listen_on(options);
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event))
        die("epoll");
    serve(listener);
}

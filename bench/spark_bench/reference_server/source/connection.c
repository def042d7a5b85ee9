/* Sockets: what could not be sent at once waits in `out`, what was read waits in `in`. */
#define _GNU_SOURCE
#include "reference_server.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define READ_SIZE 65536

Counters counters;

static Connection *graveyard;

static void watch(Connection *connection, int operation)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = connection};
    if (connection->waiting)
        event.events |= EPOLLOUT;
    epoll_ctl(poller, operation, connection->fd, &event);
}

void connections_accept(int listener)
{
    int on = 1;
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        counters.accepted++;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        Connection *connection = zeroed(sizeof *connection);
        connection->fd = fd;
        connection->accepted_ns = now_ns();
        watch(connection, EPOLL_CTL_ADD);
    }
}

void connection_close(Connection *connection)
{
    if (connection->dead)
        return;
    connection->dead = true;
    close(connection->fd);
    connection->next_dead = graveyard;
    graveyard = connection;
    if (connection->stream)
        stream_gone(connection->stream);
}

void connections_bury(void)
{
    while (graveyard) {
        Connection *connection = graveyard;
        graveyard = connection->next_dead;
        buffer_free(&connection->in);
        buffer_free(&connection->out);
        free(connection);
    }
}

static void wait_for_room(Connection *connection, bool wait)
{
    if (connection->waiting == wait)
        return;
    connection->waiting = wait;
    watch(connection, EPOLL_CTL_MOD);
}

/* As much as the socket takes; bytes sent, or -1 when the peer is gone. */
static ssize_t send_some(Connection *connection, const char *data, size_t len)
{
    size_t sent = 0;
    while (sent < len) {
        ssize_t more = send(connection->fd, data + sent, len - sent, MSG_NOSIGNAL);
        if (more < 0 && errno == EINTR)
            continue;
        if (more < 0)
            return errno == EAGAIN ? (ssize_t)sent : -1;
        sent += (size_t)more;
    }
    return (ssize_t)sent;
}

/* Sends what waits; false: the peer is gone. */
bool connection_flush(Connection *connection)
{
    Buffer *out = &connection->out;
    ssize_t sent = send_some(connection, out->data + connection->out_sent,
                             out->len - connection->out_sent);
    if (sent < 0)
        return false;
    connection->out_sent += (size_t)sent;
    bool all = connection->out_sent == out->len;
    if (all)
        connection->out_sent = out->len = 0;
    wait_for_room(connection, !all);
    return true;
}

/* Now, or behind what waits already; false: the peer is gone. */
bool connection_send(Connection *connection, const char *data, size_t len)
{
    if (connection->dead)
        return false;
    if (connection->out.len) {
        buffer_add(&connection->out, data, len);
        return connection->waiting || connection_flush(connection);
    }
    ssize_t sent = send_some(connection, data, len);
    if (sent < 0)
        return false;
    if ((size_t)sent < len) {
        counters.eagain++;
        buffer_add(&connection->out, data + sent, len - (size_t)sent);
        wait_for_room(connection, true);
    }
    return true;
}

/* Whether all that was sent has left, as far as the kernel says: TCP may keep some of it back until
 * earlier segments are acknowledged. */
bool connection_left(const Connection *connection)
{
    int kept = 0;
    return !connection->waiting && !ioctl(connection->fd, SIOCOUTQNSD, &kept) && !kept;
}

/* In two pieces, for clients that take one read for one event. */
bool connection_send_split(Connection *connection, const char *data, size_t len)
{
    size_t half = len / 2;
    return connection_send(connection, data, half) &&
           connection_send(connection, data + half, len - half);
}

/* An answer has been given: on to the next request, or to the end. */
void connection_idle(Connection *connection)
{
    if (connection->dead)
        return;
    if (!connection->close_after)
        http_serve(connection);
    else if (!connection->out.len)
        connection_close(connection);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* When the kernel received the last segment of a read, by CLOCK_MONOTONIC; 0: it does not say. */
static uint64_t received_ns(struct msghdr *message)
{
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SO_TIMESTAMPNS)
            continue;
        struct timespec at;
        memcpy(&at, CMSG_DATA(part), sizeof at);
        uint64_t age = clock_ns(CLOCK_REALTIME) -
                       ((uint64_t)at.tv_sec * 1000000000ull + (uint64_t)at.tv_nsec);
        return clock_ns(CLOCK_MONOTONIC) - age;
    }
    return 0;
}

/* Reads all there is, then serves it. */
void connection_read(Connection *connection)
{
    Buffer *in = &connection->in;
    for (;;) {
        buffer_room(in, READ_SIZE);
        struct iovec room = {in->data + in->len, in->cap - in->len - 1};
        char control[CMSG_SPACE(sizeof(struct timespec))];
        struct msghdr message = {.msg_iov = &room,
                                 .msg_iovlen = 1,
                                 .msg_control = control,
                                 .msg_controllen = sizeof control};
        ssize_t got = recvmsg(connection->fd, &message, 0);
        if (got > 0) {
            if (!in->len)
                connection->received_ns = received_ns(&message);
            in->len += (size_t)got;
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0 || errno != EAGAIN) {
            connection_close(connection);
            return;
        }
        break;
    }
    in->data[in->len] = '\0';
    http_serve(connection);
}

/* qemu-user lacks epoll_pwait2: the ruler waits in whole milliseconds there. */
#include <sys/epoll.h>
#define epoll_pwait2(fd, events, count, wait, mask)                                        \
    epoll_pwait(fd, events, count,                                                        \
                (wait) ? (int)((wait)->tv_sec * 1000 + ((wait)->tv_nsec + 999999) / 1000000) \
                       : -1,                                                              \
                mask)

/* An LD_PRELOAD shim that sets a program's wall clock AOSK_CLOCK_SKEW seconds off. The clocks that
 * only count on are left alone, as they are on a machine whose date is wrong. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static time_t skew(void) {
    static time_t seconds;
    static int is_known;
    if (!is_known) {
        const char *text = getenv("AOSK_CLOCK_SKEW");
        seconds = text ? strtol(text, NULL, 10) : 0;
        is_known = 1;
    }
    return seconds;
}

int clock_gettime(clockid_t id, struct timespec *now) {
    REAL(clock_gettime);
    int failed = real(id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += skew();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    REAL(gettimeofday);
    int failed = real(now, zone);
    if (!failed && now) now->tv_sec += skew();
    return failed;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

/* An LD_PRELOAD shim that writes down what a program does to the files below one folder: writes,
 * sizes, names and syncs, in their order. From that one can tell what a disk is bound to hold when
 * the power goes, and what it may have lost. It changes nothing that the program does.
 *
 * AOSK_POWER_DIR is the folder, AOSK_POWER_LOG the file that is appended to. A record is four
 * little-endian numbers (kind, length of the path, offset or size, length of what follows), the
 * path, and what follows: the bytes, or the new path. A sync is written down when it has returned,
 * and before the program hears that. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, RESIZE = 2, SYNC = 3, CREATE = 4, UNLINK = 5, RENAME = 6 };

struct head {
    uint64_t kind, path, at, len;
};

static int log_fd = -1;
static char folder[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *dir = getenv("AOSK_POWER_DIR"), *log = getenv("AOSK_POWER_LOG");
    if (!dir || !log || strlen(dir) >= sizeof folder) return;
    strcpy(folder, dir);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

/* A program whose deeds cannot be written down must not go on: the test would prove nothing. */
static void note(uint64_t kind, const char *path, uint64_t at, const void *bytes, uint64_t len) {
    struct head head = {kind, strlen(path), at, len};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)bytes, len}};
    uint64_t whole = sizeof head + head.path + len;
    if ((uint64_t)syscall(SYS_writev, log_fd, parts, 3) != whole) abort();
}

static int below(const char *path) {
    size_t len = strlen(folder);
    return log_fd >= 0 && strncmp(path, folder, len) == 0 && (path[len] == '/' || !path[len]);
}

static int path_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = log_fd < 0 ? -1 : readlink(link, path, PATH_MAX - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return below(path);
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define KEEP_ERRNO(work) \
    do { int kept = errno; work; errno = kept; } while (0)

static void wrote(int fd, const void *bytes, ssize_t done, off_t at) {
    char path[PATH_MAX];
    if (done > 0 && path_of(fd, path)) note(WRITE, path, (uint64_t)at, bytes, (uint64_t)done);
}

ssize_t write(int fd, const void *bytes, size_t len) {
    REAL(write);
    ssize_t done = real(fd, bytes, len);
    KEEP_ERRNO(if (done > 0 && log_fd >= 0) wrote(fd, bytes, done, lseek(fd, 0, SEEK_CUR) - done));
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) {
    REAL(pwrite);
    ssize_t done = real(fd, bytes, len, at);
    KEEP_ERRNO(wrote(fd, bytes, done, at));
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    REAL(pwrite64);
    ssize_t done = real(fd, bytes, len, at);
    KEEP_ERRNO(wrote(fd, bytes, done, at));
    return done;
}

/* No one writes so what is watched here; who does shall be noticed. */
static void refuse(int fd) {
    char path[PATH_MAX];
    if (path_of(fd, path)) abort();
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    KEEP_ERRNO(refuse(fd));
    return real(fd, parts, count);
}

int fallocate(int fd, int mode, off_t at, off_t len) {
    REAL(fallocate);
    KEEP_ERRNO(refuse(fd));
    return real(fd, mode, at, len);
}

int posix_fallocate(int fd, off_t at, off_t len) {
    REAL(posix_fallocate);
    KEEP_ERRNO(refuse(fd));
    return real(fd, at, len);
}

static int resized(int fd, int failed, off_t len) {
    char path[PATH_MAX];
    KEEP_ERRNO(if (!failed && path_of(fd, path)) note(RESIZE, path, (uint64_t)len, "", 0));
    return failed;
}

int ftruncate(int fd, off_t len) {
    REAL(ftruncate);
    return resized(fd, real(fd, len), len);
}

int ftruncate64(int fd, off64_t len) {
    REAL(ftruncate64);
    return resized(fd, real(fd, len), len);
}

static int synced(int fd, int failed) {
    char path[PATH_MAX];
    KEEP_ERRNO(if (!failed && path_of(fd, path)) note(SYNC, path, 0, "", 0));
    return failed;
}

int fsync(int fd) {
    REAL(fsync);
    return synced(fd, real(fd));
}

int fdatasync(int fd) {
    REAL(fdatasync);
    return synced(fd, real(fd));
}

static int opened(int fd, int flags, int was_there) {
    char path[PATH_MAX];
    if (fd < 0 || !(flags & (O_CREAT | O_TRUNC)) || !path_of(fd, path)) return fd;
    if (!was_there) note(CREATE, path, 0, "", 0);
    else if (flags & O_TRUNC) note(RESIZE, path, 0, "", 0);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = va_arg(rest, int), was_there, fd; \
        va_end(rest); \
        KEEP_ERRNO(was_there = access(path, F_OK) == 0); \
        fd = real(path, flags, mode); \
        KEEP_ERRNO(opened(fd, flags, was_there)); \
        return fd; \
    }

#define OPEN_AT(name) \
    int name(int dir, const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        int mode = va_arg(rest, int), was_there, fd; \
        va_end(rest); \
        KEEP_ERRNO(was_there = faccessat(dir, path, F_OK, 0) == 0); \
        fd = real(dir, path, flags, mode); \
        KEEP_ERRNO(opened(fd, flags, was_there)); \
        return fd; \
    }

OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)

int unlink(const char *path) {
    REAL(unlink);
    int failed = real(path);
    KEEP_ERRNO(if (!failed && below(path)) note(UNLINK, path, 0, "", 0));
    return failed;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    int failed = real(from, to);
    KEEP_ERRNO(if (!failed && below(from)) note(RENAME, from, 0, to, strlen(to)));
    return failed;
}

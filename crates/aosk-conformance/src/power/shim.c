/* An LD_PRELOAD shim that writes down what a program does to the files below one folder: writes,
 * sizes, names and syncs, in their order. From that one can tell what a disk is bound to hold when
 * the power goes, and what it may have lost. It changes nothing that the program does, unless it is
 * told to let calls fail.
 *
 * AOSK_POWER_DIR is the folder, AOSK_POWER_LOG the file that is appended to. A record is four
 * little-endian numbers (kind, length of the path, offset or size, length of what follows), the
 * path, and what follows: the bytes, or the new path. A sync is written down when it has returned,
 * and before the program hears that.
 *
 * AOSK_POWER_FAIL_SYNC=N lets the N-th sync of the file AOSK_POWER_FAIL_OF (a name in the folder)
 * fail with EIO, AOSK_POWER_FAIL_ONE_IN=N
 * about one in N of all reads, writes and syncs there, which AOSK_POWER_FAIL_SEED decides. A write or
 * a read that fails has done nothing. A sync that fails is written down as such: the system has
 * marked the pages as clean, and none of what they hold reaches the disk by a later sync. */

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

enum { WRITE = 1, RESIZE = 2, SYNC = 3, CREATE = 4, UNLINK = 5, RENAME = 6, FAILED_SYNC = 7 };

struct head {
    uint64_t kind, path, at, len;
};

static int log_fd = -1;
static char folder[PATH_MAX];
static const char *fail_of;
static uint64_t fail_sync, fail_one_in, fail_seed;

static uint64_t number(const char *name) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *dir = getenv("AOSK_POWER_DIR"), *log = getenv("AOSK_POWER_LOG");
    if (!dir || !log || strlen(dir) >= sizeof folder) return;
    strcpy(folder, dir);
    fail_of = getenv("AOSK_POWER_FAIL_OF");
    fail_sync = fail_of ? number("AOSK_POWER_FAIL_SYNC") : 0;
    fail_one_in = number("AOSK_POWER_FAIL_ONE_IN");
    fail_seed = number("AOSK_POWER_FAIL_SEED");
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

/* Whether this call is one that fails. The n-th is drawn by n (splitmix64), so that threads need no
 * order among them. */
static int fails(int fd, int is_sync) {
    static uint64_t syncs, calls;
    char path[PATH_MAX];
    if (!(fail_one_in || (fail_sync && is_sync)) || !path_of(fd, path)) return 0;
    int does = is_sync && fail_sync && strcmp(strrchr(path, '/') + 1, fail_of) == 0 &&
               __atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST) == fail_sync;
    if (fail_one_in) {
        uint64_t z = fail_seed + __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST) * 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        does |= (z ^ (z >> 31)) % fail_one_in == 0;
    }
    if (does && is_sync) note(FAILED_SYNC, path, 0, "", 0);
    errno = does ? EIO : errno;
    return does;
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
    if (fails(fd, 0)) return -1;
    ssize_t done = real(fd, bytes, len);
    KEEP_ERRNO(if (done > 0 && log_fd >= 0) wrote(fd, bytes, done, lseek(fd, 0, SEEK_CUR) - done));
    return done;
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at) {
    REAL(pwrite);
    if (fails(fd, 0)) return -1;
    ssize_t done = real(fd, bytes, len, at);
    KEEP_ERRNO(wrote(fd, bytes, done, at));
    return done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    REAL(pwrite64);
    if (fails(fd, 0)) return -1;
    ssize_t done = real(fd, bytes, len, at);
    KEEP_ERRNO(wrote(fd, bytes, done, at));
    return done;
}

ssize_t read(int fd, void *bytes, size_t len) {
    REAL(read);
    return fails(fd, 0) ? -1 : real(fd, bytes, len);
}

ssize_t pread(int fd, void *bytes, size_t len, off_t at) {
    REAL(pread);
    return fails(fd, 0) ? -1 : real(fd, bytes, len, at);
}

ssize_t pread64(int fd, void *bytes, size_t len, off64_t at) {
    REAL(pread64);
    return fails(fd, 0) ? -1 : real(fd, bytes, len, at);
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
    if (fails(fd, 1)) return -1;
    return synced(fd, real(fd));
}

int fdatasync(int fd) {
    REAL(fdatasync);
    if (fails(fd, 1)) return -1;
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

/* Loaded before libc: writes down what a process does to the files below $DISK_FOLDER, and lets the call numbered
   $DISK_FAIL (counted from 1, and anew when that changes) fail with errno $DISK_ERRNO; a write, after half of its bytes. See disk.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int calls, wanted;
static __thread char path_of_descriptor[4096];

static const char *path_of(int descriptor) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = syscall(SYS_readlink, link, path_of_descriptor, sizeof path_of_descriptor - 1);
    path_of_descriptor[n < 0 ? 0 : n] = 0;
    return path_of_descriptor;
}

/* Whether this call is to fail; notes it if it is about the folder's files. */
static int comes(const char *what, const char *path, const char *second) {
    const char *folder = getenv("DISK_FOLDER"), *fail = getenv("DISK_FAIL"), *log = getenv("DISK_LOG");
    if (!folder || !path || strncmp(path, folder, strlen(folder))) return 0;
    int number = fail ? atoi(fail) : 0;
    if (number != wanted) wanted = number, calls = 0;
    int failing = __sync_add_and_fetch(&calls, 1) == number;
    char line[9000];
    int n = snprintf(line, sizeof line, "%s\t%s\t%s\t%d\n", what, path, second, failing);
    int out = log ? syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
    if (out >= 0) syscall(SYS_write, out, line, n), syscall(SYS_close, out);
    if (failing) errno = atoi(getenv("DISK_ERRNO"));
    return failing;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int opened(const char *path, int flags, mode_t mode) {
    return !(flags & (O_WRONLY | O_RDWR)) || !comes(flags & O_CREAT ? "create" : "open", path, "")
        ? syscall(SYS_openat, AT_FDCWD, path, flags, mode) : -1;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; va_end(more); \
        return opened(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int descriptor, const void *data, size_t size) {
    if (comes("write", path_of(descriptor), "")) {
        int error = errno;
        if (size > 1) (void)!REAL(write)(descriptor, data, size / 2);
        errno = error;
        return -1;
    }
    return REAL(write)(descriptor, data, size);
}

int fsync(int descriptor) { return comes("fsync", path_of(descriptor), "") ? -1 : REAL(fsync)(descriptor); }
int rename(const char *from, const char *to) { return comes("rename", from, to) ? -1 : REAL(rename)(from, to); }
int unlink(const char *path) { return comes("unlink", path, "") ? -1 : REAL(unlink)(path); }
int mkdir(const char *path, mode_t mode) { return comes("mkdir", path, "") ? -1 : REAL(mkdir)(path, mode); }
int chmod(const char *path, mode_t mode) { return comes("chmod", path, "") ? -1 : REAL(chmod)(path, mode); }

// Faults of the machine, for processes that load this library before libc's functions (LD_PRELOAD).
//
// The file SOAK_MACHINE is mapped: who writes it changes what the running processes see at their next call.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct machine {
    volatile int64_t clock_ns; // added to the time of day; the monotonic clock is left alone
    volatile int64_t sync_ns;  // how long each sync takes
    volatile int64_t name_ns;  // how long each look-up of `localhost` takes before it fails; -1: it is found
};

static const struct machine none = {0, 0, -1};
static const struct machine *machine = &none;

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_getaddrinfo)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

__attribute__((constructor)) static void begin(void) {
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    *(void **)&real_fsync = dlsym(RTLD_NEXT, "fsync");
    *(void **)&real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    *(void **)&real_getaddrinfo = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *path = getenv("SOAK_MACHINE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof(struct machine), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) machine = mapped;
}

static void take(int64_t ns) {
    struct timespec left = {ns / 1000000000, ns % 1000000000};
    int kept = errno;
    while (ns > 0 && nanosleep(&left, &left) && errno == EINTR) {}
    errno = kept;
}

static int64_t shifted(void) {
    struct timespec now;
    real_clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000000000 + now.tv_nsec + machine->clock_ns;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime) *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime"); // before `begin`
    if ((clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE) || !machine->clock_ns)
        return real_clock_gettime(clock, now);
    int64_t ns = shifted();
    now->tv_sec = ns / 1000000000, now->tv_nsec = ns % 1000000000;
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    int64_t ns = shifted();
    now->tv_sec = ns / 1000000000, now->tv_usec = ns % 1000000000 / 1000;
    return 0;
}

time_t time(time_t *to) {
    time_t now = shifted() / 1000000000;
    if (to) *to = now;
    return now;
}

int fsync(int file) { return take(machine->sync_ns), real_fsync(file); }
int fdatasync(int file) { return take(machine->sync_ns), real_fdatasync(file); }

int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints, struct addrinfo **found) {
    if (!name || strcmp(name, "localhost") || machine->name_ns < 0) return real_getaddrinfo(name, port, hints, found);
    take(machine->name_ns);
    return EAI_AGAIN;
}

/* Shifts the wall clock of a process, while it runs: preloaded, it answers for the C library.
 *
 * CLOCK_SHIFT_FILE names a file of 8 bytes: by how many nanoseconds, as a native int64. Whoever writes to it has set the
 * clock. The monotonic clock stays true. Waits until a time of day last as long as they would have before a later jump.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000LL

static const volatile int64_t *shift_ns;
static int (*true_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void prepare(void) {
  const char *path = getenv("CLOCK_SHIFT_FILE");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) abort(); /* a clock that silently is not shifted would test nothing */
  void *page = mmap(NULL, sizeof *shift_ns, PROT_READ, MAP_SHARED, file, 0);
  if (page == MAP_FAILED) abort();
  close(file);
  shift_ns = page;
}

static struct timespec moved(struct timespec time, int64_t by_ns) {
  int64_t ns = time.tv_sec * NS_PER_S + time.tv_nsec + by_ns;
  return (struct timespec){.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  if (!true_clock_gettime) true_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  int result = true_clock_gettime(clock, time);
  if (result == 0 && shift_ns && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    *time = moved(*time, *shift_ns);
  }
  return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  (void)zone;
  struct timespec now;
  int result = clock_gettime(CLOCK_REALTIME, &now);
  if (result == 0) *time = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
  return result;
}

time_t time(time_t *seconds) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (seconds) *seconds = now.tv_sec;
  return now.tv_sec;
}

/* A condition says nothing of its clock; but no machine has been up for 30 years. */
static int wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
  if (until->tv_sec < 1000000000) return pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, until);
  struct timespec true_until = moved(*until, shift_ns ? -*shift_ns : 0);
  return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, &true_until);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  return wait_until(condition, mutex, until);
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  int error = wait_until((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until); /* the same in glibc */
  return error == 0 ? thrd_success : error == ETIMEDOUT ? thrd_timedout : thrd_error;
}

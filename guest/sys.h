/* System calls, and the little of a C library that this program needs. */
#ifndef SYS_H
#define SYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef int64_t s64;

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define PAGE_SIZE	4096ul

enum {
	SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_poll = 7, SYS_lseek = 8,
	SYS_mmap = 9, SYS_mprotect = 10, SYS_munmap = 11, SYS_rt_sigaction = 13, SYS_ioctl = 16,
	SYS_pread64 = 17, SYS_mremap = 25, SYS_dup2 = 33, SYS_pause = 34, SYS_nanosleep = 35,
	SYS_getpid = 39, SYS_clone = 56, SYS_fork = 57, SYS_execve = 59, SYS_exit = 60,
	SYS_wait4 = 61, SYS_kill = 62, SYS_ftruncate = 77, SYS_getdents = 78, SYS_mkdir = 83,
	SYS_geteuid = 107, SYS_sigaltstack = 131, SYS_mknod = 133, SYS_personality = 135,
	SYS_sched_setscheduler = 144, SYS_arch_prctl = 158, SYS_setrlimit = 160, SYS_mount = 165,
	SYS_iopl = 172, SYS_gettid = 186, SYS_futex = 202, SYS_sched_setaffinity = 203,
	SYS_clock_gettime = 228, SYS_exit_group = 231, SYS_tgkill = 234, SYS_waitid = 247,
	SYS_unshare = 272, SYS_prlimit64 = 302, SYS_setns = 308, SYS_kcmp = 312,
	SYS_memfd_create = 319, SYS_userfaultfd = 323, SYS_io_uring_setup = 425,
	SYS_pidfd_open = 434, SYS_clone3 = 435, SYS_map_shadow_stack = 453, SYS_mseal = 462,
	SYS_uname = 63,
};

/* The same by int 0x80. */
enum {
	I386_getpid = 20, I386_clone = 120, I386_arch_prctl = 384, I386_clone3 = 435,
	I386_map_shadow_stack = 453,
};

enum { EPERM = 1, ESRCH = 3, EAGAIN = 11, ENOSYS = 38 };
enum { O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_CREAT = 0100, O_NONBLOCK = 04000 };
enum { SEEK_SET = 0, SEEK_END = 2 };
enum { PROT_READ = 1, PROT_WRITE = 2 };
enum {
	MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20,
	MAP_NORESERVE = 0x4000, MAP_FIXED_NOREPLACE = 0x100000,
	MREMAP_MAYMOVE = 1, MREMAP_FIXED = 2,
};
enum { SIGILL = 4, SIGBUS = 7, SIGKILL = 9, SIGUSR1 = 10, SIGSEGV = 11, SIGUSR2 = 12,
	SIGTERM = 15, SIGCHLD = 17 };
enum {
	CLONE_VM = 0x100, CLONE_FS = 0x200, CLONE_FILES = 0x400, CLONE_SIGHAND = 0x800,
	CLONE_PIDFD = 0x1000, CLONE_VFORK = 0x4000, CLONE_PARENT = 0x8000,
	CLONE_THREAD = 0x10000, CLONE_SYSVSEM = 0x40000, CLONE_SETTLS = 0x80000,
	CLONE_PARENT_SETTID = 0x100000, CLONE_CHILD_CLEARTID = 0x200000,
	CLONE_NEWPID = 0x20000000,
};
enum { SCHED_FIFO = 1 };
enum { RLIMIT_STACK = 3, RLIMIT_CORE = 4, RLIMIT_NOFILE = 7 };
enum { P_PID = 1, WNOHANG = 1, WEXITED = 4, WNOWAIT = 0x1000000, WALL = 0x40000000 };
enum { CLD_EXITED = 1, CLD_KILLED = 2, CLD_DUMPED = 3 };
enum { PIDFD_THREAD = 0200, POLLIN = 1 };
enum { ADDR_NO_RANDOMIZE = 0x0040000 };
enum { SHADOW_STACK_SET_TOKEN = 1 };

struct timespec {
	s64 seconds, nanoseconds;
};

struct pollfd {
	int fd;
	short events, revents;
};

struct rlimit {
	u64 soft, hard;
};

struct clone_args {
	u64 flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	u64 set_tid, set_tid_size, cgroup, shstk_token;
};

static inline long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

#define syscall5(nr, a, b, c, d, e) \
	syscall6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)
#define syscall4(nr, a, b, c, d) syscall5(nr, a, b, c, d, 0)
#define syscall3(nr, a, b, c) syscall4(nr, a, b, c, 0)
#define syscall2(nr, a, b) syscall3(nr, a, b, 0)
#define syscall1(nr, a) syscall2(nr, a, 0)
#define syscall0(nr) syscall1(nr, 0)

static inline long map(u64 addr, u64 size, int flags, int fd)
{
	return syscall6(SYS_mmap, (long)addr, (long)size, PROT_READ | PROT_WRITE, flags, fd, 0);
}

/* What a system call returned is an error number. */
static inline bool failed(s64 result)
{
	return result < 0 && result >= -4095;
}

void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);

#endif

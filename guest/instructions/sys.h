/* System calls and the little of a C library that this program needs. */
#ifndef SYS_H
#define SYS_H

#include <stddef.h>
#include <stdint.h>

typedef uint64_t u64;
typedef uint32_t u32;

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

enum {
	SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_lseek = 8, SYS_mmap = 9,
	SYS_mprotect = 10, SYS_munmap = 11, SYS_rt_sigaction = 13, SYS_pwrite64 = 18,
	SYS_mremap = 25, SYS_setitimer = 38, SYS_getpid = 39, SYS_fork = 57,
	SYS_exit = 60, SYS_wait4 = 61, SYS_kill = 62, SYS_mkdir = 83, SYS_ptrace = 101,
	SYS_arch_prctl = 158, SYS_mount = 165, SYS_iopl = 172,
	SYS_process_vm_readv = 310, SYS_map_shadow_stack = 453,
};

enum { O_RDONLY = 0, O_RDWR = 2, SEEK_END = 2 };
enum { PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4 };
enum {
	MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20,
	MREMAP_MAYMOVE = 1, MREMAP_FIXED = 2,
};
enum {
	SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGKILL = 9, SIGSEGV = 11,
	SIGALRM = 14, SIGSTOP = 19,
};

#define EINTR 4
#define PAGE_SIZE 4096ul

/* Inlined everywhere: a task whose shadow stack was just switched on must not return. */
static inline __attribute__((always_inline)) long
syscall6(long nr, long a, long b, long c, long d, long e, long f)
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

#define syscall4(nr, a, b, c, d) \
	syscall6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define syscall3(nr, a, b, c) syscall4(nr, a, b, c, 0)
#define syscall2(nr, a, b) syscall4(nr, a, b, 0, 0)
#define syscall1(nr, a) syscall4(nr, a, 0, 0, 0)

static inline long sys_mmap(u64 addr, u64 size, int prot, int flags, int fd)
{
	return syscall6(SYS_mmap, (long)addr, (long)size, prot, flags, fd, 0);
}

void *memset(void *to, int byte, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int same_word(const char *a, const char *b);

_Noreturn void stop_all(int status);
_Noreturn void die(const char *why);

#endif

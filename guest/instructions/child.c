/* A traced task: maps its pages, switches shadow stacks on, and stops. */
#include "guest.h"

enum { PTRACE_TRACEME = 0 };
enum { ARCH_SHSTK_ENABLE = 0x5001, ARCH_SHSTK_SHSTK = 1, ARCH_SHSTK_WRSS = 2 };
enum { SA_SIGINFO = 4, SA_RESTORER = 0x04000000, SA_NODEFER = 0x40000000 };

/* The top of the address space: the first stack is of no use here. */
#define STACK_START 0x7fffff000000ul
#define STACK_END 0x7ffffffff000ul

void catch_signal(int signal, const char *by)
{
	struct {
		const void *handler;
		u64 flags;
		const void *restorer;
		u64 mask;
	} action = { by, SA_SIGINFO | SA_NODEFER | SA_RESTORER, restorer, 0 };

	if (syscall4(SYS_rt_sigaction, signal, &action, 0, 8))
		die("no signal handler");
}

static void map_shadow(u64 addr, u64 size)
{
	long start = syscall3(SYS_map_shadow_stack, 0, size, 0);

	/* map_shadow_stack() puts nothing below 4G, mremap() does. */
	if (start < 0 || syscall6(SYS_mremap, start, (long)size, (long)size,
				  MREMAP_MAYMOVE | MREMAP_FIXED, (long)addr, 0) != (long)addr)
		die("no shadow stack");
}

/* No more writes.  What is there already stays usable, if its page table entry allows. */
static void freeze(u64 addr, u64 size)
{
	if (syscall3(SYS_mprotect, addr, size, PROT_READ))
		die("a shadow stack cannot be frozen");
}

static void map_page(struct page *page, u64 size)
{
	static const int protection[KINDS] = {
		[RW] = PROT_READ | PROT_WRITE, [RO] = PROT_READ, [NONE] = PROT_NONE,
	};

	switch (page->kind) {
	case SHADOW:
	case FROZEN:
	case USED:
		map_shadow(page->addr, size);
		if (page->kind == FROZEN)
			freeze(page->addr, size);
		break;
	case CODE:
		break;		/* inherited */
	default:
		if (sys_mmap(page->addr, size, protection[page->kind],
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1) < 0)
			die("a page cannot be mapped");
	}
}

static void map_pages(void)
{
	for (int i = 0, next; i < layout.count; i = next) {
		next = i + 1;
		while (next < layout.count && layout.pages[next].joined)
			next++;
		map_page(&layout.pages[i], (u64)(next - i) * PAGE_SIZE);
	}
}

void child(enum mode mode)
{
	long pid = syscall1(SYS_getpid, 0);

	syscall2(SYS_munmap, STACK_START, STACK_END - STACK_START);
	map_pages();
	catch_signal(SIGSEGV, handler);
	catch_signal(SIGILL, handler);
	catch_signal(SIGBUS, handler);
	catch_signal(SIGFPE, handler);
	if (syscall4(SYS_ptrace, PTRACE_TRACEME, 0, 0, 0))
		die("no tracing");
	syscall2(SYS_kill, pid, SIGSTOP);	/* now the tracer fills the pages */
	for (int i = 0; i < layout.count; i++)
		if (layout.pages[i].kind == USED)
			freeze(layout.pages[i].addr, PAGE_SIZE);
	if (mode != OFF && syscall2(SYS_arch_prctl, ARCH_SHSTK_ENABLE, ARCH_SHSTK_SHSTK))
		syscall1(SYS_exit, 2);
	if (mode == WRSS && syscall2(SYS_arch_prctl, ARCH_SHSTK_ENABLE, ARCH_SHSTK_WRSS))
		syscall1(SYS_exit, 3);
	for (;;)
		syscall2(SYS_kill, pid, SIGSTOP);
}

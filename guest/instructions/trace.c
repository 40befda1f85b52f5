/* What the tracer does to a task, and what it sees of it. */
#include "guest.h"

enum {
	PTRACE_PEEKDATA = 2, PTRACE_CONT = 7, PTRACE_SINGLESTEP = 9, PTRACE_GETREGS = 12,
	PTRACE_SETREGS = 13, PTRACE_SETOPTIONS = 0x4200, PTRACE_GETSIGINFO = 0x4202,
	PTRACE_GETREGSET = 0x4204, PTRACE_SETREGSET = 0x4205, PTRACE_O_EXITKILL = 1 << 20,
};
#define NT_X86_SHSTK 0x204
#define USER_CS 0x33
#define USER_DS 0x2b

struct span {
	void *start;
	u64 size;
};

static long ptrace(long request, const struct task *task, u64 addr, void *data)
{
	return syscall4(SYS_ptrace, request, task->pid, addr, data);
}

/*
 * Waits are interrupted from time to time.  A task that has not stopped in the whole time
 * between two interruptions never will: its instruction faults for ever.  In microseconds.
 */
u64 patience = 20000;

static void start_timer(void)
{
	static int started;
	u64 times[4] = { 0, patience, 0, patience };

	if (started)
		return;
	started = 1;
	catch_signal(SIGALRM, interrupted);
	if (syscall3(SYS_setitimer, 0, times, 0))
		die("no timer");
}

/* The signal that the task stopped with, or why it did not. */
static int wait_stop(const struct task *task)
{
	int status = 0;

	for (int interruptions = 0; interruptions < 3; interruptions++) {
		long pid = syscall4(SYS_wait4, task->pid, &status, 0x40000000 /* __WALL */, 0);

		if (pid == task->pid)
			return (status & 0xff) == 0x7f ? status >> 8 & 0xff : GONE;
		if (pid != -EINTR)
			return GONE;
	}
	return STUCK;
}

/* Make a task, up to its first stop, with every page full of the background. */
void start(struct task *task, enum mode mode)
{
	if (task->pid) {
		syscall2(SYS_kill, task->pid, SIGKILL);
		while (wait_stop(task) != GONE)
			;
		syscall1(SYS_close, task->memory);
	}
	start_timer();
	memset(task, 0, sizeof(*task));
	task->mode = mode;
	flush();
	task->pid = (int)syscall1(SYS_fork, 0);
	if (task->pid < 0)
		die("no task");
	if (task->pid == 0)
		child(mode);
	if (wait_stop(task) != SIGSTOP)
		die("a task did not start");
	ptrace(PTRACE_SETOPTIONS, task, 0, (void *)(u64)PTRACE_O_EXITKILL);
	open_memory(task);
	for (int i = 0; i < layout.count; i++) {
		if (layout.pages[i].kind == CODE)
			continue;
		fill(&layout.pages[i]);
		write_page(task, &layout.pages[i]);
	}
	ptrace(PTRACE_CONT, task, 0, NULL);
	if (wait_stop(task) != SIGSTOP)
		die(mode == OFF ? "a task did not start" : "shadow stacks cannot be switched on");
	get_state(task);
	task->safe_ssp = task->ssp;
	task->safe_rsp = task->regs.rsp;
	task->regs.ds = task->regs.es = task->regs.ss = USER_DS;
}

/* The kernel has no SSP to show of a task whose CS is that of 32-bit code. */
static int access_ssp(struct task *task, long request)
{
	struct span span = { &task->ssp, sizeof(task->ssp) };
	u64 cs = task->regs.cs;
	int done;

	if (cs != USER_CS) {
		task->regs.cs = USER_CS;
		ptrace(PTRACE_SETREGS, task, 0, &task->regs);
	}
	done = !ptrace(request, task, NT_X86_SHSTK, &span);
	if (cs != USER_CS) {
		task->regs.cs = cs;
		ptrace(PTRACE_SETREGS, task, 0, &task->regs);
	}
	return done;
}

static int set_registers(struct task *task)
{
	task->regs.orig_rax = ~0ul;	/* no system call is restarted */
	if (ptrace(PTRACE_SETREGS, task, 0, &task->regs))
		return 0;
	/* The kernel refuses an SSP that is no multiple of 8, also the one that there is. */
	if (task->mode == OFF || task->ssp == task->last_ssp)
		return 1;
	return access_ssp(task, PTRACE_SETREGSET);
}

/* Let the task execute one instruction, and stop again: the signal, GONE or STUCK. */
static int resume(struct task *task, u64 signal)
{
	if (ptrace(PTRACE_SINGLESTEP, task, 0, (void *)signal))
		return GONE;
	return wait_stop(task);
}

static u64 first_code(void)
{
	struct page *page = layout.pages;

	while (page->kind != CODE)
		page++;
	return page->addr;
}

/*
 * A kernel's IRET to 32-bit code asks whether SSP fits there, and Bochs 3.0 asks the SSP that
 * user mode had last instead of IA32_PL3_SSP.  So a new SSP is first used in 64-bit code.
 */
static int prime(struct task *task)
{
	struct registers wanted = task->regs;

	unsigned char *code = (unsigned char *)first_code(), before = *code;
	int done;

	task->regs.cs = USER_CS;
	task->regs.rip = (u64)code;
	*code = 0x90;		/* NOP */
	done = set_registers(task) && resume(task, 0) == SIGTRAP;
	*code = before;
	task->regs = wanted;
	task->last_ssp = task->ssp;
	return done;
}

/* Read registers; 0 if that is impossible, or shadow stacks are not as they were. */
int get_state(struct task *task)
{
	if (ptrace(PTRACE_GETREGS, task, 0, &task->regs))
		return 0;
	task->readable = access_ssp(task, PTRACE_GETREGSET);
	task->last_ssp = task->ssp;
	return task->readable == (task->mode != OFF);
}

/* Give the task its registers; 0 if that is impossible. */
int set_state(struct task *task)
{
	if (task->regs.cs != USER_CS && task->mode != OFF && task->ssp != task->last_ssp)
		if (!prime(task))
			return 0;
	return set_registers(task);
}

static u64 peek(struct task *task, u64 addr)
{
	u64 value = 0;

	if (ptrace(PTRACE_PEEKDATA, task, addr, &value))
		die("a signal frame cannot be read");
	return value;
}

/*
 * Of an exception the tracer sees the signal.  Its vector, error code and CR2 are in the
 * frame that the kernel pushes for the handler; it is pushed on stacks of the tracer's
 * choice, when everything else has been looked at.
 */
static int read_frame(struct task *task, struct fault *fault)
{
	enum { ERR = 200, TRAPNO = 208, CR2 = 224 };	/* struct rt_sigframe */
	struct registers saved = task->regs;
	u64 ssp = task->ssp;

	task->regs.cs = USER_CS;
	task->regs.rip = (u64)handler;
	task->regs.rsp = task->safe_rsp;
	task->ssp = task->safe_ssp;
	if (!set_state(task) || resume(task, (u64)fault->signal) != SIGTRAP || !get_state(task))
		return 0;
	fault->error = peek(task, task->regs.rsp + ERR);
	fault->vector = peek(task, task->regs.rsp + TRAPNO);
	fault->address = peek(task, task->regs.rsp + CR2);
	task->regs = saved;
	task->ssp = ssp;
	return 1;
}

/*
 * Execute one instruction.  Afterwards the task's registers are those after it, or those
 * at the time of the fault.  Not DONE: the task is lost.
 */
int step(struct task *task, struct fault *fault)
{
	struct {
		int signal, error, code, pad;
		u64 rest[14];
	} info;
	int signal;

	memset(fault, 0, sizeof(*fault));
	signal = resume(task, 0);
	if (signal == STUCK || signal == GONE)
		return signal;
	if (!get_state(task))
		return CHANGED;
	look(task, task->group);
	if (signal == SIGTRAP)
		return DONE;
	if (ptrace(PTRACE_GETSIGINFO, task, 0, &info))
		return GONE;
	fault->signal = signal;
	fault->code = info.code;
	return read_frame(task, fault) ? DONE : CHANGED;
}

/* A system call made by the task, at any place where it may be. */
long call_in(struct task *task, long nr, u64 a, u64 b, u64 c)
{
	task->regs.rip = first_code();
	memcpy((void *)task->regs.rip, "\x0f\x05", 2);
	task->regs.cs = USER_CS;
	task->regs.rax = (u64)nr;
	task->regs.rdi = a;
	task->regs.rsi = b;
	task->regs.rdx = c;
	task->ssp = task->safe_ssp;
	if (!set_state(task) || resume(task, 0) != SIGTRAP || !get_state(task))
		return -1;
	return (long)task->regs.rax;
}

/* Tasks: starting the first of a scenario, telling a task what to do, and ending them all. */
#include "guest.h"

#define RLIMIT_STACK_START	(8ul << 20)
#define PATIENCE		2000	/* milliseconds in which a killed process is gone */

void clear_box(int slot)
{
	struct box *box = BOX(slot);

	memset(box, 0, sizeof(*box));
	box->self = (u64)(uintptr_t)box;
	box->done = ~0u;
}

static void wake(u32 *futex)
{
	syscall3(SYS_futex, futex, FUTEX_WAKE, 1);
}

/* In the new process, which shares our memory until it has a program of its own. */
static _Noreturn void become_task(const char *const argv[])
{
	static const struct rlimit stack = { RLIMIT_STACK_START, ~0ul }, no_core;
	const char *const environment[] = { NULL };
	const u32 priority = 1;

	if (prompt_tasks)
		syscall3(SYS_sched_setscheduler, 0, SCHED_FIFO, &priority);
	if (on_host)
		syscall1(SYS_personality, ADDR_NO_RANDOMIZE);
	syscall2(SYS_setrlimit, RLIMIT_STACK, &stack);
	syscall2(SYS_setrlimit, RLIMIT_CORE, &no_core);
	syscall3(SYS_execve, program_path(), argv, environment);
	for (;;)
		syscall1(SYS_exit_group, 127);
}

/* Start a scenario's first task, P; why that failed, or NULL. */
const char *start_first(void)
{
	static const char *const argv[] = { "task", "0", NULL };
	struct task *task = &scenario.tasks[0];
	long tid;

	clear_box(0);
	scenario.slots = 1;
	tid = syscall2(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
	if (tid == 0)
		become_task(argv);
	if (tid < 0)
		return "the first task cannot be made";
	task->making = task->made = task->vfork_child = -1;
	joined(task, (int)tid, (int)tid, new_mm());
	settle();
	return task->state == USER ? NULL : "the first task does not come to its loop";
}

/*
 * PARENT is about to be told to make the task of a slot, with clone flags FLAGS: the slot is made
 * ready.  NULL where the slot is in use.
 */
struct task *expect_child(struct task *parent, int slot, u64 flags)
{
	struct task *child = &scenario.tasks[slot];

	if (child->state != ABSENT)
		return NULL;
	memset(child, 0, sizeof(*child));
	child->making = child->made = child->vfork_child = child->mm = -1;
	child->state = STARTING;
	if (slot >= scenario.slots)
		scenario.slots = slot + 1;
	clear_box(slot);
	parent->making = slot;
	child->shares_mm = flags & CLONE_VM;
	child->same_group = flags & CLONE_THREAD;
	child->waits = flags & CLONE_VFORK;
	box_of(parent)->child = (u64)(uintptr_t)BOX(slot);
	return child;
}

/* Give a task a command, without waiting for what comes of it. */
void tell(struct task *task, u64 kind, u64 number, const u64 arguments[6])
{
	struct box *box = box_of(task);

	task->made = -1;
	box->kind = kind;
	box->number = number;
	memcpy(box->arguments, arguments, sizeof(box->arguments));
	__atomic_store_n(&box->command, box->command + 1, __ATOMIC_SEQ_CST);
	wake(&box->command);
}

/* Have a task make a system call and wait; its result, or -EAGAIN if it does not come back. */
s64 have_call(struct task *task, u64 number, u64 a, u64 b, u64 c)
{
	const u64 arguments[6] = { a, b, c };

	tell(task, DO_SYSCALL, number, arguments);
	settle();
	return task->state == USER && box_of(task)->valid ? box_of(task)->result : -EAGAIN;
}

static bool reaped(int pid)
{
	const struct timespec millisecond = { 0, 1000000 };
	int status;

	for (int i = 0; i < PATIENCE; i++) {
		if (syscall4(SYS_wait4, pid, &status, WNOHANG | WALL, 0) != 0)
			return true;
		syscall2(SYS_nanosleep, &millisecond, 0);
	}
	return false;
}

/* Kill and reap all processes of the scenario. */
void stop_all(void)
{
	end_sharer();
	for (int i = 0; i < scenario.slots; i++) {
		struct task *task = &scenario.tasks[i];

		end_holder(task);
		if (!task->tgid)
			task->tgid = (int)BOX(i)->tid;
		if (task->tgid > 0 && task->state != DEAD)
			syscall2(SYS_kill, task->tgid, SIGKILL);
	}
	for (int i = 0; i < scenario.slots; i++) {
		struct task *task = &scenario.tasks[i];

		if (task->tgid > 0 && !reaped(task->tgid))
			give_up("a killed process does not end");
		if (task->pidfd > 0)
			syscall1(SYS_close, task->pidfd);
	}
}

/* Operations that make tasks: fork, vfork, clone, clone3, and the kernel's own for io_uring. */
#include "guest.h"

#define IORING_SETUP_SQPOLL	2
#define USER_DESC_FLAGS		0x51	/* seg_32bit, limit_in_pages, useable */
#define GDT_ENTRY_TLS_MIN	12
#define BAD_POINTER		8	/* nothing is mapped there */
#define BAD_TLS			0xffff800000000000ul

/* What a clone's arguments point to, in the acting task's box. */
struct scratch {
	struct clone_args args;
	u32 set_tid, pidfd, parent_tid, child_tid;
	struct {
		u32 entry, base, limit, flags;
	} user_desc;
};

_Static_assert(sizeof(struct scratch) <= BOX_SIZE - BOX_SCRATCH, "the box is too small");

static const struct {
	const char *name;
	u64 bit;
} flag_names[] = {
	{ "VM", CLONE_VM }, { "FS", CLONE_FS }, { "FILES", CLONE_FILES },
	{ "SIGHAND", CLONE_SIGHAND }, { "PIDFD", CLONE_PIDFD }, { "VFORK", CLONE_VFORK },
	{ "PARENT", CLONE_PARENT }, { "THREAD", CLONE_THREAD }, { "SYSVSEM", CLONE_SYSVSEM },
	{ "SETTLS", CLONE_SETTLS }, { "PARENT_SETTID", CLONE_PARENT_SETTID },
	{ "CHILD_CLEARTID", CLONE_CHILD_CLEARTID },
};

bool take_flags(const char *text, u64 *flags)
{
	*flags = 0;
	if (same(text, "0") || !*text)
		return *text;
	while (*text) {
		const char *rest = NULL;

		for (size_t i = 0; i < ARRAY_SIZE(flag_names); i++) {
			rest = after(text, flag_names[i].name);
			if (rest && (!*rest || *rest == '|')) {
				*flags |= flag_names[i].bit;
				break;
			}
			rest = NULL;
		}
		if (!rest)
			return false;
		text = *rest ? rest + 1 : rest;
	}
	return true;
}

static struct scratch *scratch_of(const struct task *task)
{
	return (struct scratch *)box_of(task)->scratch;
}

/* Fill in what does not depend on the system call that is used. */
static struct clone_args *arguments(struct step *step, struct task *task, u64 flags)
{
	struct scratch *scratch = scratch_of(task);
	const char *tls = word(step, "tls"), *fails = word(step, "fails");
	const bool bad = tls && same(tls, "bad"), compat = given(step, "compat");
	struct clone_args *args = &scratch->args;

	memset(scratch, 0, sizeof(*scratch));
	scratch->user_desc.entry = GDT_ENTRY_TLS_MIN;
	scratch->user_desc.limit = 0xfffff;
	scratch->user_desc.flags = USER_DESC_FLAGS;
	if (fails && after(fails, "pidfd"))
		flags |= CLONE_PIDFD;
	/* All are children of PID 1; threads have their files in common, as in a C library. */
	flags |= flags & CLONE_THREAD ? CLONE_FILES : CLONE_PARENT;
	args->flags = flags;
	args->pidfd = fails && same(fails, "pidfd-pointer") ? BAD_POINTER : (u64)&scratch->pidfd;
	args->parent_tid = (u64)&scratch->parent_tid;
	args->child_tid = (u64)&scratch->child_tid;
	if (!(flags & CLONE_SETTLS))
		args->tls = 0;
	else if (bad)
		args->tls = compat ? BAD_POINTER : BAD_TLS;
	else
		args->tls = compat ? (u64)&scratch->user_desc : ARENA;
	if (fails && same(fails, "set_tid")) {
		scratch->set_tid = 1;
		args->set_tid = (u64)&scratch->set_tid;
		args->set_tid_size = 1;
	}
	return args;
}

/* What would keep a worker of the parent's group alive is closed in a new process. */
static void close_rings(const struct task *parent, struct task *child)
{
	for (int i = 0; i < scenario.slots; i++) {
		const struct task *worker = &scenario.tasks[i];

		if (worker->state == WORKER && worker->tgid == parent->tgid &&
		    child->tgid != parent->tgid && child->state == USER)
			have_call(child, SYS_close, (u64)worker->ring, 0, 0);
	}
}

/* Give the command, with the failure made that is asked for, and take what it gives. */
static const char *have_clone(struct step *step, struct task *task, u64 kind, u64 call,
			      const u64 values[6])
{
	const u64 flags = scratch_of(task)->args.flags, child = number(step, "child");
	const char *fails = word(step, "fails");
	const char *cannot;

	if (child >= MAX_SLOTS)
		return "a slot is from 0 to 127";
	cannot = fails ? prepare_failure(fails, task) : NULL;
	if (cannot)
		return cannot;
	if (!expect_child(task, (int)child, flags))
		return "the slot of the new task is in use";
	tell(task, kind, call, values);
	settle();
	take_result(step, task);
	if (task->made >= 0)
		close_rings(task, &scenario.tasks[task->made]);
	step->made = task->made;
	if (fails)
		undo_failure(fails, task);
	return NULL;
}

static const char *by_clone3(struct step *step, struct task *task, struct clone_args *args)
{
	const bool compat = given(step, "compat");
	const u64 size = given(step, "shstk_token") ? sizeof(*args) :
						      sizeof(*args) - sizeof(args->shstk_token);
	const u64 values[6] = { (u64)args, size };

	return have_clone(step, task, compat ? DO_CLONE_INT80 : DO_CLONE,
			  compat ? I386_clone3 : SYS_clone3, values);
}

/* clone(2), or clone3(2) where only that can be made to fail as asked for. */
static const char *by_clone(struct step *step, struct task *task, struct clone_args *args)
{
	const bool both = args->flags & CLONE_PIDFD;
	const u64 parent_tid = both ? args->pidfd : args->parent_tid;
	const u64 flags = args->flags | (args->flags & CLONE_THREAD ? 0 : SIGCHLD);
	const u64 values[6] = { flags, args->stack, parent_tid, args->child_tid, args->tls };
	const u64 i386[6] = { flags, args->stack, parent_tid, args->tls, args->child_tid };

	if (args->set_tid) {
		args->stack = 0;	/* no child comes to use it, and a size would count */
		return by_clone3(step, task, args);
	}
	if (given(step, "compat"))
		return have_clone(step, task, DO_CLONE_INT80, I386_clone, i386);
	return have_clone(step, task, DO_CLONE, SYS_clone, values);
}

const char *run_fork(struct step *step, struct task *task)
{
	return by_clone(step, task, arguments(step, task, 0));
}

const char *run_vfork(struct step *step, struct task *task)
{
	return by_clone(step, task, arguments(step, task, CLONE_VM | CLONE_VFORK));
}

static u64 own_stack(const struct step *step)
{
	return ARENA + (number(step, "child") + 1) * STACK_SIZE;
}

const char *run_clone(struct step *step, struct task *task)
{
	struct clone_args *args;
	u64 flags;

	take_flags(word(step, "flags"), &flags);
	args = arguments(step, task, flags);
	if ((flags & (CLONE_VM | CLONE_VFORK)) == CLONE_VM)
		args->stack = own_stack(step);
	args->stack = number_or(step, "stack", args->stack);
	return by_clone(step, task, args);
}

const char *run_clone3(struct step *step, struct task *task)
{
	struct clone_args *args;
	u64 flags, stack = 0, size = number(step, "stack_size");

	take_flags(word(step, "flags"), &flags);
	args = arguments(step, task, flags);
	if (size)
		stack = size < own_stack(step) ? own_stack(step) - size : 1 << 16;
	args->stack = number_or(step, "stack", stack);
	args->stack_size = size;
	args->shstk_token = number(step, "shstk_token");
	return by_clone3(step, task, args);
}

/* A worker: the kernel makes a thread that polls an io_uring's submissions. */
const char *run_worker(struct step *step, struct task *task)
{
	struct {
		u32 entries[2], flags, cpu, idle, features, wq_fd, reserved[3];
		char offsets[80];
	} *ring = (void *)box_of(task)->scratch;
	const u64 slot = number(step, "worker"), values[6] = { 1, (u64)ring };
	const char *fails = word(step, "fails"), *cannot = lacking("io_uring");
	struct task *worker;

	if (cannot)
		return cannot;
	if (fails && !among(fails, "pids cgroup"))
		return "a worker cannot be made to fail in that way";
	cannot = fails ? prepare_failure(fails, task) : NULL;
	if (cannot)
		return cannot;
	if (slot >= MAX_SLOTS || scenario.tasks[slot].state != ABSENT)
		return "the slot of the new task is in use";
	memset(ring, 0, sizeof(*ring));
	ring->flags = IORING_SETUP_SQPOLL;
	ring->idle = 1;
	tell(task, DO_SYSCALL, SYS_io_uring_setup, values);
	settle();
	take_result(step, task);
	if (step->has_result && step->result >= 0) {
		worker = &scenario.tasks[slot];
		memset(worker, 0, sizeof(*worker));
		clear_box((int)slot);
		worker->making = worker->made = worker->vfork_child = -1;
		if ((int)slot >= scenario.slots)
			scenario.slots = (int)slot + 1;
		if (!worker_found(task, worker))
			return "the worker cannot be found";
		worker->ring = (int)step->result;
		step->made = (int)slot;
		step->result = 0;
	}
	if (fails)
		undo_failure(fails, task);
	return NULL;
}

/* What has become of the scenario's tasks: who has come, executed another program, gone. */
#include "guest.h"

/* ---- what has become of a task -------------------------------------------------------- */

/*
 * What /proc/TID/status says after a name, or NULL.  Not /proc/TID/stat: that waits for a task
 * which is in the middle of execve(2).
 */
static const char *status_of(int tid, const char *name)
{
	static char text[8192];
	char path[64];
	struct line line;

	start_line(&line, path, sizeof(path));
	put(&line, "/proc/");
	put_number(&line, tid);
	put(&line, "/status");
	if (read_file(said(&line), text, sizeof(text)) <= 0)
		return NULL;
	return behind(text, name);
}

/* The letter of a task's state; 0 where there is no such task. */
char state_of(int tid)
{
	const char *letter = status_of(tid, "\nState:\t");

	return letter ? *letter : 0;
}

/* Find out which features arch_prctl(2) has locked. */
void look_at_locks(struct task *task)
{
	const char *words = NULL;

	if (can_shadow_stacks())
		words = status_of(task->tid, "\nx86_Thread_features_locked:");
	task->locked = 0;
	for (; words && *words && *words != '\n'; words++) {
		if (after(words, "shstk"))
			task->locked |= 1;
		if (after(words, "wrss"))
			task->locked |= 2;
	}
}

static void open_pidfd(struct task *task)
{
	if (task->pidfd > 0)
		syscall1(SYS_close, task->pidfd);
	task->pidfd = (int)syscall2(SYS_pidfd_open, task->tid, PIDFD_THREAD);
}

/* A task is there: from now on it is watched. */
void joined(struct task *task, int tid, int tgid, int mm)
{
	task->tid = tid;
	task->tgid = tgid;
	task->mm = mm;
	task->state = USER;
	open_pidfd(task);
	look_at_locks(task);
}

static void lets_go(const struct task *child)
{
	int slot = (int)(child - scenario.tasks);

	for (int i = 0; i < scenario.slots; i++)
		if (scenario.tasks[i].vfork_child == slot)
			scenario.tasks[i].vfork_child = -1;
}

static void died(struct task *task)
{
	task->state = DEAD;
	task->died = (int)scenario.step;
	task->executing = false;
	task->mm = -1;
	end_holder(task);
	if (task->pidfd > 0)
		syscall1(SYS_close, task->pidfd);
	task->pidfd = 0;
	lets_go(task);
}

/* ---- looking ------------------------------------------------------------------------------ */

static void child_joined(struct task *parent, struct task *child)
{
	int tid = (int)box_of(child)->tid;

	if (!child->shares_mm) {
		child->stack_made = parent->stack_made;
		child->stack_start = parent->stack_start;
		child->stack_end = parent->stack_end;
	}
	joined(child, tid, child->same_group ? parent->tgid : tid,
	       child->shares_mm ? parent->mm : new_mm());
	if (child->waits)
		parent->vfork_child = (int)(child - scenario.tasks);
}

/* A parent's clone: the child has come, or the clone has failed. */
static bool look_for_child(struct task *parent)
{
	struct box *box = box_of(parent);
	struct task *child;

	if (parent->making < 0 || !in_user_code(parent))
		return false;
	child = &scenario.tasks[parent->making];
	if (box_of(child)->tid) {
		child_joined(parent, child);
		parent->made = parent->making;
		parent->made_tid = (int)box_of(child)->tid;
	} else if (came_back(parent) && !(box->valid && box->result > 0)) {
		child->state = ABSENT;
	} else {
		return false;
	}
	parent->making = -1;
	return true;
}

/* de_thread(): all others die, and who calls execve(2) takes the number of its group's leader. */
static void takes_lead(struct task *task)
{
	for (int i = 0; i < scenario.slots; i++) {
		struct task *other = &scenario.tasks[i];

		if (other == task || other->tgid != task->tgid)
			continue;
		if (other->tid == task->tgid)
			other->tid = -1;
		if (alive(other))
			died(other);
	}
	task->tid = task->tgid;
}

static bool look_for_image(struct task *task)
{
	struct box *box = box_of(task);

	if (!task->executing)
		return false;
	if (box->tid == 0 && came_back(task)) {
		task->executing = false;
		return true;
	}
	if (box->tid == 0)
		return false;
	takes_lead(task);
	open_pidfd(task);
	lets_go(task);
	task->executing = false;
	task->mm = new_mm();
	task->stack_made = false;
	look_at_locks(task);
	return true;
}

/* The pidfd says that a thread of this number is no more. */
static void number_is_gone(struct task *task)
{
	char leader;

	if (task->executing && task->tid != task->tgid) {
		takes_lead(task);
		leader = state_of(task->tgid);
		if (leader && leader != 'Z' && leader != 'X') {
			open_pidfd(task);
			return;
		}
	}
	died(task);
}

static bool look_for_deaths(void)
{
	static struct pollfd polled[MAX_SLOTS];
	static struct task *who[MAX_SLOTS];
	const struct timespec none = { 0, 0 };
	bool changed = false;
	int count = 0;

	for (int i = 0; i < scenario.slots; i++) {
		struct task *task = &scenario.tasks[i];

		if (!alive(task))
			continue;
		if (task->pidfd <= 0) {		/* it was gone before it could be watched */
			died(task);
			changed = true;
			continue;
		}
		who[count] = task;
		polled[count++] = (struct pollfd){ task->pidfd, POLLIN, 0 };
	}
	if (!count || syscall3(SYS_poll, polled, count, none.seconds) <= 0)
		return changed;
	for (int i = 0; i < count; i++) {
		if (polled[i].revents && alive(who[i])) {
			number_is_gone(who[i]);
			changed = true;
		}
	}
	return changed;
}

/* A group's first thread can be dead while others live, and its pidfd does not say so. */
static bool look_for_zombie(struct task *task)
{
	char state;

	if (!in_user_code(task) || came_back(task) || task->tid != task->tgid)
		return false;
	state = state_of(task->tid);
	if (state != 'Z' && state != 'X')
		return false;
	died(task);
	return true;
}

/* Take note of what has changed with all tasks; something has. */
bool look_at_tasks(void)
{
	bool changed = false;

	for (int i = 0; i < scenario.slots; i++) {
		changed |= look_for_child(&scenario.tasks[i]);
		changed |= look_for_image(&scenario.tasks[i]);
	}
	changed |= look_for_deaths();
	for (int i = 0; i < scenario.slots; i++)
		changed |= look_for_zombie(&scenario.tasks[i]);
	return changed;
}

/* ---- workers -------------------------------------------------------------------------------- */

/* The thread of CREATOR's group that nobody knows yet: a worker.  NULL: there is none. */
struct task *worker_found(struct task *creator, struct task *worker)
{
	static char entries[2048];
	char path[64];
	struct line line;
	long fd, size;
	int tid = 0;

	start_line(&line, path, sizeof(path));
	put(&line, "/proc/");
	put_number(&line, creator->tgid);
	put(&line, "/task");
	fd = syscall2(SYS_open, said(&line), O_RDONLY);
	if (fd < 0)
		return NULL;
	while ((size = syscall3(SYS_getdents, fd, entries, sizeof(entries))) > 0) {
		for (long at = 0; at < size;) {
			const char *name = entries + at + 18;
			bool known = !is_digit(*name);
			int number = (int)decimal(&name);

			for (int i = 0; i < scenario.slots; i++)
				known |= scenario.tasks[i].tid == number;
			if (!known)
				tid = number;
			at += *(unsigned short *)(entries + at + 16);
		}
	}
	syscall1(SYS_close, fd);
	if (!tid)
		return NULL;
	joined(worker, tid, creator->tgid, creator->mm);
	worker->state = WORKER;
	return worker;
}

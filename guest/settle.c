/*
 * Watching the tasks until nothing goes on.
 *
 * In the guest, tasks run at a real-time priority on the only CPU, so that the sequencer goes on
 * when all of them wait or are gone, and what it sees then is final.  Elsewhere it
 * gives them time, and a task that does not come back in time counts as blocked.
 */
#include "guest.h"

#define PROMPT_WAIT	500000		/* nanoseconds between two looks */
#define OTHER_WAIT	2000000
#define LOOKS		8		/* without any change, before a task counts as blocked */

static u32 *shared_word(long offset)
{
	return (u32 *)(uintptr_t)(SHARED + offset);
}

/* It is known why the task does not come back. */
static bool waits(const struct task *task)
{
	const struct task *child;

	if (task->holder)
		return true;
	if (task->vfork_child < 0)
		return false;
	child = &scenario.tasks[task->vfork_child];
	return child->state == STARTING || alive(child);
}

/* Something is still to happen, as far as we know. */
static bool open_question(void)
{
	for (int i = 0; i < scenario.slots; i++) {
		const struct task *task = &scenario.tasks[i];

		if (in_user_code(task) && !came_back(task) && !waits(task))
			return true;
		if (task->state == STARTING)
			return true;
	}
	return false;
}

static void wait_for_bell(u32 seen)
{
	const struct timespec time = { 0, prompt_tasks ? PROMPT_WAIT : OTHER_WAIT };

	*shared_word(SLEEPING) = 1;
	syscall4(SYS_futex, shared_word(BELL), FUTEX_WAIT, seen, &time);
	*shared_word(SLEEPING) = 0;
}

/* The wait status of a group whose last thread has gone. */
static void take_exit(int tgid)
{
	struct {
		int signo, error, code, unused, pid, uid, status;
		char rest[100];
	} info = { 0 };
	long error = syscall5(SYS_waitid, P_PID, tgid, &info, WEXITED | WNOHANG | WNOWAIT | WALL, 0);

	if (error || info.pid != tgid)
		return;
	for (int i = 0; i < scenario.slots; i++) {
		struct task *task = &scenario.tasks[i];

		if (task->tgid != tgid || task->state != DEAD)
			continue;
		if (task->tid != tgid && task->died != scenario.step)
			continue;
		task->exit = info.code == CLD_EXITED ? CODE : SIGNAL;
		task->status = info.status;
	}
}

/*
 * What the last command of a task gave.  Numbers of tasks are different each time, so a clone's
 * is told as the slot of the task that it has made.
 */
s64 result_of(const struct task *task)
{
	s64 result = box_of(task)->result;

	if (task->made >= 0 && result == task->made_tid)
		return task->made;
	return result;
}

static void conclude(void)
{
	for (int i = 0; i < scenario.slots; i++) {
		struct task *task = &scenario.tasks[i];

		if (task->state == STARTING)
			task->state = ABSENT;
		if (in_user_code(task))
			task->state = came_back(task) ? USER : BLOCKED;
		if (task->late && task->state == USER) {
			task->late = false;
			task->returned = box_of(task)->valid;
			task->value = result_of(task);
		}
		if (task->state == DEAD && task->died == scenario.step && task->tgid > 0)
			take_exit(task->tgid);
	}
}

/* Wait until every task of the scenario waits for a command, is blocked, or is gone. */
void settle(void)
{
	int quiet = 0;

	while (quiet <= LOOKS) {
		u32 seen = __atomic_load_n(shared_word(BELL), __ATOMIC_SEQ_CST);

		if (look_at_tasks()) {
			quiet = 0;
			continue;
		}
		if (!open_question() && (prompt_tasks || quiet))
			break;
		wait_for_bell(seen);
		if (*shared_word(BELL) != seen)
			quiet = 0;
		quiet++;
	}
	conclude();
}

/* Operations of a task's life: execve, exit, being killed, arch_prctl, setrlimit. */
#include "guest.h"

/* What the last command of a task gave is what the step gives. */
void take_result(struct step *step, struct task *task)
{
	step->has_result = task->state == USER && box_of(task)->valid;
	step->result = result_of(task);
}

static void have_and_take(struct step *step, struct task *task, u64 call, u64 a, u64 b)
{
	const u64 values[6] = { a, b };

	tell(task, DO_SYSCALL, call, values);
	settle();
	take_result(step, task);
}

/* ---- execve ------------------------------------------------------------------------------ */

/* What execve(2) is given, in the task's own box. */
struct image {
	const char *argv[3], *environment[1];
	char path[64], task[8], slot[8];
};

_Static_assert(sizeof(struct image) <= BOX_SIZE - BOX_SCRATCH, "the box is too small");

static void copy(char *to, size_t room, const char *from)
{
	struct line line;

	start_line(&line, to, room);
	put(&line, from);
	said(&line);
}

static void fill_image(struct image *image, int slot, const char *path)
{
	struct line line;

	copy(image->path, sizeof(image->path), path);
	copy(image->task, sizeof(image->task), "task");
	start_line(&line, image->slot, sizeof(image->slot));
	put_number(&line, slot);
	said(&line);
	image->argv[0] = image->task;
	image->argv[1] = image->slot;
	image->argv[2] = image->environment[0] = NULL;
}

const char *run_execve(struct step *step, struct task *task)
{
	const char *fails = word(step, "fails"), *path = program_path();
	struct image *image = (struct image *)box_of(task)->scratch;
	const char *cannot = fails ? lacking(fails) : NULL;
	u64 values[6];

	if (cannot)
		return cannot;
	if (fails && same(fails, "early"))
		path = "/no/such/program";
	if (fails && same(fails, "after-switch"))
		path = "/proc/thread-self/fd/202";
	if (fails && same(fails, "before-release")) {
		cannot = share_files(task);
		if (cannot)
			return cannot;
	}
	fill_image(image, step->slot, path);
	memcpy(values, (u64[6]){ (u64)image->path, (u64)image->argv, (u64)image->environment },
	       sizeof(values));
	box_of(task)->tid = 0;
	task->executing = true;
	if (fails && same(fails, "killed")) {
		cannot = hold_execve(task);
		if (cannot)
			return cannot;
	}
	tell(task, DO_SYSCALL, SYS_execve, values);
	settle();
	take_result(step, task);
	end_sharer();
	return NULL;
}

/* ---- the end ------------------------------------------------------------------------------ */

static struct task *mate_of(const struct task *worker)
{
	for (int i = 0; i < scenario.slots; i++) {
		struct task *task = &scenario.tasks[i];

		if (task->tgid == worker->tgid && task->state == USER)
			return task;
	}
	return NULL;
}

/* A worker ends when its io_uring does. */
const char *run_exit(struct step *step, struct task *task)
{
	struct task *mate;

	if (task->state == BLOCKED)
		return "the task is blocked";
	if (task->state == USER) {
		have_and_take(step, task, SYS_exit, number(step, "code"), 0);
		return NULL;
	}
	mate = mate_of(task);
	if (!mate)
		return "nobody can close the worker's io_uring";
	have_call(mate, SYS_close, (u64)task->ring, 0, 0);
	for (int i = 0; i < 200 && alive(task); i++) {
		const struct timespec time = { 0, 500000 };

		syscall2(SYS_nanosleep, &time, 0);
		settle();
	}
	return NULL;
}

const char *run_exit_group(struct step *step, struct task *task)
{
	have_and_take(step, task, SYS_exit_group, number(step, "code"), 0);
	return NULL;
}

const char *run_sigkill(struct step *step, struct task *task)
{
	(void)step;
	syscall2(SYS_kill, task->tgid, SIGKILL);
	settle();
	return NULL;
}

/* ---- arch_prctl and setrlimit ------------------------------------------------------------- */

static u64 feature_bits(const char *words)
{
	if (!words || same(words, "SHSTK"))
		return 1;
	if (same(words, "WRSS"))
		return 2;
	if (same(words, "SHSTK|WRSS"))
		return 3;
	return same(words, "other") ? 1 << 20 : 0;
}

const char *run_arch_prctl(struct step *step, struct task *task)
{
	static const struct {
		const char *name;
		u64 number;
	} options[] = {
		{ "ENABLE", ARCH_SHSTK_ENABLE }, { "DISABLE", ARCH_SHSTK_DISABLE },
		{ "LOCK", ARCH_SHSTK_LOCK }, { "UNLOCK", ARCH_SHSTK_UNLOCK },
		{ "STATUS", ARCH_SHSTK_STATUS },
	};
	u64 *features = (u64 *)box_of(task)->scratch, which = 0, values[6] = { 0 };
	const bool compat = given(step, "compat");

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		if (same(options[i].name, word(step, "option")))
			which = options[i].number;
	*features = 0;
	values[0] = which;
	values[1] = which == ARCH_SHSTK_STATUS ? (u64)features : feature_bits(word(step, "feature"));
	tell(task, compat ? DO_INT80 : DO_SYSCALL, compat ? I386_arch_prctl : SYS_arch_prctl, values);
	settle();
	take_result(step, task);
	look_at_locks(task);
	if (which == ARCH_SHSTK_STATUS && step->has_result && step->result == 0)
		step->result = (s64)*features;
	return NULL;
}

const char *run_setrlimit(struct step *step, struct task *task)
{
	struct rlimit *limit = (struct rlimit *)box_of(task)->scratch;

	*limit = (struct rlimit){ number(step, "stack"), ~0ul };
	have_and_take(step, task, SYS_setrlimit, RLIMIT_STACK, (u64)limit);
	return NULL;
}

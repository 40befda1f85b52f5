/* Running a scenario, step by step. */
#include "guest.h"

struct scenario scenario;

/* Why the acting task cannot do the step, or NULL. */
static const char *not_ready(const struct step *step, const struct task *task)
{
	if (given(step, "compat") && lacking("compat"))
		return lacking("compat");
	switch (task->state) {
	case ABSENT:
	case STARTING:
		return "there is no task of that number";
	case DEAD:
		return "the task is dead";
	case BLOCKED:
		return step->operation->by_itself ? "the task is blocked" : NULL;
	case WORKER:
		return step->operation->by_itself ? "the task is a kernel worker" : NULL;
	case USER:
		return NULL;
	}
	return NULL;
}

static void begin_step(long number)
{
	scenario.step = number;
	for (int i = 0; i < scenario.slots; i++) {
		struct task *task = &scenario.tasks[i];

		task->late = task->state == BLOCKED;
		task->returned = false;
		task->fault.seen = false;
	}
	areas_remember();
}

/* The shadow stack that has come into TASK's mm is its own, or that of the task it has made. */
static void take_new_stack(const struct step *step, struct task *task)
{
	const struct area *area = areas_made(task->mm);
	struct task *owner = step->made < 0 ? task : &scenario.tasks[step->made];

	if (!area)
		return;
	scenario.ranges[step->number] = (struct range){ true, area->start, area->end };
	if (owner->mm != task->mm || (owner == task && !same(step->operation->name, "arch_prctl")))
		return;
	owner->stack_made = true;
	owner->stack_start = area->start;
	owner->stack_end = area->end;
}

static bool run_step(struct step *step)
{
	struct task *task = &scenario.tasks[step->slot];
	const char *cannot;

	klog_pace();
	begin_step(step->number);
	cannot = not_ready(step, task);
	if (!cannot)
		cannot = unknown_value(step);
	if (!cannot) {
		step->made = -1;
		cannot = step->operation->run(step, task);
		areas_look(step->operation->does == SAME_PLACE ? task->mm : -1);
		if (step->operation->does == NEW_STACK)
			take_new_stack(step, task);
	}
	report_step(step, cannot);
	return !cannot;
}

/* Run a scenario of so many steps. */
void run_scenario(struct step *steps, int count)
{
	const char *cannot;

	areas_reset();
	rearm_warnings();
	cannot = start_first();
	begin_step(0);
	areas_look(-1);
	report_step(NULL, cannot);
	for (int i = 0; !cannot && i < count; i++)
		if (!run_step(&steps[i]))
			break;
	stop_all();
	report_done();
}

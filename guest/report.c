/* Lines of the report: JSON, one object each. */
#include "guest.h"

static char text[1 << 17];
static struct line line;

static void member(const char *name, u64 value)
{
	put(&line, ",\"");
	put(&line, name);
	put(&line, "\":");
	put_unsigned(&line, value);
}

/* ---- a task --------------------------------------------------------------------------------- */

static const char *state_name(enum state state)
{
	switch (state) {
	case USER:
		return "user";
	case BLOCKED:
		return "blocked";
	case WORKER:
		return "worker";
	default:
		return "dead";
	}
}

/* A handler's frame says more of a fault than the log, which says nothing then. */
static void take_frame(struct task *task)
{
	const struct box *box = box_of(task);

	if (box->faults == task->faults_told)
		return;
	task->faults_told = box->faults;
	task->fault = (struct fault){ true, box->trapno == 14, true, box->trapno, box->error,
				      box->address, box->si_code };
}

static void put_fault(const struct fault *fault)
{
	put(&line, ",\"fault\":{\"trapno\":");
	put_unsigned(&line, fault->trapno);
	member("error", fault->error);
	if (fault->has_address)
		member("address", fault->address);
	if (fault->has_code)
		member("si_code", fault->si_code);
	put(&line, "}");
}

/* The signals whose handlers the task has entered since last told. */
static void put_handled(struct task *task)
{
	const struct box *box = box_of(task);
	u32 from = task->handled_told;

	if (box->handled == from)
		return;
	if (box->handled - from > MAX_HANDLED)
		from = box->handled - MAX_HANDLED;
	put(&line, ",\"handled\":[");
	for (u32 i = from; i != box->handled; i++) {
		if (i != from)
			put(&line, ",");
		put_unsigned(&line, box->signals[i % MAX_HANDLED]);
	}
	put(&line, "]");
	task->handled_told = box->handled;
}

static void put_registers(const struct task *task)
{
	const struct box *box = box_of(task);

	member("ssp", box->ssp);
	member("features", box->features);
	member("locked", task->locked);
}

static void put_exit(const struct task *task)
{
	if (task->exit == NOTHING)
		return;
	put(&line, task->exit == CODE ? ",\"exit\":{\"code\":" : ",\"exit\":{\"signal\":");
	put_number(&line, task->status);
	put(&line, "}");
}

/* What is so after a step. */
static void put_state(int slot, const struct task *task)
{
	put(&line, "{\"slot\":");
	put_number(&line, slot);
	put(&line, ",\"state\":\"");
	put(&line, state_name(task->state));
	put(&line, "\"");
	if (task->mm >= 0)
		member("mm", (u64)task->mm);
	if (task->state == USER || task->state == BLOCKED)
		put_registers(task);
	put_exit(task);
}

/* What has happened in a step. */
static void put_events(struct task *task)
{
	take_frame(task);
	if (task->fault.seen)
		put_fault(&task->fault);
	put_handled(task);
	if (task->returned) {
		put(&line, ",\"returned\":");
		put_number(&line, task->value);
	}
}

/* Of every task what is different from what was last told, or has happened. */
static void put_tasks(void)
{
	const char *comma = "";

	put(&line, ",\"tasks\":[");
	for (int i = 0; i < scenario.slots; i++) {
		struct task *task = &scenario.tasks[i];
		size_t start = line.used, from, state;
		u64 now;

		if (!alive(task) && task->state != DEAD)
			continue;
		put(&line, comma);
		from = line.used;
		put_state(i, task);
		state = line.used;
		now = hash(line.text + from, state - from);
		put_events(task);
		if (now == task->told && line.used == state) {
			line.used = start;
			continue;
		}
		put(&line, "}");
		task->told = now;
		comma = ",";
	}
	put(&line, "]");
}

/* ---- lines ------------------------------------------------------------------------------------ */

static void begin(void)
{
	start_line(&line, text, sizeof(text));
	put(&line, "{\"scenario\":");
	put_number(&line, scenario.id);
}

static void end(void)
{
	put(&line, "}\n");
	write_line(&line);
}

/* What has come of a step; STEP is NULL for the scenario's beginning. */
void report_step(const struct step *step, const char *cannot)
{
	begin();
	put(&line, ",\"step\":");
	put_number(&line, scenario.step);
	if (cannot) {
		put(&line, ",\"cannot\":");
		put_string(&line, cannot);
		end();
		return;
	}
	klog_read();
	for (int i = 0; i < scenario.slots; i++)
		if (scenario.tasks[i].state == USER || scenario.tasks[i].state == BLOCKED)
			look_at_locks(&scenario.tasks[i]);
	put(&line, ",\"result\":");
	if (!step || !step->has_result)
		put(&line, "null");
	else if (step->is_value)
		put_unsigned(&line, (u64)step->result);
	else
		put_number(&line, step->result);
	put_tasks();
	put(&line, ",\"mms\":[");
	areas_tell(&line);
	put(&line, "]");
	klog_tell(&line);
	end();
}

void report_done(void)
{
	begin();
	put(&line, ",\"done\":true");
	klog_read();
	klog_tell(&line);
	end();
}

void report_error(int number, const char *what, const char *detail)
{
	start_line(&line, text, sizeof(text));
	put(&line, "{\"error\":\"line ");
	put_number(&line, number);
	put(&line, ": ");
	put(&line, what);
	put(&line, "\"");
	if (detail && *detail) {
		put(&line, ",\"word\":");
		put_string(&line, detail);
	}
	end();
}

void report_begin(void)
{
	start_line(&line, text, sizeof(text));
	put(&line, "{\"campaign\":\"start\",\"version\":1,\"kernel\":");
	put_string(&line, kernel_release());
	put(&line, can_shadow_stacks() ? ",\"shstk\":true" : ",\"shstk\":false");
	put(&line, lacking("compat") ? ",\"compat\":false" : ",\"compat\":true");
	put(&line, ",\"sites\":[");
	put_unsigned(&line, (u64)call_sites + CALL_SIZE);
	put(&line, ",");
	put_unsigned(&line, SITE_SIZE);
	put(&line, ",");
	put_unsigned(&line, SITES);
	put(&line, "]");
	member("entry", (u64)task_loop);
	member("restorer", (u64)signal_restorer);
	put(&line, ",\"arena\":[");
	put_unsigned(&line, ARENA);
	put(&line, ",");
	put_unsigned(&line, ARENA + ARENA_SIZE);
	put(&line, "]");
	put(&line, klog_readable() ? ",\"log\":true" : ",\"log\":false");
	put(&line, prompt_tasks ? ",\"prompt\":true" : ",\"prompt\":false");
	put(&line, warnings_rearmed ? ",\"warn_once_reset\":true" : ",\"warn_once_reset\":false");
	put(&line, ",\"cannot\":{");
	put_lacking(&line);
	put(&line, "}");
	end();
}

void report_end(void)
{
	start_line(&line, text, sizeof(text));
	put(&line, "{\"campaign\":\"done\"");
	end();
}

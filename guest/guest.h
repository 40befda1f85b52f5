/*
 * The sequencer: what it knows of a scenario's tasks, and the parts that it consists of.
 *
 * task.S is the tasks' side.  README.md says what is read and what is written.
 */
#ifndef GUEST_H
#define GUEST_H

#include "box.h"
#include "sys.h"
#include "text.h"

#define MAX_STEPS	512
#define MAX_ARGUMENTS	8
#define MAX_AREAS	96

/* Files that every task has open, by number. */
#define FD_SHARED	200	/* the memory at SHARED */
#define FD_PROGRAM	201	/* this program */
#define FD_BROKEN	202	/* a program that execve(2) cannot load */
#define FD_DEAD_PIDNS	203	/* a pid namespace without an init */
#define FD_PIDNS	204	/* the one that all are in */

/* Addresses in task.S. */
extern char task_loop[], call_sites[], signal_handler[], signal_restorer[];

/* ---- tasks ------------------------------------------------------------------------ */

enum state {
	ABSENT,		/* the scenario has no task of that number */
	STARTING,	/* a clone that is to make it is under way */
	USER,		/* waits for a command */
	BLOCKED,	/* waits in the kernel */
	WORKER,		/* a kernel worker: never in user mode */
	DEAD,
};

struct fault {
	bool seen, has_address, has_code;
	u64 trapno, error, address, si_code;
};

struct task {
	enum state state;
	int tid, tgid, pidfd;
	int mm;			/* number, or -1 */
	int making;		/* slot of the task that its clone is to make, or -1 */
	int made, made_tid;	/* slot of the task that its last command has made, or -1 */
	bool shares_mm, same_group, waits;	/* what the clone's flags say of that task */
	int vfork_child;	/* slot of the task that it waits for, or -1 */
	bool executing;		/* an execve(2) has not come back */
	int holder;		/* process that keeps it in execve(2), or 0 */
	bool late;		/* its command is from an earlier step */
	bool returned;		/* that command has come back in this step, with... */
	s64 value;
	int ring;		/* a worker's io_uring, a file of its group */
	int died;		/* number of the step in which it died */
	bool stack_made;	/* the kernel has made a shadow stack for it: */
	u64 stack_start, stack_end;
	u64 locked;
	u32 handled_told;
	u64 faults_told;
	struct fault fault;
	enum { NOTHING, CODE, SIGNAL } exit;
	int status;
	u64 told;		/* hash of what was last said of it */
};

struct range {
	bool made;
	u64 start, end;
};

struct scenario {
	long id;
	long step;		/* the number of the step under way */
	int slots;		/* how many of TASKS are in use */
	struct task tasks[MAX_SLOTS];
	struct range ranges[MAX_STEPS];
};

extern struct scenario scenario;

static inline bool alive(const struct task *task)
{
	return task->state == USER || task->state == BLOCKED || task->state == WORKER;
}

static inline struct box *box_of(const struct task *task)
{
	return BOX(task - scenario.tasks);
}

/* The task has done its last command. */
static inline bool came_back(const struct task *task)
{
	const struct box *box = box_of(task);

	return box->done == box->command;
}

static inline bool in_user_code(const struct task *task)
{
	return task->state == USER || task->state == BLOCKED;
}

/* tasks.c: starting, telling and stopping tasks */
void clear_box(int slot);
const char *start_first(void);
struct task *expect_child(struct task *parent, int slot, u64 flags);
void tell(struct task *task, u64 kind, u64 number, const u64 arguments[6]);
s64 have_call(struct task *task, u64 number, u64 a, u64 b, u64 c);
void stop_all(void);

/* settle.c: waiting until nothing goes on */
void settle(void);
s64 result_of(const struct task *task);

/* watch.c: what has become of tasks */
bool look_at_tasks(void);
void look_at_locks(struct task *task);
void joined(struct task *task, int tid, int tgid, int mm);
char state_of(int tid);
struct task *worker_found(struct task *creator, struct task *worker);

/* image.c: what a new image does before it becomes a task */
struct place {
	struct box *box;
	u64 rsp;
};
struct place start_task(int slot, const u64 *auxiliary);
struct place guest_main(u64 *stack);

/* ---- the campaign file --------------------------------------------------------------- */

enum kind { VALUE, WORD, FLAG, CLONE_FLAGS };

struct parameter {
	const char *name;
	enum kind kind;
	const char *words;	/* of a WORD: the choices, NULL for any */
	bool required;
};

struct step;

struct operation {
	const char *name;
	/* Do it, and let everything settle; why it cannot be done, or NULL. */
	const char *(*run)(struct step *step, struct task *task);
	bool by_itself;		/* the task does it, and must be able to */
	enum {
		NO_AREA,
		NEW_STACK,	/* the kernel can make a shadow stack for a task */
		SAME_PLACE,	/* other areas can come to lie where there were some */
	} does;
	struct parameter parameters[MAX_ARGUMENTS];
};

struct step {
	long number;
	int slot, line;
	const struct operation *operation;
	const char *values[MAX_ARGUMENTS];	/* by parameter; NULL where it is not given */
	int made;		/* slot of the task that it has made, or -1 */
	bool has_result;
	bool is_value;		/* a number, not what a system call returned */
	s64 result;
};

const struct operation *operation_called(const char *name);

bool given(const struct step *step, const char *name);
const char *word(const struct step *step, const char *name);
u64 number(const struct step *step, const char *name);
u64 number_or(const struct step *step, const char *name, u64 otherwise);

/* run_clone.c: like VM|THREAD, or 0 */
bool take_flags(const char *text, u64 *flags);

/* value.c; WHY is NULL where the value is only to be checked for its form. */
bool evaluate(const char *text, u64 *value, const char **why);

/* steps.c */
const char *take_step(struct step *step, char *line, const char **detail);
bool small_number(const char *text, long below, long *value);
const char *unknown_value(const struct step *step);

/* sequence.c */
void run_scenario(struct step *steps, int count);

/* campaign.c */
long run_campaign(char *text);

/* ---- operations ------------------------------------------------------------------------ */

typedef const char *run_operation(struct step *step, struct task *task);

run_operation run_fork, run_vfork, run_clone, run_clone3, run_worker;
run_operation run_execve, run_exit, run_exit_group, run_sigkill, run_arch_prctl, run_setrlimit;
run_operation run_mmap, run_munmap, run_mprotect, run_mremap, run_mseal, run_map_shadow_stack;
run_operation run_kill, run_sigaction, run_sigaltstack, run_rt_sigreturn;
run_operation run_call, run_ret, run_instruction, run_privileged;

void take_result(struct step *step, struct task *task);

/* ways.c: what this kernel lacks */
void set_up_ways(void);
void lack(const char *way, const char *why);
const char *lacking(const char *way);
void put_lacking(struct line *line);
void end_process(int pid);

/* fail_clone.c */
void set_up_clone_failures(void);
const char *prepare_failure(const char *way, struct task *task);
void undo_failure(const char *way, struct task *task);

/* fail_execve.c */
void set_up_execve_failures(void);
const char *hold_execve(struct task *task);
void end_holder(struct task *task);
const char *share_files(struct task *task);
void end_sharer(void);

/* ---- what is seen ---------------------------------------------------------------------- */

/* areas.c: shadow stacks in address spaces */
struct area {
	u64 start, end;
	char flags[64];
};

void areas_reset(void);
int new_mm(void);
void areas_look(int exact);
/* The first shadow stack of an mm that was not there when last remembered. */
const struct area *areas_made(int mm);
void areas_remember(void);
void areas_tell(struct line *line);

/* klog.c: the kernel's log */
void klog_open(void);
bool klog_readable(void);
void klog_read(void);
void klog_tell(struct line *line);
void klog_pace(void);

/* report.c */
void report_begin(void);
void report_step(const struct step *step, const char *cannot);
void report_done(void);
void report_error(int line, const char *what, const char *detail);
void report_end(void);

/* output.c */
void output_to_port(void);
void write_line(const struct line *line);
_Noreturn void power_off(int status);
_Noreturn void give_up(const char *why);

/* machine.c: the surroundings */
extern bool on_host;		/* on a machine's own kernel, as one of its processes */
extern bool prompt_tasks;	/* tasks run before the sequencer goes on */
void set_up_machine(void);
void rearm_warnings(void);
bool can_compat(void);
bool can_shadow_stacks(void);
extern bool warnings_rearmed;
const char *kernel_release(void);
const char *program_path(void);
void open_as(int fd, long opened);

#endif

/* Operations in user mode: instructions, and signals. */
#include "guest.h"

#define SA_SIGINFO	4
#define SA_RESTORER	0x04000000
#define SA_ONSTACK	0x08000000
#define SA_NODEFER	0x40000000

static const char *have(struct step *step, struct task *task, u64 kind, u64 a, u64 b)
{
	const u64 values[6] = { a, b };

	tell(task, kind, 0, values);
	settle();
	take_result(step, task);
	return NULL;
}

static const char *have_system_call(struct step *step, struct task *task, u64 call, u64 a, u64 b,
				    u64 c, u64 d)
{
	const u64 values[6] = { a, b, c, d };

	tell(task, DO_SYSCALL, call, values);
	settle();
	take_result(step, task);
	return NULL;
}

/* ---- instructions ------------------------------------------------------------------------ */

/* CALL at the place of a number, by default the step's. */
const char *run_call(struct step *step, struct task *task)
{
	const u64 site = number_or(step, "site", (u64)step->number);

	if (site >= SITES)
		return "a call site is from 0 to 1023";
	return have(step, task, given(step, "next") ? DO_CALL_NEXT : DO_CALL, site, 0);
}

const char *run_ret(struct step *step, struct task *task)
{
	const char *imm = word(step, "imm");

	if (imm && same(imm, "8"))
		have(step, task, DO_RET_8, 0, 0);
	else if (imm && same(imm, "16"))
		have(step, task, DO_RET_16, 0, 0);
	else
		have(step, task, DO_RET, 0, 0);
	step->has_result = false;	/* it may have led to where a system call returns */
	return NULL;
}

/* An instruction whose operands are the operation's arguments, in their order. */
const char *run_instruction(struct step *step, struct task *task)
{
	static const struct {
		const char *name;
		u64 kind;
	} kinds[] = {
		{ "jmp", DO_JMP }, { "endbr64", DO_ENDBR64 }, { "rdsspq", DO_RDSSPQ },
		{ "incsspq", DO_INCSSPQ }, { "incsspd", DO_INCSSPD },
		{ "rstorssp", DO_RSTORSSP }, { "saveprevssp", DO_SAVEPREVSSP },
		{ "pivot", DO_PIVOT }, { "wrssq", DO_WRSSQ }, { "wrssd", DO_WRSSD },
		{ "store", DO_STORE }, { "load", DO_LOAD }, { "push", DO_PUSH },
		{ "pop", DO_POP }, { "mov_rsp", DO_MOV_RSP },
	};
	const struct parameter *parameters = step->operation->parameters;
	u64 values[2] = { 0 };

	step->is_value = true;
	for (int i = 0; i < 2; i++)
		if (parameters[i].name)
			values[i] = number(step, parameters[i].name);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (same(kinds[i].name, step->operation->name))
			return have(step, task, kinds[i].kind, values[0], values[1]);
	return "the instruction is not known";
}

const char *run_privileged(struct step *step, struct task *task)
{
	static const struct {
		const char *name;
		u64 kind;
	} kinds[] = {
		{ "SETSSBSY", DO_SETSSBSY }, { "CLRSSBSY", DO_CLRSSBSY },
		{ "WRUSSQ", DO_WRUSSQ }, { "WRUSSD", DO_WRUSSD },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (same(kinds[i].name, word(step, "instruction")))
			return have(step, task, kinds[i].kind, 0, 0);
	return "the instruction is not known";
}

/* ---- signals ------------------------------------------------------------------------------- */

static u64 signal_number(const struct step *step)
{
	static const struct {
		const char *name;
		u64 number;
	} signals[] = {
		{ "SIGILL", SIGILL }, { "SIGBUS", SIGBUS }, { "SIGKILL", SIGKILL },
		{ "SIGUSR1", SIGUSR1 }, { "SIGSEGV", SIGSEGV }, { "SIGUSR2", SIGUSR2 },
		{ "SIGTERM", SIGTERM },
	};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (same(signals[i].name, word(step, "signal")))
			return signals[i].number;
	return 0;
}

const char *run_kill(struct step *step, struct task *task)
{
	syscall3(SYS_tgkill, task->tgid, task->tid, signal_number(step));
	settle();
	return NULL;
}

const char *run_sigaction(struct step *step, struct task *task)
{
	struct {
		u64 handler, flags, restorer, mask;
	} *action = (void *)box_of(task)->scratch;

	memset(action, 0, sizeof(*action));
	if (!given(step, "default")) {
		action->handler = (u64)signal_handler;
		action->flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER | SA_NODEFER;
		action->restorer = (u64)signal_restorer;
	}
	return have_system_call(step, task, SYS_rt_sigaction, signal_number(step), (u64)action, 0,
				sizeof(action->mask));
}

const char *run_sigaltstack(struct step *step, struct task *task)
{
	struct {
		u64 start;
		u32 flags, unused;
		u64 size;
	} *stack = (void *)box_of(task)->scratch;

	memset(stack, 0, sizeof(*stack));
	stack->start = number(step, "addr");
	stack->size = number(step, "size");
	return have_system_call(step, task, SYS_sigaltstack, (u64)stack, 0, 0, 0);
}

const char *run_rt_sigreturn(struct step *step, struct task *task)
{
	have_system_call(step, task, NR_rt_sigreturn, 0, 0, 0, 0);
	step->has_result = false;
	return NULL;
}

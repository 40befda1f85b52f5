/* What a task can be told to do: names and arguments, as the campaign file has them. */
#include "guest.h"

#define FAILS		{ "fails", WORD, "pids set_tid pidfd-limit pidfd-pointer cgroup pidns", false }
#define CHILD(name)	{ name, VALUE, NULL, true }
#define COMPAT		{ "compat", FLAG, NULL, false }
#define ADDR		{ "addr", VALUE, NULL, true }
#define SIZE		{ "size", VALUE, NULL, true }
#define VALUE_OF(name)	{ name, VALUE, NULL, true }
#define MAYBE(name)	{ name, VALUE, NULL, false }
#define SWITCH(name)	{ name, FLAG, NULL, false }
#define ONE_OF(name, words)	{ name, WORD, words, true }
#define SIGNAL_NAME	ONE_OF("signal", "SIGILL SIGBUS SIGUSR1 SIGSEGV SIGUSR2 SIGTERM SIGKILL")
#define TLS		{ "tls", WORD, "good bad", false }

static const struct operation operations[] = {
	{ "fork", run_fork, true, NEW_STACK, { CHILD("child"), FAILS } },
	{ "vfork", run_vfork, true, NEW_STACK, { CHILD("child"), FAILS } },
	{ "clone", run_clone, true, NEW_STACK,
	  { CHILD("child"), { "flags", CLONE_FLAGS, NULL, true }, MAYBE("stack"), TLS, FAILS, COMPAT } },
	{ "clone3", run_clone3, true, NEW_STACK,
	  { CHILD("child"), { "flags", CLONE_FLAGS, NULL, true }, MAYBE("stack"), MAYBE("stack_size"), TLS, FAILS,
	    COMPAT, MAYBE("shstk_token") } },
	{ "io_uring_worker", run_worker, true, NEW_STACK, { CHILD("worker"), FAILS } },
	{ "execve", run_execve, true, NO_AREA,
	  { { "fails", WORD, "early before-release killed after-switch", false } } },
	{ "exit", run_exit, false, NO_AREA, { MAYBE("code") } },
	{ "exit_group", run_exit_group, true, NO_AREA, { MAYBE("code") } },
	{ "sigkill", run_sigkill, false, NO_AREA, { } },
	{ "arch_prctl", run_arch_prctl, true, NEW_STACK,
	  { ONE_OF("option", "ENABLE DISABLE LOCK UNLOCK STATUS"),
	    { "feature", WORD, "SHSTK WRSS SHSTK|WRSS other none", false }, COMPAT } },
	{ "setrlimit", run_setrlimit, true, NO_AREA, { VALUE_OF("stack") } },
	{ "mmap", run_mmap, true, SAME_PLACE,
	  { SIZE, MAYBE("addr"), { "prot", WORD, "none r rw", false }, SWITCH("fixed"),
	    SWITCH("noreplace") } },
	{ "munmap", run_munmap, true, NO_AREA, { ADDR, SIZE } },
	{ "mprotect", run_mprotect, true, NO_AREA, { ADDR, SIZE, ONE_OF("prot", "none r rw") } },
	{ "mremap", run_mremap, true, SAME_PLACE,
	  { ADDR, SIZE, MAYBE("new_size"), MAYBE("to"), SWITCH("maymove") } },
	{ "mseal", run_mseal, true, SAME_PLACE, { ADDR, SIZE } },
	{ "map_shadow_stack", run_map_shadow_stack, true, NO_AREA,
	  { SIZE, MAYBE("addr"), SWITCH("token"), MAYBE("flags"), COMPAT } },
	{ "kill", run_kill, false, NO_AREA, { SIGNAL_NAME } },
	{ "sigaction", run_sigaction, true, NO_AREA, { SIGNAL_NAME, SWITCH("default") } },
	{ "sigaltstack", run_sigaltstack, true, NO_AREA, { ADDR, SIZE } },
	{ "rt_sigreturn", run_rt_sigreturn, true, NO_AREA, { } },
	{ "handler_return", run_ret, true, NO_AREA, { } },
	{ "call", run_call, true, NO_AREA, { MAYBE("site"), SWITCH("next") } },
	{ "ret", run_ret, true, NO_AREA, { { "imm", WORD, "0 8 16", false } } },
	{ "jmp", run_instruction, true, NO_AREA, { VALUE_OF("target") } },
	{ "endbr64", run_instruction, true, NO_AREA, { } },
	{ "rdsspq", run_instruction, true, NO_AREA, { } },
	{ "incsspq", run_instruction, true, NO_AREA, { VALUE_OF("count") } },
	{ "incsspd", run_instruction, true, NO_AREA, { VALUE_OF("count") } },
	{ "rstorssp", run_instruction, true, NO_AREA, { ADDR } },
	{ "saveprevssp", run_instruction, true, NO_AREA, { } },
	{ "pivot", run_instruction, true, NO_AREA, { ADDR } },
	{ "wrssq", run_instruction, true, NO_AREA, { ADDR, VALUE_OF("value") } },
	{ "wrssd", run_instruction, true, NO_AREA, { ADDR, VALUE_OF("value") } },
	{ "store", run_instruction, true, NO_AREA, { ADDR, VALUE_OF("value") } },
	{ "load", run_instruction, true, NO_AREA, { ADDR } },
	{ "push", run_instruction, true, NO_AREA, { VALUE_OF("value") } },
	{ "pop", run_instruction, true, NO_AREA, { } },
	{ "mov_rsp", run_instruction, true, NO_AREA, { VALUE_OF("value") } },
	{ "privileged", run_privileged, true, NO_AREA,
	  { ONE_OF("instruction", "SETSSBSY CLRSSBSY WRUSSQ WRUSSD") } },
};

const struct operation *operation_called(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++)
		if (same(operations[i].name, name))
			return &operations[i];
	return NULL;
}

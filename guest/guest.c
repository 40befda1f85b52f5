/*
 * The program: as PID 1 of a machine, or as a process of a host, the sequencer of a campaign; and
 * executed again by the sequencer's processes, a task.
 */
#include "guest.h"

#define MOST_TEXT	(64ul << 20)

static char *read_campaign(const char *path)
{
	long at = map(0, MOST_TEXT, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
	char *text = (char *)at;

	if (failed(at) || read_file(path, text, MOST_TEXT) < 0)
		return NULL;
	return text;
}

static _Noreturn void sequence(const char *path)
{
	char *text;

	if (!on_host)
		output_to_port();
	set_up_machine();
	text = read_campaign(path);
	if (!text)
		give_up("the campaign cannot be read");
	report_begin();
	run_campaign(text);
	report_end();
	power_off(0);
}

/* The kernel's stack of a new process: the arguments, the environment, the auxiliary vector. */
struct place guest_main(u64 *stack)
{
	const long count = (long)stack[0];
	const char *const *arguments = (const char *const *)(stack + 1);
	const u64 *auxiliary = stack + 1 + count + 1;

	while (*auxiliary++)
		;
	if (count == 2 && same(arguments[0], "task")) {
		const char *slot = arguments[1];

		return start_task((int)decimal(&slot), auxiliary);
	}
	on_host = syscall0(SYS_getpid) != 1;	/* only a guest's PID 1 may change its machine */
	if (on_host && (count != 3 || !same(arguments[1], "--host"))) {
		static const char usage[] = "usage: guest --host CAMPAIGN\n";

		syscall3(SYS_write, 2, usage, sizeof(usage) - 1);
		syscall1(SYS_exit_group, 2);
	}
	sequence(on_host ? arguments[2] : "/scenarios");
}

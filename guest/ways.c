/* What of the ways to make a clone or an execve(2) fail, and of the rest, this kernel lacks. */
#include "guest.h"

static struct {
	const char *name, *lacks;
} ways[] = {
	{ "pids", NULL }, { "set_tid", NULL }, { "pidfd-limit", NULL }, { "pidfd-pointer", NULL },
	{ "cgroup", NULL }, { "pidns", NULL }, { "io_uring", NULL }, { "before-release", NULL },
	{ "killed", NULL }, { "after-switch", NULL }, { "compat", NULL },
};

/* The kernel has no way of that name. */
void lack(const char *way, const char *why)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (same(ways[i].name, way))
			ways[i].lacks = why;
}

/* Why a way cannot be gone on this kernel, or NULL. */
const char *lacking(const char *way)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (same(ways[i].name, way))
			return ways[i].lacks;
	return NULL;
}

/* As members of a JSON object. */
void put_lacking(struct line *line)
{
	const char *comma = "";

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if (!ways[i].lacks)
			continue;
		put(line, comma);
		put_string(line, ways[i].name);
		put(line, ":");
		put_string(line, ways[i].lacks);
		comma = ",";
	}
}

/* End a process of the sequencer's own. */
void end_process(int pid)
{
	syscall2(SYS_kill, pid, SIGKILL);
	syscall4(SYS_wait4, pid, NULL, WALL, 0);
}

/* Find out what this kernel has, and prepare what is needed. */
void set_up_ways(void)
{
	char params[120] = { 0 };
	long fd;

	set_up_clone_failures();
	set_up_execve_failures();
	fd = syscall2(SYS_io_uring_setup, 1, params);
	if (fd < 0)
		lack("io_uring", fd == -ENOSYS ? "the kernel has no io_uring" : "io_uring is off");
	else
		syscall1(SYS_close, fd);
	if (!can_compat())
		lack("compat", "the kernel has no int 0x80");
}

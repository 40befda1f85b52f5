/*
 * Real ways to make a clone fail late, after copy_thread().
 *
 *   pids           alloc_pid(): pid_max is 301, 300 is in use, and below 300 nothing is given again
 *   set_tid        alloc_pid(): clone3 asks for 1
 *   pidfd-limit    no file can be opened: RLIMIT_NOFILE is 0
 *   pidfd-pointer  the pidfd cannot be written to where it is wanted
 *   cgroup         cgroup_can_fork(): pids.max is 0
 *   pidns          alloc_pid(): the namespace for children has lost its init
 */
#include "guest.h"

#define PID_MAX_FILE	"/proc/sys/kernel/pid_max"
#define PIDS_MAX_FILE	"/sys/fs/cgroup/tasks/pids.max"
#define LEAST_PID	300
#define LEAST_PID_MAX	"301"

static char pid_max[32];
static u64 most_files;

/* ---- setting up ---------------------------------------------------------------------------- */

static long paused_process(u64 flags, const int *set_tid)
{
	struct clone_args args = { .flags = flags, .exit_signal = SIGCHLD };
	long pid;

	if (set_tid) {
		args.set_tid = (u64)set_tid;
		args.set_tid_size = 1;
	}
	pid = syscall2(SYS_clone3, &args, sizeof(args) - sizeof(args.shstk_token));
	while (pid == 0)
		syscall0(SYS_pause);
	return pid;
}

static void set_up_pids(void)
{
	static const int least = LEAST_PID;
	long pid;

	if (on_host) {
		lack("pids", "pid_max is the whole machine's");
		return;
	}
	if (read_file(PID_MAX_FILE, pid_max, sizeof(pid_max)) <= 0 ||
	    write_file(PID_MAX_FILE, LEAST_PID_MAX)) {
		lack("pids", "pid_max cannot be set");
		return;
	}
	write_file(PID_MAX_FILE, pid_max);
	paused_process(0, &least);	/* it fails if the number is in use, which is as good */
	if (!write_file("/proc/sys/kernel/ns_last_pid", "400"))
		return;
	do {
		pid = paused_process(0, NULL);
		if (pid > 0)
			end_process((int)pid);
	} while (pid > 0 && pid <= LEAST_PID);
}

static void set_up_pidns(void)
{
	char path[64];
	struct line line;
	long pid = paused_process(CLONE_NEWPID, NULL), dead;

	if (pid < 0) {
		lack("pidns", "a pid namespace cannot be made");
		return;
	}
	start_line(&line, path, sizeof(path));
	put(&line, "/proc/");
	put_number(&line, pid);
	put(&line, "/ns/pid");
	dead = syscall2(SYS_open, said(&line), O_RDONLY);
	end_process((int)pid);
	if (dead < 0) {
		lack("pidns", "a pid namespace cannot be opened");
		return;
	}
	open_as(FD_DEAD_PIDNS, dead);
	open_as(FD_PIDNS, syscall2(SYS_open, "/proc/self/ns/pid", O_RDONLY));
}

static void set_up_cgroup(void)
{
	if (on_host) {
		lack("cgroup", "the cgroups are the machine's");
		return;
	}
	syscall2(SYS_mkdir, "/sys/fs/cgroup", 0755);
	syscall5(SYS_mount, "none", "/sys/fs/cgroup", "cgroup2", 0, 0);
	write_file("/sys/fs/cgroup/cgroup.subtree_control", "+pids");
	syscall2(SYS_mkdir, "/sys/fs/cgroup/tasks", 0755);
	if (write_file("/sys/fs/cgroup/tasks/cgroup.procs", "0") || write_file(PIDS_MAX_FILE, "max"))
		lack("cgroup", "the kernel has no pids controller");
}

void set_up_clone_failures(void)
{
	struct rlimit files = { 0 };

	if (syscall0(SYS_geteuid) != 0)
		lack("set_tid", "only root can choose a pid");
	syscall4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &files);
	most_files = files.soft;
	set_up_pids();
	set_up_pidns();
	set_up_cgroup();
}

/* ---- in a step ------------------------------------------------------------------------------ */

static void limit_files(const struct task *task, u64 count)
{
	struct rlimit limit = { 0 };

	syscall4(SYS_prlimit64, task->tgid, RLIMIT_NOFILE, NULL, &limit);
	limit.soft = count;
	syscall4(SYS_prlimit64, task->tgid, RLIMIT_NOFILE, &limit, NULL);
}

/* Arrange that the next clone of TASK fails; why that cannot be done, or NULL. */
const char *prepare_failure(const char *way, struct task *task)
{
	const char *cannot = lacking(way);

	if (cannot)
		return cannot;
	if (same(way, "pids"))
		write_file(PID_MAX_FILE, LEAST_PID_MAX);
	if (same(way, "cgroup"))
		write_file(PIDS_MAX_FILE, "0");
	if (same(way, "pidfd-limit"))
		limit_files(task, 0);
	if (same(way, "pidns") && have_call(task, SYS_setns, FD_DEAD_PIDNS, CLONE_NEWPID, 0))
		return "the task cannot go to the dead pid namespace";
	return NULL;
}

void undo_failure(const char *way, struct task *task)
{
	if (same(way, "pids"))
		write_file(PID_MAX_FILE, pid_max);
	if (same(way, "cgroup"))
		write_file(PIDS_MAX_FILE, "max");
	if (same(way, "pidfd-limit"))
		limit_files(task, most_files);
	if (same(way, "pidns") && task->state == USER)
		have_call(task, SYS_setns, FD_PIDNS, CLONE_NEWPID, 0);
}

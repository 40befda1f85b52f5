/* The surroundings: file systems and settings of the machine, and what it can do. */
#include "guest.h"

#define REARM_FILE	"/sys/kernel/debug/clear_warn_once"

bool on_host, prompt_tasks, warnings_rearmed;
static bool shadow_stacks;

void open_as(int fd, long opened)
{
	if (opened < 0 || syscall2(SYS_dup2, opened, fd) != fd)
		give_up("a file that all tasks need cannot be opened");
	syscall1(SYS_close, opened);
}

/* Where tasks find this program. */
const char *program_path(void)
{
	return on_host ? "/proc/thread-self/fd/201" : "/init";
}

const char *kernel_release(void)
{
	static char names[6][65];

	syscall1(SYS_uname, names);
	return names[2];
}

/* ---- what there is -------------------------------------------------------------------------- */

/* The exit code of a process that runs one of the functions below; 255 if it was killed. */
static int outcome(void (*probe)(void))
{
	int status = 0;
	long pid = syscall0(SYS_fork);

	if (pid == 0)
		probe();
	syscall4(SYS_wait4, pid, &status, WALL, 0);
	return status & 0x7f ? 255 : status >> 8 & 0xff;
}

static void probe_compat(void)
{
	long result = I386_getpid;

	__asm__ volatile("int $0x80" : "+a"(result) : : "memory");
	syscall1(SYS_exit_group, result > 0 ? 0 : 1);
}

/* Does not return, and calls nothing, with the shadow stack that it gets. */
static void probe_shadow_stack(void)
{
	long result = syscall2(SYS_arch_prctl, ARCH_SHSTK_ENABLE, 1);

	syscall1(SYS_exit_group, result ? 1 : 0);
}

bool can_compat(void)
{
	return outcome(probe_compat) == 0;
}

bool can_shadow_stacks(void)
{
	return shadow_stacks;
}

/* Let what the kernel warns of only once be told again. */
void rearm_warnings(void)
{
	if (warnings_rearmed)
		write_file(REARM_FILE, "1");
}

/* ---- setting up ------------------------------------------------------------------------------ */

static void mount(const char *type, const char *where)
{
	syscall2(SYS_mkdir, where, 0755);
	syscall5(SYS_mount, "none", where, type, 0, 0);
}

static void set_up_guest(void)
{
	mount("proc", "/proc");
	mount("sysfs", "/sys");
	mount("debugfs", "/sys/kernel/debug");
	syscall2(SYS_mkdir, "/dev", 0755);
	write_file("/proc/sys/vm/overcommit_memory", "1");	/* shadow stacks of any size */
	write_file("/proc/sys/kernel/randomize_va_space", "0");
	write_file("/proc/sys/kernel/printk", "1");
	write_file("/proc/sys/kernel/printk_ratelimit", "0");	/* a line for each fault */
	write_file("/proc/sys/debug/exception-trace", "1");
	write_file("/proc/sys/kernel/io_uring_disabled", "0");
}

static void set_up_memory(void)
{
	long fd = syscall2(SYS_memfd_create, "boxes", 0);

	if (fd < 0 && !on_host)
		fd = syscall3(SYS_open, "/boxes", O_CREAT | O_RDWR, 0600);
	open_as(FD_SHARED, fd);
	if (syscall2(SYS_ftruncate, FD_SHARED, SHARED_SIZE) ||
	    map(SHARED, SHARED_SIZE, MAP_FIXED | MAP_SHARED, FD_SHARED) != SHARED)
		give_up("the memory that all tasks share cannot be mapped");
}

/* With one CPU, a real-time task that can run runs before the sequencer goes on. */
static void set_up_scheduling(void)
{
	static const u32 none, priority = 1;
	u64 cpus[16] = { 0 };

	for (int i = 0; on_host && i < 64; i++) {
		cpus[0] = 1ul << i;
		if (syscall3(SYS_sched_setaffinity, 0, sizeof(cpus), cpus) == 0)
			break;
	}
	prompt_tasks = syscall3(SYS_sched_setscheduler, 0, SCHED_FIFO, &priority) == 0;
	syscall3(SYS_sched_setscheduler, 0, 0, &none);
}

/* The end of a thread is seen only where the kernel has pidfds of threads. */
static void check_kernel(void)
{
	long fd = syscall2(SYS_pidfd_open, syscall0(SYS_getpid), PIDFD_THREAD);

	if (fd < 0)
		give_up("Linux 6.9 or newer is needed, for pidfds of threads");
	syscall1(SYS_close, fd);
}

/* Prepare the machine, and find out what it has. */
void set_up_machine(void)
{
	check_kernel();
	if (!on_host)
		set_up_guest();
	set_up_memory();
	open_as(FD_PROGRAM, syscall2(SYS_open, "/proc/self/exe", O_RDONLY));
	set_up_scheduling();
	shadow_stacks = outcome(probe_shadow_stack) == 0;
	klog_open();
	set_up_ways();
	warnings_rearmed = !on_host && !write_file(REARM_FILE, "1");
}

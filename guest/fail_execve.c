/*
 * Real ways to make an execve(2) fail late.
 *
 *   before-release the files, shared with another process and more than fs.nr_open, cannot be
 *                  copied; that is between de_thread() and exec_mmap()
 *   killed         exec_mmap() waits for exec_update_lock, which a kcmp(2) holds that waits for a
 *                  page; a later SIGKILL ends that
 *   after-switch   the only segment of the ELF file lies in kernel space
 *
 * `early` is a file that does not exist.
 */
#include "guest.h"

#define NR_OPEN_FILE	"/proc/sys/fs/nr_open"
#define LEAST_NR_OPEN	"64"

#define KCMP_EPOLL_TFD	7
#define UFFD_API	0xaa
#define UFFDIO_API	0xc018aa3f
#define UFFDIO_REGISTER	0xc020aa00
#define REGISTER_MISSING	1
#define LOOKS		200

static char nr_open[32];
static int sharer;	/* a helping process, 0 for none */

/* ---- setting up ---------------------------------------------------------------------------- */

static void set_up_files(void)
{
	if (on_host)
		lack("before-release", "fs.nr_open is the whole machine's");
	else if (read_file(NR_OPEN_FILE, nr_open, sizeof(nr_open)) <= 0 ||
		 write_file(NR_OPEN_FILE, LEAST_NR_OPEN))
		lack("before-release", "fs.nr_open cannot be set");
	else
		write_file(NR_OPEN_FILE, nr_open);
}

/* An ELF file with one segment, which lies where no process can have it. */
static void set_up_broken_program(void)
{
	struct {
		unsigned char ident[16];
		uint16_t type, machine;
		uint32_t version;
		u64 entry, phoff, shoff;
		uint32_t flags;
		uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
		uint32_t p_type, p_flags;
		u64 p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align;
	} elf = {
		.ident = { 0x7f, 'E', 'L', 'F', 2, 1, 1 }, .type = 2, .machine = 62, .version = 1,
		.entry = 0xffff800000000078, .phoff = 64, .ehsize = 64, .phentsize = 56, .phnum = 1,
		.p_type = 1, .p_flags = 5, .p_vaddr = 0xffff800000000000, .p_filesz = 120,
		.p_memsz = 120, .p_align = 4096,
	};
	long fd = syscall2(SYS_memfd_create, "broken", 0);
	char path[64];
	struct line line;

	if (fd < 0 && !on_host)
		fd = syscall3(SYS_open, "/broken", O_CREAT | O_RDWR, 0755);
	if (fd < 0 || syscall3(SYS_write, fd, &elf, sizeof(elf)) != sizeof(elf)) {
		lack("after-switch", "a program cannot be written");
		return;
	}
	start_line(&line, path, sizeof(path));
	put(&line, "/proc/self/fd/");
	put_number(&line, fd);
	open_as(FD_BROKEN, syscall2(SYS_open, said(&line), O_RDONLY));
	syscall1(SYS_close, fd);	/* nobody can execute what is open for writing */
}

static void set_up_holding(void)
{
	long fd = syscall1(SYS_userfaultfd, 0);

	if (syscall5(SYS_kcmp, 1, 1, -1, 0, 0) == -ENOSYS)
		lack("killed", "the kernel has no kcmp(2)");
	if (fd < 0)
		lack("killed", "the kernel has no userfaultfd(2) for us");
	else
		syscall1(SYS_close, fd);
}

void set_up_execve_failures(void)
{
	set_up_files();
	set_up_broken_program();
	set_up_holding();
}

/* ---- in a step ------------------------------------------------------------------------------ */

/* Have TASK make a process that shares its files, and make those too many to be copied. */
const char *share_files(struct task *task)
{
	struct box *box = BOX(MAX_SLOTS - 1);
	const u64 values[6] = { CLONE_FILES | CLONE_PARENT | SIGCHLD };

	memset(box, 0, sizeof(*box));
	box->self = (u64)(uintptr_t)box;
	box_of(task)->child = box->self;
	tell(task, DO_CLONE, SYS_clone, values);
	settle();
	if (task->state != USER || box_of(task)->result <= 0)
		return "the task cannot make a process that shares its files";
	sharer = (int)box_of(task)->result;
	write_file(NR_OPEN_FILE, LEAST_NR_OPEN);
	return NULL;
}

/* In a process of its own: hold the exec_update_lock of TID until killed. */
static _Noreturn void hold(int tid)
{
	struct {
		u64 api, features, ioctls;
	} api = { UFFD_API, 0, 0 };
	struct {
		u64 start, size, mode, ioctls;
	} area = { 0, PAGE_SIZE, REGISTER_MISSING, 0 };
	long fd = syscall1(SYS_userfaultfd, 0);

	area.start = (u64)map(0, PAGE_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	syscall3(SYS_ioctl, fd, UFFDIO_API, &api);
	syscall3(SYS_ioctl, fd, UFFDIO_REGISTER, &area);
	syscall5(SYS_kcmp, tid, tid, KCMP_EPOLL_TFD, 0, area.start);
	for (;;)
		syscall1(SYS_exit_group, 0);
}

/* Arrange that TASK's next execve(2) waits where only SIGKILL gets it out. */
const char *hold_execve(struct task *task)
{
	const struct timespec time = { 0, 200000 };
	long pid = syscall0(SYS_fork);

	if (pid == 0)
		hold(task->tid);
	if (pid < 0)
		return "a process that holds the lock cannot be made";
	task->holder = (int)pid;
	for (int i = 0; i < LOOKS; i++) {
		char state = state_of((int)pid);

		if (state == 'S' || state == 'D')
			return NULL;
		if (!state || state == 'Z')
			break;
		syscall2(SYS_nanosleep, &time, 0);
	}
	end_holder(task);
	return "the exec_update_lock cannot be held";
}

/* Undo what hold_execve() has arranged. */
void end_holder(struct task *task)
{
	if (task->holder)
		end_process(task->holder);
	task->holder = 0;
}

/* Undo what share_files() has arranged. */
void end_sharer(void)
{
	if (!sharer)
		return;
	write_file(NR_OPEN_FILE, nr_open);
	end_process(sharer);
	sharer = 0;
}

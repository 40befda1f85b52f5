/* The kernel's log: warnings, and what it says of signals that nobody handles. */
#include "guest.h"

#define MAX_LINES	16
#define LINE_SIZE	240
#define WARNING		4	/* KERN_WARNING */

/*
 * Of control-protection exceptions the kernel tells no more than ten in five seconds, which begin
 * with one of them.  A step can have some more, and its seconds are not begun with ours.
 */
#define CP_BURST	5
#define CP_SECONDS	6

static long fd = -1;
static char lines[MAX_LINES][LINE_SIZE];
static int count;

static struct {
	int slot;		/* -1: none of the scenario's */
	char function[64], at[128];
} warnings[MAX_LINES];
static int warned;

static int told_cp;
static s64 first_cp;

static s64 seconds_now(void)
{
	struct timespec now;

	syscall2(SYS_clock_gettime, 1, &now);
	return now.seconds;
}

void klog_open(void)
{
	if (!on_host)
		syscall3(SYS_mknod, "/dev/kmsg", 0020600, 1 << 8 | 11);
	fd = syscall2(SYS_open, "/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (fd >= 0)
		syscall3(SYS_lseek, fd, 0, SEEK_END);
}

/* The log can be read, so that faults are told. */
bool klog_readable(void)
{
	return fd >= 0;
}

/* Wait so that the next control-protection exception is told. */
void klog_pace(void)
{
	s64 left;

	if (told_cp < CP_BURST)
		return;
	left = first_cp + CP_SECONDS - seconds_now();
	if (left > 0) {
		const struct timespec time = { left, 0 };

		syscall2(SYS_nanosleep, &time, 0);
	}
	told_cp = 0;
}

/* ---- one line --------------------------------------------------------------------------- */

static struct task *task_of(int tid)
{
	for (int i = 0; i < scenario.slots; i++)
		if (tid > 0 && scenario.tasks[i].state != ABSENT && scenario.tasks[i].tid == tid)
			return &scenario.tasks[i];
	return NULL;
}

static void keep(const char *text)
{
	size_t size = length(text);

	if (count == MAX_LINES)
		give_up("the kernel says more than can be told");
	if (size > LINE_SIZE - 1)
		size = LINE_SIZE - 1;
	memcpy(lines[count], text, size);
	lines[count++][size] = 0;
}

static void copy_until(char *to, size_t room, const char *from, const char *ends)
{
	size_t size = 0;

	while (from && from[size] && size < room - 1) {
		for (const char *end = ends; *end; end++)
			if (from[size] == *end)
				goto done;
		to[size] = from[size];
		size++;
	}
done:
	to[size] = 0;
}

/* "WARNING: CPU: 0 PID: 77 at arch/x86/kernel/shstk.c:430 shstk_free+0x98/0xa0" */
static void take_warning(const char *text)
{
	const char *pid = behind(text, "PID: "), *at = behind(text, " at ");
	const char *function = at ? behind(at, " ") : NULL;
	struct task *task = pid ? task_of((int)decimal(&pid)) : NULL;

	if (warned == MAX_LINES)
		give_up("the kernel warns more than can be told");
	warnings[warned].slot = task ? (int)(task - scenario.tasks) : -1;
	copy_until(warnings[warned].at, sizeof(warnings[0].at), at, " ");
	copy_until(warnings[warned].function, sizeof(warnings[0].function), function, "+ ");
	warned++;
}

static u64 hex_after(const char *text, const char *word)
{
	const char *at = behind(text, word);

	return at ? hexadecimal(&at) : 0;
}

static void count_cp(void)
{
	s64 now = seconds_now();

	if (!told_cp || now > first_cp + CP_SECONDS) {
		told_cp = 0;
		first_cp = now;
	}
	told_cp++;
}

/* An exception of a task, as show_signal_msg(), show_signal() and do_user_cp_fault() say it. */
static bool take_fault(const char *text)
{
	static const struct {
		const char *words;
		u64 trapno;
		const char *error;
	} kinds[] = {
		{ ": segfault at ", 14, " error " },
		{ "] control protection ", 21, " error:" },
		{ "] general protection fault ", 13, " error:" },
		{ "] trap invalid opcode ", 6, " error:" },
		{ "] trap stack segment ", 12, " error:" },
		{ "] trap alignment check ", 17, " error:" },
	};
	const char *tid = behind(text, "[");
	struct task *task = tid ? task_of((int)decimal(&tid)) : NULL;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!behind(text, kinds[i].words))
			continue;
		if (kinds[i].trapno == 21)
			count_cp();
		if (!task || task->fault.seen)
			return false;
		task->fault.seen = true;
		task->fault.trapno = kinds[i].trapno;
		task->fault.error = hex_after(text, kinds[i].error);
		task->fault.has_address = kinds[i].trapno == 14;
		task->fault.address = hex_after(text, " at ");
		task->fault.has_code = false;
		return true;
	}
	return false;
}

/* Less than a warning for the kernel, and more for us: a fault of nobody's, or a second one. */
static bool is_told(const char *text)
{
	static const char *const words[] = {
		"] bad frame in ", ": segfault at ", "] control protection ",
		"] general protection fault ", "] trap ", " callbacks suppressed",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (behind(text, words[i]))
			return true;
	return false;
}

/* Registers and a call trace, of which the first line says what has happened. */
static bool is_dump(const char *text)
{
	static bool dump;

	if (after(text, "------------[ cut here ]")) {
		dump = true;
	} else if (after(text, "---[ end trace ")) {
		dump = false;
		return true;
	}
	return dump && !after(text, "kernel BUG at ") && !after(text, "BUG: ") &&
	       !after(text, "Oops");
}

static void take(const char *text, int level)
{
	if (after(text, "WARNING: ")) {
		take_warning(text);
		keep(text);
	} else if (!is_dump(text) && !take_fault(text) && (level <= WARNING || is_told(text))) {
		keep(text);
	}
}

/* ---- all new ones ------------------------------------------------------------------------- */

/* A record is "LEVEL,NUMBER,TIME,-;TEXT\n", and more lines that begin with a blank. */
void klog_read(void)
{
	static char record[8192];
	long size;

	count = warned = 0;
	if (fd < 0)
		return;
	for (;;) {
		const char *at = record, *text;
		int level;

		size = syscall3(SYS_read, fd, record, sizeof(record) - 1);
		if (size == -32)	/* EPIPE */
			give_up("the kernel's log has overwritten what was not yet read");
		if (size <= 0)
			return;
		record[size] = 0;
		level = (int)decimal(&at) & 7;
		text = behind(at, ";");
		for (char *end = record; *end; end++)
			if (*end == '\n')
				*end = 0;
		if (text)
			take(text, level);
	}
}

void klog_tell(struct line *line)
{
	if (count)
		put(line, ",\"log\":[");
	for (int i = 0; i < count; i++) {
		if (i)
			put(line, ",");
		put_string(line, lines[i]);
	}
	if (count)
		put(line, "]");
	if (warned)
		put(line, ",\"warnings\":[");
	for (int i = 0; i < warned; i++) {
		put(line, i ? ",{\"slot\":" : "{\"slot\":");
		if (warnings[i].slot < 0)
			put(line, "null");
		else
			put_number(line, warnings[i].slot);
		put(line, ",\"function\":");
		put_string(line, warnings[i].function);
		put(line, ",\"at\":");
		put_string(line, warnings[i].at);
		put(line, "}");
	}
	if (warned)
		put(line, "]");
}

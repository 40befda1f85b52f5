/* Shadow stacks in the address spaces of a scenario, out of /proc/TID/smaps. */
#include "guest.h"

#define MAX_MMS	MAX_SLOTS

struct mm {
	bool known;		/* AREAS is what smaps said */
	u64 maps;		/* hash of /proc/TID/maps then */
	int count, before_count;
	struct area areas[MAX_AREAS];
	u64 before[MAX_AREAS];	/* where areas started when last remembered */
	u64 told;		/* hash of what was last said of it */
	bool was_told;
	int maps_file, smaps_file;	/* of /proc, open; or 0 */
};

static struct mm mms[MAX_MMS];
static int count;
static char text[1 << 18];

/* ---- reading ----------------------------------------------------------------------------- */

/* A task through which an mm can be looked at: one that uses it. */
static const struct task *user_of(int mm)
{
	const struct task *held = NULL;

	for (int i = 0; i < scenario.slots; i++) {
		const struct task *task = &scenario.tasks[i];

		if (task->mm != mm || (task->state != USER && task->state != BLOCKED))
			continue;
		if (!task->holder)
			return task;
		held = task;
	}
	return held;
}

static int open_about(const struct task *task, const char *name)
{
	char path[64];
	struct line line;

	start_line(&line, path, sizeof(path));
	put(&line, "/proc/");
	put_number(&line, task->tid);
	put(&line, name);
	return (int)syscall2(SYS_open, said(&line), O_RDONLY);
}

/* All of a file of /proc; how much. */
static size_t read_again(int fd)
{
	size_t size = 0;
	long got;

	do {
		got = syscall4(SYS_pread64, fd, text + size, sizeof(text) - 1 - size, size);
		if (got > 0)
			size += (size_t)got;
	} while (got > 0 && size < sizeof(text) - 1);
	text[size] = 0;
	return size;
}

static void close_files(struct mm *mm)
{
	if (mm->maps_file > 0)
		syscall1(SYS_close, mm->maps_file);
	if (mm->smaps_file > 0)
		syscall1(SYS_close, mm->smaps_file);
	mm->maps_file = mm->smaps_file = 0;
}

static const char *next_line(const char *at)
{
	while (*at && *at != '\n')
		at++;
	return *at ? at + 1 : at;
}

static void copy_flags(struct area *area, const char *at)
{
	size_t size = 0;

	while (*at == ' ')
		at++;
	while (*at && *at != '\n' && size < sizeof(area->flags) - 1)
		area->flags[size++] = *at++;
	while (size && area->flags[size - 1] == ' ')
		size--;
	area->flags[size] = 0;
}

static void parse_smaps(struct mm *mm)
{
	struct area *area = &mm->areas[0];

	mm->count = 0;
	for (const char *at = text; *at; at = next_line(at)) {
		const char *flags = after(at, "VmFlags:");
		const char *digits = at;
		u64 start = hexadecimal(&digits);

		if (digits != at && *digits == '-') {
			digits++;
			area->start = start;
			area->end = hexadecimal(&digits);
		}
		if (!flags)
			continue;
		copy_flags(area, flags);
		if (!among("ss", area->flags))
			continue;
		if (++mm->count == MAX_AREAS)
			give_up("an address space has too many shadow stacks");
		area++;
	}
}

/*
 * The files stay with the mm they were opened for, and can be read while the task executes another
 * program, when they could not be opened.  They end with the task.
 */
static size_t read_maps(struct mm *mm, const struct task *task)
{
	size_t size = mm->maps_file > 0 ? read_again(mm->maps_file) : 0;

	if (size || task->holder)
		return size;
	close_files(mm);
	mm->maps_file = open_about(task, "/maps");
	mm->smaps_file = open_about(task, "/smaps");
	return mm->maps_file > 0 ? read_again(mm->maps_file) : 0;
}

/*
 * Read smaps only if maps has changed since, because it takes much longer.  EXACT: always, since
 * maps does not tell a shadow stack from other memory that comes to lie in the same place.
 */
static void look(struct mm *mm, const struct task *task, bool exact)
{
	size_t size = read_maps(mm, task);
	u64 now = hash(text, size);

	if (!size || (!exact && mm->known && now == mm->maps))
		return;
	if (mm->smaps_file <= 0 || !read_again(mm->smaps_file))
		return;
	parse_smaps(mm);
	mm->maps = now;
	mm->known = true;
}

/* Look at all address spaces, and exactly at one of them (none: -1). */
void areas_look(int exact)
{
	for (int i = 0; i < count; i++) {
		const struct task *task = user_of(i);

		if (task) {
			look(&mms[i], task, i == exact);
			continue;
		}
		mms[i].count = 0;
		close_files(&mms[i]);
	}
}

/* ---- each scenario has its own -------------------------------------------------------- */

void areas_reset(void)
{
	for (int i = 0; i < count; i++) {
		mms[i].known = mms[i].was_told = false;
		mms[i].count = mms[i].before_count = 0;
		close_files(&mms[i]);
	}
	count = 0;
}

/* The number of an address space that there was not before. */
int new_mm(void)
{
	if (count == MAX_MMS)
		give_up("a scenario has too many address spaces");
	return count++;
}

/* ---- what is new -------------------------------------------------------------------------- */

void areas_remember(void)
{
	for (int i = 0; i < count; i++) {
		mms[i].before_count = mms[i].count;
		for (int j = 0; j < mms[i].count; j++)
			mms[i].before[j] = mms[i].areas[j].start;
	}
}

static bool was_there(const struct mm *mm, u64 start)
{
	for (int i = 0; i < mm->before_count; i++)
		if (mm->before[i] == start)
			return true;
	return false;
}

const struct area *areas_made(int number)
{
	if (number < 0)
		return NULL;
	for (int i = 0; i < mms[number].count; i++)
		if (!was_there(&mms[number], mms[number].areas[i].start))
			return &mms[number].areas[i];
	return NULL;
}

/* ---- telling ------------------------------------------------------------------------------- */

static void put_mm(struct line *line, int number)
{
	const struct mm *mm = &mms[number];
	const char *comma = "";

	put(line, "{\"mm\":");
	put_number(line, number);
	put(line, ",\"slots\":[");
	for (int i = 0; i < scenario.slots; i++) {
		const struct task *task = &scenario.tasks[i];

		if (task->mm != number || (task->state != USER && task->state != BLOCKED))
			continue;
		put(line, comma);
		put_number(line, i);
		comma = ",";
	}
	put(line, "],\"shstk\":[");
	for (int i = 0; i < mm->count; i++) {
		put(line, i ? ",[" : "[");
		put_unsigned(line, mm->areas[i].start);
		put(line, ",");
		put_unsigned(line, mm->areas[i].end);
		put(line, ",");
		put_string(line, mm->areas[i].flags);
		put(line, "]");
	}
	put(line, "]}");
}

/* Say of each mm what has changed since it was last told. */
void areas_tell(struct line *line)
{
	const char *comma = "";

	for (int i = 0; i < count; i++) {
		size_t start = line->used, from;
		u64 now;

		put(line, comma);
		from = line->used;
		put_mm(line, i);
		now = hash(line->text + from, line->used - from);
		if (mms[i].was_told && now == mms[i].told) {
			line->used = start;
			continue;
		}
		mms[i].told = now;
		mms[i].was_told = true;
		comma = ",";
	}
}

/* Reads cases, executes them, reports. */
#include "guest.h"

const char *const mode_names[MODES] = { [OFF] = "off", [SHSTK] = "shstk", [WRSS] = "wrss" };

static struct task tasks[MODES];
u64 case_number, step_number;
static int fixed_pages;		/* the rest are the case's own */

static enum mode mode_called(const char *word)
{
	for (int mode = 0; word && mode < MODES; mode++)
		if (same_word(word, mode_names[mode]))
			return (enum mode)mode;
	die("no such mode");
}

static void line_start(void)
{
	put("{\"case\":");
	put_number(case_number);
	put_name("step", step_number);
}

static void line_end(void)
{
	put("}\n");
}

/* Whether two pages are the same; without a branch for each word. */
static int same_page(const u64 *a, const u64 *b)
{
	u64 other = 0;

	for (size_t i = 0; i < WORDS; i++)
		other |= a[i] ^ b[i];
	return !other;
}

static void put_words(const struct task *task)
{
	const char *separator = "";

	put(",\"words\":[");
	for (int i = 0; i < layout.count; i++) {
		struct page *page = &layout.pages[i];

		if (!looked_at(page, task->group) || same_page(page->now, page->before))
			continue;
		page->touched = 1;
		for (size_t at = 0; at < WORDS; at++) {
			if (page->now[at] == page->before[at])
				continue;
			page->before[at] = page->now[at];
			put(separator);
			put("[");
			put_number(page->addr + 8 * at);
			put(",");
			put_number(page->now[at]);
			put("]");
			separator = ",";
		}
	}
	put("]");
}

static void report(const struct task *task, const struct fault *fault)
{
	line_start();
	put_name("rip", task->regs.rip);
	put_name("rsp", task->regs.rsp);
	put_name("cs", task->regs.cs);
	put_name("cf", task->regs.eflags & 1);
	put_name("rax", task->regs.rax);
	if (task->readable)
		put_name("ssp", task->ssp);
	put_words(task);
	if (fault->signal) {
		put(",\"fault\":{\"signal\":");
		put_number((u64)fault->signal);
		put_name("code", (u64)fault->code);
		put_name("vector", fault->vector);
		put_name("error", fault->error);
		put_name("address", fault->address);
		put("}");
	}
	line_end();
}

static void lost(struct task *task, const char *why)
{
	line_start();
	put(",\"lost\":\"");
	put(why);
	put("\"");
	line_end();
	layout.count = fixed_pages;
	start(task, task->mode);
}

static void set_register(struct task *task, const char *name, u64 value)
{
	static const struct {
		const char *name;
		size_t at;
	} table[] = {
		{ "rip", offsetof(struct task, regs.rip) },
		{ "rsp", offsetof(struct task, regs.rsp) },
		{ "cs", offsetof(struct task, regs.cs) },
		{ "rax", offsetof(struct task, regs.rax) },
		{ "rcx", offsetof(struct task, regs.rcx) },
		{ "rdx", offsetof(struct task, regs.rdx) },
		{ "rdi", offsetof(struct task, regs.rdi) },
		{ "rsi", offsetof(struct task, regs.rsi) },
		{ "ssp", offsetof(struct task, ssp) },
	};

	if (same_word(name, "cf")) {
		task->regs.eflags = (task->regs.eflags & ~1ul) | value;
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		if (same_word(name, table[i].name)) {
			*(u64 *)((char *)task + table[i].at) = value;
			return;
		}
	}
	die("no such register");
}

static void set_registers(struct task *task)
{
	char *word;

	while ((word = (char *)next_word())) {
		u64 value = number(assigned(word));

		set_register(task, word, value);
	}
}

/* Put the instruction where the task will execute it, if that is in code. */
static void place(const struct task *task, const char *word)
{
	unsigned char code[16];
	int count = bytes(word, code, sizeof(code));
	struct page *page = page_at(task->regs.rip);

	if (page && page->kind == CODE && task->regs.rip - page->addr <= PAGE_SIZE - sizeof(code))
		memcpy((void *)task->regs.rip, code, (size_t)count);
}

/* The areas that map_shadow_stack makes are looked at as the others are, till the case ends. */
static void note_mapping(struct task *task, u64 size)
{
	if (task->regs.rax >= -PAGE_SIZE || task->mapped)
		return;
	task->mapped = task->regs.rax;
	task->mapped_size = (size + PAGE_SIZE - 1) & -PAGE_SIZE;
	for (u64 at = 0; at < task->mapped_size; at += PAGE_SIZE) {
		add_page(task->mapped + at, SHADOW, task->group, at > 0);
		memset(layout.pages[layout.count - 1].before, 0, PAGE_SIZE);
	}
	look(task, task->group);
}

/* One step; 0: the case is over. */
static int execute(struct task *task)
{
	const char *code = next_word();
	const char *name = next_word();
	int maps = name && same_word(name, "map_shadow_stack");
	u64 size = task->regs.rsi;
	struct fault fault;
	int what;

	place(task, code);
	if (!set_state(task)) {
		lost(task, "refused");
		return 0;
	}
	what = step(task, &fault);
	if (what != DONE) {
		lost(task, what == STUCK ? "stuck" : what == GONE ? "gone" : "changed");
		return 0;
	}
	if (maps && !fault.signal)
		note_mapping(task, size);
	report(task, &fault);
	step_number++;
	return !fault.signal;
}

static void finish(struct task *task)
{
	layout.count = fixed_pages;
	restore(task);
	if (task->mapped && call_in(task, SYS_munmap, task->mapped, task->mapped_size, 0))
		lost(task, "not unmapped");
	task->mapped = 0;
}

static void run_case(void)
{
	struct task *task;
	const char *word;
	int going = 1;

	case_number = number(next_word());
	step_number = 0;
	task = &tasks[mode_called(next_word())];
	if (!task->pid)
		start(task, (enum mode)(task - tasks));
	task->group = number(next_word());
	task->regs.eflags = FLAGS;
	task->last_ssp = ~0ul;
	while (next_line() && (word = next_word()) && !same_word(word, "end")) {
		if (!going)
			continue;
		if (same_word(word, "set")) {
			set_registers(task);
		} else if (same_word(word, "word")) {
			u64 addr = number(next_word());

			if (!poke(task, addr, number(next_word())))
				die("a word cannot be written");
		} else if (same_word(word, "do")) {
			going = execute(task);
		} else {
			die("a line of a case is of no known kind");
		}
	}
	finish(task);
}

static void read_layout(const char *word)
{
	if (same_word(word, "background")) {
		layout.background = number(next_word());
	} else if (same_word(word, "page")) {
		u64 addr = number(next_word());
		enum kind kind = kind_called(next_word());
		u64 group = number(next_word());

		add_page(addr, kind, group, next_word() != NULL);
	} else {
		die("a line outside of cases is of no known kind");
	}
}

static void campaign(void)
{
	while (next_line()) {
		const char *word = next_word();

		if (!word)
			continue;
		if (!same_word(word, "case")) {
			read_layout(word);
			continue;
		}
		if (!fixed_pages) {
			fixed_pages = layout.count;
			map_code();
		}
		run_case();
		if (case_number % 16 == 0)
			flush();
	}
}

/* A word that some case has changed outside of its group is told at the end. */
static void look_for_strays(void)
{
	for (int mode = 0; mode < MODES; mode++) {
		if (!tasks[mode].pid)
			continue;
		look(&tasks[mode], ALL);
		for (int i = 0; i < layout.count; i++) {
			struct page *page = &layout.pages[i];

			if (!looked_at(page, ALL) || same_page(page->now, page->before))
				continue;
			put("{\"stray\":");
			put_number(page->addr);
			put("}\n");
		}
	}
}

/* The kernel's stack: the number of arguments, then pointers to them. */
void begin(const u64 *args)
{
	const char *path = "/scenarios";

	if (args[0] == 3 && same_word((const char *)args[1 + 1], "--host")) {
		out_to_stdout();
		patience = 900000;	/* others want the CPU, too */
		path = (const char *)args[1 + 2];
	} else {
		if (syscall1(SYS_iopl, 3))
			syscall1(SYS_exit, 1);
		syscall2(SYS_mkdir, "/proc", 0755);
		syscall6(SYS_mount, (long)"proc", (long)"/proc", (long)"proc", 0, 0, 0);
	}
	text_open(path);
	campaign();
	look_for_strays();
	put("{\"campaign\":\"done\"}\n");
	flush();
	stop_all(0);
}

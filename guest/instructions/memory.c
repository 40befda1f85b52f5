/* The memory of a task: filled, set, looked at, put back. */
#include "guest.h"

enum { PTRACE_POKEDATA = 5 };

struct span {
	void *start;
	u64 size;
};

/* Shadow stacks cannot be written by process_vm_writev(2). */
void open_memory(struct task *task)
{
	char path[40] = "/proc/", digits[12];
	char *to = path + 6;
	int pid = task->pid, count = 0;

	do
		digits[count++] = (char)('0' + pid % 10);
	while (pid /= 10);
	while (count)
		*to++ = digits[--count];
	memcpy(to, "/mem", 5);
	task->memory = (int)syscall3(SYS_open, path, O_RDWR, 0);
	if (task->memory < 0)
		die("no access to a task's memory");
}

void fill(struct page *page)
{
	for (size_t i = 0; i < WORDS; i++)
		page->before[i] = layout.background;
	page->touched = 0;
}

void write_page(struct task *task, struct page *page)
{
	if (syscall4(SYS_pwrite64, task->memory, page->before, PAGE_SIZE, page->addr) != PAGE_SIZE)
		die("a page cannot be written");
}

int poke(struct task *task, u64 addr, u64 value)
{
	struct page *page = page_at(addr);

	if (page && page->kind == CODE) {
		*(volatile u64 *)addr = value;
		return 1;
	}
	if (!page || addr & 7)
		return 0;
	page->before[(addr & (PAGE_SIZE - 1)) / 8] = value;
	page->touched = 1;
	return !syscall4(SYS_ptrace, PTRACE_POKEDATA, task->pid, addr, value);
}

/* Read the pages of a group. */
void look(struct task *task, u64 group)
{
	static struct span here[MAX_PAGES], there[MAX_PAGES];
	long count = 0;

	for (int i = 0; i < layout.count; i++) {
		struct page *page = &layout.pages[i];

		if (!looked_at(page, group))
			continue;
		here[count] = (struct span){ page->now, PAGE_SIZE };
		there[count++] = (struct span){ (void *)page->addr, PAGE_SIZE };
	}
	if (syscall6(SYS_process_vm_readv, task->pid, (long)here, count, (long)there, count, 0) !=
	    count * (long)PAGE_SIZE)
		die("a task's pages cannot be read");
}

/* Put the background back wherever a case has left something else. */
void restore(struct task *task)
{
	for (int i = 0; i < layout.count; i++) {
		struct page *page = &layout.pages[i];

		if (page->kind != CODE && page->touched) {
			fill(page);
			write_page(task, page);
		}
	}
}

/* The pages that cases are about. */
#include "guest.h"

struct layout layout;

static const char *const kind_names[KINDS] = {
	[RW] = "rw", [RO] = "ro", [NONE] = "none", [SHADOW] = "shadow", [FROZEN] = "frozen",
	[USED] = "used", [CODE] = "code",
};

enum kind kind_called(const char *word)
{
	for (int kind = 0; word && kind < KINDS; kind++)
		if (same_word(word, kind_names[kind]))
			return (enum kind)kind;
	die("a page of no known kind");
}

static u64 *two_buffers(void)
{
	long start = sys_mmap(0, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (start < 0)
		die("no memory for pages");
	return (u64 *)start;
}

/* The tracer can look at it, and cases of the group do. */
int looked_at(const struct page *page, u64 group)
{
	if (page->kind == CODE || page->kind == NONE)
		return 0;
	return group == ALL || page->group == group;
}

void add_page(u64 addr, enum kind kind, u64 group, int joined)
{
	struct page *page = &layout.pages[layout.count];

	if (layout.count == MAX_PAGES)
		die("too many pages");
	page->addr = addr;
	page->kind = kind;
	page->group = group;
	page->joined = joined;
	page->touched = 0;
	if (!page->before) {
		page->before = two_buffers();
		page->now = page->before + WORDS;
	}
	layout.count++;
}

struct page *page_at(u64 addr)
{
	for (int i = 0; i < layout.count; i++)
		if (layout.pages[i].addr == (addr & -PAGE_SIZE))
			return &layout.pages[i];
	return NULL;
}

/* Code is shared with the tasks: the tracer writes instructions where it has it itself. */
void map_code(void)
{
	for (int i = 0; i < layout.count; i++) {
		struct page *page = &layout.pages[i];

		if (page->kind == CODE &&
		    sys_mmap(page->addr, PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1) < 0)
			die("code cannot be mapped");
	}
}

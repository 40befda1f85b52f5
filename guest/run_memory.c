/* Operations on memory: mmap(2) and its like, and map_shadow_stack(2). */
#include "guest.h"

static u64 page_align(u64 size)
{
	return (size + PAGE_SIZE - 1) & -PAGE_SIZE;
}

static u64 protection(const char *words)
{
	if (!words || same(words, "rw"))
		return PROT_READ | PROT_WRITE;
	return same(words, "r") ? PROT_READ : 0;
}

static const char *have_memory_call(struct step *step, struct task *task, u64 kind, u64 call,
				    const u64 values[6])
{
	tell(task, kind, call, values);
	settle();
	take_result(step, task);
	return NULL;
}

/* The call has made a range of SIZE bytes, if it has succeeded. */
static void take_range(struct step *step, u64 size)
{
	struct range *range = &scenario.ranges[step->number];
	u64 start = (u64)step->result;

	if (step->has_result && !failed(step->result))
		*range = (struct range){ true, start, start + page_align(size) };
}

const char *run_mmap(struct step *step, struct task *task)
{
	const u64 flags = MAP_PRIVATE | MAP_ANONYMOUS |
			  (given(step, "noreplace") ? (u64)MAP_FIXED_NOREPLACE : 0) |
			  (given(step, "fixed") ? (u64)MAP_FIXED : 0);
	const u64 values[6] = { number(step, "addr"), number(step, "size"),
				protection(word(step, "prot")), flags, -1ul };

	have_memory_call(step, task, DO_SYSCALL, SYS_mmap, values);
	take_range(step, number(step, "size"));
	return NULL;
}

const char *run_munmap(struct step *step, struct task *task)
{
	const u64 values[6] = { number(step, "addr"), number(step, "size") };

	return have_memory_call(step, task, DO_SYSCALL, SYS_munmap, values);
}

const char *run_mprotect(struct step *step, struct task *task)
{
	const u64 values[6] = { number(step, "addr"), number(step, "size"),
				protection(word(step, "prot")) };

	return have_memory_call(step, task, DO_SYSCALL, SYS_mprotect, values);
}

const char *run_mremap(struct step *step, struct task *task)
{
	const u64 size = number(step, "size"), new = number_or(step, "new_size", size);
	const u64 flags = (given(step, "maymove") || given(step, "to") ? MREMAP_MAYMOVE : 0) |
			  (given(step, "to") ? MREMAP_FIXED : 0);
	const u64 values[6] = { number(step, "addr"), size, new, flags, number(step, "to") };

	have_memory_call(step, task, DO_SYSCALL, SYS_mremap, values);
	take_range(step, new);
	return NULL;
}

const char *run_mseal(struct step *step, struct task *task)
{
	const u64 values[6] = { number(step, "addr"), number(step, "size"), 0 };

	return have_memory_call(step, task, DO_SYSCALL, SYS_mseal, values);
}

const char *run_map_shadow_stack(struct step *step, struct task *task)
{
	const u64 flags = number(step, "flags") |
			  (given(step, "token") ? SHADOW_STACK_SET_TOKEN : 0);
	const u64 values[6] = { number(step, "addr"), number(step, "size"), flags };
	const bool compat = given(step, "compat");

	have_memory_call(step, task, compat ? DO_INT80 : DO_SYSCALL,
			 compat ? I386_map_shadow_stack : SYS_map_shadow_stack, values);
	take_range(step, number(step, "size"));
	return NULL;
}

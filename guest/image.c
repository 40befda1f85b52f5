/* What a new image does, still without a shadow stack, before it becomes a task. */
#include "guest.h"

#define AT_NULL		0
#define AT_SYSINFO_EHDR	33

/* The vDSO and its data would lie where the kernel otherwise places mappings. */
static void unmap_vdso(u64 vdso)
{
	char text[4096];
	const char *at = text;

	if (!vdso || read_file("/proc/self/maps", text, sizeof(text)) <= 0)
		return;
	while (*at) {
		u64 start = hexadecimal(&at);
		u64 end = *at == '-' ? (at++, hexadecimal(&at)) : start;
		const char *name = at;

		while (*at && *at != '\n')
			at++;
		for (; name < at; name++)
			if (after(name, "[vdso]") || after(name, "[vvar"))
				syscall2(SYS_munmap, start, end - start);
		if (*at)
			at++;
	}
}

/* Make this process the task of a slot; where its loop finds its box and its data stack. */
struct place start_task(int slot, const u64 *auxiliary)
{
	const struct place place = { BOX(slot), ARENA + (u64)(slot + 1) * STACK_SIZE };
	const int own = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	for (; auxiliary[0] != AT_NULL; auxiliary += 2)
		if (auxiliary[0] == AT_SYSINFO_EHDR)
			unmap_vdso(auxiliary[1]);
	if (map(SHARED, SHARED_SIZE, MAP_FIXED | MAP_SHARED, FD_SHARED) != SHARED ||
	    map(ARENA, ARENA_SIZE, own, -1) != ARENA)
		syscall1(SYS_exit_group, 126);
	syscall2(SYS_arch_prctl, ARCH_SET_GS, place.box);
	place.box->tid = (u32)syscall0(SYS_gettid);
	return place;
}

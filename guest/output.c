/* Where lines go: port 0xE9 of the machine, or standard output; and the end. */
#include "guest.h"

#define DEBUG_PORT	0xe9
#define POWER_PORT	0x8900

static bool to_port;

/* From now on write to the port. */
void output_to_port(void)
{
	to_port = syscall1(SYS_iopl, 3) == 0;
}

static void write_all(const char *text, size_t size)
{
	while (!to_port && size) {
		long wrote = syscall3(SYS_write, 1, text, size);

		if (wrote <= 0)
			syscall1(SYS_exit_group, 1);
		text += wrote;
		size -= (size_t)wrote;
	}
	if (to_port)
		__asm__ volatile("rep outsb"
				 : "+S"(text), "+c"(size) : "d"(DEBUG_PORT) : "memory");
}

void write_line(const struct line *line)
{
	static const char cut[] = "{\"error\":\"a report is too long\"}\n";

	if (line->cut)
		write_all(cut, sizeof(cut) - 1);
	else
		write_all(line->text, line->used);
}

/* End the machine, or the process with an exit status. */
void power_off(int status)
{
	for (const char *at = "Shutdown"; !on_host && *at; at++)
		__asm__ volatile("outb %0, %1" : : "a"(*at), "Nd"((uint16_t)POWER_PORT));
	for (;;)
		syscall1(SYS_exit_group, status);
}

/* The program itself cannot go on. */
void give_up(const char *why)
{
	static char text[512];
	struct line line;

	start_line(&line, text, sizeof(text));
	put(&line, "{\"error\":");
	put_string(&line, why);
	put(&line, ",\"scenario\":");
	put_number(&line, scenario.id);
	put(&line, ",\"step\":");
	put_number(&line, scenario.step);
	put(&line, "}\n");
	write_line(&line);
	power_off(1);
}

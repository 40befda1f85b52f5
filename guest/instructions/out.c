/* Lines for the host: to port 0xE9, or to standard output where there is a host's kernel. */
#include "guest.h"

static char buffer[1 << 16];
static size_t used;
static int to_stdout;

void out_to_stdout(void)
{
	to_stdout = 1;
}

void flush(void)
{
	const char *from = buffer;
	size_t size = used;

	used = 0;
	if (to_stdout) {
		while (size) {
			long done = syscall3(SYS_write, 1, from, size);

			if (done == -EINTR)
				continue;	/* by the tracer's timer */
			if (done <= 0)
				stop_all(1);
			from += done;
			size -= (size_t)done;
		}
		return;
	}
	__asm__ volatile("rep outsb" : "+S"(from), "+c"(size) : "d"(0xe9) : "memory");
}

void put(const char *text)
{
	while (*text) {
		if (used == sizeof(buffer))
			flush();
		buffer[used++] = *text++;
	}
}

void put_number(u64 value)
{
	char digits[24];
	int at = sizeof(digits);

	digits[--at] = 0;
	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	put(digits + at);
}

void put_name(const char *name, u64 value)
{
	put(",\"");
	put(name);
	put("\":");
	put_number(value);
}

void stop_all(int status)
{
	static const char word[] = "Shutdown";

	if (!to_stdout)
		for (int i = 0; word[i]; i++)
			__asm__ volatile("outb %b0, %w1" : : "a"(word[i]), "d"(0x8900));
	for (;;)
		syscall1(SYS_exit, status);
}

void die(const char *why)
{
	put("{\"failed\":\"");
	put(why);
	put("\"");
	put_name("case", case_number);
	put_name("step", step_number);
	put("}\n");
	flush();
	stop_all(1);
}

/* The file of cases: lines of words. */
#include "guest.h"

static char *at, *end, *line_end;

void *memset(void *to, int byte, size_t size)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
	return start;
}

void *memcpy(void *to, const void *from, size_t size)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return start;
}

int same_word(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return *a == *b;
}

/* Words are ended in place, so the file is mapped privately, with a page of zeros behind it. */
void text_open(const char *path)
{
	int file = (int)syscall3(SYS_open, path, O_RDONLY, 0);
	long size = file < 0 ? file : syscall3(SYS_lseek, file, 0, SEEK_END);
	long start;

	if (size < 0)
		die("the file of cases cannot be read");
	start = sys_mmap(0, (u64)size + PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (start < 0)
		die("no memory for the cases");
	if (size > 0 && sys_mmap((u64)start, (u64)size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_FIXED, file) < 0)
		die("the file of cases cannot be mapped");
	syscall1(SYS_close, file);
	at = line_end = (char *)start;
	end = at + size;
}

/* Go to the next line that is not empty; 0 at the end of the file. */
int next_line(void)
{
	for (at = line_end; at < end; at = line_end) {
		while (at < end && (*at == '\n' || *at == 0))
			at++;
		line_end = at;
		while (line_end < end && *line_end != '\n')
			line_end++;
		if (line_end > at)
			return 1;
	}
	return 0;
}

/* The next word of the line, or NULL. */
const char *next_word(void)
{
	char *word;

	while (at < line_end && *at == ' ')
		at++;
	if (at >= line_end)
		return NULL;
	word = at;
	while (at < line_end && *at != ' ')
		at++;
	*at = 0;
	if (at < line_end)
		at++;
	return word;
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

u64 number(const char *word)
{
	u64 value = 0, base = 10;

	if (!word)
		die("a number is missing in the file of cases");
	if (word[0] == '0' && word[1] == 'x') {
		base = 16;
		word += 2;
	}
	for (; *word; word++) {
		int d = digit(*word);

		if (d < 0 || d >= (int)base)
			die("a number in the file of cases is none");
		value = value * base + (u64)d;
	}
	return value;
}

/* Hexadecimal digits as bytes; how many. */
int bytes(const char *word, unsigned char *to, int room)
{
	int count = 0;

	for (; word && word[0] && word[1] && count < room; word += 2) {
		int high = digit(word[0]), low = digit(word[1]);

		if (high < 0 || low < 0)
			die("the bytes of an instruction are none");
		to[count++] = (unsigned char)(high << 4 | low);
	}
	return count;
}

/* Ends NAME of "NAME=VALUE" and gives VALUE. */
char *assigned(char *word)
{
	while (*word && *word != '=')
		word++;
	if (!*word)
		die("a register has no value");
	*word = 0;
	return word + 1;
}

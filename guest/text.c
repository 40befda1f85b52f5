/* Text: comparing it, reading numbers out of it, putting it together; small files. */
#include "text.h"

void *memset(void *to, int byte, size_t size)
{
	void *at = to;

	__asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
	void *at = to;

	__asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
	return to;
}

size_t length(const char *text)
{
	size_t size = 0;

	while (text[size])
		size++;
	return size;
}

bool same(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return *a == *b;
}

const char *after(const char *text, const char *prefix)
{
	while (*prefix)
		if (*text++ != *prefix++)
			return NULL;
	return text;
}

const char *behind(const char *text, const char *word)
{
	for (; *text; text++) {
		const char *rest = after(text, word);

		if (rest)
			return rest;
	}
	return NULL;
}

bool among(const char *word, const char *choices)
{
	for (const char *each = choices; *each;) {
		const char *rest = after(each, word);

		if (rest && (!*rest || *rest == ' '))
			return true;
		while (*each && *each != ' ')
			each++;
		while (*each == ' ')
			each++;
	}
	return false;
}

bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

u64 hexadecimal(const char **text)
{
	u64 value = 0;

	for (; hex_digit(**text) >= 0; (*text)++)
		value = value << 4 | (u64)hex_digit(**text);
	return value;
}

u64 decimal(const char **text)
{
	u64 value = 0;

	for (; is_digit(**text); (*text)++)
		value = value * 10 + (u64)(**text - '0');
	return value;
}

void start_line(struct line *line, char *text, size_t room)
{
	line->text = text;
	line->room = room;
	line->used = 0;
	line->cut = false;
}

void put_some(struct line *line, const char *text, size_t size)
{
	if (line->used + size + 1 > line->room) {
		line->cut = true;
		return;
	}
	memcpy(line->text + line->used, text, size);
	line->used += size;
}

void put(struct line *line, const char *text)
{
	put_some(line, text, length(text));
}

void put_unsigned(struct line *line, u64 value)
{
	char digits[20];
	size_t at = sizeof(digits);

	do {
		digits[--at] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	put_some(line, digits + at, sizeof(digits) - at);
}

void put_number(struct line *line, s64 value)
{
	if (value < 0)
		put(line, "-");
	put_unsigned(line, value < 0 ? -(u64)value : (u64)value);
}

void put_string(struct line *line, const char *text)
{
	put(line, "\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			put(line, "\\");
		if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			put(line, "?");
		else
			put_some(line, text, 1);
	}
	put(line, "\"");
}

const char *said(struct line *line)
{
	line->text[line->used] = 0;
	return line->text;
}

long read_file(const char *path, char *to, size_t room)
{
	long fd = syscall2(SYS_open, path, O_RDONLY);
	size_t size = 0;
	long got;

	if (fd < 0)
		return fd;
	do {
		got = syscall3(SYS_read, fd, to + size, room - 1 - size);
		if (got > 0)
			size += (size_t)got;
	} while (got > 0 && size < room - 1);
	syscall1(SYS_close, fd);
	to[size] = 0;
	return got < 0 && !size ? got : (long)size;
}

long write_file(const char *path, const char *text)
{
	long fd = syscall2(SYS_open, path, O_WRONLY);
	long wrote;

	if (fd < 0)
		return fd;
	wrote = syscall3(SYS_write, fd, text, length(text));
	syscall1(SYS_close, fd);
	return wrote < 0 ? wrote : 0;
}

u64 hash(const char *text, size_t size)
{
	u64 value = 14695981039346656037ul;

	for (size_t i = 0; i < size; i++)
		value = (value ^ (unsigned char)text[i]) * 1099511628211ul;
	return value;
}

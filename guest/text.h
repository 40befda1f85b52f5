/* Text: comparing it, reading numbers out of it, putting it together; small files. */
#ifndef TEXT_H
#define TEXT_H

#include "sys.h"

size_t length(const char *text);
bool same(const char *a, const char *b);
/* What follows PREFIX in TEXT, or NULL if TEXT does not begin with it. */
const char *after(const char *text, const char *prefix);
/* What follows the first WORD in TEXT, or NULL. */
const char *behind(const char *text, const char *word);
/* WORD is one of CHOICES, which are separated by blanks. */
bool among(const char *word, const char *choices);
bool is_digit(char c);
/* A number in base 16 or 10 at *TEXT, which is moved behind it. */
u64 hexadecimal(const char **text);
u64 decimal(const char **text);

/* A line under construction; what does not fit is left out, and the line says so. */
struct line {
	char *text;
	size_t used, room;
	bool cut;
};

void put(struct line *line, const char *text);
void put_some(struct line *line, const char *text, size_t size);
void put_number(struct line *line, s64 value);
void put_unsigned(struct line *line, u64 value);
/* TEXT as a JSON string. */
void put_string(struct line *line, const char *text);
/* Forget what is in LINE and start it again, on TEXT. */
void start_line(struct line *line, char *text, size_t room);
/* The text of LINE so far, ended by a zero. */
const char *said(struct line *line);

/* Read a small file; the bytes read, or a negative error number.  A zero is put behind them. */
long read_file(const char *path, char *to, size_t room);
/* Write TEXT to a file that exists; 0 or a negative error number. */
long write_file(const char *path, const char *text);
u64 hash(const char *text, size_t size);

#endif

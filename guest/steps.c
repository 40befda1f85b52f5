/* A step of a scenario: its line, checked, and what its arguments say. */
#include "guest.h"

#define MAX_WORDS	(3 + MAX_ARGUMENTS)

/* ---- words and numbers of a line ------------------------------------------------------ */

static int split(char *line, const char *words[])
{
	int found = 0;

	for (;;) {
		while (*line == ' ' || *line == '\t')
			*line++ = 0;
		if (!*line)
			return found;
		if (found == MAX_WORDS + 1)
			return found;
		words[found++] = line;
		while (*line && *line != ' ' && *line != '\t')
			line++;
	}
}

/* A decimal number below BELOW, of at most nine digits. */
bool small_number(const char *text, long below, long *value)
{
	const char *at = text;

	if (!is_digit(*at) || length(text) > 9)
		return false;
	*value = (long)decimal(&at);
	return !*at && *value < below;
}

static bool good_value(const struct parameter *parameter, const char *text)
{
	u64 ignored;

	switch (parameter->kind) {
	case VALUE:
		return evaluate(text, &ignored, NULL);
	case WORD:
		return *text && (!parameter->words || among(text, parameter->words));
	case FLAG:
		return same(text, "1");
	case CLONE_FLAGS:
		return take_flags(text, &ignored);
	}
	return false;
}

/* ---- a step -------------------------------------------------------------------------------- */

/* What is wrong with an argument, or NULL; *DETAIL is the word to be shown. */
static const char *take_argument(struct step *step, char *argument, const char **detail)
{
	const char *value = "1";
	bool bare = true;

	*detail = argument;
	for (char *at = argument; *at; at++) {
		if (*at == '=') {
			*at = 0;
			value = at + 1;
			bare = false;
			break;
		}
	}
	for (int i = 0; i < MAX_ARGUMENTS; i++) {
		const struct parameter *parameter = &step->operation->parameters[i];

		if (!parameter->name || !same(parameter->name, argument))
			continue;
		if (step->values[i])
			return "an argument is given twice";
		if (bare && parameter->kind != FLAG)
			return "an argument lacks its value";
		if (!good_value(parameter, value))
			return "an argument has a wrong value";
		step->values[i] = value;
		return NULL;
	}
	return "the operation has no argument of that name";
}

/* Make a step of a line, which is changed; what is wrong with it, or NULL, and with which word. */
const char *take_step(struct step *step, char *line, const char **detail)
{
	const char *words[MAX_WORDS + 1];
	int found = split(line, words);
	const char *wrong;
	long slot;

	memset(step, 0, sizeof(*step));
	*detail = words[0];
	if (found < 3)
		return "a step is a number, a slot, an operation and its arguments";
	if (!small_number(words[0], MAX_STEPS, &step->number) || step->number == 0)
		return "a step's number is from 1 to 511";
	*detail = words[1];
	if (!small_number(words[1], MAX_SLOTS, &slot))
		return "a slot is from 0 to 127";
	step->slot = (int)slot;
	step->operation = operation_called(words[2]);
	*detail = words[2];
	if (!step->operation)
		return "there is no such operation";
	if (found > MAX_WORDS)
		return "there are too many arguments";
	for (int i = 3; i < found; i++) {
		wrong = take_argument(step, (char *)words[i], detail);
		if (wrong)
			return wrong;
	}
	for (int i = 0; i < MAX_ARGUMENTS; i++) {
		const struct parameter *parameter = &step->operation->parameters[i];

		*detail = parameter->name;
		if (parameter->name && parameter->required && !step->values[i])
			return "the operation lacks an argument";
	}
	return NULL;
}

/* ---- asking for arguments --------------------------------------------------------------- */

static const char *argument(const struct step *step, const char *name)
{
	for (int i = 0; i < MAX_ARGUMENTS; i++)
		if (step->operation->parameters[i].name &&
		    same(step->operation->parameters[i].name, name))
			return step->values[i];
	return NULL;
}

bool given(const struct step *step, const char *name)
{
	return argument(step, name) != NULL;
}

const char *word(const struct step *step, const char *name)
{
	return argument(step, name);
}

u64 number_or(const struct step *step, const char *name, u64 otherwise)
{
	const char *text = argument(step, name);
	const char *why = NULL;
	u64 value;

	if (!text || !evaluate(text, &value, &why))
		return otherwise;
	return value;
}

u64 number(const struct step *step, const char *name)
{
	return number_or(step, name, 0);
}

/* Why the arguments have no value now, or NULL. */
const char *unknown_value(const struct step *step)
{
	const char *why = NULL;
	u64 value;

	for (int i = 0; i < MAX_ARGUMENTS; i++)
		if (step->values[i] && step->operation->parameters[i].kind == VALUE)
			evaluate(step->values[i], &value, &why);
	return why;
}

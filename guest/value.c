/* Numbers and addresses in a campaign: sums of terms, modulo 2^64. */
#include "guest.h"

/* What there is by a number, like r3: its letter, and how many there can be. */
static const struct {
	const char *name;
	u64 count;
} numbered[] = {
	{ "stack", MAX_SLOTS }, { "r", MAX_STEPS }, { "e", MAX_STEPS }, { "s", MAX_SLOTS },
	{ "p", MAX_SLOTS }, { "b", MAX_SLOTS }, { "t", MAX_SLOTS }, { "c", SITES },
};

static const char *range_value(char end, u64 index, u64 *value)
{
	const struct range *range = &scenario.ranges[index];

	if (!range->made)
		return "a range is used that no step has made";
	*value = end == 'r' ? range->start : range->end;
	return NULL;
}

static const char *task_value(char what, u64 index, u64 *value)
{
	const struct task *task = &scenario.tasks[index];

	if (task->state == ABSENT || task->state == STARTING)
		return "a register or stack is used of a task that there is not";
	if (what == 's' || what == 'p') {
		*value = what == 's' ? BOX(index)->ssp : BOX(index)->rsp;
		return NULL;
	}
	if (!task->stack_made)
		return "a shadow stack is used of a task that has none of its own";
	*value = what == 'b' ? task->stack_start : task->stack_end;
	return NULL;
}

static const char *numbered_value(const char *name, u64 index, u64 *value)
{
	switch (*name == 's' && name[1] ? 'S' : *name) {
	case 'S':
		*value = ARENA + (index + 1) * STACK_SIZE;
		return NULL;
	case 'c':
		*value = (u64)call_sites + index * SITE_SIZE + CALL_SIZE;
		return NULL;
	case 'r':
	case 'e':
		return range_value(*name, index, value);
	default:
		return task_value(*name, index, value);
	}
}

static bool plain_number(const char **text, u64 *value)
{
	const char *digits = after(*text, "0x");
	const char *start;

	if (digits) {
		start = digits;
		*value = hexadecimal(&digits);
	} else {
		start = digits = *text;
		*value = decimal(&digits);
	}
	if (digits == start)
		return false;
	for (const char *unit = "KMGT"; *unit; unit++) {
		if (*digits != *unit)
			continue;
		for (const char *each = "KMGT"; each <= unit; each++)
			*value <<= 10;
		digits++;
		break;
	}
	*text = digits;
	return true;
}

/* One term at *TEXT, which is moved behind it; false where there is none. */
static bool term(const char **text, u64 *value, const char **why)
{
	static const char *const places[] = { "entry", "restorer", "arena" };
	const u64 at[] = { (u64)task_loop, (u64)signal_restorer, ARENA };

	if (is_digit(**text))
		return plain_number(text, value);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const char *rest = after(*text, places[i]);

		if (rest) {
			*value = at[i];
			*text = rest;
			return true;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbered); i++) {
		const char *digits = after(*text, numbered[i].name);
		const char *said = NULL;
		u64 index;

		if (!digits || !is_digit(*digits))
			continue;
		index = decimal(&digits);
		if (index >= numbered[i].count)
			return false;
		*text = digits;
		*value = 0;
		if (why)
			said = numbered_value(numbered[i].name, index, value);
		if (said && !*why)
			*why = said;
		return true;
	}
	return false;
}

bool evaluate(const char *text, u64 *value, const char **why)
{
	char sign = '+';
	u64 part;

	*value = 0;
	for (;;) {
		if (!term(&text, &part, why))
			return false;
		*value += sign == '+' ? part : -part;
		if (!*text)
			return true;
		sign = *text++;
		if (sign != '+' && sign != '-')
			return false;
	}
}

/* The campaign file: scenarios, checked as a whole before they are run. */
#include "guest.h"

static struct step steps[MAX_STEPS];
static int count;

static bool blank(const char *line)
{
	while (*line == ' ' || *line == '\t')
		line++;
	return !*line || *line == '#';
}

/* One line of a scenario; what is wrong with it, or NULL. */
static const char *take_line(char *text, int line, const char **detail)
{
	const char *wrong;

	*detail = text;
	if (count == MAX_STEPS)
		return "a scenario has at most 512 steps";
	wrong = take_step(&steps[count], text, detail);
	steps[count].line = line;
	if (!wrong && count && steps[count].number <= steps[count - 1].number)
		wrong = "the numbers of steps go up";
	count++;
	return wrong;
}

static bool begin_scenario(const char *id, int line)
{
	long value;
	bool good = small_number(id, 1000000000, &value);

	memset(&scenario, 0, sizeof(scenario));
	scenario.id = good ? value : -1;
	count = 0;
	if (!good)
		report_error(line, "a scenario's number has at most 9 digits", id);
	return good;
}

/* Run all scenarios of a campaign, whose text is changed; how many lines were wrong. */
long run_campaign(char *text)
{
	bool inside = false, good = false;
	long errors = 0;
	int line = 0;

	while (*text) {
		const char *wrong = NULL, *detail = text, *id = after(text, "scenario ");
		char *here = text;

		line++;
		while (*text && *text != '\n')
			text++;
		if (*text)
			*text++ = 0;
		if (blank(here))
			continue;
		if (id && !inside) {
			inside = true;
			good = begin_scenario(id, line);
			errors += !good;
		} else if (!inside) {
			wrong = "a scenario begins with `scenario NUMBER`";
		} else if (same(here, "end")) {
			if (good)
				run_scenario(steps, count);
			inside = false;
		} else if (good) {
			wrong = take_line(here, line, &detail);
		}
		if (wrong) {
			report_error(line, wrong, detail);
			errors++;
			good = false;
		}
	}
	if (inside) {
		report_error(line, "a scenario lacks its `end`", "");
		errors++;
	}
	return errors;
}

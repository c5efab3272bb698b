/* What a board would show, told as events where there is no shared memory: from a QEMU guest. */
#include "agent.h"

static uint64_t period, next;

void report_start(uint64_t period_ns)
{
	period = period_ns;
	next = now_ns();
}

uint64_t report_slice(uint64_t now)
{
	if (!period)
		return NEVER;
	if (now < next)
		return next;
	board_report();
	/* Reports that were missed are not made up for. */
	next = next + period > now ? next + period : now + period;
	return next;
}

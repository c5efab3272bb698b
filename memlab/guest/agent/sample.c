/* How much of the guest's memory is in use: the estimate that ESX makes (Waldspurger, OSDI 2002,
 * §5.3), from inside the miniature guest.
 *
 * Each period n frames are chosen at random over all of guest memory and watched: the guest's own
 * memory management, which every access goes through, counts those that are used again. f = t/n.
 * Three moving averages of f: a slow one, a fast one, and the fast one with the unfinished period
 * folded in; the estimate is the largest, so that it rises fast and falls slowly. It knows nothing
 * of workloads: what they say of themselves (working_set_pages) is read nowhere in here.
 */
#include "agent.h"

#define MOST 4096u
#define SLOW 0.25
#define FAST 0.7

static frame_t watched[MOST];
static uint32_t wanted, touched;
static uint64_t period_ns, end_ns, state;
static double slow, fast;
static bool any; /* a period has come to its end */

static double largest(double a, double b) { return a > b ? a : b; }

/* Not random.c's numbers: an observer must not change what the workload draws. */
static frame_t random_frame(void)
{
	return (frame_t)(mix(state += 0x9E3779B97F4A7C15ull) % frames_total());
}

static void choose(uint64_t now)
{
	for (uint32_t i = 0; i < wanted; i++) {
		do /* a frame watched twice would count once */
			watched[i] = random_frame();
		while (frame_entry(watched[i])->watched);
		frame_entry(watched[i])->watched = 1;
	}
	touched = 0;
	end_ns = now + period_ns;
}

static void release(void)
{
	for (uint32_t i = 0; i < wanted; i++)
		frame_entry(watched[i])->watched = 0;
}

static void publish(void)
{
	double now = wanted ? FAST * touched / wanted + (1 - FAST) * fast : 0;
	double all = frames_total();
	counters.active_slow_pages = (uint64_t)(slow * all + 0.5);
	counters.active_fast_pages = (uint64_t)(fast * all + 0.5);
	counters.active_pages = (uint64_t)(largest(largest(slow, fast), now) * all + 0.5);
}

static void finish(void)
{
	double part = (double)touched / wanted;
	slow = any ? SLOW * part + (1 - SLOW) * slow : part;
	fast = any ? FAST * part + (1 - FAST) * fast : part;
	any = true;
	counters.sample_periods++;
	counters.sample_pages += wanted;
	counters.sample_touched += touched;
}

bool sample_start(uint32_t pages, uint64_t ns, uint64_t key)
{
	if (pages > MOST || pages > frames_total() / 2)
		return refuse("at most %u pages can be watched",
			      frames_total() / 2 < MOST ? frames_total() / 2 : MOST);
	release();
	wanted = pages;
	period_ns = ns;
	state = mix(key + 3);
	slow = fast = 0;
	any = false;
	counters.active_pages = counters.active_slow_pages = counters.active_fast_pages = 0;
	choose(now_ns());
	return true;
}

void sample_touch(frame_t frame)
{
	frame_entry(frame)->watched = 0;
	touched++;
}

/* Whether `frame` is still of this period is told by its mark alone; so marks are taken away. */
uint64_t sample_slice(uint64_t now)
{
	if (!wanted)
		return NEVER;
	if (now >= end_ns) {
		release();
		finish();
		choose(now);
	}
	if (any)
		publish();
	return end_ns;
}

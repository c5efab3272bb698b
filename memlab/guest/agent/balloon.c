/* The balloon driver: asks the allocator for frames and gives them back to the host.
 *
 * Free frames first, then clean cache, then guest swap: the order of the guest's own allocator, so
 * the guest and not the host chooses what it can best do without. Work is cut into slices.
 */
#include "agent.h"

#include <stdlib.h>

#define BATCH 256
#define RETRY_NS 200000000ull /* as the Linux driver waits after a failed allocation */

static uint32_t target;
static frame_t head = NO_FRAME; /* frames held, LIFO */
static bool settled = true, said_stuck;
static uint64_t retry_ns;

void balloon_target(uint32_t pages)
{
	target = pages;
	settled = said_stuck = false;
	retry_ns = 0;
	counters.balloon_target_pages = pages;
}

/* What the guest keeps to live on, as a kernel keeps its watermark. */
static uint32_t floor_pages(void)
{
	uint32_t part = frames_total() / 256;
	return part > 32 ? part : 32;
}

static bool may_take(void)
{
	uint32_t movable = frames_count(FREE) + frames_count(CACHE) + frames_count(APP);
	return movable > floor_pages() && (frames_count(FREE) || reclaim_some());
}

/* False when the guest has no more to give. Guest swap is slow, so the slice has an end in time. */
static bool inflate(unsigned wanted, uint64_t end)
{
	frame_t backed[BATCH];
	unsigned count = 0, taken = 0;
	bool more = true;
	for (; taken < wanted && now_ns() < end && (more = may_take()); taken++) {
		frame_t frame = frames_lend();
		frame_entry(frame)->link = head;
		head = frame;
		if (frame_backed(frame))
			backed[count++] = frame;
	}
	frames_discard(backed, count);
	counters.balloon_backed_pages += count;
	counters.balloon_inflated += taken;
	return more;
}

static void deflate(unsigned wanted)
{
	for (unsigned i = 0; i < wanted; i++) {
		frame_t frame = head;
		head = frame_entry(frame)->link;
		counters.balloon_backed_pages -= frame_entry(frame)->backed;
		frames_give(frame);
	}
	counters.balloon_deflated += wanted;
}

static void say(bool stuck)
{
	control_say("{\"event\":\"balloon\",\"ballooned\":%llu,\"target\":%llu%s}",
		    (unsigned long long)frames_count(BALLOON) * PAGE,
		    (unsigned long long)target * PAGE, stuck ? ",\"stuck\":true" : "");
}

static unsigned batch(uint32_t pages)
{
	return pages < BATCH ? pages : BATCH;
}

uint64_t balloon_slice(uint64_t now)
{
	uint32_t held = frames_count(BALLOON);
	if (settled)
		return NEVER;
	if (now < retry_ns)
		return retry_ns;
	if (held > target) {
		deflate(batch(held - target));
	} else if (held < target && !inflate(batch(target - held), now + SLICE_NS)) {
		if (!said_stuck)
			say(true);
		said_stuck = true;
		return retry_ns = now + RETRY_NS;
	}
	if (frames_count(BALLOON) != target)
		return now;
	settled = true;
	say(false);
	return NEVER;
}

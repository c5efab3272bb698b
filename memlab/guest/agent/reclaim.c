/* Where frames come from: the free list, then clean cache, then the guest's swap. */
#include "agent.h"

#define BATCH 32

bool reclaim_some(void)
{
	return cache_evict(BATCH) || app_swap_out(SWAP_CLUSTER);
}

frame_t reclaim_take(enum kind kind, uint32_t link)
{
	frame_t frame = frames_take(kind, link);
	if (frame == NO_FRAME && reclaim_some())
		frame = frames_take(kind, link);
	return frame;
}

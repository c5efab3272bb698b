/* The miniature guest: its memory, swap, cache, application and image, put together. */
#include "agent.h"

static struct {
	int board, swap, cache;
} disks = {-1, -1, -1};

void miniature_descriptors(int board, int swap, int cache)
{
	disks.board = board;
	disks.swap = swap;
	disks.cache = cache;
}

static bool boot(const struct json *doc, uint64_t key, const char *id)
{
	uint64_t memory = 0;
	bool mergeable = false, huge = false;
	if (!json_size(doc, "memory", (uint64_t)MAX_FRAMES * PAGE, &memory) ||
	    !json_bool(doc, "mergeable", &mergeable) || !json_bool(doc, "huge", &huge))
		return false;
	if (!memory)
		return refuse("boot needs memory");
	/* A boot that fails half way cannot be tried again. */
	if (!board_open(disks.board, (uint32_t)(memory / PAGE)) ||
	    !frames_boot(memory, mergeable, huge) || !swap_boot(disks.swap) ||
	    !cache_boot(disks.cache) || !app_boot())
		die("%s", refusal());
	frames_open();
	if (!image_boot(doc, key))
		die("%s", refusal());
	board_publish();
	control_say("{\"id\":%s,\"ok\":true,\"ram_start\":%llu,\"ram_bytes\":%llu,"
		    "\"reserved\":%llu,\"zero_pages\":%llu,\"common_pages\":%llu}",
		    id, (unsigned long long)frames_start(), (unsigned long long)memory,
		    (unsigned long long)frames_count(RESERVED) * PAGE,
		    (unsigned long long)counters.zero_pages,
		    (unsigned long long)counters.common_pages);
	return true;
}

static void collect(void)
{
	counters.configured_pages = frames_total();
	counters.used_pages = frames_count(IMAGE) + frames_count(APP);
	counters.cache_pages = frames_count(CACHE);
	counters.free_pages = frames_count(FREE);
	counters.ballooned_pages = frames_count(BALLOON);
	counters.reserved_pages = frames_count(RESERVED);
	counters.guest_swap_pages = swap_used();
}

static bool sound(void) { return frames_check() && app_check_frames(); }

const struct guest_os miniature = {
	.boot = boot,
	.collect = collect,
	.fits = app_fits,
	.start = app_start,
	.pages = app_pages,
	.read = app_read,
	.write = app_write,
	.release = app_release,
	.class_of = app_class,
	.check = app_check,
	.sound = sound,
	.file_pages = cache_file_pages,
	.read_file = cache_read,
};

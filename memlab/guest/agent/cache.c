/* The guest's page cache: clean pages of its disk, dropped by a clock when frames are wanted. */
#include "agent.h"

#include <sys/stat.h>
#include <unistd.h>

static int file_fd = -1;
static uint32_t *where; /* file page → frame + 1, 0 = not cached */
static uint32_t file_pages;
static frame_t hand;

bool cache_boot(int fd)
{
	struct stat file;
	if (fd < 0)
		return true;
	if (fstat(fd, &file) || file.st_size < PAGE || file.st_size / PAGE > MAX_FRAMES)
		return refuse("the cache file has no usable size");
	file_pages = (uint32_t)(file.st_size / PAGE);
	where = frames_reserve((uint64_t)file_pages * sizeof *where);
	file_fd = fd;
	return where || refuse("memory is too small for the index of its cache file");
}

uint32_t cache_file_pages(void) { return file_pages; }

static bool read_in(uint32_t page)
{
	frame_t frame = reclaim_take(CACHE, page);
	if (frame == NO_FRAME)
		return false;
	if (pread(file_fd, frame_address(frame), PAGE, (off_t)page * PAGE) != PAGE)
		die("the cache file cannot be read at page %u", page);
	where[page] = frame + 1;
	counters.cache_read++;
	return true;
}

/* One read of the file through the cache. False: there is no frame for it. */
bool cache_read(uint32_t page)
{
	if (!where[page] && !read_in(page))
		return false;
	frame_t frame = where[page] - 1;
	frames_used(frame);
	*(volatile uint64_t *)frame_address(frame);
	return true;
}

unsigned cache_evict(unsigned wanted)
{
	unsigned evicted = 0;
	uint32_t total = frames_total();
	/* Twice around at most: once to take the referenced bits, once to take the frames. */
	for (uint64_t step = 0; evicted < wanted && frames_count(CACHE) && step < 2ull * total;
	     step++, hand = hand + 1 < total ? hand + 1 : 0) {
		struct frame *entry = frame_entry(hand);
		if (entry->kind != CACHE)
			continue;
		if (entry->referenced) {
			entry->referenced = 0;
			continue;
		}
		where[entry->link] = 0;
		frames_give(hand);
		evicted++;
	}
	counters.cache_evicted += evicted;
	return evicted;
}

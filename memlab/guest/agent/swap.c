/* The guest's own swap file: a bitmap of slots and direct I/O on the descriptor that was given. */
#include "agent.h"

#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int swap_fd = -1;
static uint64_t *map; /* one bit a slot, 1 = in use */
static uint32_t total, used, hand;

static uint64_t size_of(int fd)
{
	struct stat file;
	uint64_t bytes = 0;
	if (fstat(fd, &file))
		return 0;
	if (!S_ISBLK(file.st_mode))
		return (uint64_t)file.st_size;
	return ioctl(fd, BLKGETSIZE64, &bytes) ? 0 : bytes;
}

bool swap_boot(int fd)
{
	if (fd < 0)
		return true;
	uint64_t slots = size_of(fd) / PAGE;
	if (!slots || slots > MAX_FRAMES)
		return refuse("the guest swap file has no usable size");
	map = frames_reserve((slots + 63) / 64 * 8);
	if (!map)
		return refuse("memory is too small for the map of its swap file");
	swap_fd = fd;
	total = (uint32_t)slots;
	return true;
}

uint32_t swap_total(void) { return total; }
uint32_t swap_used(void) { return used; }

static bool in_use(uint32_t slot)
{
	return map[slot / 64] >> slot % 64 & 1;
}

/* Next fit: what is swapped out together lies together. */
uint32_t swap_room(unsigned wanted, uint32_t *slot)
{
	if (used == total)
		return 0;
	for (hand = hand < total ? hand : 0; in_use(hand); hand = hand + 1 < total ? hand + 1 : 0)
		;
	unsigned run = 1;
	while (run < wanted && hand + run < total && !in_use(hand + run))
		run++;
	*slot = hand;
	return run;
}

bool swap_write(uint32_t slot, const frame_t *frames, unsigned count)
{
	struct iovec pages[SWAP_CLUSTER];
	for (unsigned i = 0; i < count; i++)
		pages[i] = (struct iovec){frame_address(frames[i]), PAGE};
	ssize_t put = pwritev(swap_fd, pages, (int)count, (off_t)slot * PAGE);
	if (put != (ssize_t)count * PAGE)
		return false;
	for (unsigned i = 0; i < count; i++)
		map[(slot + i) / 64] |= 1ull << (slot + i) % 64;
	used += count;
	hand = slot + count;
	counters.guest_swap_out += count;
	return true;
}

bool swap_read(uint32_t slot, void *page)
{
	return pread(swap_fd, page, PAGE, (off_t)slot * PAGE) == PAGE;
}

void swap_free(uint32_t slot)
{
	map[slot / 64] &= ~(1ull << slot % 64);
	used--;
}

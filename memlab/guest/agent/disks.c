/* A real guest's disks: swap of its own, and a file that is read through its page cache. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <unistd.h>

#define SERIAL_SWAP "memlab-swap"
#define SERIAL_CACHE "memlab-cache"
#define DISKS 8

static int cache_fd = -1;
static uint32_t cache_pages;

/* The disk with this serial number, as the host gave it: /sys/block/vdX/serial. */
static bool find(const char *serial, char device[static 32])
{
	for (char letter = 'a'; letter < 'a' + DISKS; letter++) {
		char path[64], said[64] = "";
		snprintf(path, sizeof path, "/sys/block/vd%c/serial", letter);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		ssize_t got = read(fd, said, sizeof said - 1);
		close(fd);
		if (got > 0 && !strncmp(said, serial, strlen(serial))) {
			snprintf(device, 32, "/dev/vd%c", letter);
			return true;
		}
	}
	return false;
}

/* As mkswap does it (include/linux/swap.h, union swap_header): version 1, no bad pages. */
static bool make_swap(int fd, uint64_t bytes)
{
	static union {
		char page[PAGE];
		struct {
			char boot[1024];
			uint32_t version, last_page, bad_pages;
		} info;
	} header;
	memset(&header, 0, sizeof header);
	header.info.version = 1;
	header.info.last_page = (uint32_t)(bytes / PAGE) - 1;
	memcpy(header.page + PAGE - 10, "SWAPSPACE2", 10);
	return pwrite(fd, &header, PAGE, 0) == PAGE && !fsync(fd);
}

static bool boot_swap(void)
{
	char device[32];
	uint64_t bytes = 0;
	if (!find(SERIAL_SWAP, device))
		return true;
	int fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes) || !make_swap(fd, bytes))
		return refuse("the guest's swap disk cannot be prepared: %s", strerror(errno));
	close(fd);
	return !swapon(device, 0) || refuse("the guest refuses its swap: %s", strerror(errno));
}

static bool boot_cache(void)
{
	char device[32];
	uint64_t bytes = 0;
	if (!find(SERIAL_CACHE, device))
		return true;
	cache_fd = open(device, O_RDONLY | O_CLOEXEC);
	if (cache_fd < 0 || ioctl(cache_fd, BLKGETSIZE64, &bytes))
		return refuse("the guest's disk cannot be read: %s", strerror(errno));
	posix_fadvise(cache_fd, 0, 0, POSIX_FADV_RANDOM); /* a miss reads one page, as elsewhere */
	cache_pages = (uint32_t)(bytes / PAGE);
	return true;
}

bool disks_boot(void) { return boot_swap() && boot_cache(); }

uint32_t disks_file_pages(void) { return cache_pages; }

bool disks_read_file(uint32_t page)
{
	static char data[PAGE];
	if (pread(cache_fd, data, PAGE, (off_t)page * PAGE) != PAGE)
		die("the guest's disk cannot be read at page %u", page);
	return true;
}

/* A real guest's memory as its kernel tells it: /proc/meminfo and /proc/vmstat.
 *
 *     used = MemTotal − MemFree − cache − ballooned        cache = Buffers + Cached − Shmem
 *     reserved = configured − MemTotal                      ballooned = balloon_inflate − _deflate
 *
 * With deflate-on-oom MemTotal still holds the ballooned pages (drivers/virtio/virtio_balloon.c,
 * adjust_managed_page_count is not called then). Shared memory is not cache: nothing can drop it.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FRESH_NS 20000000ull /* read at most so often: the loop publishes at every slice */

struct wanted {
	const char *name;
	uint64_t value;
};

static struct wanted meminfo[] = {{"MemTotal:", 0}, {"MemFree:", 0},   {"Buffers:", 0},
				  {"Cached:", 0},   {"Shmem:", 0},     {"SwapTotal:", 0},
				  {"SwapFree:", 0}, {"SwapCached:", 0}};
static struct wanted vmstat[] = {{"pswpin", 0},		 {"pswpout", 0}, {"balloon_inflate", 0},
				 {"balloon_deflate", 0}, {"pgpgin", 0}, {"pgsteal_file", 0}};
enum { TOTAL, FREE_NOW, BUFFERS, CACHED, SHMEM, SWAP_TOTAL, SWAP_FREE, SWAP_CACHED };
enum { SWAP_IN, SWAP_OUT, INFLATED, DEFLATED, READ_KIB, DROPPED };
#define MEMINFO (sizeof meminfo / sizeof *meminfo)
#define VMSTAT (sizeof vmstat / sizeof *vmstat)

static int meminfo_fd = -1, vmstat_fd = -1;
static uint64_t read_ns;

/* The values of the lines that begin with a wanted name; the others are passed over. */
static void read_names(int fd, struct wanted *names, size_t count)
{
	static char text[32768];
	size_t filled = 0;
	for (ssize_t got; filled < sizeof text - 1; filled += (size_t)got)
		if ((got = pread(fd, text + filled, sizeof text - 1 - filled, (off_t)filled)) < 1)
			break;
	text[filled] = 0;
	for (char *line = text, *end; line; line = end ? end + 1 : NULL) {
		end = strchr(line, '\n');
		for (size_t i = 0; i < count; i++) {
			size_t length = strlen(names[i].name);
			if (!strncmp(line, names[i].name, length) && line[length] == ' ')
				names[i].value = strtoull(line + length, NULL, 10);
		}
	}
}

static uint64_t kib(unsigned which) { return meminfo[which].value / (PAGE / 1024); }

static uint64_t left(uint64_t whole, uint64_t part) { return whole > part ? whole - part : 0; }

/* Opened again after a restore too: descriptors of /proc stay good. */
void memory_reset(void)
{
	if (meminfo_fd < 0)
		meminfo_fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	if (vmstat_fd < 0)
		vmstat_fd = open("/proc/vmstat", O_RDONLY | O_CLOEXEC);
	if (meminfo_fd < 0 || vmstat_fd < 0)
		die("the guest's /proc cannot be read: %s", strerror(errno));
	read_ns = 0;
}

void memory_collect(uint32_t configured)
{
	uint64_t now = now_ns();
	if (read_ns && now - read_ns < FRESH_NS)
		return;
	read_ns = now;
	read_names(meminfo_fd, meminfo, MEMINFO);
	read_names(vmstat_fd, vmstat, VMSTAT);
	counters.free_pages = kib(FREE_NOW);
	counters.cache_pages = left(kib(BUFFERS) + kib(CACHED), kib(SHMEM));
	counters.ballooned_pages = left(vmstat[INFLATED].value, vmstat[DEFLATED].value);
	counters.reserved_pages = left(configured, kib(TOTAL));
	counters.used_pages = left(kib(TOTAL), counters.free_pages + counters.cache_pages +
						       counters.ballooned_pages);
	counters.balloon_inflated = vmstat[INFLATED].value;
	counters.balloon_deflated = vmstat[DEFLATED].value;
	counters.guest_swap_in = vmstat[SWAP_IN].value;
	counters.guest_swap_out = vmstat[SWAP_OUT].value;
	/* pgpgin is in KiB, of all reads: those of swap are counted apart. */
	counters.cache_read = left(vmstat[READ_KIB].value / (PAGE / 1024), counters.guest_swap_in);
	counters.cache_evicted = vmstat[DROPPED].value;
	counters.guest_swap_pages = left(left(kib(SWAP_TOTAL), kib(SWAP_FREE)), kib(SWAP_CACHED));
}

/* The board: counters, latency histogram and frame map, read by the sampler without asking. */
#include "agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

struct counters counters;
static struct board *board;
static uint64_t base[HISTOGRAM_BUCKETS]; /* the histogram when the running workload began */

bool board_open(int fd, uint32_t frames)
{
	size_t size = FRAME_MAP_OFFSET + (size_t)frames;
	struct stat file;
	if (fd >= 0 && (fstat(fd, &file) || (uint64_t)file.st_size < size))
		return refuse("the board is smaller than %zu bytes", size);
	int flags = fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	void *got = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (got == MAP_FAILED)
		return refuse("the board cannot be mapped");
	board = got;
	board->version = BOARD_VERSION;
	board->frames = frames;
	__atomic_store_n(&board->magic, BOARD_MAGIC, __ATOMIC_RELEASE);
	return true;
}

volatile uint8_t *board_frame_map(void)
{
	return (volatile uint8_t *)board + FRAME_MAP_OFFSET;
}

static void collect(void)
{
	struct timespec time;
	struct rusage usage;
	clock_gettime(CLOCK_BOOTTIME, &time);
	getrusage(RUSAGE_SELF, &usage);
	counters.published_ns = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
	counters.minor_faults = (uint64_t)usage.ru_minflt;
	counters.major_faults = (uint64_t)usage.ru_majflt;
	os->collect();
}

void board_publish(void)
{
	collect();
	if (!board)
		return;
	uint64_t sequence = board->sequence;
	__atomic_store_n(&board->sequence, sequence + 1, __ATOMIC_SEQ_CST);
	memcpy(&board->counters, &counters, sizeof counters);
	__atomic_store_n(&board->sequence, sequence + 2, __ATOMIC_SEQ_CST);
}

/* Eight buckets an octave; the formula is that of wire.py. */
unsigned bucket_of(uint64_t ns)
{
	if (ns < 8)
		return (unsigned)ns;
	unsigned exponent = 63u - (unsigned)__builtin_clzll(ns);
	unsigned bucket = (exponent - 2) * 8 + (unsigned)(ns >> (exponent - 3)) % 8;
	return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static uint64_t bucket_end(unsigned bucket)
{
	return bucket < 8 ? bucket + 1 : (9ull + bucket % 8) << (bucket / 8 - 1);
}

void board_operation(uint64_t ns, bool write)
{
	counters.operations++;
	counters.writes += write;
	counters.operation_ns += ns;
	board->histogram[bucket_of(ns)]++;
}

void board_new_workload(void)
{
	memcpy(base, board->histogram, sizeof base);
}

uint64_t board_percentile(double fraction)
{
	uint64_t all = 0, below = 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		all += board->histogram[i] - base[i];
	for (unsigned i = 0; all && i < HISTOGRAM_BUCKETS; i++) {
		below += board->histogram[i] - base[i];
		if ((double)below >= fraction * (double)all)
			return bucket_end(i);
	}
	return 0;
}

void board_layout(void)
{
	printf("{\"magic\":%llu,\"version\":%u,\"fields\":[", (unsigned long long)BOARD_MAGIC,
	       BOARD_VERSION);
#define FIELD(name)                                                                                \
	printf("%s[\"%s\",%zu]", offsetof(struct counters, name) ? "," : "", #name,                \
	       offsetof(struct board, counters.name));
	BOARD_FIELDS(FIELD)
#undef FIELD
	printf("],\"histogram\":%zu,\"buckets\":%u,\"frame_map\":%u,\"max_line\":%u,\"bucket_of\":[",
	       offsetof(struct board, histogram), HISTOGRAM_BUCKETS, FRAME_MAP_OFFSET, MAX_LINE);
	uint64_t ns = 1;
	for (unsigned i = 0; i < 200; i++, ns += ns / 4 + 1)
		printf("%s[%llu,%u,%llu]", i ? "," : "", (unsigned long long)ns, bucket_of(ns),
		       (unsigned long long)bucket_end(bucket_of(ns)));
	printf("]}\n");
}

/* The fields, and the buckets of the histogram that have changed since they were told last. */
void board_report(void)
{
	static uint64_t told[HISTOGRAM_BUCKETS];
	static char text[7168];
	size_t used = 0;
	board_publish();
#define FIELD(name)                                                                                \
	used += (size_t)snprintf(text + used, sizeof text - used, "%s\"%s\":%llu",                 \
				 used ? "," : "", #name, (unsigned long long)counters.name);
	BOARD_FIELDS(FIELD)
#undef FIELD
	used += (size_t)snprintf(text + used, sizeof text - used, "},\"histogram\":[");
	const char *comma = "";
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS && used + 32 < sizeof text; i++) {
		if (board->histogram[i] == told[i])
			continue;
		told[i] = board->histogram[i];
		used += (size_t)snprintf(text + used, sizeof text - used, "%s[%u,%llu]", comma, i,
					 (unsigned long long)told[i]);
		comma = ",";
	}
	control_say("{\"event\":\"board\",\"phase\":\"%s\",\"fields\":{%s]}", workload_phase(), text);
}

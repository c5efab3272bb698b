/* Guest physical memory: one anonymous mapping, a frame table and a LIFO free list.
 *
 * The frame map on the board says which frames the guest has touched and not given back. Its byte is
 * set before the first touch and cleared after MADV_DONTNEED, so that the sampler, which compares it
 * with the page tables and leaves out frames whose byte changes while it looks, is never misled.
 */
#include "agent.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define HUGE (2u << 20)

static uint8_t *ram;
static struct frame *table;
static uint32_t total, reserved, counts[KINDS];
static frame_t free_head = NO_FRAME;

static void touch(frame_t frame)
{
	__atomic_store_n(&board_frame_map()[frame], 1, __ATOMIC_SEQ_CST);
}

/* The mapping stands alone between two guards: no neighbour can grow into it, or merge with it. */
static uint8_t *map_ram(uint64_t bytes)
{
	uint64_t space = bytes + 2 * HUGE;
	uint8_t *area = mmap(NULL, space, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
			     -1, 0);
	if (area == MAP_FAILED)
		return NULL;
	uint8_t *start = (uint8_t *)(((uintptr_t)area + HUGE) & ~(uintptr_t)(HUGE - 1));
	void *got = mmap(start, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	return got == MAP_FAILED ? NULL : got;
}

bool frames_boot(uint64_t bytes, bool mergeable, bool huge)
{
	if (bytes % PAGE || bytes < 64 * PAGE || bytes / PAGE > MAX_FRAMES)
		return refuse("memory is not a whole number of pages from 256 KiB to 4 TiB");
	ram = map_ram(bytes);
	if (!ram)
		return refuse("no address space for %llu bytes", (unsigned long long)bytes);
	/* Without CONFIG_ANON_VMA_NAME (5.17) the mapping has no name, and nothing else changes. */
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, ram, bytes, "memlab guest memory");
	madvise(ram, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	if (mergeable && madvise(ram, bytes, MADV_MERGEABLE))
		return refuse("the kernel does not merge pages (no CONFIG_KSM)");
	total = (uint32_t)(bytes / PAGE);
	table = frames_reserve((uint64_t)total * sizeof *table);
	return table || refuse("memory is too small for its own frame table");
}

void *frames_reserve(uint64_t bytes)
{
	uint64_t pages = (bytes + PAGE - 1) / PAGE;
	if (pages > total - reserved)
		return NULL;
	frame_t first = reserved;
	reserved += (uint32_t)pages;
	for (frame_t frame = first; frame < reserved; frame++)
		touch(frame);
	return memset(frame_address(first), 0, pages * PAGE);
}

void frames_open(void)
{
	for (frame_t frame = 0; frame < reserved; frame++)
		table[frame] = (struct frame){.kind = RESERVED};
	for (frame_t frame = total; frame-- > reserved;) {
		table[frame] = (struct frame){.kind = FREE, .link = free_head};
		free_head = frame;
	}
	counts[RESERVED] = reserved;
	counts[FREE] = total - reserved;
}

uint64_t frames_start(void) { return (uint64_t)(uintptr_t)ram; }
uint32_t frames_total(void) { return total; }
uint32_t frames_count(enum kind kind) { return counts[kind]; }
struct frame *frame_entry(frame_t frame) { return &table[frame]; }
void *frame_address(frame_t frame) { return ram + (uint64_t)frame * PAGE; }
bool frame_backed(frame_t frame) { return board_frame_map()[frame] != 0; }

static void become(frame_t frame, enum kind kind, uint32_t link)
{
	counts[table[frame].kind]--;
	counts[kind]++;
	uint8_t watched = table[frame].watched;
	table[frame] = (struct frame){.kind = (uint8_t)kind, .link = link, .watched = watched};
}

static frame_t pop(void)
{
	frame_t frame = free_head;
	if (frame != NO_FRAME)
		free_head = table[frame].link;
	return frame;
}

/* The first touch, by the guest itself, backs a frame. MADV_POPULATE_WRITE for a run of them would
 * halve the cost of a fault, but the kernel marks what it populates as accessed (gup.c, FOLL_TOUCH):
 * every page is active then and none inactive, and a cgroup v1 at its limit finds nothing to reclaim
 * before its statistics are read, and kills the VM. A page that was touched once is inactive. */
frame_t frames_take(enum kind kind, uint32_t link)
{
	frame_t frame = pop();
	if (frame == NO_FRAME)
		return NO_FRAME;
	become(frame, kind, link);
	frames_used(frame);
	touch(frame);
	return frame;
}

frame_t frames_lend(void)
{
	frame_t frame = pop();
	if (frame == NO_FRAME)
		return NO_FRAME;
	become(frame, BALLOON, NO_FRAME);
	table[frame].backed = frame_backed(frame);
	return frame;
}

void frames_used(frame_t frame)
{
	table[frame].referenced = 1;
	if (table[frame].watched)
		sample_touch(frame);
}

void frames_give(frame_t frame)
{
	become(frame, FREE, free_head);
	free_head = frame;
}

static int by_number(const void *one, const void *other)
{
	frame_t a = *(const frame_t *)one, b = *(const frame_t *)other;
	return (a > b) - (a < b);
}

void frames_discard(frame_t *frames, unsigned count)
{
	qsort(frames, count, sizeof *frames, by_number);
	for (unsigned first = 0, next; first < count; first = next) {
		for (next = first + 1; next < count && frames[next] == frames[next - 1] + 1;)
			next++;
		uint64_t bytes = (uint64_t)(next - first) * PAGE;
		if (madvise(frame_address(frames[first]), bytes, MADV_DONTNEED))
			die("the kernel does not take pages back");
		for (unsigned i = first; i < next; i++)
			__atomic_store_n(&board_frame_map()[frames[i]], 0, __ATOMIC_SEQ_CST);
	}
}

/* Counts against the table, the free list against its count. */
bool frames_check(void)
{
	uint32_t seen[KINDS] = {0}, listed = 0;
	for (frame_t frame = 0; frame < total; frame++)
		seen[table[frame].kind]++;
	for (frame_t frame = free_head; frame != NO_FRAME && listed <= total; listed++) {
		if (table[frame].kind != FREE)
			return refuse("frame %u is on the free list and in use", frame);
		frame = table[frame].link;
	}
	if (listed != counts[FREE])
		return refuse("%u frames are on the free list, %u are counted", listed,
			      counts[FREE]);
	for (unsigned kind = 0; kind < KINDS; kind++)
		if (seen[kind] != counts[kind])
			return refuse("%u frames are of kind %u, %u are counted", seen[kind], kind,
				      counts[kind]);
	return true;
}

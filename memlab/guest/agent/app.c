/* The one application of the guest: its page table, its page faults, what it reads and writes.
 *
 * A page table is a frame of 512 entries, made when its first page is touched; the directory of the
 * tables is reserved at boot. The version of an entry counts the page's writes: with it the content
 * that must stand in the page is known, wherever the page lies.
 */
#include "agent.h"

#include <string.h>

#define TABLE_PAGES 512u
#define OVERCOMMIT 16u /* virtual memory per physical and swap: the directory is made for so much */
#define SWAPPED 0x80000000u

struct entry {
	uint32_t where; /* 0: untouched; frame + 1; or SWAPPED | slot */
	uint32_t version;
};

static uint32_t *directory; /* frame + 1 of each table */
static uint32_t tables, pages;
static struct content content;
static frame_t hand;
static bool said_broken;

bool app_boot(void)
{
	uint64_t most = ((uint64_t)frames_total() + swap_total()) * OVERCOMMIT;
	tables = (uint32_t)(most / TABLE_PAGES + 1);
	directory = frames_reserve((uint64_t)tables * sizeof *directory);
	return directory || refuse("memory is too small for the page directory");
}

bool app_fits(uint32_t wanted)
{
	return wanted <= (uint64_t)tables * TABLE_PAGES ||
	       refuse("size is more than %u times memory and guest swap", OVERCOMMIT);
}

uint32_t app_pages(void) { return pages; }
enum class app_class(uint32_t page) { return content_class(&content, page); }

static struct entry *look_up(uint32_t page)
{
	uint32_t table = directory[page / TABLE_PAGES];
	return table ? (struct entry *)frame_address(table - 1) + page % TABLE_PAGES : NULL;
}

static struct entry *look_up_or_make(uint32_t page)
{
	uint32_t *table = &directory[page / TABLE_PAGES];
	if (!*table) {
		frame_t frame = reclaim_take(RESERVED, page);
		if (frame == NO_FRAME)
			return NULL;
		memset(frame_address(frame), 0, PAGE);
		*table = frame + 1;
	}
	return look_up(page);
}

static void count_class(uint32_t page, const struct entry *entry, uint64_t change)
{
	page_counted(app_class(page), entry->version, change);
}

static bool in_frame(const struct entry *entry)
{
	return entry->where && !(entry->where & SWAPPED);
}

static bool fault_in(uint32_t page, struct entry *entry)
{
	frame_t frame = reclaim_take(APP, page);
	if (frame == NO_FRAME)
		return false;
	if (entry->where & SWAPPED) {
		uint32_t slot = entry->where & ~SWAPPED;
		if (!swap_read(slot, frame_address(frame)))
			die("page %u cannot be read back from the guest's swap", page);
		swap_free(slot);
		counters.guest_swap_in++;
	} else {
		content_fill(&content, page, frame_address(frame));
		counters.app_touched_pages++;
	}
	entry->where = frame + 1;
	count_class(page, entry, 1);
	return true;
}

/* The words of a page, brought into a frame; NULL if there is none for it. */
static uint64_t *access(uint32_t page, struct entry **entry)
{
	*entry = look_up_or_make(page);
	if (!*entry || (!in_frame(*entry) && !fault_in(page, *entry)))
		return NULL;
	frame_t frame = (*entry)->where - 1;
	frames_used(frame);
	return frame_address(frame);
}

/* Each read is checked against what must stand there. */
bool app_read(uint32_t page, unsigned word)
{
	struct entry *entry;
	const volatile uint64_t *words = access(page, &entry);
	if (!words)
		return false;
	if (words[word] != content_word(&content, page, entry->version, word))
		page_bad(page, entry->where - 1, app_class(page));
	return true;
}

bool app_write(uint32_t page)
{
	struct entry *entry;
	uint64_t *words = access(page, &entry);
	if (!words)
		return false;
	count_class(page, entry, -1ull);
	if (!++entry->version)
		entry->version = 1;
	content_stamp(&content, page, entry->version, words);
	return true;
}

static void drop(uint32_t page, struct entry *entry)
{
	if (in_frame(entry)) {
		count_class(page, entry, -1ull);
		frames_give(entry->where - 1);
	} else {
		swap_free(entry->where & ~SWAPPED);
	}
	*entry = (struct entry){0};
	counters.app_touched_pages--;
}

uint32_t app_release(uint32_t wanted)
{
	uint32_t released = 0;
	for (uint32_t page = pages; page-- && released < wanted;) {
		struct entry *entry = look_up(page);
		if (!entry) {
			page -= page % TABLE_PAGES;
		} else if (entry->where) {
			drop(page, entry);
			released++;
		}
	}
	return released;
}

static void app_exit(void)
{
	app_release(pages);
	for (uint32_t table = 0; table < tables; table++) {
		if (directory[table])
			frames_give(directory[table] - 1);
		directory[table] = 0;
	}
	pages = 0;
	counters.app_mapped_pages = 0;
}

bool app_start(uint32_t wanted, const struct content *its_content)
{
	app_exit();
	pages = wanted;
	content = *its_content;
	page_bad_again();
	counters.app_mapped_pages = wanted;
	return true;
}

/* Up to `wanted` frames of pages not lately used, for the clock has found their bit clear. */
static unsigned choose(frame_t *chosen, unsigned wanted)
{
	unsigned count = 0;
	uint32_t total = frames_total();
	for (uint64_t step = 0; count < wanted && step < 2ull * total;
	     step++, hand = hand + 1 < total ? hand + 1 : 0) {
		struct frame *frame = frame_entry(hand);
		if (frame->kind != APP)
			continue;
		if (!frame->referenced)
			chosen[count++] = hand;
		frame->referenced = !frame->referenced; /* a chosen one is not chosen twice */
	}
	return count;
}

unsigned app_swap_out(unsigned wanted)
{
	frame_t chosen[SWAP_CLUSTER];
	uint32_t slot;
	if (!frames_count(APP))
		return 0;
	unsigned room = swap_room(wanted < SWAP_CLUSTER ? wanted : SWAP_CLUSTER, &slot);
	unsigned count = choose(chosen, room);
	if (count && !swap_write(slot, chosen, count)) {
		if (!said_broken)
			control_say("{\"event\":\"guest-swap-error\",\"slot\":%u}", slot);
		said_broken = true;
		return 0;
	}
	for (unsigned i = 0; i < count; i++) {
		uint32_t page = frame_entry(chosen[i])->link;
		struct entry *entry = look_up(page);
		count_class(page, entry, -1ull);
		entry->where = SWAPPED | (slot + i);
		frames_give(chosen[i]);
	}
	return count;
}

bool app_check(uint32_t page, bool *touched, uint32_t *frame)
{
	static uint64_t bounce[PAGE_WORDS] __attribute__((aligned(PAGE)));
	const struct entry *entry = look_up(page);
	*touched = entry && entry->where;
	*frame = NO_FRAME;
	if (!*touched)
		return true;
	const uint64_t *words = bounce;
	if (in_frame(entry)) {
		*frame = entry->where - 1;
		words = frame_address(*frame);
	} else if (!swap_read(entry->where & ~SWAPPED, bounce)) {
		return false;
	}
	return content_matches(&content, page, entry->version, words);
}

/* The frame table against the page tables. */
bool app_check_frames(void)
{
	uint32_t touched = 0, swapped = 0, total = frames_total();
	for (frame_t frame = 0; frame < total; frame++) {
		const struct frame *its = frame_entry(frame);
		const struct entry *entry = its->kind == APP ? look_up(its->link) : NULL;
		if (its->kind == APP && (!entry || entry->where != frame + 1))
			return refuse("frame %u is of page %u, whose table says otherwise", frame,
				      its->link);
	}
	for (uint32_t page = 0; page < pages; page++) {
		const struct entry *entry = look_up(page);
		touched += entry && in_frame(entry);
		swapped += entry && entry->where & SWAPPED;
	}
	if (touched != frames_count(APP) || swapped != swap_used())
		return refuse("the page tables hold %u frames and %u slots, not %u and %u", touched,
			      swapped, frames_count(APP), swap_used());
	return touched + swapped == counters.app_touched_pages ||
	       refuse("%u pages are touched, %llu counted", touched + swapped,
		      (unsigned long long)counters.app_touched_pages);
}

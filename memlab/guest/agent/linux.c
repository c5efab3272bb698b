/* A real Linux as the guest: the application is this process, its memory is the kernel's affair.
 *
 * Versions of pages are kept beside them (4 bytes a page), so that what must stand in each is known
 * as it is in the miniature guest. Pages are small unless the lab asks for huge ones: a page that is
 * touched is then one page of guest memory, and not 512.
 */
#include "agent.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

static uint64_t *words;     /* the application's memory */
static uint32_t *states;    /* 0: untouched, else its version + 1 */
static uint32_t pages, configured;
static struct content content;
static bool huge;

static uint64_t *address(uint32_t page) { return words + (uint64_t)page * PAGE_WORDS; }

static void *map(uint64_t bytes)
{
	void *got = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return got == MAP_FAILED ? NULL : got;
}

static void unmap_all(void)
{
	if (words)
		munmap(words, (uint64_t)pages * PAGE);
	if (states)
		munmap(states, (uint64_t)pages * sizeof *states);
	words = NULL;
	states = NULL;
	pages = 0;
	counters.app_touched_pages = counters.zero_pages = counters.common_pages = 0;
}

static bool boot(const struct json *doc, uint64_t key, const char *id)
{
	struct utsname name;
	uint64_t memory = 0;
	(void)key;
	if (!json_size(doc, "memory", (uint64_t)MAX_FRAMES * PAGE, &memory) ||
	    !json_bool(doc, "huge", &huge))
		return false;
	if (!memory)
		return refuse("boot needs memory");
	if (!board_open(-1, 0) || !disks_boot() || !net_boot(doc))
		return false;
	image_name(doc);
	configured = (uint32_t)(memory / PAGE);
	memory_reset();
	board_publish();
	uname(&name);
	control_say("{\"id\":%s,\"ok\":true,\"release\":\"%s\",\"reserved\":%llu}", id, name.release,
		    (unsigned long long)counters.reserved_pages * PAGE);
	return true;
}

static void collect(void)
{
	counters.configured_pages = configured;
	memory_collect(configured);
	program_collect();
}

/* The kernel decides what fits, when pages are touched. */
static bool fits(uint32_t wanted)
{
	return wanted <= MAX_FRAMES || refuse("size is more than a guest can have");
}

static bool start(uint32_t wanted, const struct content *its_content)
{
	uint64_t *space = NULL;
	uint32_t *versions = NULL;
	if (wanted && (!(space = map((uint64_t)wanted * PAGE)) ||
		       !(versions = map((uint64_t)wanted * sizeof *versions)))) {
		if (space)
			munmap(space, (uint64_t)wanted * PAGE);
		return refuse("the guest has no address space for %u pages", wanted);
	}
	unmap_all();
	if (space)
		madvise(space, (uint64_t)wanted * PAGE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	words = space;
	states = versions;
	pages = wanted;
	content = *its_content;
	page_bad_again();
	counters.app_mapped_pages = wanted;
	return true;
}

static uint32_t count(void) { return pages; }
static enum class class_of(uint32_t page) { return content_class(&content, page); }

static void touch(uint32_t page)
{
	if (states[page])
		return;
	content_fill(&content, page, address(page));
	states[page] = 1;
	counters.app_touched_pages++;
	page_counted(class_of(page), 0, 1);
}

/* Each read is checked against what must stand there. */
static bool read_page(uint32_t page, unsigned word)
{
	touch(page);
	uint64_t found = ((const volatile uint64_t *)address(page))[word];
	if (found != content_word(&content, page, states[page] - 1, word))
		page_bad(page, NO_FRAME, class_of(page));
	return true;
}

static bool write_page(uint32_t page)
{
	touch(page);
	page_counted(class_of(page), states[page] - 1, -1ull);
	if (++states[page] < 2)
		states[page] = 2;
	content_stamp(&content, page, states[page] - 1, address(page));
	return true;
}

static void drop(uint32_t page)
{
	page_counted(class_of(page), states[page] - 1, -1ull);
	states[page] = 0;
	counters.app_touched_pages--;
}

/* Given back to the guest's kernel in runs; the host hears nothing of it. */
static uint32_t release(uint32_t wanted)
{
	uint32_t released = 0, end;
	for (uint32_t page = pages; page && released < wanted;) {
		while (page && !states[page - 1])
			page--;
		for (end = page; page && states[page - 1] && released < wanted; released++)
			drop(--page);
		madvise(address(page), (uint64_t)(end - page) * PAGE, MADV_DONTNEED);
	}
	return released;
}

static bool check(uint32_t page, bool *touched, uint32_t *frame)
{
	*touched = states[page] != 0;
	*frame = NO_FRAME;
	return !*touched || content_matches(&content, page, states[page] - 1, address(page));
}

static bool sound(void) { return true; }

const struct guest_os linux_guest = {
	.boot = boot,
	.collect = collect,
	.fits = fits,
	.start = start,
	.pages = count,
	.read = read_page,
	.write = write_page,
	.release = release,
	.class_of = class_of,
	.check = check,
	.sound = sound,
	.file_pages = disks_file_pages,
	.read_file = disks_read_file,
};

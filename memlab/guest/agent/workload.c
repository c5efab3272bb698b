/* What the application does. docs/workloads.md describes each workload and its settings. */
#include "agent.h"

#include <stdio.h>
#include <string.h>

#define LEVELS 64
#define FILL_BATCH 16
#define QUANTUM_NS 2000000ull /* a paced workload wakes at most so often */
#define NO_MEMORY_NS 10000000ull
#define SECOND 1e9

enum name { IDLE, TOUCHER, KEYVALUE, SCAN, CACHE_READS, BURST, LEAK, NAMES };
static const char *const names[NAMES] = {"idle",  "toucher", "keyvalue", "scan",
					 "cache", "burst",   "leak"};

static struct workload {
	enum name name;
	uint32_t pages;
	double zipf, writes, rate, step, period, hold, pause, rounds, think;
	uint32_t levels[LEVELS], level_count;
	struct zipf draw;
} work = {.name = IDLE, .level_count = 1};

static enum phase { FILL, RUN, PAUSE, NO_MEMORY } phase;
static const char *const phases[] = {"fill", "run", "pause", "no-memory"};
static uint32_t filled, cursor, rounds;
static uint64_t start_ns, phase_end_ns, retry_ns, said_ns, paced_ns, paced_done;
static double paced_rate;
static uint64_t serial;

const char *workload_name(void) { return names[work.name]; }
const char *workload_phase(void) { return phases[retry_ns ? NO_MEMORY : phase]; }

uint32_t pages_of(uint64_t bytes)
{
	return (uint32_t)((bytes + PAGE - 1) / PAGE);
}

/* ---- settings ---- */

static bool read_levels(const struct json *doc, struct workload *new)
{
	new->levels[0] = new->pages;
	new->level_count = 1;
	for (unsigned i = 0; i < LEVELS; i++) {
		char path[JSON_PATH];
		uint64_t bytes = 0;
		snprintf(path, sizeof path, "args.levels.%u", i);
		if (!json_find(doc, path))
			return true;
		if (!json_size(doc, path, (uint64_t)new->pages * PAGE, &bytes))
			return false;
		new->levels[i] = pages_of(bytes);
		new->level_count = i + 1;
	}
	return refuse("args.levels has more than %u levels", LEVELS);
}

static bool read_args(const struct json *doc, struct workload *new)
{
	bool leak = new->name == LEAK, toucher = new->name == TOUCHER;
	new->zipf = 0.99;
	new->writes = toucher || new->name == BURST ? 0.5 : new->name == KEYVALUE ? 0.1 : 0;
	new->rate = leak ? 1 << 20 : 0;
	new->step = 10;
	new->period = 1;
	new->hold = 2;
	new->pause = 8;
	new->rounds = 0;
	new->think = 0;
	return json_number(doc, "args.zipf", 0, 4, &new->zipf) &&
	       json_number(doc, "args.writes", 0, 1, &new->writes) &&
	       json_number(doc, "args.rate", 0, 1e15, &new->rate) &&
	       json_number(doc, "args.step", 0.01, 1e6, &new->step) &&
	       json_number(doc, "args.period", 0, 1e6, &new->period) &&
	       json_number(doc, "args.hold", 0, 1e6, &new->hold) &&
	       json_number(doc, "args.pause", 0, 1e6, &new->pause) &&
	       json_number(doc, "args.rounds", 0, 1e9, &new->rounds) &&
	       json_number(doc, "args.think", 0, 1, &new->think) && read_levels(doc, new);
}

static bool read_name(const struct json *doc, struct workload *new)
{
	const char *name = json_text(doc, "name");
	for (unsigned i = 0; name && i < NAMES; i++) {
		if (!strcmp(name, names[i])) {
			new->name = (enum name)i;
			return true;
		}
	}
	return refuse("there is no workload of this name");
}

static bool read_workload(const struct json *doc, struct workload *new)
{
	uint64_t bytes = 0;
	if (!read_name(doc, new) || !json_size(doc, "size", 1ull << 42, &bytes))
		return false;
	new->pages = pages_of(bytes);
	if (!new->pages && new->name != IDLE)
		return refuse("%s needs a size", names[new->name]);
	if (new->name != CACHE_READS)
		return os->fits(new->pages) && read_args(doc, new);
	if (new->pages > os->file_pages())
		return refuse("the cache file has %u pages, not %u", os->file_pages(),
			      new->pages);
	return read_args(doc, new);
}

bool workload_start(const struct json *doc, uint64_t key)
{
	struct workload new = {0};
	struct content content;
	if (!read_workload(doc, &new) || !content_read(doc, "content", &content))
		return false;
	verify_cancel("another workload was started");
	content_keys(&content, mix(image_key() + 2), mix(mix(key + 2) + ++serial));
	if (!os->start(new.name == CACHE_READS ? 0 : new.pages, &content))
		return false;
	random_seed(mix(key + serial));
	zipf_init(&new.draw, new.pages ? new.pages : 1, new.zipf, key + serial);
	work = new;
	phase = FILL;
	filled = cursor = rounds = 0;
	retry_ns = said_ns = 0;
	paced_rate = -1;
	start_ns = now_ns();
	board_new_workload();
	return true;
}

/* ---- pace: how many operations are due ---- */

static double rate(uint32_t level)
{
	bool by_round = work.name == TOUCHER || work.name == BURST;
	if (work.name == LEAK)
		return work.rate / PAGE;
	return by_round ? (work.period > 0 ? level / work.period : 0) : work.rate;
}

/* Operations due at `now`, UINT64_MAX without a pace. What a stall of 100 ms has missed is gone. */
static uint64_t due(uint64_t now, double wanted)
{
	if (wanted != paced_rate) {
		paced_rate = wanted;
		paced_ns = now;
		paced_done = 0;
	}
	if (wanted <= 0)
		return UINT64_MAX;
	uint64_t should = (uint64_t)((double)(now - paced_ns) * wanted / SECOND);
	uint64_t backlog = (uint64_t)(wanted / 10) + 1;
	if (should > paced_done + backlog)
		paced_done = should - backlog;
	return should - paced_done;
}

static uint64_t next_due(uint64_t now)
{
	uint64_t next = paced_ns + (uint64_t)((double)(paced_done + 1) * SECOND / paced_rate);
	return next > now + QUANTUM_NS ? next : now + QUANTUM_NS;
}

/* ---- operations ---- */

static uint64_t no_memory(uint64_t now)
{
	counters.out_of_memory++;
	if (!said_ns || now - said_ns > (uint64_t)SECOND) {
		control_say("{\"event\":\"out-of-memory\",\"asked\":%u}", PAGE);
		said_ns = now;
	}
	return retry_ns = now + NO_MEMORY_NS;
}

static uint32_t next_page(uint32_t level)
{
	if (work.name == KEYVALUE || work.name == CACHE_READS)
		return (uint32_t)zipf_draw(&work.draw);
	uint32_t page = cursor < level ? cursor : 0;
	cursor = page + 1;
	return page;
}

static bool operate(uint32_t level)
{
	uint32_t page = next_page(level);
	bool write = work.writes > 0 && random_unit() < work.writes;
	unsigned word = (unsigned)(random_word() % PAGE_WORDS);
	uint64_t begin = now_ns();
	bool done = work.name == CACHE_READS ? os->read_file(page)
		    : write		     ? os->write(page)
					     : os->read(page, word);
	if (!done)
		return false;
	uint64_t end = now_ns();
	board_operation(end - begin, write);
	for (end += (uint64_t)(work.think * SECOND); work.think > 0 && now_ns() < end;)
		; /* what the application does with the record: its CPU, not its memory */
	return true;
}

/* Operations until they are all done or the slice ends. */
static uint64_t run(uint64_t now, uint32_t level)
{
	uint64_t todo = due(now, rate(level));
	for (uint64_t end = now + SLICE_NS; todo && now < end; now = now_ns(), todo--) {
		if (!operate(level))
			return no_memory(now);
		paced_done++;
	}
	return todo ? now : next_due(now);
}

/* The first touch of pages up to `level`; not an operation, and as fast as it goes. */
static uint64_t fill(uint64_t now, uint32_t level)
{
	for (uint64_t end = now + SLICE_NS; filled < level && now < end; now = now_ns()) {
		uint32_t next = level - filled < FILL_BATCH ? level : filled + FILL_BATCH;
		for (; filled < next; filled++)
			if (!os->read(filled, 0))
				return no_memory(now);
	}
	return now;
}

static uint32_t level_now(uint64_t now)
{
	if (work.name != TOUCHER)
		return work.pages;
	uint64_t step = (uint64_t)((double)(now - start_ns) / (work.step * SECOND));
	return work.levels[step % work.level_count];
}

static uint64_t leak(uint64_t now)
{
	uint64_t todo = due(now, rate(0));
	for (uint64_t end = now + SLICE_NS; todo && filled < work.pages && now < end; todo--) {
		uint64_t begin = now;
		if (!os->read(filled, 0))
			return no_memory(now);
		now = now_ns();
		board_operation(now - begin, false);
		filled++;
		paced_done++;
	}
	if (filled == work.pages)
		return NEVER;
	return todo ? now : next_due(now);
}

/* Burst: when the time of a phase is over, free everything, or begin again. */
static uint64_t burst(uint64_t now)
{
	if (phase == RUN && now >= phase_end_ns) {
		os->release(work.pages);
		phase = PAUSE;
		phase_end_ns = now + (uint64_t)(work.pause * SECOND);
		rounds++;
	}
	if (phase == PAUSE && work.rounds > 0 && rounds >= work.rounds)
		return NEVER;
	if (phase == PAUSE && now < phase_end_ns)
		return phase_end_ns;
	if (phase == PAUSE) {
		phase = FILL;
		filled = 0;
		return now;
	}
	uint64_t next = run(now, work.pages);
	return next < phase_end_ns ? next : phase_end_ns;
}

static long claimed = -1;

void workload_claim(long pages)
{
	claimed = pages;
}

static uint32_t working_set(uint32_t level)
{
	if (claimed >= 0)
		return (uint32_t)claimed;
	bool uses = work.name != IDLE && work.name != LEAK && phase != PAUSE;
	return uses ? level : 0;
}

static uint64_t step_end(uint64_t now)
{
	uint64_t step = (uint64_t)(work.step * SECOND);
	return now + step - (now - start_ns) % step;
}

uint64_t workload_slice(uint64_t now)
{
	uint32_t level = level_now(now);
	counters.working_set_pages = working_set(level);
	if (now < retry_ns)
		return retry_ns;
	retry_ns = 0;
	if (work.name == LEAK) {
		phase = RUN;
		return leak(now);
	}
	bool fills = work.name != CACHE_READS && phase != PAUSE;
	if (fills && filled < level)
		return fill(now, level);
	if (phase == FILL) {
		phase = RUN;
		phase_end_ns = now + (uint64_t)(work.hold * SECOND);
		paced_rate = -1;
	}
	if (work.name == IDLE)
		return NEVER;
	if (work.name == BURST)
		return burst(now);
	if (level)
		return run(now, level);
	return work.name == TOUCHER ? step_end(now) : NEVER;
}

/* The commands of the protocol. Each is answered once, with its id. */
#include "agent.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool booted;
static uint64_t key; /* of (seed, owner) */
static int board_fd = -1, swap_fd = -1, cache_fd = -1;
static char sentence[256];

void command_descriptors(int board, int swap, int cache)
{
	board_fd = board;
	swap_fd = swap;
	cache_fd = cache;
}

bool refuse(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	vsnprintf(sentence, sizeof sentence, format, values);
	va_end(values);
	/* A key of a hostile line may stand in the sentence, which goes into a JSON string. */
	for (char *c = sentence; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e || *c == '"' || *c == '\\')
			*c = '?';
	return false;
}

const char *refusal(void) { return sentence; }

static void refused(const char *id)
{
	control_say("{\"id\":%s,\"ok\":false,\"error\":\"%s\"}", id, refusal());
}

static bool read_boot(const struct json *doc, uint64_t *memory, bool *mergeable, bool *huge)
{
	double seed = 0, owner = 0;
	if (!json_size(doc, "memory", (uint64_t)MAX_FRAMES * PAGE, memory) ||
	    !json_number(doc, "seed", 0, 0x1p53, &seed) ||
	    !json_number(doc, "owner", 0, 0x1p32, &owner) ||
	    !json_bool(doc, "mergeable", mergeable) || !json_bool(doc, "huge", huge))
		return false;
	key = mix(mix((uint64_t)seed) + (uint64_t)owner);
	return *memory || refuse("boot needs memory");
}

static bool boot(const struct json *doc, const char *id)
{
	uint64_t memory = 0;
	bool mergeable = false, huge = false;
	if (booted)
		return refuse("the guest is booted");
	if (!read_boot(doc, &memory, &mergeable, &huge))
		return false;
	booted = true; /* a boot that fails half way cannot be tried again */
	if (!board_open(board_fd, (uint32_t)(memory / PAGE)) ||
	    !frames_boot(memory, mergeable, huge) || !swap_boot(swap_fd) ||
	    !cache_boot(cache_fd) || !app_boot())
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

static bool workload(const struct json *doc, const char *id)
{
	if (!workload_start(doc, key))
		return false;
	control_say("{\"id\":%s,\"ok\":true,\"name\":\"%s\",\"size\":%llu}", id, workload_name(),
		    (unsigned long long)app_pages() * PAGE);
	return true;
}

static bool balloon(const struct json *doc, const char *id)
{
	uint64_t bytes = UINT64_MAX;
	const struct json_value *target = json_find(doc, "target");
	if (!target)
		return refuse("balloon needs a target");
	if (!json_size(doc, "target", (uint64_t)frames_total() * PAGE, &bytes))
		return false;
	balloon_target((uint32_t)(bytes / PAGE));
	control_say("{\"id\":%s,\"ok\":true,\"target\":%llu,\"ballooned\":%llu}", id,
		    (unsigned long long)(bytes / PAGE * PAGE),
		    (unsigned long long)frames_count(BALLOON) * PAGE);
	return true;
}

static bool stats(const struct json *doc, const char *id)
{
	char fields[2048];
	size_t used = 0;
	(void)doc;
	board_publish();
#define FIELD(name)                                                                                \
	used += (size_t)snprintf(fields + used, sizeof fields - used, ",\"%s\":%llu", #name,       \
				 (unsigned long long)counters.name);
	BOARD_FIELDS(FIELD)
#undef FIELD
	control_say("{\"id\":%s,\"ok\":true,\"workload\":\"%s\",\"phase\":\"%s\","
		    "\"p50_ns\":%llu,\"p99_ns\":%llu,\"p999_ns\":%llu%s}",
		    id, workload_name(), workload_phase(),
		    (unsigned long long)board_percentile(0.5),
		    (unsigned long long)board_percentile(0.99),
		    (unsigned long long)board_percentile(0.999), fields);
	return true;
}

static bool give_free(const struct json *doc, const char *id)
{
	uint64_t bytes = 0;
	if (!json_size(doc, "size", 1ull << 43, &bytes))
		return false;
	uint32_t freed = app_release(pages_of(bytes));
	control_say("{\"id\":%s,\"ok\":true,\"freed\":%llu}", id, (unsigned long long)freed * PAGE);
	return true;
}

static bool verify(const struct json *doc, const char *id)
{
	(void)doc;
	return verify_start(strtoull(id, NULL, 10)); /* answered when it is done */
}

static bool sample(const struct json *doc, const char *id)
{
	double pages = 100, period = 2;
	if (!json_number(doc, "pages", 0, 1e6, &pages) ||
	    !json_number(doc, "period", 0.01, 1e6, &period) ||
	    !sample_start((uint32_t)pages, (uint64_t)(period * 1e9), key))
		return false;
	control_say("{\"id\":%s,\"ok\":true,\"pages\":%.0f}", id, pages);
	return true;
}

static bool stop(const struct json *doc, const char *id)
{
	(void)doc;
	control_say("{\"id\":%s,\"ok\":true}", id);
	exit(0);
}

static const struct command {
	const char *name;
	bool (*run)(const struct json *doc, const char *id);
	bool before_boot;
} commands[] = {
	{"boot", boot, true},	 {"workload", workload, false}, {"balloon", balloon, false},
	{"stats", stats, false}, {"free", give_free, false},	{"verify", verify, false},
	{"sample", sample, false}, {"stop", stop, true},
};

static bool dispatch(const struct json *doc, const char *id)
{
	const char *name = json_text(doc, "cmd");
	for (size_t i = 0; name && i < sizeof commands / sizeof *commands; i++) {
		if (strcmp(name, commands[i].name))
			continue;
		if (!booted && !commands[i].before_boot)
			return refuse("the guest is not booted");
		return commands[i].run(doc, id);
	}
	return refuse("there is no such command");
}

void command_line(char *line, size_t length)
{
	static struct json doc;
	char id[24] = "null";
	if (!json_parse(line, length, &doc)) {
		refused(id);
		return;
	}
	const struct json_value *number = json_find(&doc, "id");
	if (!number || number->type != JSON_NUMBER || number->number < 0 ||
	    number->number > 0x1p53 || number->number != floor(number->number)) {
		refuse("the command has no id, a whole number");
		refused(id);
		return;
	}
	snprintf(id, sizeof id, "%.0f", number->number);
	if (!dispatch(&doc, id))
		refused(id);
}

bool guest_booted(void) { return booted; }

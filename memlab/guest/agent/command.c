/* The commands of the protocol. Each is answered once, with its id. */
#include "agent.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool booted;
static uint64_t key; /* of (seed, owner) */
static char sentence[256];

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

/* Said by an agent that has nothing to do yet: this is the moment at which a guest is saved. */
static bool hello(const struct json *doc, const char *id)
{
	(void)doc;
	control_say("{\"id\":%s,\"ok\":true,\"guest\":\"%s\"}", id,
		    os == &miniature ? "miniature" : "linux");
	return true;
}

static bool boot(const struct json *doc, const char *id)
{
	double seed = 0, owner = 0;
	if (booted)
		return refuse("the guest is booted");
	if (!json_number(doc, "seed", 0, 0x1p53, &seed) ||
	    !json_number(doc, "owner", 0, 0x1p32, &owner))
		return false;
	key = mix(mix((uint64_t)seed) + (uint64_t)owner);
	booted = os->boot(doc, key, id);
	return booted;
}

static bool workload(const struct json *doc, const char *id)
{
	if (!workload_start(doc, key) || !program_start(doc))
		return false;
	control_say("{\"id\":%s,\"ok\":true,\"name\":\"%s\",\"size\":%llu}", id, workload_name(),
		    (unsigned long long)os->pages() * PAGE);
	return true;
}

static bool balloon(const struct json *doc, const char *id)
{
	uint64_t bytes = UINT64_MAX;
	const struct json_value *target = json_find(doc, "target");
	if (os != &miniature)
		return refuse("the balloon of a real guest is told by the host: virtio-balloon");
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
	const char *program = program_phase();
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
		    id, program ? "command" : workload_name(), program ? program : workload_phase(),
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
	uint32_t freed = os->release(pages_of(bytes));
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
	if (os != &miniature)
		return refuse("a real guest's accesses do not go through the agent");
	if (!json_number(doc, "pages", 0, 1e6, &pages) ||
	    !json_number(doc, "period", 0.01, 1e6, &period) ||
	    !sample_start((uint32_t)pages, (uint64_t)(period * 1e9), key))
		return false;
	control_say("{\"id\":%s,\"ok\":true,\"pages\":%.0f}", id, pages);
	return true;
}

static bool ping(const struct json *doc, const char *id)
{
	if (os == &miniature)
		return refuse("a process VM has no network of its own");
	return net_ping(doc, id);
}

static bool report(const struct json *doc, const char *id)
{
	double period = 0.25;
	if (!json_number(doc, "period", 0.01, 1e6, &period))
		return false;
	report_start((uint64_t)(period * 1e9));
	control_say("{\"id\":%s,\"ok\":true}", id);
	return true;
}

static bool stop(const struct json *doc, const char *id)
{
	(void)doc;
	control_say("{\"id\":%s,\"ok\":true}", id);
	program_stop();
	exit(0);
}

static const struct command {
	const char *name;
	bool (*run)(const struct json *doc, const char *id);
	bool before_boot;
} commands[] = {
	{"hello", hello, true}, {"boot", boot, true},	 {"workload", workload, false}, {"balloon", balloon, false},
	{"stats", stats, false}, {"free", give_free, false},	{"verify", verify, false},
	{"sample", sample, false}, {"report", report, false}, {"ping", ping, false},
	{"stop", stop, true},
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

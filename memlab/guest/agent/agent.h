/* memlab-agent: the miniature guest of a process VM, and the program in a real guest.
 *
 * It stands alone: static, libc only, no file of the rest of memlab, because it runs where nothing
 * else is (a user that owns nothing, later the /init of a guest). The protocol's names are those of
 * memlab/guest/wire.py, and tests/unit/test_wire.py holds the two against each other.
 *
 * One thread, one guest. Everything that lasts is cut into slices, between which commands are
 * answered. The guest's own tables lie in reserved frames of the guest memory, as a real guest's do,
 * so that the VM's overhead does not grow with its size.
 */
#ifndef MEMLAB_AGENT_H
#define MEMLAB_AGENT_H

#define _GNU_SOURCE /* ppoll, setresuid, pwritev */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096u
#define SLICE_NS 200000ull /* longest work between two looks at the control line */
#define NEVER UINT64_MAX

uint64_t now_ns(void);
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A sentence for the host, to be set where a command is refused. Returns false, to be returned. */
bool refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *refusal(void);

/* ---- json.c: one line of JSON as a flat table of paths ("image.size", "args.levels.0") ---- */
#define JSON_VALUES 192
#define JSON_PATH 64
#define MAX_LINE 65536u

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING };
struct json_value {
	char path[JSON_PATH];
	enum json_type type;
	double number;
	const char *text;
};
struct json {
	unsigned count;
	struct json_value values[JSON_VALUES];
};
bool json_parse(char *line, size_t length, struct json *doc);
const struct json_value *json_find(const struct json *doc, const char *path);
bool json_number(const struct json *doc, const char *path, double low, double high, double *value);
bool json_size(const struct json *doc, const char *path, uint64_t high, uint64_t *bytes);
bool json_bool(const struct json *doc, const char *path, bool *value);
const char *json_text(const struct json *doc, const char *path);

/* ---- control.c: the line to the host ---- */
void control_open(int fd, bool stays); /* stays: the host may hang up and come back */
bool control_alive(void);
void control_wait(uint64_t until_ns); /* answers what has come; sleeps only if nothing has */
void control_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- command.c ---- */
void command_line(char *line, size_t length);
bool guest_booted(void);

/* ---- content.c: what stands in a page ---- */
enum class { CLASS_ZERO, CLASS_COMMON, CLASS_UNIQUE };
struct content {
	double zero, common;
	unsigned random_words; /* of the 512 words of a page; the rest is zero: compressible n:1 */
	uint64_t common_key, unique_key;
};
#define PAGE_WORDS (PAGE / 8)
#define STAMP_WORDS 8 /* a write replaces the page's first cache line */
uint64_t mix(uint64_t value);
uint64_t hash_text(const char *text);
bool content_read(const struct json *doc, const char *prefix, struct content *content);
void content_keys(struct content *content, uint64_t common_key, uint64_t unique_key);
enum class content_class(const struct content *content, uint32_t page);
void content_counts(const struct content *content, uint32_t pages, uint32_t *zero, uint32_t *common);
const char *class_name(enum class class);
void content_fill(const struct content *content, uint32_t page, uint64_t *words);
void content_stamp(const struct content *content, uint32_t page, uint32_t version, uint64_t *words);
uint64_t content_word(const struct content *content, uint32_t page, uint32_t version, unsigned word);
bool content_matches(const struct content *content, uint32_t page, uint32_t version,
		     const uint64_t *words);

/* ---- frames.c: guest physical memory ---- */
typedef uint32_t frame_t;
#define NO_FRAME UINT32_MAX
#define MAX_FRAMES (1u << 30) /* 4 TiB */

enum kind { FREE, RESERVED, IMAGE, APP, CACHE, BALLOON, KINDS };
struct frame {
	uint32_t link; /* next of its list; virtual, file or image page */
	uint8_t kind;
	uint8_t referenced; /* the clock's bit */
	uint8_t backed;     /* ballooned: the host had backed it */
	uint8_t watched;    /* by sample.c, until it is used */
};
bool frames_boot(uint64_t bytes, bool mergeable, bool huge);
void *frames_reserve(uint64_t bytes); /* zeroed, at boot only; NULL if it does not fit */
void frames_open(void);               /* the rest goes on the free list */
uint64_t frames_start(void);
uint32_t frames_total(void);
uint32_t frames_count(enum kind kind);
struct frame *frame_entry(frame_t frame);
void *frame_address(frame_t frame);
bool frame_backed(frame_t frame);
frame_t frames_take(enum kind kind, uint32_t link); /* off the free list, NO_FRAME if it is empty */
void frames_used(frame_t frame); /* an application or the guest has used it */
void frames_give(frame_t frame);
frame_t frames_lend(void);           /* off the free list, to the balloon; not touched */
void frames_discard(frame_t *frames, unsigned count); /* backed ones go back to the host; sorts */
bool frames_check(void);

/* ---- What a workload runs on: the miniature guest, or a real Linux ---- */
struct guest_os {
	bool (*boot)(const struct json *doc, uint64_t key, const char *id); /* answers */
	void (*collect)(void); /* brings the guest's own counters up to date */
	/* The one application: `pages` of virtual memory, and what stands in them. */
	bool (*fits)(uint32_t pages);
	bool (*start)(uint32_t pages, const struct content *content);
	uint32_t (*pages)(void);
	bool (*read)(uint32_t page, unsigned word); /* false: there is no memory for it */
	bool (*write)(uint32_t page);
	uint32_t (*release)(uint32_t pages); /* frees touched pages from the top; how many */
	enum class (*class_of)(uint32_t page);
	bool (*check)(uint32_t page, bool *touched, uint32_t *frame); /* NO_FRAME: not known */
	bool (*sound)(void); /* whether the guest's own tables agree; false: see refusal() */
	uint32_t (*file_pages)(void); /* of the file that the workload `cache` reads */
	bool (*read_file)(uint32_t page);
};
extern const struct guest_os miniature, linux_guest;
extern const struct guest_os *os;

/* ---- miniature.c ---- */
void miniature_descriptors(int board, int swap, int cache);

/* ---- page.c: a page of the application, by its version ---- */
void page_counted(enum class class, uint32_t version, uint64_t change);
void page_bad(uint32_t page, uint32_t frame, enum class class); /* said once a workload */
void page_bad_again(void);

/* ---- reclaim.c: where frames come from when the free list is empty ---- */
frame_t reclaim_take(enum kind kind, uint32_t link);
bool reclaim_some(void); /* puts some on the free list: clean cache first, then guest swap */

/* ---- swap.c: the guest's own swap file ---- */
#define SWAP_CLUSTER 16
bool swap_boot(int fd);
uint32_t swap_total(void);
uint32_t swap_used(void);
uint32_t swap_room(unsigned wanted, uint32_t *slot); /* a free run of 1…wanted slots; 0: full */
bool swap_write(uint32_t slot, const frame_t *frames, unsigned count);
bool swap_read(uint32_t slot, void *page);
void swap_free(uint32_t slot);

/* ---- cache.c: clean pages of the guest's disk ---- */
bool cache_boot(int fd);
uint32_t cache_file_pages(void);
bool cache_read(uint32_t page);
unsigned cache_evict(unsigned wanted);

/* ---- app.c: the miniature guest's application, its page table ---- */
bool app_boot(void);
bool app_fits(uint32_t pages);
bool app_start(uint32_t pages, const struct content *content);
uint32_t app_pages(void);
bool app_read(uint32_t page, unsigned word);
bool app_write(uint32_t page);
uint32_t app_release(uint32_t pages);
unsigned app_swap_out(unsigned wanted);
bool app_check(uint32_t page, bool *touched, uint32_t *frame); /* frame: NO_FRAME if swapped */
enum class app_class(uint32_t page);
bool app_check_frames(void);

/* ---- image.c: the guest's operating system ---- */
void image_name(const struct json *doc);
uint64_t image_key(void); /* equal in all VMs of one image */
bool image_boot(const struct json *doc, uint64_t key);
bool image_check(frame_t frame);
enum class image_class(uint32_t page);

/* ---- balloon.c ---- */
void balloon_target(uint32_t pages);
uint64_t balloon_slice(uint64_t now);

/* ---- sample.c: how much of the memory is in use, estimated ---- */
bool sample_start(uint32_t pages, uint64_t period_ns, uint64_t key); /* 0 pages: no more */
void sample_touch(frame_t frame);
uint64_t sample_slice(uint64_t now);

/* ---- workload.c ---- */
bool workload_start(const struct json *doc, uint64_t key);
const char *workload_name(void);
const char *workload_phase(void);
uint64_t workload_slice(uint64_t now); /* when it wants to run again */
void workload_claim(long pages); /* it says that it uses so many, true or not; tests: who listens? */
uint32_t pages_of(uint64_t bytes);

/* ---- verify.c ---- */
bool verify_start(uint64_t id);
void verify_cancel(const char *why);
uint64_t verify_slice(uint64_t now);

/* ---- linux.c and its parts: a real guest ---- */
void memory_reset(void);
void memory_collect(uint32_t configured);
bool disks_boot(void);
uint32_t disks_file_pages(void);
bool disks_read_file(uint32_t page);

/* ---- net.c: the lab's network, in a real guest ---- */
bool net_boot(const struct json *doc);
bool net_ping(const struct json *doc, const char *id);

/* ---- program.c: a real program as the workload of a full guest ---- */
bool program_start(const struct json *doc);
void program_stop(void);
void program_collect(void);
const char *program_phase(void); /* NULL: no program is the workload */
uint64_t program_slice(uint64_t now);

/* ---- init.c, port.c, report.c: the line out of a real guest ---- */
void init_run(void);  /* as /init: returns as the agent */
void init_reporting(void); /* free pages are reported in small blocks */
int port_open(void); /* -1: there is no port for the agent */
void report_start(uint64_t period_ns); /* what a board would show, as events */
uint64_t report_slice(uint64_t now);

/* ---- random.c ---- */
struct zipf {
	uint64_t count, step, offset; /* rank → page: rank · step + offset (mod count), a bijection */
	double exponent, low, high, cut;
};
uint64_t random_word(void);
double random_unit(void);
void random_seed(uint64_t seed);
void zipf_init(struct zipf *zipf, uint64_t count, double exponent, uint64_t seed);
uint64_t zipf_draw(const struct zipf *zipf);

/* ---- board.c: what the sampler reads ---- */
#define BOARD_MAGIC 0x6472616F62626C6Dull
#define BOARD_VERSION 2u
#define HISTOGRAM_BUCKETS 280u
#define FRAME_MAP_OFFSET 4096u
#define BOARD_FIELDS(F)                                                                            \
	F(published_ns) F(configured_pages) F(used_pages) F(cache_pages) F(free_pages)             \
	F(ballooned_pages) F(reserved_pages) F(balloon_target_pages) F(balloon_backed_pages)       \
	F(balloon_inflated) F(balloon_deflated) F(app_mapped_pages) F(app_touched_pages)           \
	F(guest_swap_pages) F(guest_swap_in) F(guest_swap_out) F(cache_read) F(cache_evicted)      \
	F(operations) F(writes) F(operation_ns) F(out_of_memory) F(minor_faults) F(major_faults)   \
	F(bad_pages) F(working_set_pages) F(zero_pages) F(common_pages)                            \
	F(active_pages) F(active_slow_pages) F(active_fast_pages)                                  \
	F(sample_periods) F(sample_pages) F(sample_touched)

struct counters {
#define FIELD(name) uint64_t name;
	BOARD_FIELDS(FIELD)
#undef FIELD
};
struct board {
	uint64_t magic;
	uint32_t version, frames;
	uint64_t sequence;
	struct counters counters;
	uint64_t histogram[HISTOGRAM_BUCKETS];
};
_Static_assert(sizeof(struct board) <= FRAME_MAP_OFFSET, "the board's head fits before the map");

extern struct counters counters; /* modules count here; board_publish shows it */
bool board_open(int fd, uint32_t frames);
volatile uint8_t *board_frame_map(void);
void board_publish(void);
void board_operation(uint64_t ns, bool write);
void board_new_workload(void); /* percentiles are those of the running workload */
uint64_t board_percentile(double fraction); /* ns, upper bound of its bucket; 0: no operation */
unsigned bucket_of(uint64_t ns);
void board_layout(void);
void board_report(void);

#endif

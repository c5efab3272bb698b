/* What stands in a page: a function of its class, its key and its number, never of time.
 *
 * Classes are dealt out evenly by page number (as a line is drawn on a raster), so that any size has
 * exactly its shares, the same in all VMs, and a common page is common in each of them. Word i of a
 * page can be computed alone, so that a read of one record can be checked.
 */
#include "agent.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define GOLDEN 0x9E3779B97F4A7C15ull

/* Splitmix64's finisher: a bijection in which every input bit reaches every output bit. */
uint64_t mix(uint64_t value)
{
	value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9ull;
	value = (value ^ value >> 27) * 0x94D049BB133111EBull;
	return value ^ value >> 31;
}

uint64_t hash_text(const char *text)
{
	uint64_t hash = GOLDEN;
	for (; *text; text++)
		hash = mix(hash + (unsigned char)*text);
	return mix(hash);
}

/* Random words such that LZO makes about 1/n of a page: 40 bytes go to the long run of zeros. */
static unsigned random_words(double compressible)
{
	if (compressible <= 1)
		return PAGE_WORDS;
	double bytes = PAGE / compressible - 40;
	return bytes < STAMP_WORDS * 8 ? STAMP_WORDS : (unsigned)(bytes / 8);
}

static bool read_share(const struct json *doc, const char *prefix, const char *name, double high,
		       double *value)
{
	char path[JSON_PATH];
	snprintf(path, sizeof path, "%s.%s", prefix, name);
	return json_number(doc, path, high > 1 ? 1 : 0, high, value);
}

bool content_read(const struct json *doc, const char *prefix, struct content *content)
{
	double compressible = 1;
	*content = (struct content){0};
	if (!read_share(doc, prefix, "zero", 1, &content->zero) ||
	    !read_share(doc, prefix, "common", 1, &content->common) ||
	    !read_share(doc, prefix, "compressible", 64, &compressible))
		return false;
	if (content->zero + content->common > 1 + 1e-9)
		return refuse("%s: zero and common are more than 1 together", prefix);
	content->random_words = random_words(compressible);
	return true;
}

void content_keys(struct content *content, uint64_t common_key, uint64_t unique_key)
{
	content->common_key = common_key;
	content->unique_key = unique_key;
}

/* Whether page number `page` is one of those that get a share, and how many before it did. */
static bool dealt(uint32_t page, double share, uint32_t *before)
{
	*before = (uint32_t)floor(page * share + 1e-9);
	return (uint32_t)floor((page + 1.0) * share + 1e-9) > *before;
}

static double common_share(const struct content *content)
{
	double rest = 1 - content->zero;
	return rest > 0 ? fmin(1, content->common / rest) : 0;
}

enum class content_class(const struct content *content, uint32_t page)
{
	uint32_t zeros, commons;
	if (dealt(page, content->zero, &zeros))
		return CLASS_ZERO;
	return dealt(page - zeros, common_share(content), &commons) ? CLASS_COMMON : CLASS_UNIQUE;
}

void content_counts(const struct content *content, uint32_t pages, uint32_t *zero, uint32_t *common)
{
	dealt(pages, content->zero, zero);
	dealt(pages - *zero, common_share(content), common);
}

const char *class_name(enum class class)
{
	static const char *const names[] = {"zero", "common", "unique"};
	return names[class];
}

static uint64_t page_key(const struct content *content, enum class class, uint32_t page)
{
	uint64_t key = class == CLASS_COMMON ? content->common_key : content->unique_key;
	return mix(key + (page + 1ull) * GOLDEN);
}

static uint64_t stamp_word(const struct content *content, uint32_t page, uint32_t version,
			   unsigned word)
{
	return mix(page_key(content, CLASS_UNIQUE, page) ^ mix((uint64_t)version << 32 | word));
}

void content_fill(const struct content *content, uint32_t page, uint64_t *words)
{
	enum class class = content_class(content, page);
	unsigned random = class == CLASS_ZERO ? 0 : content->random_words;
	uint64_t key = page_key(content, class, page);
	for (unsigned i = 0; i < random; i++)
		words[i] = mix(key + i * GOLDEN);
	memset(words + random, 0, (PAGE_WORDS - random) * 8);
}

/* The first cache line of a page after its `version`th write: no other page has it. */
void content_stamp(const struct content *content, uint32_t page, uint32_t version, uint64_t *words)
{
	for (unsigned i = 0; i < STAMP_WORDS; i++)
		words[i] = stamp_word(content, page, version, i);
}

uint64_t content_word(const struct content *content, uint32_t page, uint32_t version, unsigned word)
{
	if (version && word < STAMP_WORDS)
		return stamp_word(content, page, version, word);
	enum class class = content_class(content, page);
	if (class == CLASS_ZERO || word >= content->random_words)
		return 0;
	return mix(page_key(content, class, page) + word * GOLDEN);
}

bool content_matches(const struct content *content, uint32_t page, uint32_t version,
		     const uint64_t *words)
{
	enum class class = content_class(content, page);
	unsigned random = class == CLASS_ZERO ? 0 : content->random_words, word = 0;
	uint64_t key = page_key(content, class, page), wrong = 0;
	for (; version && word < STAMP_WORDS; word++)
		wrong |= words[word] ^ stamp_word(content, page, version, word);
	for (; word < random; word++)
		wrong |= words[word] ^ mix(key + word * GOLDEN);
	for (; word < PAGE_WORDS; word++)
		wrong |= words[word];
	return !wrong;
}

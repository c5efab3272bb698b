/* The guest's operating system: pages that are touched at boot and stay in use. */
#include "agent.h"

static struct content content;
static uint64_t name_key;

uint64_t image_key(void) { return name_key; }
enum class image_class(uint32_t page) { return content_class(&content, page); }

static bool fill(uint32_t pages)
{
	for (uint32_t page = 0; page < pages; page++) {
		frame_t frame = frames_take(IMAGE, page);
		content_fill(&content, page, frame_address(frame));
		if (page % 1024 == 0)
			board_publish();
		if (page % 1024 == 0 && !control_alive())
			return refuse("the host has gone");
	}
	return true;
}

void image_name(const struct json *doc)
{
	const char *name = json_text(doc, "image.name");
	name_key = hash_text(name ? name : "default");
}

bool image_boot(const struct json *doc, uint64_t key)
{
	uint64_t bytes = 0;
	if (!json_size(doc, "image.size", (double)MAX_FRAMES * PAGE, &bytes) ||
	    !content_read(doc, "image", &content))
		return false;
	uint32_t pages = pages_of(bytes);
	if (pages > frames_count(FREE))
		return refuse("the image does not fit into memory: %u pages of %u", pages,
			      frames_count(FREE));
	image_name(doc);
	content_keys(&content, mix(name_key + 1), mix(key + 1));
	uint32_t zero, common;
	content_counts(&content, pages, &zero, &common);
	counters.zero_pages += zero;
	counters.common_pages += common;
	return fill(pages);
}

bool image_check(frame_t frame)
{
	return content_matches(&content, frame_entry(frame)->link, 0, frame_address(frame));
}

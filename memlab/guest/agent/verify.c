/* Checks every page of the image and of the application, also those in the guest's swap. */
#include "agent.h"

#include <stdio.h>

static bool running;
static uint64_t answer_id, checked, bad;
static uint32_t frame_hand, page_hand;
static char first_bad[160];

bool verify_start(uint64_t id)
{
	if (running)
		return refuse("a verify is under way");
	running = true;
	answer_id = id;
	checked = bad = 0;
	frame_hand = page_hand = 0;
	snprintf(first_bad, sizeof first_bad, "null");
	return true;
}

void verify_cancel(const char *why)
{
	if (running)
		control_say("{\"id\":%llu,\"ok\":false,\"error\":\"%s\"}",
			    (unsigned long long)answer_id, why);
	running = false;
}

static void found(bool right, const char *of, uint32_t page, frame_t frame, enum class class)
{
	checked++;
	if (right)
		return;
	char where[24] = "null";
	if (frame != NO_FRAME)
		snprintf(where, sizeof where, "%u", frame);
	if (!bad++)
		snprintf(first_bad, sizeof first_bad,
			 "{\"of\":\"%s\",\"page\":%u,\"frame\":%s,\"class\":\"%s\"}", of, page,
			 where, class_name(class));
}

static void check_frame(frame_t frame)
{
	uint32_t page = frame_entry(frame)->link;
	if (frame_entry(frame)->kind == IMAGE)
		found(image_check(frame), "image", page, frame, image_class(page));
}

static void check_page(uint32_t page)
{
	bool touched;
	frame_t frame;
	bool right = os->check(page, &touched, &frame);
	if (touched)
		found(right, "application", page, frame, os->class_of(page));
}

static void answer(void)
{
	bool sound = os->sound();
	counters.bad_pages = bad;
	control_say("{\"id\":%llu,\"ok\":true,\"checked\":%llu,\"bad\":%llu,\"first_bad\":%s,"
		    "\"inconsistent\":%s%s%s}",
		    (unsigned long long)answer_id, (unsigned long long)checked,
		    (unsigned long long)bad, first_bad, sound ? "" : "\"",
		    sound ? "null" : refusal(), sound ? "" : "\"");
	running = false;
}

uint64_t verify_slice(uint64_t now)
{
	if (!running)
		return NEVER;
	for (uint64_t end = now + SLICE_NS; now < end; now = now_ns()) {
		for (unsigned i = 0; i < 16 && frame_hand < frames_total(); i++)
			check_frame(frame_hand++);
		if (frame_hand < frames_total())
			continue;
		if (page_hand == os->pages()) {
			answer();
			return NEVER;
		}
		for (unsigned i = 0; i < 16 && page_hand < os->pages(); i++)
			check_page(page_hand++);
	}
	return now;
}

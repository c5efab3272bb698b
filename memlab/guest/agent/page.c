/* What is counted and said of an application's page, whatever guest it lies in. */
#include "agent.h"

static bool said_bad;

/* Pages in memory whose content others have too: the first write takes a page out of its class. */
void page_counted(enum class class, uint32_t version, uint64_t change)
{
	if (version || class == CLASS_UNIQUE)
		return;
	*(class == CLASS_ZERO ? &counters.zero_pages : &counters.common_pages) += change;
}

void page_bad(uint32_t page, uint32_t frame, enum class class)
{
	if (said_bad)
		return;
	said_bad = true;
	if (frame == NO_FRAME)
		control_say("{\"event\":\"bad-page\",\"page\":%u,\"frame\":null,\"class\":\"%s\"}",
			    page, class_name(class));
	else
		control_say("{\"event\":\"bad-page\",\"page\":%u,\"frame\":%u,\"class\":\"%s\"}",
			    page, frame, class_name(class));
}

void page_bad_again(void) { said_bad = false; }

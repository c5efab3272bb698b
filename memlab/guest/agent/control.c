/* The line to the host: reads commands without ever waiting in the middle of one, writes answers. */
#include "agent.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ALONE_NS 20000000ull /* a port says at once, again and again, that nobody is there */

static int line_fd = -1;
static bool line_stays;
static char buffer[MAX_LINE + 1];
static size_t filled;
static bool skipping; /* inside a line that was too long */

void control_open(int fd, bool stays)
{
	line_fd = fd;
	line_stays = stays;
}

/* The host has gone: the end of a VM, or a moment on the way to another host. */
static void alone(void)
{
	if (!line_stays)
		exit(0);
	struct timespec while_alone = {0, ALONE_NS};
	nanosleep(&while_alone, NULL);
}

/* Whether the host still holds its end; for work that must not be interrupted by commands. */
bool control_alive(void)
{
	struct pollfd poll_fd = {.fd = line_fd};
	return poll(&poll_fd, 1, 0) < 1 || !(poll_fd.revents & (POLLHUP | POLLERR));
}

static void answer_lines(size_t unseen)
{
	char *start = buffer, *end;
	while ((end = memchr(buffer + unseen, '\n', filled - unseen))) {
		if (!skipping && end > start)
			command_line(start, (size_t)(end - start));
		skipping = false;
		start = end + 1;
		unseen = (size_t)(start - buffer);
	}
	filled -= (size_t)(start - buffer);
	memmove(buffer, start, filled);
	if (filled < MAX_LINE)
		return;
	if (!skipping)
		control_say("{\"id\":null,\"ok\":false,\"error\":\"the line is longer than %u bytes\"}",
			    MAX_LINE);
	skipping = true;
	filled = 0;
}

static void read_some(void)
{
	ssize_t got = read(line_fd, buffer + filled, MAX_LINE - filled);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (got <= 0) {
		alone();
		return;
	}
	size_t unseen = filled;
	filled += (size_t)got;
	answer_lines(unseen);
}

void control_wait(uint64_t until_ns)
{
	uint64_t now = now_ns(), rest = until_ns > now ? until_ns - now : 0;
	struct timespec timeout = {(time_t)(rest / 1000000000), (long)(rest % 1000000000)};
	struct pollfd poll_fd = {.fd = line_fd, .events = POLLIN};
	if (ppoll(&poll_fd, 1, until_ns == NEVER ? NULL : &timeout, NULL) < 1)
		return;
	read_some();
}

void control_say(const char *format, ...)
{
	static char line[8192];
	va_list values;
	va_start(values, format);
	int length = vsnprintf(line, sizeof line - 1, format, values);
	va_end(values);
	if (length < 0 || (size_t)length >= sizeof line - 1)
		die("an answer is longer than its buffer");
	line[length++] = '\n';
	for (int written = 0; written < length;) {
		ssize_t put = write(line_fd, line + written, (size_t)(length - written));
		if (put < 0 && errno != EINTR)
			alone();
		written += put > 0 ? (int)put : 0;
	}
}

/* A real program of a full guest, as its workload: started, measured with all its children, ended.
 *
 *     touched = Σ resident, mapped = Σ virtual size, of the program and its children, /proc/N/stat
 *
 * What several of them share is counted for each. The agent adopts children whose parent has ended
 * (PR_SET_CHILD_SUBREAPER), so that a server which goes into the background stays the program's.
 */
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS 128
#define LAST_WORDS 1500
#define MOST 4096
#define PIPE_BYTES (1 << 20)
#define MOST_PIECES 32
#define LOOK_NS 50000000ull
#define FRESH_NS 100000000ull
#define PATIENCE_MS 1000

static pid_t leader;	 /* the program itself; 0: it has ended, or there is none */
static bool any;	 /* a program is the workload */
static int output = -1;	 /* what it says, both its streams */
static char last[LAST_WORDS + 1];
static size_t said;
static uint64_t next_look, fresh_ns, mapped, touched, minor, major;

struct process {
	long pid, parent;
	unsigned long long minor, minor_below, major, major_below, bytes, resident;
	bool ours;
};
static struct process found[MOST];

static bool read_process(const char *name, struct process *one)
{
	char path[64], text[1024];
	snprintf(path, sizeof path, "/proc/%.20s/stat", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t got = read(fd, text, sizeof text - 1);
	close(fd);
	text[got > 0 ? got : 0] = 0;
	char *rest = strrchr(text, ')'); /* a program may have a name with blanks and brackets */
	one->pid = strtol(name, NULL, 10);
	one->ours = false;
	return rest && sscanf(rest + 1,
			      " %*c %ld %*d %*d %*d %*d %*u %llu %llu %llu %llu %*u %*u %*d %*d %*d"
			      " %*d %*d %*d %*u %llu %llu",
			      &one->parent, &one->minor, &one->minor_below, &one->major,
			      &one->major_below, &one->bytes, &one->resident) == 7;
}

static size_t read_all(void)
{
	size_t count = 0;
	DIR *proc = opendir("/proc");
	for (struct dirent *entry; proc && count < MOST && (entry = readdir(proc));)
		if (isdigit((unsigned char)entry->d_name[0]) &&
		    read_process(entry->d_name, &found[count]))
			count++;
	if (proc)
		closedir(proc);
	return count;
}

/* The agent's children, theirs, and so on. */
static void mark(size_t count)
{
	long me = getpid();
	for (bool more = true; more;) {
		more = false;
		for (size_t i = 0; i < count; i++) {
			bool below = found[i].parent == me;
			for (size_t j = 0; !below && j < count; j++)
				below = found[j].ours && found[j].pid == found[i].parent;
			more |= below && !found[i].ours;
			found[i].ours |= below;
		}
	}
}

static void measure(void)
{
	struct rusage ended;
	size_t count = read_all();
	mark(count);
	getrusage(RUSAGE_CHILDREN, &ended);
	mapped = touched = 0;
	minor = (uint64_t)ended.ru_minflt;
	major = (uint64_t)ended.ru_majflt;
	for (size_t i = 0; i < count; i++) {
		if (!found[i].ours)
			continue;
		mapped += found[i].bytes / PAGE;
		touched += found[i].resident;
		minor += found[i].minor + found[i].minor_below;
		major += found[i].major + found[i].major_below;
	}
}

/* Into the counters, where they are a program's. */
void program_collect(void)
{
	uint64_t now = now_ns();
	if (!any)
		return;
	if (now - fresh_ns > FRESH_NS) {
		fresh_ns = now;
		measure();
	}
	counters.app_mapped_pages = mapped;
	counters.app_touched_pages = touched;
	counters.minor_faults += minor;
	counters.major_faults += major;
}

/* The end of what it has said is kept; it must not wait for a reader. */
static void hear(void)
{
	static char piece[65536];
	for (unsigned i = 0; output >= 0 && i < MOST_PIECES; i++) {
		ssize_t got = read(output, piece, sizeof piece);
		if (got <= 0)
			return;
		size_t fresh = (size_t)got < LAST_WORDS ? (size_t)got : LAST_WORDS;
		size_t kept = said < LAST_WORDS - fresh ? said : LAST_WORDS - fresh;
		memmove(last, last + said - kept, kept);
		memcpy(last + kept, piece + got - fresh, fresh);
		said = kept + fresh;
	}
}

static void tell_end(int status)
{
	char text[2 * LAST_WORDS + 1], why[32];
	size_t used = 0;
	snprintf(why, sizeof why, WIFSIGNALED(status) ? "killed by signal %d" : "exited %d",
		 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	for (size_t i = 0; i < said; i++) {
		char c = last[i];
		if (c == '\n' || c == '"' || c == '\\')
			text[used++] = '\\';
		text[used++] = c == '\n' ? 'n' : c >= ' ' && c <= '~' ? c : '?';
	}
	text[used] = 0;
	control_say("{\"event\":\"program-ended\",\"why\":\"%s\",\"last\":\"%s\"}", why, text);
}

static void reap(void)
{
	int status;
	for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
		if (pid != leader)
			continue;
		leader = 0;
		hear();
		tell_end(status);
	}
}

uint64_t program_slice(uint64_t now)
{
	if (!any)
		return NEVER;
	if (now < next_look)
		return next_look;
	hear();
	reap();
	return next_look = now + LOOK_NS;
}

const char *program_phase(void) { return !any ? NULL : leader ? "run" : "ended"; }

/* Whatever is left of it, children in the background too. */
static void signal_all(int number)
{
	size_t count = read_all();
	mark(count);
	for (size_t i = 0; i < count; i++)
		if (found[i].ours)
			kill((pid_t)found[i].pid, number);
}

static bool all_ended(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	return waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD;
}

void program_stop(void)
{
	if (!any)
		return;
	signal_all(SIGTERM);
	for (unsigned ms = 0; ms < PATIENCE_MS && !all_ended(); ms += 10)
		usleep(10000);
	for (unsigned ms = 0; ms < PATIENCE_MS && !all_ended(); ms += 10) {
		signal_all(SIGKILL);
		usleep(10000);
	}
	close(output);
	output = -1;
	any = false;
	leader = 0;
}

static void become(char **argv, int stream, int trouble)
{
	int none = open("/dev/null", O_RDONLY);
	dup2(none, 0);
	dup2(stream, 1);
	dup2(stream, 2);
	setsid();
	signal(SIGPIPE, SIG_DFL);
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 0);
	execvp(*argv, argv);
	int error = errno;
	if (write(trouble, &error, sizeof error) < 0)
		_exit(126);
	_exit(127);
}

static bool launch(char **argv)
{
	int streams[2], trouble[2], error = 0;
	if (pipe2(streams, O_CLOEXEC) || pipe2(trouble, O_CLOEXEC))
		return refuse("the guest gives no pipe: %s", strerror(errno));
	fcntl(streams[1], F_SETPIPE_SZ, PIPE_BYTES);
	fcntl(streams[0], F_SETFL, O_NONBLOCK);
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	leader = fork();
	if (!leader)
		become(argv, streams[1], trouble[1]);
	close(streams[1]);
	close(trouble[1]);
	bool failed = leader < 0 || read(trouble[0], &error, sizeof error) > 0;
	close(trouble[0]);
	output = streams[0];
	any = true;
	if (!failed)
		return true;
	program_stop();
	return refuse("the guest cannot run %s: %s", *argv, strerror(error ? error : errno));
}

/* `command` of the workload is a list of words; without it there is no program. */
bool program_start(const struct json *doc)
{
	char *argv[WORDS + 1], path[32];
	size_t count = 0;
	program_stop();
	for (const char *word; count < WORDS; argv[count++] = (char *)word) {
		snprintf(path, sizeof path, "command.%zu", count);
		if (!(word = json_text(doc, path)))
			break;
	}
	argv[count] = NULL;
	said = next_look = fresh_ns = 0;
	if (!count)
		return true;
	if (os == &miniature)
		return refuse("a process VM has no programs: it has command: instead");
	return launch(argv);
}

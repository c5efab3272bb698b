/* memlab-agent: arguments, privileges, and the loop.
 *
 *   memlab-agent --control FD [--board FD] [--guest-swap FD] [--cache-file FD] [--uid N --gid N]
 *   memlab-agent --port
 *   memlab-agent --exec [--wait FD] [--network FD] [--merge] [--small-pages] [--with-parent]
 *                [--uid N --gid N] -- PROGRAM …
 *   memlab-agent --layout
 *
 * The first form is a process VM: the miniature guest. The second is a program of a full guest, on
 * the virtio-serial port that QEMU gives it; so is the agent as the first process, without a word.
 * The third starts a program in a VM's cgroup: it waits until it is there, drops its rights and
 * becomes the program. The last prints the board's layout, for the tests.
 */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67 /* since 6.4 (d7597f59d1d3 "mm: add new api to enable ksm") */
#endif

static struct options {
	long control, board, swap, cache, uid, gid, wait, network, claim;
	bool exec, merge, small, port, with_parent;
	char **program;
} options = {-1, -1, -1, -1, -1, -1, -1, -1, -1, false, false, false, false, false, NULL};

const struct guest_os *os = &miniature;

uint64_t now_ns(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

void die(const char *format, ...)
{
	va_list values;
	va_start(values, format);
	fprintf(stderr, "memlab-agent: ");
	vfprintf(stderr, format, values);
	fprintf(stderr, "\n");
	va_end(values);
	exit(1);
}

static long number(const char *text)
{
	char *end;
	long value = strtol(text, &end, 10);
	if (!*text || *end || value < 0)
		die("%s is not a number", text);
	return value;
}

static long *number_option(const char *name)
{
	const struct {
		const char *name;
		long *value;
	} known[] = {{"--control", &options.control},  {"--board", &options.board},
		     {"--guest-swap", &options.swap},  {"--cache-file", &options.cache},
		     {"--uid", &options.uid},	       {"--gid", &options.gid},
		     {"--wait", &options.wait},
		     {"--network", &options.network}, {"--claim", &options.claim}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcmp(name, known[i].name))
			return known[i].value;
	return NULL;
}

static void read_options(char **argv)
{
	for (; *argv; argv++) {
		long *value = number_option(*argv);
		if (!strcmp(*argv, "--layout")) {
			board_layout();
			exit(0);
		} else if (!strcmp(*argv, "--")) {
			options.program = argv + 1;
			return;
		} else if (!strcmp(*argv, "--exec")) {
			options.exec = true;
		} else if (!strcmp(*argv, "--merge")) {
			options.merge = true;
		} else if (!strcmp(*argv, "--small-pages")) {
			options.small = true;
		} else if (!strcmp(*argv, "--with-parent")) {
			options.with_parent = true;
		} else if (!strcmp(*argv, "--port")) {
			options.port = true;
		} else if (value && argv[1]) {
			*value = number(*++argv);
		} else {
			die("what is %s?", *argv);
		}
	}
}

/* Becomes a user that owns nothing, and never more than that again. */
static void drop_rights(void)
{
	gid_t gid = (gid_t)options.gid;
	uid_t uid = (uid_t)options.uid;
	if (options.gid >= 0 && (setgroups(0, NULL) || setresgid(gid, gid, gid)))
		die("cannot become group %ld: %s", options.gid, strerror(errno));
	if (options.uid >= 0 && setresuid(uid, uid, uid))
		die("cannot become user %ld: %s", options.uid, strerror(errno));
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("cannot give up new privileges: %s", strerror(errno));
}

static void become_program(void)
{
	char go;
	if (!options.program || !*options.program)
		die("--exec needs -- and a program");
	if (options.wait >= 0 && read((int)options.wait, &go, 1) != 1)
		exit(125); /* the host has given up before the start */
	if (options.wait >= 0)
		close((int)options.wait);
	if (options.network >= 0 && setns((int)options.network, CLONE_NEWNET))
		die("cannot join the lab's network: %s", strerror(errno));
	if (options.network >= 0)
		close((int)options.network);
	drop_rights(); /* a change of user forgets the parent's death */
	if (options.with_parent && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		die("cannot end with its parent: %s", strerror(errno));
	if (options.merge && prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0))
		die("the kernel does not merge a whole process (needs 6.4): %s", strerror(errno));
	if (options.small && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		die("the kernel does not keep a process from huge pages: %s", strerror(errno));
	execvp(*options.program, options.program);
	die("cannot run %s: %s", *options.program, strerror(errno));
}

static uint64_t sooner(uint64_t one, uint64_t other)
{
	return one < other ? one : other;
}

static void serve(void)
{
	for (uint64_t next = NEVER;;) {
		if (guest_booted())
			board_publish();
		control_wait(next);
		if (!guest_booted())
			continue;
		next = verify_slice(now_ns());
		if (os == &miniature) {
			next = sooner(next, balloon_slice(now_ns()));
			next = sooner(next, sample_slice(now_ns()));
		}
		next = sooner(next, report_slice(now_ns()));
		next = sooner(next, program_slice(now_ns()));
		next = sooner(next, workload_slice(now_ns()));
	}
}

static void open_line(void)
{
	if (getpid() == 1) {
		init_run();
		return;
	}
	if (options.port)
		init_reporting();
	int fd = options.port ? port_open() : (int)options.control;
	if (fd < 0)
		die(options.port ? "QEMU has given this guest no port memlab.agent"
				 : "--control names no descriptor");
	control_open(fd, options.port);
}

int main(int argc, char **argv)
{
	(void)argc;
	bool real = getpid() == 1;
	if (!real)
		read_options(argv + 1);
	if (options.exec)
		become_program();
	if (real || options.port)
		os = &linux_guest;
	signal(SIGPIPE, SIG_IGN);
	open_line();
	drop_rights();
	workload_claim(options.claim);
	miniature_descriptors((int)options.board, (int)options.swap, (int)options.cache);
	serve();
}

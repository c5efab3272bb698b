/* The agent as /init of a micro-guest: the only program of a real Linux.
 *
 * It mounts what it reads, loads the modules that lie beside it, in the order of their numbers, and
 * becomes two: the first process stays and sees to the end, the second is the agent. If the guest's
 * kernel kills the agent for memory, the first says so and switches the machine off.
 */
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODULES "/modules"
#define MODULE_INIT_COMPRESSED_FILE 4 /* since 5.17 (b1ae6dc41eaa) */
#define MOST_MODULES 64
#define REPORTING_ORDER "/sys/module/page_reporting/parameters/page_reporting_order"

static void mount_one(const char *what, const char *where)
{
	mkdir(where, 0755);
	if (mount(what, where, what, 0, NULL) && errno != EBUSY)
		die("cannot mount %s: %s", where, strerror(errno));
}

static void load(const char *name)
{
	char path[300];
	snprintf(path, sizeof path, MODULES "/%s", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = strlen(name);
	int flags = length > 3 && !strcmp(name + length - 3, ".ko") ? 0 : MODULE_INIT_COMPRESSED_FILE;
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", flags) && errno != EEXIST))
		fprintf(stderr, "memlab-agent: module %s: %s\n", name, strerror(errno));
	if (fd >= 0)
		close(fd);
	unlink(path); /* its pages are the guest's again */
}

static int not_hidden(const struct dirent *entry) { return entry->d_name[0] != '.'; }

static void load_modules(void)
{
	struct dirent **names;
	int count = scandir(MODULES, &names, not_hidden, alphasort);
	for (int i = 0; i < count; i++) {
		load(names[i]->d_name);
		free(names[i]);
	}
	if (count >= 0)
		free(names);
}

/* The default order asks for 64 MiB of free memory in blocks of 2 MiB before it reports any, which
 * a small guest never has. It can be set when the balloon driver has registered, not before. */
void init_reporting(void)
{
	int fd = open(REPORTING_ORDER, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "0", 1) != 1)
		fprintf(stderr, "memlab-agent: " REPORTING_ORDER ": %s\n", strerror(errno));
	close(fd);
}

static void set_oom_score(const char *score)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, score, strlen(score)) < 0)
		fprintf(stderr, "memlab-agent: oom_score_adj: %s\n", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void switch_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void see_to_the_end(pid_t agent)
{
	int status = 0;
	while (waitpid(agent, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		control_say("{\"event\":\"agent-killed\",\"signal\":%d}", WTERMSIG(status));
	if (WIFSIGNALED(status))
		usleep(100000); /* the line has to leave before the machine does */
	switch_off();
}

void init_run(void)
{
	mount_one("proc", "/proc");
	mount_one("sysfs", "/sys");
	mount_one("devtmpfs", "/dev");
	load_modules();
	init_reporting();
	int port = port_open();
	if (port < 0) {
		fprintf(stderr, "memlab-agent: QEMU has no port memlab.agent for this guest\n");
		switch_off();
	}
	control_open(port, true);
	set_oom_score("-1000");
	pid_t agent = fork();
	if (agent < 0)
		die("cannot fork: %s", strerror(errno));
	if (agent)
		see_to_the_end(agent);
	set_oom_score("0"); /* of the two the agent is the one to be killed */
}

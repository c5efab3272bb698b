/* The guest's place on the lab's network: one card, its addresses told by the host.
 *
 * Guests that start from one saved state have the card's Ethernet address from there, all the same
 * one; so it is set as well. A card that has the wanted one already is looked for by it: in a full
 * guest it has a name of the distribution's own choice.
 */
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PING_MS 1000
#define MAC_BYTES 6

static bool read_mac(const char *text, unsigned char *mac)
{
	return text && sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3,
			      mac + 4, mac + 5) == MAC_BYTES;
}

static void find_card(int fd, const unsigned char *mac, struct ifreq *card)
{
	snprintf(card->ifr_name, sizeof card->ifr_name, "eth0");
	struct if_nameindex *all = if_nameindex();
	for (struct if_nameindex *one = all; one && one->if_name; one++) {
		struct ifreq asked = {0};
		snprintf(asked.ifr_name, sizeof asked.ifr_name, "%s", one->if_name);
		if (!ioctl(fd, SIOCGIFHWADDR, &asked) &&
		    !memcmp(asked.ifr_hwaddr.sa_data, mac, MAC_BYTES))
			*card = asked;
	}
	if (all)
		if_freenameindex(all);
}

static bool set(int fd, unsigned long what, struct ifreq *card, const char *meant)
{
	return !ioctl(fd, what, card) ||
	       refuse("the guest's card %s takes no %s: %s", card->ifr_name, meant, strerror(errno));
}

static bool set_address(int fd, unsigned long what, struct ifreq *card, struct in_addr address,
			const char *meant)
{
	struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr = address};
	memcpy(&card->ifr_addr, &inet, sizeof inet);
	return set(fd, what, card, meant);
}

static bool raise_link(int fd, struct ifreq *card)
{
	if (!set(fd, SIOCGIFFLAGS, card, "question"))
		return false;
	card->ifr_flags |= IFF_UP;
	return set(fd, SIOCSIFFLAGS, card, "start");
}

static bool configure(int fd, const unsigned char *mac, struct in_addr address, unsigned prefix)
{
	struct ifreq card = {0}, loopback = {.ifr_name = "lo"};
	struct in_addr mask = {htonl(~0u << (32 - prefix))};
	find_card(fd, mac, &card);
	if (!set(fd, SIOCGIFHWADDR, &card, "question"))
		return false;
	bool same = !memcmp(card.ifr_hwaddr.sa_data, mac, MAC_BYTES);
	card.ifr_hwaddr.sa_family = ARPHRD_ETHER;
	memcpy(card.ifr_hwaddr.sa_data, mac, MAC_BYTES);
	return (same || set(fd, SIOCSIFHWADDR, &card, "Ethernet address")) &&
	       set_address(fd, SIOCSIFADDR, &card, address, "address") &&
	       set_address(fd, SIOCSIFNETMASK, &card, mask, "mask") && raise_link(fd, &card) &&
	       raise_link(fd, &loopback);
}

/* As `boot` says; nothing if the lab has no network. */
bool net_boot(const struct json *doc)
{
	const char *text = json_text(doc, "network.address");
	unsigned char mac[MAC_BYTES];
	struct in_addr address;
	double prefix = 0;
	if (!text)
		return true;
	if (!inet_aton(text, &address) || !read_mac(json_text(doc, "network.mac"), mac))
		return refuse("network needs an address and a mac");
	if (!json_number(doc, "network.prefix", 1, 30, &prefix))
		return false;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool done = fd >= 0 ? configure(fd, mac, address, (unsigned)prefix)
			    : refuse("the guest has no network: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
	return done;
}

static uint16_t checksum(const void *data, size_t length)
{
	uint32_t sum = 0;
	for (const uint16_t *word = data; length; word++, length -= 2)
		sum += *word;
	sum = (sum >> 16) + (sum & 0xffff);
	return (uint16_t)~(sum + (sum >> 16));
}

static bool is_answer(const char *packet, ssize_t got, const struct icmphdr *asked)
{
	const struct iphdr *ip = (const struct iphdr *)packet;
	const struct icmphdr *icmp = (const struct icmphdr *)(packet + ip->ihl * 4);
	return got >= (ssize_t)(ip->ihl * 4 + sizeof *icmp) && icmp->type == ICMP_ECHOREPLY &&
	       icmp->un.echo.id == asked->un.echo.id &&
	       icmp->un.echo.sequence == asked->un.echo.sequence;
}

/* Nanoseconds from an echo request to its answer; 0 if there is none within a second. */
static uint64_t echo(int fd, struct in_addr address)
{
	static uint16_t sequence;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = address};
	struct icmphdr asked = {.type = ICMP_ECHO};
	char packet[1500] __attribute__((aligned(4)));
	asked.un.echo.id = htons((uint16_t)getpid());
	asked.un.echo.sequence = htons(++sequence);
	asked.checksum = checksum(&asked, sizeof asked);
	uint64_t begin = now_ns(), end = begin + PING_MS * 1000000ull;
	if (sendto(fd, &asked, sizeof asked, 0, (struct sockaddr *)&to, sizeof to) < 0)
		return 0;
	for (uint64_t now = begin; now < end; now = now_ns()) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		if (poll(&poll_fd, 1, (int)((end - now) / 1000000) + 1) < 1)
			return 0;
		ssize_t got = recv(fd, packet, sizeof packet, 0);
		if (got >= (ssize_t)sizeof(struct iphdr) && is_answer(packet, got, &asked))
			return now_ns() - begin;
	}
	return 0;
}

/* Whether another member of the network is there: the agent waits for at most a second. */
bool net_ping(const struct json *doc, const char *id)
{
	const char *text = json_text(doc, "address");
	struct in_addr address;
	if (!text || !inet_aton(text, &address))
		return refuse("ping needs an address");
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
	if (fd < 0)
		return refuse("the guest sends no echo request: %s", strerror(errno));
	uint64_t took = echo(fd, address);
	close(fd);
	if (!took)
		return refuse("no answer from %s within a second", text);
	control_say("{\"id\":%s,\"ok\":true,\"seconds\":%.6f}", id, (double)took / 1e9);
	return true;
}

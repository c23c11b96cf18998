/* The floor of `make bench-fanout`: what the kernel alone costs. Each line of standard input becomes one WebSocket text
 * frame, made once and given to every connection by one send(). One thread, epoll, no other answers than the
 * handshake's: no pings, no limits, no metrics. Where a socket does not take a whole frame the rest is kept for it, and
 * further frames behind that, so nothing is lost.
 *
 * A request without a WebSocket key is answered 200, by which the bench sees that the server runs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sha1.h"

#define BACKLOG 4096
#define EVENTS 256
#define MAX_REQUEST 4096
#define MAX_LINE 65535

/* One connection. `pending` is its request before the handshake, what its socket did not take after it: `length` bytes
 * behind the first `done`. */
struct connection {
	int fd;
	int place; /* in `open_connections`, -1 before the handshake */
	char *pending;
	size_t done, length;
};

static int epoll;
static struct connection **open_connections;
static size_t count, capacity;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void *sized(void *old, size_t size)
{
	void *made = realloc(old, size);
	if (made == NULL)
		fail("realloc");
	return made;
}

static void watch(int operation, struct connection *one, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = one};
	if (epoll_ctl(epoll, operation, fd, &event) != 0)
		fail("epoll_ctl");
}

static void drop(struct connection *one)
{
	if (one->place >= 0) {
		struct connection *last = open_connections[--count];
		open_connections[one->place] = last;
		last->place = one->place;
	}
	close(one->fd);
	free(one->pending);
	free(one);
}

static void keep(struct connection *one, const char *data, size_t length)
{
	if (one->done > one->length) { /* seldom enough that moving costs little for each byte */
		memmove(one->pending, one->pending + one->done, one->length);
		one->done = 0;
	}
	one->pending = sized(one->pending, one->done + one->length + length);
	memcpy(one->pending + one->done + one->length, data, length);
	one->length += length;
}

/* Give bytes to a connection; what it does not take now waits. A broken connection is found by its next read. */
static void give(struct connection *one, const char *data, size_t length)
{
	if (one->length > 0) {
		keep(one, data, length);
		return;
	}
	ssize_t sent = send(one->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent == (ssize_t)length)
		return;
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		return;
	if (sent < 0)
		sent = 0;
	keep(one, data + sent, length - sent);
	watch(EPOLL_CTL_MOD, one, one->fd, EPOLLIN | EPOLLOUT);
}

/* Send what waited. */
static void go_on(struct connection *one)
{
	ssize_t sent = send(one->fd, one->pending + one->done, one->length, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent <= 0)
		return;
	one->done += sent;
	one->length -= sent;
	if (one->length == 0) {
		free(one->pending);
		one->pending = NULL;
		one->done = 0;
		watch(EPOLL_CTL_MOD, one, one->fd, EPOLLIN);
	}
}

static void broadcast(const char *line, size_t length)
{
	static char frame[MAX_LINE + 4];
	size_t head = 2;
	frame[0] = (char)0x81; /* final, text */
	if (length < 126) {
		frame[1] = (char)length;
	} else {
		frame[1] = 126;
		frame[2] = (char)(length >> 8);
		frame[3] = (char)length;
		head = 4;
	}
	memcpy(frame + head, line, length);
	for (size_t i = 0; i < count; i++)
		give(open_connections[i], frame, head + length);
}

static void read_lines(void)
{
	static char buffer[MAX_LINE + 1];
	static size_t held;
	ssize_t got = read(STDIN_FILENO, buffer + held, sizeof buffer - held);
	if (got == 0)
		exit(0);
	if (got < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return;
		fail("read");
	}
	held += got;
	char *begin = buffer, *end;
	while ((end = memchr(begin, '\n', held - (begin - buffer))) != NULL) {
		broadcast(begin, end - begin);
		begin = end + 1;
	}
	held -= begin - buffer;
	memmove(buffer, begin, held);
	if (held == sizeof buffer) {
		fputs("a line is too long\n", stderr);
		exit(1);
	}
}

/* Answer a request that is whole; false where the connection ended. */
static int answer(struct connection *one)
{
	char *key = strcasestr(one->pending, "\r\nSec-WebSocket-Key:");
	if (key == NULL) {
		static const char alive[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
		send(one->fd, alive, sizeof alive - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		drop(one);
		return 0;
	}
	key += strlen("\r\nSec-WebSocket-Key:");
	key += strspn(key, " \t");
	char accept[ACCEPT_SIZE], text[256];
	websocket_accept(key, strcspn(key, " \t\r\n"), accept);
	int length = snprintf(text, sizeof text,
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Accept: %s\r\n%s\r\n", accept,
		strstr(one->pending, "podium.v1") ? "Sec-WebSocket-Protocol: podium.v1\r\n" : "");
	free(one->pending);
	one->pending = NULL;
	one->length = 0;
	if (count == capacity) {
		capacity = capacity ? 2 * capacity : 1024;
		open_connections = sized(open_connections, capacity * sizeof *open_connections);
	}
	one->place = (int)count;
	open_connections[count++] = one;
	give(one, text, length);
	return 1;
}

/* Read what a client sent: its request, or pongs and a close, which are not looked at. False where it ended. */
static int hear(struct connection *one)
{
	char data[MAX_REQUEST];
	ssize_t got = recv(one->fd, data, sizeof data, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (got <= 0 || (one->place < 0 && one->length + got >= MAX_REQUEST)) {
		drop(one);
		return 0;
	}
	if (one->place >= 0)
		return 1;
	keep(one, data, got);
	keep(one, "", 1); /* ends the text */
	one->length--;
	return strstr(one->pending, "\r\n\r\n") == NULL || answer(one);
}

static void welcome(int listener)
{
	int fd, yes = 1;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
		struct connection *one = sized(NULL, sizeof *one);
		*one = (struct connection){.fd = fd, .place = -1};
		watch(EPOLL_CTL_ADD, one, fd, EPOLLIN);
	}
}

static int listen_on(int port)
{
	int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, BACKLOG) != 0)
		fail("listen");
	return listener;
}

int main(void)
{
	static struct connection input, door;
	const char *port = getenv("PODIUM_PORT");
	struct epoll_event events[EVENTS];
	epoll = epoll_create1(EPOLL_CLOEXEC);
	door.fd = listen_on(port ? atoi(port) : 8080);
	fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
	watch(EPOLL_CTL_ADD, &door, door.fd, EPOLLIN);
	watch(EPOLL_CTL_ADD, &input, STDIN_FILENO, EPOLLIN);
	for (;;) {
		int ready = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < ready; i++) {
			struct connection *one = events[i].data.ptr;
			if (one == &door)
				welcome(door.fd);
			else if (one == &input)
				read_lines();
			else if ((!(events[i].events & ~EPOLLOUT) || hear(one)) && events[i].events & EPOLLOUT)
				go_on(one);
		}
	}
}

// A bare ChannelData relay: what the kernel takes at least when each client has a socket of its own. No STUN, no checks:
// each new client gets the next relay socket. `floor PORT PEER_PORT RELAYS`, all on 127.0.0.1, clients on 127.0.0.0/8.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { BATCH = 64, SLOT = 2048, MAX_RELAYS = 20000, LISTENER = 0xffffff };

static unsigned char slots[BATCH * SLOT];
static struct sockaddr_in names[BATCH], clients[MAX_RELAYS];
static struct iovec iovecs[BATCH];
static struct mmsghdr headers[BATCH];
static int relays[MAX_RELAYS], channels[MAX_RELAYS], client_count;
static int by_ip[1 << 24];

static struct sockaddr_in loopback(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

static int open_socket(int epoll, int port, unsigned data) {
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), size = 4 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
  setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
  struct sockaddr_in address = loopback(port);
  if (bind(fd, (void *)&address, sizeof address)) exit(1);
  struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = data};
  epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  return fd;
}

static int receive(int fd) {
  for (int i = 0; i < BATCH; i++) {
    iovecs[i] = (struct iovec){slots + i * SLOT + 4, SLOT - 4};
    headers[i].msg_hdr = (struct msghdr){.msg_name = names + i, .msg_namelen = 16, .msg_iov = iovecs + i, .msg_iovlen = 1};
  }
  return recvmmsg(fd, headers, BATCH, MSG_DONTWAIT, 0);
}

static void to_peer(int i, int relay_count, struct sockaddr_in *peer) {
  unsigned ip = ntohl(names[i].sin_addr.s_addr) & 0xffffff;
  unsigned char *data = slots + i * SLOT + 4;
  int client = by_ip[ip] - 1;
  if (client < 0) {
    if (client_count >= relay_count) return;
    client = client_count++;
    by_ip[ip] = client + 1;
    clients[client] = names[i];
    channels[client] = data[0] << 8 | data[1];
  }
  sendto(relays[client], data + 4, data[2] << 8 | data[3], MSG_DONTWAIT, (void *)peer, sizeof *peer);
}

static void to_client(int i, int client) {
  unsigned char *data = slots + i * SLOT;
  unsigned length = headers[i].msg_len;
  data[0] = channels[client] >> 8, data[1] = channels[client], data[2] = length >> 8, data[3] = length;
  iovecs[i] = (struct iovec){data, length + 4};
  headers[i].msg_hdr.msg_name = clients + client;
}

int main(int count, char **args) {
  if (count != 4) return 2;
  int relay_count = atoi(args[3]), epoll = epoll_create1(0);
  int listener = open_socket(epoll, atoi(args[1]), LISTENER);
  struct sockaddr_in peer = loopback(atoi(args[2]));
  for (int i = 0; i < relay_count && i < MAX_RELAYS; i++) relays[i] = open_socket(epoll, 0, i);
  for (struct epoll_event events[256];;) {
    int ready = epoll_wait(epoll, events, 256, -1);
    for (int k = 0; k < ready; k++) {
      unsigned data = events[k].data.u32;
      int got, is_client = data == LISTENER;
      while ((got = receive(is_client ? listener : relays[data])) > 0) {
        for (int i = 0; i < got; i++) {
          if (is_client) to_peer(i, relay_count, &peer);
          else to_client(i, data);
        }
        if (!is_client) sendmmsg(listener, headers, got, MSG_DONTWAIT);
        if (got < BATCH) break;
      }
    }
  }
}

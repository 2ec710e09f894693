/* Asks litefleet's service on this device for one inference, with nothing but libc.
 *
 *     cc -o client client.c
 *     ./client /run/litefleet/agent.sock cls x float32 1,3,48,192 < input.raw > outputs.raw
 *
 * Input and outputs are raw little-endian numbers in C order, the outputs one after the other.  The answer's header,
 * which names the outputs, goes to stderr.  Exit code: 0 answered, 1 refused or not reached, 2 wrong usage.
 */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PREFIX 16
#define MOST (1u << 30) /* bytes of an answer that this program takes */

static void fail(const char *text) {
    fprintf(stderr, "client: %s\n", text);
    exit(1);
}

static void put_number(unsigned char *to, uint64_t value, int bytes) { /* big-endian */
    while (bytes--) {
        to[bytes] = (unsigned char)value;
        value >>= 8;
    }
}

static uint64_t get_number(const unsigned char *from, int bytes) {
    uint64_t value = 0;
    while (bytes--) value = value << 8 | *from++;
    return value;
}

static void send_all(int fd, const void *data, size_t size) {
    const char *at = data;
    while (size) {
        ssize_t sent = write(fd, at, size);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return; /* the service may have said why: read its answer */
        at += sent;
        size -= (size_t)sent;
    }
}

static void read_all(int fd, void *data, size_t size) {
    char *at = data;
    while (size) {
        ssize_t came = read(fd, at, size);
        if (came < 0 && errno == EINTR) continue;
        if (came <= 0) fail("the service ended the connection");
        at += came;
        size -= (size_t)came;
    }
}

static int connect_to(const char *path) {
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    if (fd < 0 || strlen(path) >= sizeof address.sun_path) fail("the socket's path is too long");
    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address)) fail(strerror(errno));
    return fd;
}

/* Bytes of a tensor, 0 when the type or the dims make no sense. */
static size_t size_of(const char *dtype, const char *dims) {
    const char *digits = strpbrk(dtype, "0123456789");
    size_t size = digits ? (size_t)atoi(digits) / 8 : 1; /* bool has one byte */
    while (*dims) {
        char *end;
        unsigned long dim = strtoul(dims, &end, 10);
        if (end == dims || dim == 0 || dim > MOST || size * dim > MOST) return 0;
        size *= dim;
        dims = *end == ',' ? end + 1 : end;
        if (*end && *end != ',') return 0;
    }
    return size;
}

int main(int count, char **words) {
    unsigned char prefix[PREFIX];
    char header[4096];
    size_t size;
    if (count != 6 || strpbrk(words[2], "\"\\") || strpbrk(words[3], "\"\\") || strpbrk(words[4], "\"\\") ||
        (size = size_of(words[4], words[5])) == 0) {
        fprintf(stderr, "usage: client SOCKET MODEL INPUT DTYPE DIM,DIM,... < raw > raw\n");
        return 2;
    }
    char *input = malloc(size);
    if (!input) fail("no memory");
    if (fread(input, 1, size, stdin) != size || getchar() != EOF) {
        fprintf(stderr, "client: stdin must hold exactly %zu bytes\n", size);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    int fd = connect_to(words[1]);

    int length = snprintf(header, sizeof header,
                          "{\"id\":1,\"op\":\"infer\",\"model\":\"%s\",\"inputs\":[{\"name\":\"%s\",\"dtype\":\"%s\",\"dims\":[%s]}]}",
                          words[2], words[3], words[4], words[5]);
    if (length < 0 || (size_t)length >= sizeof header) fail("the names are too long");
    memcpy(prefix, "LFF1", 4);
    put_number(prefix + 4, (uint64_t)length, 4);
    put_number(prefix + 8, size, 8);
    send_all(fd, prefix, PREFIX);
    send_all(fd, header, (size_t)length);
    send_all(fd, input, size);

    read_all(fd, prefix, PREFIX);
    uint64_t header_size = get_number(prefix + 4, 4), body_size = get_number(prefix + 8, 8);
    if (memcmp(prefix, "LFF1", 4) || header_size > (1u << 20) || body_size > MOST) fail("this is no answer");
    char *told = malloc(header_size + 1), *outputs = malloc(body_size + 1);
    if (!told || !outputs) fail("no memory");
    read_all(fd, told, header_size);
    read_all(fd, outputs, body_size);
    told[header_size] = 0;
    fprintf(stderr, "%s\n", told); /* a real application reads this with its JSON library */
    if (strncmp(told, "{\"error\":", 9) == 0) return 1; /* the service writes the keys in alphabetical order */
    if (fwrite(outputs, 1, body_size, stdout) != body_size || fflush(stdout)) fail("the outputs can't be written");
    return 0;
}

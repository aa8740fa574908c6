#include <stdint.h>
#include <time.h>
#include <zmq.h>

struct { char magic[4]; uint16_t channels, flags; uint64_t frame; int64_t timestamp_ns;
         uint32_t epoch, reserved; char source[64]; float values[2]; } record = {"FTL1", 2, .source = "pump-2"};

int main(int argc, char **argv) {
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_XPUB);
    int wait = 1;
    char subscription[256];
    zmq_setsockopt(socket, ZMQ_XPUB_NODROP, &wait, sizeof wait);  // a full queue makes zmq_send wait
    zmq_connect(socket, argc > 1 ? argv[1] : "tcp://127.0.0.1:5555");
    zmq_recv(socket, subscription, sizeof subscription, 0);  // until the daemon listens
    for (record.epoch = time(NULL); record.frame < 1000; record.frame++) {
        record.values[0] = record.frame / 8.0f, record.values[1] = 100.0f - record.frame;
        zmq_send(socket, &record, sizeof record, 0);
    }
    return zmq_close(socket) + zmq_ctx_term(context);  // when all is sent
}

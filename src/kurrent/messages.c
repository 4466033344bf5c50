/* The generated code of protobuf-c, for what is not asked for every event. Unpacked messages lie in the arena
 * of their call, so that nothing has to be freed; what they take is bounded by the size of the message that
 * the method allows. */
#include "kurrent/room.h"

static void *take(void *arena, size_t size)
{
        return arena_get(arena, size);
}

static void keep(void *arena, void *pointer)
{
        (void)arena;
        (void)pointer;
}

void *message_unpack(const ProtobufCMessageDescriptor *descriptor, struct arena *arena, struct bytes bytes)
{
        ProtobufCAllocator allocator = {.alloc = take, .free = keep, .allocator_data = arena};

        return protobuf_c_message_unpack(descriptor, &allocator, bytes.size, bytes.data);
}

void message_pack(const ProtobufCMessage *message, struct buffer *out)
{
        size_t size = protobuf_c_message_get_packed_size(message);

        buffer_reserve(out, size);
        out->size += protobuf_c_message_pack(message, out->data + out->size);
}

void message_send(struct gateway_request *call, const ProtobufCMessage *message)
{
        message_pack(message, gateway_message_begin(call));
        gateway_message_end(call);
}

void message_answer(struct gateway_request *call, const ProtobufCMessage *message)
{
        message_send(call, message);
        gateway_call_end(call, GRPC_OK, NULL);
}

/* An accelerator's library in small: takes a model's first operator, the QUANTIZE from uint8 to
   int8 that only moves the zero, and does what its options say: `missing` finds no hardware,
   `idle` takes nothing, `refuse` refuses every model, `fail=N` and `hang=N` come at inference N,
   `take=N` needs N gigabytes. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The beginnings of the structures of TFLite's C interface (tensorflow/lite/core/c/common.h). */
typedef enum { OK = 0, ERROR = 1 } Status;
typedef struct { int size; int data[]; } IntArray;
typedef struct Delegate Delegate;
typedef struct Context Context;
typedef struct {
  int type;
  unsigned char* data;
  IntArray* dims;
  float scale;
  int zero_point, allocation_type;
  size_t bytes;
  void* rest[8];
} Tensor;
typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void* user_data;
} Node;
typedef struct {
  void* (*init)(Context*, const char*, size_t);
  void (*free)(Context*, void*);
  Status (*prepare)(Context*, Node*);
  Status (*invoke)(Context*, Node*);
  const char* (*profiling_string)(const Context*, const Node*);
  int builtin_code;
  const char* custom_name;
  int version;
  void* rest[8];
} Registration;
typedef struct { Delegate* delegate; } Params;
struct Delegate {
  void* data;
  Status (*prepare)(Context*, Delegate*);
  void* copies[3];
  long flags;
  void* builder;
};
struct Context {
  size_t tensors_size;
  void* plan;
  Tensor* tensors;
  void *impl, *resize;
  void (*report)(Context*, const char*, ...);
  void *add, *node;
  Status (*replace)(Context*, Registration, const IntArray*, Delegate*);
};
enum { BUILTIN_DELEGATE = 51 };

typedef struct {
  Delegate delegate;
  int idle, refuse, fail, hang, count;
} StandIn;

static void* init(Context* context, const char* buffer, size_t length) {
  return ((const Params*)buffer)->delegate->data;
}

static Status invoke(Context* context, Node* node) {
  StandIn* its = node->user_data;
  its->count += 1;
  if (its->hang && its->count == its->hang) pause();
  if (its->fail && its->count >= its->fail) {
    context->report(context, "stand-in: the hardware has gone");
    return ERROR;
  }
  const Tensor* in = &context->tensors[node->inputs->data[0]];
  Tensor* out = &context->tensors[node->outputs->data[0]];
  for (size_t i = 0; i < in->bytes; ++i) out->data[i] = in->data[i] ^ 0x80;
  return OK;
}

static Status prepare(Context* context, Delegate* delegate) {
  StandIn* its = delegate->data;
  Registration kernel;
  struct { int size; int data[1]; } first = {1, {0}};
  if (its->refuse) {
    context->report(context, "stand-in: a model of another generation");
    return ERROR;
  }
  if (its->idle) return OK;
  memset(&kernel, 0, sizeof kernel);
  kernel.init = init;
  kernel.invoke = invoke;
  kernel.builtin_code = BUILTIN_DELEGATE;
  kernel.custom_name = "StandInDelegate";
  kernel.version = 1;
  return context->replace(
      context, kernel, (const IntArray*)&first, delegate);
}

Delegate* tflite_plugin_create_delegate(
    char** keys, char** values, size_t count, void (*report)(const char*)) {
  StandIn* its = calloc(1, sizeof *its);
  its->delegate.data = its;
  its->delegate.prepare = prepare;
  for (size_t i = 0; i < count; ++i) {
    if (!strcmp(keys[i], "missing")) {
      report("stand-in: no hardware on the bus");
      free(its);
      return NULL;
    }
    if (!strcmp(keys[i], "idle")) its->idle = 1;
    if (!strcmp(keys[i], "refuse")) its->refuse = 1;
    if (!strcmp(keys[i], "fail")) its->fail = atoi(values[i]);
    if (!strcmp(keys[i], "hang")) its->hang = atoi(values[i]);
    if (!strcmp(keys[i], "take") && !malloc((size_t)atoi(values[i]) << 30)) abort();
  }
  return &its->delegate;
}

void tflite_plugin_destroy_delegate(Delegate* delegate) {
  if (delegate) free(delegate->data); /* the interpreter hands back even what was never made */
}

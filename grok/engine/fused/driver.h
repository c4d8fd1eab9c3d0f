// The call from Python. Before it stand kernels.h and what source.py writes for one problem:
//     struct Replica; void load(Replica&), step(Replica&, ...), save(Replica&)

#include <pthread.h>

// The arguments of `train`, and the next replica that a thread may take.
struct Call {
    const long* slots;
    long count, all_slots, steps;
    const Tensor* tensors;
    const Scalars* scalars;
    const long* minibatches;
    double* losses;
    long next;
};

static void work(Call& call, real* workspace) {
    for (;;) {
        const long i = __atomic_fetch_add(&call.next, 1, __ATOMIC_RELAXED);
        if (i >= call.count) return;
        const long slot = call.slots[i];
        Replica replica{call.tensors, slot, workspace};
        load(replica);
        for (long t = 0; t < call.steps; t++) {
            const long row = t * call.all_slots + slot;
            double* loss = call.losses ? call.losses + slot : nullptr;
            if (loss) *loss = 0;
            step(replica, call.scalars + row * GROUPS, call.minibatches ? call.minibatches + row * BATCH : nullptr, loss);
        }
        save(replica, call.losses != nullptr);
    }
}

struct Worker {
    Call* call;
    real* workspace;
    pthread_t thread;
};

static void* start(void* worker) {
    work(*((Worker*)worker)->call, ((Worker*)worker)->workspace);
    return nullptr;
}

// Train some replicas, each for `steps` steps, with at most `threads` threads.
//
// slots, count: which replicas.
// tensors: in the order that source.py gives, each with the elements from one replica to the next.
// scalars: (steps, all slots, groups). minibatches: (steps, all slots, batch), or null.
// workspace: WORKSPACE reals for each thread, aligned to 64 bytes.
// losses: of each slot, the loss before the last step; or null, and no gradients are saved.
extern "C" void train(const long* slots, long count, long all_slots, long steps, long threads, const Tensor* tensors,
                      const Scalars* scalars, const long* minibatches, real* workspace, double* losses) {
    Call call{slots, count, all_slots, steps, tensors, scalars, minibatches, losses, 0};
    constexpr long MOST = 256;
    Worker workers[MOST];
    long others = 0;
    const long wanted = (threads < count ? threads : count) - 1;
    while (others < wanted && others < MOST) {
        Worker& worker = workers[others];
        worker = {&call, workspace + (others + 1) * WORKSPACE, {}};
        if (pthread_create(&worker.thread, nullptr, start, &worker)) break;  // those there are do it
        others++;
    }
    work(call, workspace);
    for (long i = 0; i < others; i++) pthread_join(workers[i].thread, nullptr);
}

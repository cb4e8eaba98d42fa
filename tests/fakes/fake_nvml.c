/* A libnvidia-ml.so.1 whose every answer is scripted: compiled by the tests, loaded by the real nvidia-ml-py.
 *
 * State is read anew from the file named by FAKE_NVML at every call, so a test changes it while the worker runs:
 *
 *   uuid GPU-…            the one device
 *   total 24576           MiB
 *   used 1000             MiB beyond what the processes below hold
 *   process 1234 512      pid, MiB; -1: the driver does not tell
 *   error 15              every call about the device fails with this code (15: GPU_IS_LOST)
 *   init 9                nvmlInit fails with this code (9: DRIVER_NOT_LOADED)
 *   hang 3                every memory reading takes so many seconds
 *
 * A missing file is DRIVER_NOT_LOADED. What is not defined here is FUNCTION_NOT_FOUND, as with an old driver.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1024ULL * 1024ULL)
#define LIMIT 64

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } process_t;

static struct {
    char uuid[96];
    unsigned long long total, used;
    int error, init, hang, count;
    unsigned int pid[LIMIT];
    long long mib[LIMIT];
} state;

static int load(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    memset(&state, 0, sizeof state);
    if (!file) return 9;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "uuid %95s", state.uuid) == 1) continue;
        if (sscanf(line, "total %llu", &state.total) == 1) continue;
        if (sscanf(line, "used %llu", &state.used) == 1) continue;
        if (sscanf(line, "error %d", &state.error) == 1) continue;
        if (sscanf(line, "init %d", &state.init) == 1) continue;
        if (sscanf(line, "hang %d", &state.hang) == 1) continue;
        if (state.count < LIMIT && sscanf(line, "process %u %lld", &state.pid[state.count], &state.mib[state.count]) == 2)
            state.count++;
    }
    fclose(file);
    return state.error;
}

static unsigned long long used_mib(void) {
    unsigned long long sum = state.used;
    for (int i = 0; i < state.count; i++) sum += state.mib[i] > 0 ? (unsigned long long)state.mib[i] : 0;
    return sum;
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; load(); return state.total ? state.init : 9; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 15 ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : "Error"; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    int error = load();
    if (error) return error;
    if (strcmp(uuid, state.uuid)) return 6; /* NOT_FOUND */
    *device = &state;
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    (void)device;
    int error = load();
    if (error) return error;
    if (state.hang) sleep((unsigned)state.hang);
    memory->total = state.total * MIB;
    memory->used = used_mib() * MIB;
    memory->free = memory->total - memory->used;
    return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned int *count, process_t *processes) {
    (void)device;
    int error = load();
    if (error) return error;
    if (*count < (unsigned)state.count) { *count = (unsigned)state.count; return state.count ? 7 : 0; }
    for (int i = 0; i < state.count; i++) {
        processes[i].pid = state.pid[i];
        processes[i].used = state.mib[i] < 0 ? ~0ULL : (unsigned long long)state.mib[i] * MIB;
        processes[i].gi = processes[i].ci = 0xFFFFFFFF;
    }
    *count = (unsigned)state.count;
    return 0;
}

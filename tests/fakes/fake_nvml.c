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
 *   util 85               percent of the time that the device was used; without it: NOT_SUPPORTED
 *   busy 1234 60          pid, percent: what a process computed lately, noted now
 *   noted 1000000         the time of those notes instead, microseconds
 *   quiet 1               nobody computed lately: NOT_FOUND; without this and busy: NOT_SUPPORTED
 *
 * A missing file is DRIVER_NOT_LOADED. What is not defined here is FUNCTION_NOT_FOUND, as with an old driver.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define MIB (1024ULL * 1024ULL)
#define LIMIT 64

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gi, ci; } process_t;
typedef struct { unsigned int gpu, memory; } rates_t;
typedef struct { unsigned int pid; unsigned long long stamp; unsigned int sm, mem, enc, dec; } sample_t;

static struct {
    char uuid[96];
    unsigned long long total, used;
    int error, init, hang, count, util, quiet, computing;
    unsigned long long noted;
    unsigned int by[LIMIT], percent[LIMIT];
    unsigned int pid[LIMIT];
    long long mib[LIMIT];
} state;

static int load(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256];
    memset(&state, 0, sizeof state);
    if (!file) return 9;
    state.util = -1;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "uuid %95s", state.uuid) == 1) continue;
        if (sscanf(line, "total %llu", &state.total) == 1) continue;
        if (sscanf(line, "used %llu", &state.used) == 1) continue;
        if (sscanf(line, "error %d", &state.error) == 1) continue;
        if (sscanf(line, "init %d", &state.init) == 1) continue;
        if (sscanf(line, "hang %d", &state.hang) == 1) continue;
        if (sscanf(line, "util %d", &state.util) == 1) continue;
        if (sscanf(line, "quiet %d", &state.quiet) == 1) continue;
        if (sscanf(line, "noted %llu", &state.noted) == 1) continue;
        if (state.computing < LIMIT
            && sscanf(line, "busy %u %u", &state.by[state.computing], &state.percent[state.computing]) == 2) {
            state.computing++;
            continue;
        }
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

int nvmlDeviceGetUtilizationRates(void *device, rates_t *rates) {
    (void)device;
    int error = load();
    if (error) return error;
    if (state.util < 0) return 3; /* NOT_SUPPORTED */
    rates->gpu = (unsigned)state.util;
    rates->memory = 0;
    return 0;
}

int nvmlDeviceGetProcessUtilization(void *device, sample_t *samples, unsigned int *count, unsigned long long after) {
    (void)device;
    struct timeval now;
    int error = load();
    if (error) return error;
    if (!state.computing && !state.quiet) return 3;
    gettimeofday(&now, NULL);
    unsigned long long stamp = state.noted ? state.noted : (unsigned long long)now.tv_sec * 1000000ULL + now.tv_usec;
    if (!state.computing || stamp <= after) return 6; /* NOT_FOUND */
    if (!samples || *count < (unsigned)state.computing) {
        *count = (unsigned)state.computing;
        return 7; /* INSUFFICIENT_SIZE */
    }
    for (int i = 0; i < state.computing; i++)
        samples[i] = (sample_t){state.by[i], stamp, state.percent[i], 0, 0, 0};
    *count = (unsigned)state.computing;
    return 0;
}

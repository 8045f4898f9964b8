/* What a service in C may ask of its device. Everything else is plain C: parameters in the environment (MSM_PARAMS as
 * JSON, MSM_PARAM_NAME one by one), input on stdin, output on stdout, the log on stderr, exit code 0 when all is well. */
#ifndef MSM_H
#define MSM_H

#include <stddef.h>
#include <stdint.h>

/* Asks for `op` (gps.position, net.fetch, device.status) with JSON. The length of the answer, or a negative errno. */
__attribute__((import_module("msm_v1"), import_name("call")))
int32_t msm_call(const char *op, size_t op_length, const void *json, size_t json_length);

/* Copies the answer of the last call to `to`, at most `capacity` bytes. How many, or a negative errno. */
__attribute__((import_module("msm_v1"), import_name("take")))
int32_t msm_take(void *to, size_t capacity);

#endif

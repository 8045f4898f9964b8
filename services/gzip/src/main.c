// gzip as a filter: bytes on stdin, gzip on stdout. Nothing in it knows of MSM but for the name of one variable.
//
// Each 1 MiB of input becomes a gzip member of its own. Members one after the other are a gzip file, so several devices
// can make one together, and it has the same bytes however the input was split.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

// Input of a member: the unit of `split` in service.toml.
#define MEMBER (1024 * 1024)
#define BUFFER (64 * 1024)
#define DEFAULT_LEVEL 6

static unsigned char in[BUFFER], out[BUFFER];

static int fail(const char *what) {
    fprintf(stderr, "gzip: %s\n", what);
    return 1;
}

// Takes what `stream` has been given, and ends the member with Z_FINISH. 0, or the exit code.
static int squeeze(z_stream *stream, int flush) {
    do {
        stream->next_out = out;
        stream->avail_out = sizeof out;
        deflate(stream, flush);
        size_t made = sizeof out - stream->avail_out;
        if (fwrite(out, 1, made, stdout) != made) {
            return fail("stdout is closed");
        }
    } while (stream->avail_out == 0);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "run") != 0) {
        return fail("has `run` only: the host splits and merges bytes");
    }
    const char *asked = getenv("MSM_PARAM_LEVEL");
    int level = asked ? atoi(asked) : DEFAULT_LEVEL;
    // 15 + 16: the largest window, and a gzip header without name and time. 8: zlib's usual memory.
    z_stream stream = {0};
    if (level < 1 || level > 9 || deflateInit2(&stream, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        return fail("needs a level from 1 to 9, and 300 KiB of memory");
    }
    size_t left = MEMBER, got;
    int members = 0, code = 0;
    while (code == 0 && (got = fread(in, 1, left < BUFFER ? left : BUFFER, stdin)) > 0) {
        stream.next_in = in;
        stream.avail_in = (uInt)got;
        left -= got;
        code = squeeze(&stream, left == 0 ? Z_FINISH : Z_NO_FLUSH);
        if (left == 0) {
            deflateReset(&stream);
            left = MEMBER;
            members++;
        }
    }
    if (ferror(stdin)) {
        return fail("stdin cannot be read");
    }
    // The last one is shorter; nothing at all becomes one empty member.
    if (code == 0 && (left < MEMBER || members == 0)) {
        stream.avail_in = 0;
        code = squeeze(&stream, Z_FINISH);
    }
    return fflush(stdout) == 0 ? code : 1;
}

// What a plain C program uses of its system: arguments, environment, memory, files, folders, time, chance.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void opened(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    printf("%s %s: %s\n", path, mode, file ? "open" : strerror(errno));
    if (file) fclose(file);
}

int main(int argc, char **argv) {
    printf("%d %s %s\n", argc, argv[0], argv[1]);
    printf("%s %s %s\n", getenv("MSM_PARAMS"), getenv("MSM_PARAM_RADIUS"), getenv("MSM_PARAM_A_B"));
    printf("chunk %s of %s\n", getenv("MSM_CHUNK_INDEX"), getenv("MSM_CHUNK_COUNT"));
    char line[64];
    size_t got = fread(line, 1, sizeof line, stdin);
    printf("%zu %.*s %d\n", got, (int)got, line, feof(stdin) != 0);
    char *big = malloc(10 << 20);
    memset(big, 1, 10 << 20);
    big = realloc(big, 20 << 20);
    printf("%d %g %.3f\n", big[(10 << 20) - 1], 1e100, 2.0 / 3);
    free(big);

    FILE *file = fopen("/assets/words.txt", "r");
    while (fgets(line, sizeof line, file)) printf("> %s", line);
    fseek(file, 4, SEEK_SET);
    printf("%ld %c\n", ftell(file), fgetc(file));
    fclose(file);
    struct stat about;
    printf("stat %d %lld %d\n", stat("/assets/words.txt", &about), (long long)about.st_size, S_ISREG(about.st_mode));
    DIR *folder = opendir("/assets/deep");
    for (struct dirent *entry; (entry = readdir(folder));) printf("entry %s\n", entry->d_name);
    closedir(folder);
    opened("/assets/none", "r");
    opened("/assets/words.txt", "w");
    opened("/assets/words.txt", "r+");
    opened("/assets/new", "a");
    opened("/assets/../etc/passwd", "r");
    opened("/etc/passwd", "r");
    printf("mkdir %d unlink %d seek %ld tty %d\n", mkdir("/assets/x", 0777), unlink("/assets/words.txt"),
           (long)lseek(0, 0, SEEK_SET), isatty(1));

    struct timespec first, then;
    clock_gettime(CLOCK_MONOTONIC, &first);
    usleep(5000000);
    clock_gettime(CLOCK_MONOTONIC, &then);
    printf("time %lld slept %lld\n", (long long)time(0), (long long)(then.tv_sec - first.tv_sec));
    unsigned char chance[4];
    getentropy(chance, sizeof chance);
    printf("chance %02x%02x%02x%02x\n", chance[0], chance[1], chance[2], chance[3]);
    fprintf(stderr, "a line for the log\n");
    return 0;
}

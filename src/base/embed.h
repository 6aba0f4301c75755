/* Files of the repository that the binary carries: the manual pages and the kernels.
 * The Makefile makes one table per folder at build time (tools/embed.sh).
 */
#ifndef BASE_EMBED_H
#define BASE_EMBED_H

/* data .. end is the file as it lies in the repository, read-only for the life of the process. */
struct embed {
    const char *name; /* the file's name in its folder: "nnferry.1" */
    const unsigned char *data;
    const unsigned char *end;
};

/* In byte order of their names; the last entry's name is NULL. */
extern const struct embed embed_man[];
extern const struct embed embed_mantext[]; /* the same pages, rendered as plain text */
extern const struct embed embed_opencl[];

#endif

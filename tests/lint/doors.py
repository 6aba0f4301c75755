#!/usr/bin/env python3
"""One door to each outside thing: who calls what, by name, in src/ without the worker."""
import re

from lib import finish, read, tracked, without_comments

# function names -> files (or folders, ending in /) that may call them
DOORS = [
    ("malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf aligned_alloc "
     "posix_memalign alloca getline getdelim", ["src/base/mem.c"]),
    ("mmap munmap mremap memfd_create shm_open", ["src/base/"]),
    ("openat creat fdopen freopen fdopendir scandir nftw ftw readlink readlinkat realpath "
     "pwrite pwritev writev ftruncate truncate fallocate posix_fallocate copy_file_range "
     "sendfile fsync fdatasync sync_file_range rename renameat renameat2 link linkat unlink "
     "unlinkat rmdir mkdir mkdirat mkstemp tmpfile", ["src/base/"]),
    ("fork vfork clone execve execv execvp execl posix_spawn posix_spawnp system popen waitpid "
     "wait4 kill socketpair socket", ["src/base/"]),
    # cli reads what the host says of itself (/proc, cgroups) and owns the standard streams.
    ("open fopen opendir write fscanf sscanf", ["src/base/", "src/cli/"]),
    ("printf fprintf vprintf vfprintf puts fputs putchar fputc putc fwrite perror dprintf vdprintf "
     "psignal err errx warn warnx", ["src/cli/"]),
    ("exit quick_exit atexit abort", ["src/cli/"]),
    ("_exit _Exit", ["src/cli/", "src/base/"]),
    ("getenv secure_getenv setenv putenv unsetenv clearenv", ["src/cli/"]),
    ("assert", ["src/base/"]),
    # The locale is never set, so the C library's own conversions are exact and the same
    # everywhere.
    ("strtoll strtoull strtol strtoul", ["src/base/", "src/cli/"]),
    ("strtod strtof", ["src/base/", "src/codec/", "src/define/", "src/cli/"]),
    ("setlocale uselocale newlocale localtime localtime_r strtold atof atoi atol sprintf vsprintf "
     "strcpy strcat gets scanf strtok rand srand", []),
]

may = {}
for names, files in DOORS:
    for name in names.split():
        may[name] = files
call = re.compile(r"(?<![\w.>])(%s)\s*\(" % "|".join(sorted(may)))

problems, n_files = [], 0
for path in tracked("src/*.c", "src/*.h"):
    if path.startswith("src/worker/"):
        continue
    n_files += 1
    text = without_comments(read(path))
    for m in call.finditer(text):
        name = m.group(1)
        allowed = any(path == f or (f.endswith("/") and path.startswith(f)) for f in may[name])
        # A member or a parameter of that name is declared with a * before it: (*open)(...).
        before = text[max(0, m.start() - 40):m.start()]
        declared = re.search(r"[\w*]\s+\**$", before) and not re.search(
            r"\b(return|else|do|case)\s+$", before)
        if not allowed and not declared:
            problems.append("%s:%d: calls %s; its door is %s" % (
                path, text.count("\n", 0, m.start()) + 1, name,
                ", ".join(may[name]) or "nowhere"))
    for m in re.finditer(r"#\s*pragma\s+omp\s+(?!simd)|#\s*include\s*<omp\.h>", text):
        if path != "src/base/par.c":
            problems.append("%s:%d: OpenMP; its door is src/base/par.c" % (
                path, text.count("\n", 0, m.start()) + 1))
finish(n_files, problems, "files")

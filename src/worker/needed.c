/* Stand-ins for the host's libc and libdl while the worker is linked: only their names (sonames)
 * and these symbols, without versions, reach the worker. Never shipped, never run.
 */
void *dlopen(const char *path, int mode);
void *dlsym(void *lib, const char *name);
char *dlerror(void);
void *dlopen(const char *path, int mode)
{
    (void)path;
    (void)mode;
    return 0;
}
void *dlsym(void *lib, const char *name)
{
    (void)lib;
    (void)name;
    return 0;
}
char *dlerror(void)
{
    return 0;
}

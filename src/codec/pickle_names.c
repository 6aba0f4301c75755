/* Names that give code to run. A pickle that names one of them is refused where it stands; all
 * other names off a reader's list are kept as data and never called.
 *
 * The list is by module (with everything below it), then by single name in modules that also hold
 * harmless things. A dotted name (protocol 4 walks attributes) is judged part by part, so that
 * "torch.serialization" "os.system" is what it is.
 */
#include "codec/pickle.h"

static const char *const modules[] = {
    /* processes, files, network */
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "_posixsubprocess",
    "_winapi",
    "winreg",
    "pty",
    "commands",
    "popen2",
    "shutil",
    "socket",
    "_socket",
    "ssl",
    "_ssl",
    "socketserver",
    "SocketServer",
    "http",
    "httplib",
    "urllib",
    "urllib2",
    "urllib3",
    "requests",
    "aiohttp",
    "httpx",
    "ftplib",
    "smtplib",
    "telnetlib",
    "poplib",
    "imaplib",
    "nntplib",
    "xmlrpc",
    "xmlrpclib",
    "webbrowser",
    "antigravity",
    "asyncio",
    "multiprocessing",
    "concurrent",
    "_thread",
    "thread",
    "threading",
    "signal",
    "_signal",
    "mmap",
    "fcntl",
    "tempfile",
    "glob",
    "fileinput",
    "platform",
    "paramiko",
    "fabric",
    "sqlite3",
    "_sqlite3",
    "dbm",
    "shelve",
    /* code */
    "importlib",
    "_frozen_importlib",
    "_frozen_importlib_external",
    "imp",
    "_imp",
    "zipimport",
    "pkgutil",
    "runpy",
    "code",
    "codeop",
    "bdb",
    "pdb",
    "cProfile",
    "profile",
    "_lsprof",
    "trace",
    "timeit",
    "doctest",
    "unittest",
    "pydoc",
    "idlelib",
    "lib2to3",
    "distutils",
    "setuptools",
    "pip",
    "ensurepip",
    "venv",
    "test.support",
    "site",
    "sitecustomize",
    "usercustomize",
    "atexit",
    "gc",
    "inspect",
    "dis",
    "marshal",
    "pickle",
    "_pickle",
    "cPickle",
    "pickletools",
    "dill",
    "cloudpickle",
    "jsonpickle",
    "ctypes",
    "_ctypes",
    "cffi",
    "_cffi_backend",
    "_xxsubinterpreters",
    "_interpreters",
    "sched",
    "cgi",
    "cgitb",
    "IPython",
    "ipykernel",
    "jupyter_client",
    "yaml",
    "execnet",
    "fire",
    "sh",
    "plumbum",
    "pexpect",
    "numexpr",
    "tokenize",
    "linecache",
    "readline",
    "rlcompleter",
    "turtle",
    "tkinter",
    "turtledemo",
    /* inside frameworks */
    "torch.hub",
    "torch.utils.cpp_extension",
    "torch.utils.collect_env",
    "torch.utils.bottleneck",
    "torch.utils.model_zoo",
    "torch.utils.data.datapipes",
    "torch.multiprocessing",
    "torch.distributed.launcher",
    "torch.distributed.elastic",
    "torch.distributed.run",
    "torch.distributed.launch",
    "torch._inductor",
    "torch._dynamo",
    "torch._C._jit",
    "torch.package",
    "torch.testing",
    "torch.fx.experimental",
    "torch.utils._config_module",
    "torch.onnx",
    "numpy.testing",
    "numpy.f2py",
    "numpy.distutils",
    "numpy.ctypeslib",
    "numpy._pytesttester",
    "joblib.memory",
    "joblib.parallel",
    "joblib.externals",
    "tensorflow.python.ops.script_ops",
    "pandas.io",
    "sympy.utilities",
};
static const struct {
    const char *module, *name;
} names[] = {
    {"operator", "attrgetter"},
    {"operator", "methodcaller"},
    {"operator", "call"},
    {"_operator", "attrgetter"},
    {"_operator", "methodcaller"},
    {"_operator", "call"},
    {"types", "FunctionType"},
    {"types", "LambdaType"},
    {"types", "CodeType"},
    {"types", "MethodType"},
    {"types", "ModuleType"},
    {"types", "new_class"},
    {"copyreg", "add_extension"},
    {"copyreg", "remove_extension"},
    {"copyreg", "pickle"},
    {"copyreg", "constructor"},
    {"copy_reg", "add_extension"},
    {"copy_reg", "pickle"},
    {"io", "open"},
    {"_io", "open"},
    {"io", "open_code"},
    {"io", "FileIO"},
    {"_io", "FileIO"},
    {"codecs", "open"},
    {"builtins", "classmethod"},
    {"torch", "load"},
    {"torch.serialization", "load"},
    {"torch.jit", "load"},
    {"torch.jit", "script"},
    {"torch.jit", "CompilationUnit"},
    {"torch.storage", "_load_from_bytes"},
    {"torch", "compile"},
    {"torch", "classes"},
    {"torch", "ops"},
    {"numpy", "load"},
    {"numpy", "memmap"},
    {"numpy", "fromfile"},
    {"numpy", "save"},
    {"numpy", "savez"},
    {"numpy", "loadtxt"},
    {"numpy", "genfromtxt"},
    {"numpy", "fromregex"},
    {"joblib", "load"},
    {"logging", "config"},
    {"logging.config", "fileConfig"},
    {"logging.config", "dictConfig"},
    {"logging.config", "listen"},
    {"logging", "FileHandler"},
    {"functools", "reduce"},
    {"pathlib.Path", "open"},
};
/* Names in builtins (and what Python 2 calls them) that reach code, files or attributes. */
static const char *const builtin_names[] = {
    "eval",      "exec",    "execfile",  "compile", "open",    "file",       "input",
    "raw_input", "getattr", "setattr",   "delattr", "hasattr", "globals",    "locals",
    "vars",      "dir",     "apply",     "reload",  "help",    "breakpoint", "exit",
    "quit",      "map",     "filter",    "type",    "super",   "memoryview", "intern",
    "buffer",    "license", "copyright",
};

static bool under(struct str module, const char *top)
{
    struct str t = str_from(top);
    return str_starts(module, t) && (module.n == t.n || module.p[t.n] == '.');
}

static bool is_builtins(struct str module)
{
    return str_is(module, "builtins") || str_is(module, "__builtin__") ||
           str_is(module, "__builtins__");
}

static bool module_runs_code(struct str module)
{
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
        if (under(module, modules[i]))
            return true;
    return false;
}

bool pickle_runs_code(struct str module, struct str name)
{
    if (module_runs_code(module))
        return true;
    struct str rest = name, part, first = name;
    bool dotted = str_find(name, '.', 0) != name.n;
    if (dotted)
        first = str_sub(name, 0, str_find(name, '.', 0));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_is(module, names[i].module) && str_is(first, names[i].name))
            return true;
    if (is_builtins(module))
        for (size_t i = 0; i < sizeof builtin_names / sizeof *builtin_names; i++)
            if (str_is(first, builtin_names[i]))
                return true;
    while (str_split(&rest, '.', &part)) {
        if (str_starts(part, STR("__")))
            return true;
        if (dotted && (module_runs_code(part) || is_builtins(part)))
            return true;
    }
    /* a module reached under another's path: "torch.serialization.os" */
    rest = module;
    for (bool top = true; str_split(&rest, '.', &part); top = false)
        if (!top && (str_is(part, "os") || str_is(part, "sys") || str_is(part, "subprocess") ||
                     is_builtins(part)))
            return true;
    return false;
}

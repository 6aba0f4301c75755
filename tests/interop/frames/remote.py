"""Frames in a process of their own: TensorFlow's compiler and JAX's do not share one."""

import importlib
import multiprocessing
import traceback


def serve(pipe):
    """Answers (net or None, method, arguments): nets are numbers here."""
    nets, modules = [], {}
    while True:
        try:
            frame, net, method, args = pipe.recv()
        except EOFError:
            return
        try:
            module = modules.get(frame) or importlib.import_module(f"frames.frame_{frame}")
            modules[frame] = module
            if method == "about":
                answer = (module.NAME, module.SUFFIX, module.LACKS,
                          getattr(module, "OPTIONS", ()))
            elif method == "Net":
                nets.append(module.Net(*args))
                answer = len(nets) - 1
            elif method == "bits":
                answer = module.bits(*args)
            elif method == "cast":
                nets.append(nets[net].cast(*args))
                answer = len(nets) - 1
            elif method == "clear":
                nets.clear()
                answer = None
            else:
                answer = getattr(nets[net], method)(*args)
            pipe.send((True, answer))
        except Exception as e:
            pipe.send((False, f"{type(e).__name__}: {e}\n{traceback.format_exc(limit=-3)}"))


class Process:
    def __init__(self):
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        context.Process(target=serve, args=(other,), daemon=True).start()
        other.close()

    def call(self, *what):
        self.pipe.send(what)
        good, answer = self.pipe.recv()
        if not good:
            raise RuntimeError(answer)
        return answer


class Net:
    def __init__(self, frame, number):
        self.frame, self.number = frame, number

    def cast(self, dtype):
        return Net(self.frame, self.call("cast", dtype))

    def call(self, method, *args):
        return self.frame.process.call(self.frame.frame, self.number, method, args)

    def __getattr__(self, method):
        return lambda *args: self.call(method, *args)


class Frame:
    """A module of frames/ that lives in a process."""

    def __init__(self, process, frame):
        self.process, self.frame = process, frame
        self.NAME, self.SUFFIX, self.LACKS, self.OPTIONS = process.call(
            frame, None, "about", ())

    def Net(self, model, dtype):
        return Net(self, self.process.call(self.frame, None, "Net", (model, dtype)))

    def bits(self, path):
        return self.process.call(self.frame, None, "bits", (path,))

    def clear(self):
        self.process.call(self.frame, None, "clear", ())

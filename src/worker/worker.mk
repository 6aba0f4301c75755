# The OpenCL worker: a second program, dynamic, without a libc of its own, embedded in the main
# binary. Included by the Makefile, which sets BUILD (this flavour's folder) and may set WORKER_CC
# (the host's gcc for the target; a cross compiler for another ARCH) and CC. Gives WORKER_OBJ, to
# be linked into the main binary and into every test that uses a device.
WORKER_CC ?= gcc
WORKER_DIR := $(BUILD)/worker
WORKER_OBJ := $(WORKER_DIR)/embed.o
WORKER_CFLAGS := -std=c11 -O2 -Isrc -Wall -Wextra -Wshadow -Werror -ffreestanding -fPIE \
    -fno-stack-protector -fno-asynchronous-unwind-tables -fvisibility=hidden -ffile-prefix-map=$(CURDIR)=. \
    -U_FORTIFY_SOURCE
WORKER_LDFLAGS := -nostdlib -pie -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,--build-id=none \
    -Wl,--hash-style=both -Wl,--no-as-needed -s

$(WORKER_DIR)/libdl.so: src/worker/needed.c
	@mkdir -p $(@D)
	$(WORKER_CC) -O2 -fPIC -ffreestanding -nostdlib -shared -Wl,-soname,libdl.so.2 -o $@ $<
$(WORKER_DIR)/libc.so: src/worker/needed.c
	@mkdir -p $(@D)
	$(WORKER_CC) -O2 -fPIC -ffreestanding -nostdlib -shared -Wl,-soname,libc.so.6 -o $@ $<
$(WORKER_DIR)/nnferry-worker: src/worker/worker.c src/worker/cl.h src/worker/sys.h src/worker/wire.h \
    opencl/abi.h $(WORKER_DIR)/libdl.so $(WORKER_DIR)/libc.so
	$(WORKER_CC) $(WORKER_CFLAGS) $(WORKER_LDFLAGS) -o $@ $< $(WORKER_DIR)/libdl.so $(WORKER_DIR)/libc.so
$(WORKER_OBJ): src/worker/embed.S $(WORKER_DIR)/nnferry-worker $(wildcard opencl/*.h opencl/*.cl)
	$(CC) -c -DWORKER_IMAGE='"$(WORKER_DIR)/nnferry-worker"' -o $@ $<

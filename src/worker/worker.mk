# The OpenCL worker: a second program, dynamic, without a libc of its own, carried in the main
# binary. Included by the Makefile, whose HOSTCC is the plain gcc for the target and B this
# flavour's folder. What is linked is the names libdl.so.2 and libc.so.6 and three symbols without
# versions, so that the host's loader may bring any libc.
WORKER := $(B)/worker
EMBED += $(WORKER)/embed.o
WORKER_CFLAGS := -std=c11 -O2 -Isrc -I. -Wall -Wextra -Wshadow -Werror -ffreestanding -fPIE \
	-fno-stack-protector -fno-asynchronous-unwind-tables -fvisibility=hidden -U_FORTIFY_SOURCE \
	-ffile-prefix-map=$(CURDIR)=.
WORKER_LDFLAGS := -nostdlib -pie -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,--build-id=none \
	-Wl,--hash-style=both -Wl,--no-as-needed -s
STAND_IN := -O2 -fPIC -ffreestanding -nostdlib -shared -Wl,--build-id=none

$(WORKER)/libdl.so: src/worker/needed.c src/worker/worker.mk
	@mkdir -p $(@D)
	@$(HOSTCC) $(STAND_IN) -Wl,-soname,libdl.so.2 -o $@ $<
$(WORKER)/libc.so: src/worker/needed.c src/worker/worker.mk
	@mkdir -p $(@D)
	@$(HOSTCC) $(STAND_IN) -Wl,-soname,libc.so.6 -o $@ $<
$(WORKER)/nnferry-worker: src/worker/worker.c $(wildcard src/worker/*.h) opencl/abi.h \
		$(WORKER)/libdl.so $(WORKER)/libc.so
	@echo '  WORKER $@'
	@$(HOSTCC) $(WORKER_CFLAGS) $(WORKER_LDFLAGS) -o $@ $< $(WORKER)/libdl.so $(WORKER)/libc.so
$(WORKER)/embed.o: src/worker/embed.S $(WORKER)/nnferry-worker
	@$(HOSTCC) -c -DWORKER_IMAGE='"$(WORKER)/nnferry-worker"' -o $@ $<

# nnferry: one static binary. `make` builds build/nnferry where the tools and the guests'
# sources are present; ./build.sh brings both first.
#
#   make [FLAVOUR=release|check|fault|fuzz|race] [ARCH=x86_64|aarch64] [all|unit|bench|fuzzers|clean]
#
#   release  musl, static, -O3                      build/nnferry (other ARCH: build/release-ARCH/nnferry)
#   check    host libc, ASan and UBSan              build/check/nnferry
#   fault    check, with failures at the doors      build/fault/nnferry   (-DNNFERRY_FAULT)
#   fuzz     clang, libFuzzer, ASan and UBSan       build/fuzz/tests/fuzz/fuzz_*   (-DNNFERRY_FUZZ)
#   race     clang, ThreadSanitizer                 build/race/nnferry
#
# Sources are found by wildcard: src/ROOM/*.c, tests/unit/test_*.c, tests/fuzz/fuzz_*.c.
# A source named *_avx2.c, *_avx512.c or *_neon.c gets its instructions, on its machine only.

FLAVOUR ?= release
HOST := $(shell uname -m)
ARCH ?= $(HOST)
VERSION := $(shell cat VERSION)

ifeq ($(filter release check fault fuzz race,$(FLAVOUR)),)
$(error FLAVOUR is release, check, fault, fuzz or race)
endif
ifeq ($(filter x86_64 aarch64,$(ARCH)),)
$(error ARCH is x86_64 or aarch64)
endif
ifneq ($(ARCH),$(HOST))
CROSS := $(ARCH)-linux-gnu-
SUFFIX := -$(ARCH)
ifneq ($(FLAVOUR),release)
$(error the cross build has the release flavour only)
endif
endif

B := build/$(FLAVOUR)$(SUFFIX)
LIBC := $(if $(filter release,$(FLAVOUR)),musl,host)
GUESTS := build/guests/$(ARCH)-$(LIBC)
BIN := $(if $(filter release,$(FLAVOUR)$(SUFFIX)),build/nnferry,$(B)/nnferry)

# The plain compiler for the target, its assembler and archiver; the worker's rules use them too.
HOSTCC := $(CROSS)gcc
AR := $(CROSS)ar
NM := $(CROSS)nm

CPPFLAGS := -D_GNU_SOURCE -DNNFERRY_VERSION='"$(VERSION)"' -Isrc -I. -isystem $(GUESTS)/include
WARN := -Wall -Wextra -Wconversion -Wshadow -Werror
CFLAGS := -std=c11 $(WARN) -fno-strict-aliasing -ffp-contract=off -fstack-protector-strong \
	-ffile-prefix-map=$(CURDIR)=. -fopenmp
LIBS := $(addprefix $(GUESTS)/lib/,libzstd.a libz.a libdeflate.a)
SAN := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1

ifeq ($(FLAVOUR),release)
CC := build/toolchain/$(ARCH)-musl-gcc
CFLAGS += -O3 -g0 -ffunction-sections -fdata-sections
LDFLAGS := -static -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,relro -s
LIBS += $(GUESTS)/lib/libgomp.a
else ifeq ($(FLAVOUR),fuzz)
CC := clang
CPPFLAGS += -DNNFERRY_FUZZ
CFLAGS += $(SAN) -fsanitize=fuzzer-no-link
LDFLAGS := -fsanitize=address,undefined -fopenmp
else ifeq ($(FLAVOUR),race)
CC := clang
CPPFLAGS += -DNNFERRY_MUTATE
CFLAGS += -fsanitize=thread -fno-omit-frame-pointer -g -O1 -Wno-sign-conversion
LDFLAGS := -fsanitize=thread
else
CC := gcc
CPPFLAGS += -DNNFERRY_MUTATE $(if $(filter fault,$(FLAVOUR)),-DNNFERRY_FAULT)
CFLAGS += $(SAN)
LDFLAGS := -fsanitize=address,undefined -fopenmp
endif
LIBS += -lpthread -lm

isa_x86_64_avx2 := -mavx2 -mfma -mbmi2 -mf16c
isa_x86_64_avx512 := $(isa_x86_64_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vbmi \
	-mavx512vbmi2 -mavx512vpopcntdq -mgfni
isa_aarch64_neon := -march=armv8-a+simd
SIMD := avx2 avx512 neon
isa_of = $(isa_$(ARCH)_$(lastword $(subst _, ,$(basename $(notdir $1)))))
foreign := $(foreach s,$(SIMD),$(if $(isa_$(ARCH)_$s),,%_$s.c))

SRC := $(filter-out $(foreign) src/worker/%,$(wildcard src/*/*.c))
OBJ := $(patsubst %.c,$(B)/%.o,$(filter-out src/cli/main.c,$(SRC)))
MAIN := $(B)/src/cli/main.o
TESTLIB := $(patsubst %.c,$(B)/%.o,$(wildcard tests/lib/*.c))
UNIT := $(patsubst %.c,$(B)/%,$(wildcard tests/unit/test_*.c))
BENCH := $(patsubst %.c,$(B)/%,$(wildcard tests/bench/bench_*.c))
FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))

.PHONY: all unit bench fuzzers clean objects
.DELETE_ON_ERROR:
.SECONDARY:
all: $(BIN)
unit: $(UNIT)
bench: $(BENCH)
fuzzers: $(FUZZERS)
objects: $(OBJ) $(MAIN)

# The second program. worker.mk builds it with $(HOSTCC) under $(B)/worker/, and adds the
# object that carries it (.incbin) to EMBED.
EMBED := $(B)/embed/man.o $(B)/embed/mantext.o $(B)/embed/opencl.o
-include src/worker/worker.mk

# Files carried in the binary: src/base/embed.h says how they are found.
$(B)/embed/man.S: $(wildcard man/*) tools/embed.sh
	@mkdir -p $(@D)
	@tools/embed.sh man man >$@
$(B)/embed/mantext.S: $(wildcard man/*) tools/embed.sh tools/mantext.sh
	@mkdir -p $(@D)
	@tools/mantext.sh $(B)/mantext
	@tools/embed.sh mantext $(B)/mantext >$@
$(B)/embed/opencl.S: $(wildcard opencl/*) tools/embed.sh
	@mkdir -p $(@D)
	@tools/embed.sh opencl opencl >$@
$(B)/embed/%.o: $(B)/embed/%.S
	@$(HOSTCC) -c $< -o $@

$(GUESTS)/stamp: third_party/build.sh third_party/toolchain.sh $(wildcard third_party/*/pins third_party/*/build.sh tools/gomp_affinity.*)
	@third_party/build.sh $(ARCH)-$(LIBC)

$(B)/%.o: %.c Makefile VERSION | $(GUESTS)/stamp
	@mkdir -p $(@D)
	@echo '  CC $<'
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(call isa_of,$<) -MMD -MP -c $< -o $@

# Everything but main, for the tests to link; made anew so that no object outlives its source.
$(B)/libnnferry.a: $(OBJ) $(EMBED) $(GUESTS)/stamp $(B)/sources
	@rm -f $@
	@$(AR) rcDs $@ $(OBJ) $(EMBED)

# Changes only when the list of sources does.
$(B)/sources: FORCE
	@mkdir -p $(@D)
	@echo '$(OBJ) $(EMBED)' | cmp -s - $@ || echo '$(OBJ) $(EMBED)' >$@
.PHONY: FORCE

$(BIN): $(MAIN) $(B)/libnnferry.a
	@echo '  LD $@'
	@$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

$(B)/tests/unit/%: $(B)/tests/unit/%.o $(TESTLIB) $(B)/libnnferry.a
	@echo '  LD $@'
	@$(CC) $(LDFLAGS) $^ $(GUESTS)/lib/libcmocka.a $(GUESTS)/lib/libjansson.a $(LIBS) -o $@

$(B)/tests/bench/%: $(B)/tests/bench/%.o $(B)/libnnferry.a
	@echo '  LD $@'
	@$(CC) $(LDFLAGS) $^ $(LIBS) -o $@

$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/libnnferry.a
	@echo '  LD $@'
	@$(CC) $(LDFLAGS) -fsanitize=fuzzer $^ $(LIBS) -o $@

clean:
	rm -rf build/release* build/check build/fault build/fuzz build/race build/nnferry

-include $(OBJ:.o=.d) $(MAIN:.o=.d) $(TESTLIB:.o=.d) $(UNIT:=.d) $(BENCH:=.d) $(FUZZERS:=.d)

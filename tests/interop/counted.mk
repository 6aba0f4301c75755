# The program with its decompressors counted, see decode_log.c:
#   make -f Makefile -f tests/interop/counted.mk counted
COUNTED := $(B)/tests/interop/nnferry-counted
DECOMPRESSORS := inflateInit2_ inflate inflateEnd ZSTD_createDCtx_advanced ZSTD_decompressStream \
	ZSTD_freeDCtx blosc_decode snappy_decode hdf5_unfilter planes_decode planes_decode_all

.PHONY: counted
counted: $(COUNTED)
$(COUNTED): $(B)/tests/interop/decode_log.o $(MAIN) $(B)/libnnferry.a
	@$(CC) $(LDFLAGS) $(DECOMPRESSORS:%=-Wl,--wrap=%) $^ $(LIBS) -o $@

/* The worker program and the kernels' text inside the main binary. WORKER_IMAGE is the path of the
 * built worker; the kernels are found from the repository's root, where the build runs. */
    .section .rodata
    .balign 16
    .globl nnferry_worker_image, nnferry_worker_image_end
nnferry_worker_image:
    .incbin WORKER_IMAGE
nnferry_worker_image_end:
    .byte 0
    .balign 16
    .globl nnferry_kernels_text, nnferry_kernels_text_end
nnferry_kernels_text:
    .incbin "opencl/abi.h"
    .incbin "opencl/compat.h"
    .incbin "opencl/linear.cl"
    .incbin "opencl/conv.cl"
    .incbin "opencl/norm.cl"
    .incbin "opencl/embedding.cl"
    .incbin "opencl/attention.cl"
    .incbin "opencl/elementwise.cl"
    .incbin "opencl/reduce.cl"
nnferry_kernels_text_end:
    .byte 0
    .section .note.GNU-stack,"",%progbits

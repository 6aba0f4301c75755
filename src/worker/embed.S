/* The worker program inside the main binary. WORKER_IMAGE is the path of the built worker. */
    .section .rodata
    .balign 16
    .globl nnferry_worker_image, nnferry_worker_image_end
nnferry_worker_image:
    .incbin WORKER_IMAGE
nnferry_worker_image_end:
    .byte 0
    .section .note.GNU-stack,"",%progbits

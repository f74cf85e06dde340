@ A 32-bit program, which makes its calls by the table of 32-bit ARM.
    .arm
    .globl _start
_start:
    mov r7, #39             @ mkdir
    ldr r0, =directory
    ldr r1, =0755
    svc #0
    mov r7, #5              @ open
    ldr r0, =file
    mov r1, #0
    svc #0
    ldr r7, =281            @ socket
    mov r0, #2
    mov r1, #1
    mov r2, #0
    svc #0
    ldr r7, =282            @ bind
    ldr r1, =address
    mov r2, #16
    svc #0
    mov r7, #1              @ exit
    mov r0, #0
    svc #0

    .data
directory:
    .asciz "/srv/guarded/narrow"
file:
    .asciz "/srv/narrow"
    .balign 4
address:
    .byte 2, 0, 0, 81, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0

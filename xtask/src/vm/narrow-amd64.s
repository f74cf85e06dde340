# A 32-bit program, which makes its calls by the table of i386, those on sockets by `socketcall`, as its C library does.
    .globl _start
_start:
    movl $39, %eax          # mkdir
    movl $directory, %ebx
    movl $0755, %ecx
    int $0x80
    movl $5, %eax           # open
    movl $file, %ebx
    xorl %ecx, %ecx
    int $0x80
    movl $102, %eax         # socket
    movl $1, %ebx
    movl $socket, %ecx
    int $0x80
    movl %eax, bind
    movl $102, %eax         # bind
    movl $2, %ebx
    movl $bind, %ecx
    int $0x80
    movl $1, %eax           # exit
    xorl %ebx, %ebx
    int $0x80

    .data
directory:
    .asciz "/srv/guarded/narrow"
file:
    .asciz "/srv/narrow"
    .balign 4
socket:
    .long 2, 1, 0
bind:
    .long 0, address, 16
address:
    .byte 2, 0, 0, 81, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0

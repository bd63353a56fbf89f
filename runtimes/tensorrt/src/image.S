// One image of kernels, embedded: -DNAME=select_groups, and the folder of NAME.fatbin by -Wa,-I.
#define QUOTED_(text) #text
#define QUOTED(text) QUOTED_(text)
#define JOINED_(left, right) left##right
#define JOINED(left, right) JOINED_(left, right)
#define IMAGE JOINED(stts_image_, NAME)

    .section .rodata
    .balign 64
    .globl IMAGE
    .hidden IMAGE
IMAGE:
    .incbin QUOTED(NAME.fatbin)
    .section .note.GNU-stack, "", %progbits

// One cubin, embedded: -DIMAGE=stts_image_select_groups_80 '-DFILE="select_groups-80.cubin"', and its folder by -Wa,-I.
    .section .rodata
    .balign 64
    .globl IMAGE
    .hidden IMAGE
IMAGE:
    .incbin FILE
    .section .note.GNU-stack, "", %progbits

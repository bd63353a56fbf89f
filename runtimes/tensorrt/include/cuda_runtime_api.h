// Stands in for CUDA's header of this name, of which TensorRT's headers want two types and this library no function.
// With it the library compiles where no CUDA toolkit is.
#pragma once

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
